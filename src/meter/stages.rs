//! The stages of a command's way through the node, and the one metric that tells how long each takes.

use super::Report;
use hdrhistogram::Histogram;

/// A stage of a write's way. Each is timed by the agent that ends it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[repr(u8)]
pub enum Stage {
    /// From the turn that takes a batch's first command out of the receive buffer to the batch's leaving; lingering is part of it.
    Receive,
    /// From the batch to the replica's turn that takes it.
    Queue,
    /// From there to the log's turn that hands its records to the kernel.
    Append,
    /// From the durable write's submission to its completion.
    Sync,
    /// From an append's leaving to the follower's acknowledgement.
    Replicate,
    /// From the proposal to the commit.
    Quorum,
    /// From the commit to the reply's making.
    Apply,
    /// From the reply's making to its hand-over to the kernel, unless an earlier send to that client is under way.
    Reply,
}

impl Stage {
    /// All, in the order of the way.
    pub const ALL: [Stage; 8] = [
        Stage::Receive,
        Stage::Queue,
        Stage::Append,
        Stage::Sync,
        Stage::Replicate,
        Stage::Quorum,
        Stage::Apply,
        Stage::Reply,
    ];

    /// The value of the label `stage`.
    pub fn name(self) -> &'static str {
        match self {
            Stage::Receive => "receive",
            Stage::Queue => "queue",
            Stage::Append => "append",
            Stage::Sync => "sync",
            Stage::Replicate => "replicate",
            Stage::Quorum => "quorum",
            Stage::Apply => "apply",
            Stage::Reply => "reply",
        }
    }

    /// Tells the stage's latencies. `of` says of what: of a group, or of the shard whose groups share the agent that times the stage.
    pub fn report(self, of: (&'static str, &str), nanos: &Histogram<u64>, to: &mut dyn Report) {
        let help = "Time that commands spend in each stage of their way; stages before a group is asked are those of all groups of a shard.";
        to.latency("quorate_stage_seconds", help, &[of, ("stage", self.name())], nanos);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::meter::{Figures, latencies};

    #[test]
    fn each_stage_is_a_series_of_one_metric() {
        let mut figures = Figures::new(&[]);
        for stage in Stage::ALL {
            let mut nanos = latencies();
            nanos.saturating_record(5_000_000);
            stage.report(("group", "1"), &nanos, &mut figures);
        }
        let text = figures.to_prometheus();
        assert_eq!(text.matches("# TYPE quorate_stage_seconds histogram").count(), 1);
        for stage in Stage::ALL {
            let line = format!("quorate_stage_seconds_count{{group=\"1\",stage=\"{}\"}} 1\n", stage.name());
            assert!(text.contains(&line), "{line} is missing in\n{text}");
        }
    }
}
