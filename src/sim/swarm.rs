//! Which faults and limits a seed stands for. Drawn, not fixed: a bug that one mixture hides another shows (Groce et al. 2012, "Swarm
//! testing"), and some show only when limits are tiny.

use super::host::Common;
use super::options::ProtocolName;
use super::options::{Fault, Options};
use crate::base::Prng;
use crate::protocol::{pbft, raft};
use crate::replica::{reads, route, seat};
use std::time::Duration;

/// Chances are per 100,000 events unless said otherwise.
#[derive(Clone, Debug)]
pub struct Swarm {
    /// What the nodes have in common.
    pub common: Common,
    /// Chance of a message to be lost, per 1,000.
    pub drop_per_mille: u64,
    /// Chance of a message to come twice, per 1,000.
    pub repeat_per_mille: u64,
    /// Chance of a message to be late by far, per 1,000.
    pub late_per_mille: u64,
    /// Links let no message overtake another.
    pub keeps_order: bool,
    /// Someone goes after leaders.
    pub hunt: bool,
    /// A link holds so many messages.
    pub queue_max: usize,
    /// A message takes up to this long, in microseconds.
    pub delay_us_max: u64,
    /// A write takes up to this long, in microseconds.
    pub write_us_max: u64,
    /// The store lags by up to this long, in microseconds.
    pub apply_us_max: u64,
    /// So many decided entries may wait for the store before the replica takes no more input.
    pub decided_max: usize,
    /// A turn of the replica's agent begins up to this long after its first input, and takes in all that has come meanwhile, in
    /// microseconds; 0: each input is a turn.
    pub turn_us_max: u64,
    /// Nodes crash.
    pub crash: u64,
    /// Of 10 nodes that come back, so many crash again at once.
    pub storm_of_ten: u64,
    /// All nodes crash at once.
    pub blackout: u64,
    /// Nodes stand still.
    pub pause: u64,
    /// The network breaks, or heals.
    pub split: u64,
    /// Of 10 breaks, so many come and go.
    pub flap_of_ten: u64,
    /// A link comes up anew.
    pub relink: u64,
    /// A node is shut down in order.
    pub drain: u64,
    /// A wall clock is set.
    pub jump: u64,
    /// A disk drops what is superfluous.
    pub compact: u64,
    /// Clients want something, per 1,000 events.
    pub demand_per_mille: u64,
    /// Of 10 demands, so many are reads.
    pub reads_of_ten: u64,
    /// Slots between snapshots.
    pub snapshot_every: u64,
    /// Clocks run between this much slower and faster, per 1,000.
    pub drift_per_mille: u64,
    /// The operator asks for other members.
    pub amend: u64,
    /// That happens in this run.
    pub amends: bool,
}

impl Swarm {
    /// The mixture of a seed, within what the options allow.
    pub fn draw(prng: &mut Prng, options: &Options) -> Swarm {
        let drawn = often(prng, &[1, 2, 3, 3, 3, 4, 5, 5, 7]);
        let nodes = options.nodes.unwrap_or(drawn as usize);
        let mut often = |chances: &[u64]| often(prng, chances);
        let mut swarm = Swarm {
            drop_per_mille: often(&[0, 0, 10, 50, 200]),
            repeat_per_mille: often(&[0, 0, 20, 100]),
            late_per_mille: often(&[0, 0, 5, 30]),
            keeps_order: often(&[0, 1]) == 1,
            hunt: often(&[0, 0, 1]) == 1,
            queue_max: often(&[2, 16, 1 << 20, 1 << 20]) as usize,
            delay_us_max: often(&[500, 5_000, 20_000]),
            write_us_max: often(&[200, 3_000, 30_000, 100_000]),
            apply_us_max: often(&[100, 2_000, 50_000]),
            decided_max: often(&[1, 16, 1024]) as usize,
            turn_us_max: often(&[0, 0, 50, 1_000]),
            crash: often(&[0, 30, 100, 300]),
            storm_of_ten: often(&[0, 0, 5]),
            blackout: often(&[0, 0, 10, 30]),
            pause: often(&[0, 0, 50]),
            split: often(&[0, 30, 150]),
            flap_of_ten: often(&[0, 0, 3]),
            relink: often(&[0, 50, 500]),
            drain: often(&[0, 0, 20]),
            jump: often(&[0, 0, 30]),
            compact: often(&[100, 1_000]),
            demand_per_mille: often(&[20, 100, 300]),
            reads_of_ten: often(&[0, 3, 8]),
            snapshot_every: often(&[1, 7, 40, 200, 10_000]),
            drift_per_mille: often(&[0, 0, 50]),
            amend: 0,
            amends: false,
            common: Swarm::common(nodes, prng, options),
        };
        if options.protocol == ProtocolName::Pbft {
            // Aside, so that the rest stays as it was.
            swarm.amend = self::often(&mut prng.clone(), &[0, 0, 60, 200]);
        }
        swarm.forbid(options);
        swarm.amends = swarm.amend != 0;
        swarm
    }

    fn common(nodes: usize, prng: &mut Prng, options: &Options) -> Common {
        let mut often = |chances: &[u64]| often(prng, chances);
        let raft = raft::Options {
            max_log_entries_per_append: often(&[1, 1, 2, 7, 100]) as usize,
            append_bytes_max: often(&[1, 64, 1 << 20]) as usize,
            window_appends_max: often(&[1, 2, 8, 64]) as usize,
            window_bytes_max: often(&[1, 256, 1 << 20]) as usize,
            cache_entries_max: often(&[0, 1, 8, 64]) as usize,
            cache_bytes_max: often(&[0, 128, 1 << 20]) as usize,
            unapplied_entries_max: often(&[0, 1, 8, 16 << 10]) as usize,
            unapplied_bytes_max: often(&[0, 128, 32 << 20]) as usize,
            catch_up_entries_max: often(&[1, 3, 1024]) as usize,
            catch_up_bytes_max: often(&[1, 64, 1 << 20]) as usize,
            trailing_entries: often(&[1, 3, 20, 1024]),
            piece_bytes_max: often(&[8, 33, 4096]) as usize,
            piece_window_bytes_max: often(&[1, 64, 1 << 20]),
            uncommitted_entries_max: often(&[1, 8, 200]),
            reads_max: often(&[1, 5, 100]) as usize,
            read_rounds_max: often(&[1, 2, 8]) as usize,
            pre_vote: often(&[0, 1, 1]) == 1,
            check_quorum: often(&[0, 1, 1]) == 1,
            ..raft::Options::default()
        };
        let route = route::Options {
            write_wait: Duration::from_millis(often(&[300, 1000])),
            answer_within: Duration::from_millis(often(&[500, 2000])),
            retry_after: Duration::from_millis(often(&[50, 300, 1000])),
            batches_max: often(&[1, 4, 32]) as usize,
            ..route::Options::default()
        };
        let reads = reads::Options { demands_max: often(&[1, 16]) as usize, ..reads::Options::default() };
        let unapplied_bytes_max = often(&[16, 100, 256 << 20]) as usize;
        let guards = seat::Guards { unapplied_bytes_max, ..seat::Guards::default() };
        let mut common = Common {
            nodes,
            protocol: options.protocol,
            raft,
            pbft: pbft::Options::default(),
            route,
            reads,
            guards,
        };
        if options.protocol == ProtocolName::Pbft {
            Swarm::of_pbft(&mut common, prng);
        }
        common
    }

    fn of_pbft(common: &mut Common, prng: &mut Prng) {
        let mut often = |chances: &[u64]| often(prng, chances);
        let every = often(&[1, 2, 4, 16]);
        let request_timeout = Duration::from_millis(often(&[200, 400, 1000]));
        let faulty_max = if often(&[0, 0, 1]) == 1 { Some((common.nodes - 1) / 3) } else { None };
        let window = every * often(&[2, 3, 8]);
        common.pbft = pbft::Options {
            faulty_max,
            window,
            checkpoint_every: every,
            // As in a node: at most one snapshot is not stable yet.
            snapshot_every: 2 * window * often(&[1, 1, 2]),
            request_timeout,
            // Clocks are set by a minute and more, and drift: who relies on them is tested alone.
            clock_skew_max_ms: 1 << 40,
            sign_pre_prepares: often(&[0, 1, 1]) == 1,
            proposals_max: often(&[1, 3, 64]) as usize,
            message_bytes_max: often(&[1, 100, 256 << 10]) as usize,
            origin_batches_max: often(&[2, 40, 512]) as usize,
            // Whoever is behind the newest snapshot but one is given a state, whoever is not is given values.
            cache_entries_max: 10 * window as usize,
            piece_bytes_max: often(&[8, 33, 4096]) as usize,
            note_pause: Duration::from_micros(often(&[0, 5_000, 100_000])),
            cache_bytes_max: often(&[0, 100, 64 << 20]) as usize,
            ..pbft::Options::default()
        };
    }

    /// What the options do not allow does not happen. All was drawn before, so that the rest stays as the seed has it.
    fn forbid(&mut self, options: &Options) {
        let zero = |fault, chance: &mut u64| {
            if !options.faults.has(fault) {
                *chance = 0;
            }
        };
        zero(Fault::Drop, &mut self.drop_per_mille);
        zero(Fault::Duplicate, &mut self.repeat_per_mille);
        zero(Fault::Delay, &mut self.late_per_mille);
        zero(Fault::Crash, &mut self.crash);
        zero(Fault::Storm, &mut self.storm_of_ten);
        zero(Fault::Blackout, &mut self.blackout);
        zero(Fault::Pause, &mut self.pause);
        zero(Fault::Partition, &mut self.split);
        zero(Fault::Flap, &mut self.flap_of_ten);
        zero(Fault::Relink, &mut self.relink);
        zero(Fault::Drain, &mut self.drain);
        zero(Fault::Jump, &mut self.jump);
        zero(Fault::Drift, &mut self.drift_per_mille);
        zero(Fault::Reconfigure, &mut self.amend);
        self.keeps_order |= !options.faults.has(Fault::Reorder);
        self.hunt &= options.faults.has(Fault::Hunt);
        if !options.faults.has(Fault::Queue) {
            self.queue_max = usize::MAX;
        }
    }

    /// From now on nothing goes wrong, and nothing is slow by far. Limits stay as tiny as they are.
    pub fn calm(&mut self) {
        (self.drop_per_mille, self.repeat_per_mille, self.late_per_mille) = (0, 0, 0);
        (self.crash, self.storm_of_ten, self.blackout, self.pause) = (0, 0, 0, 0);
        (self.split, self.flap_of_ten, self.relink, self.drain, self.jump) = (0, 0, 0, 0, 0);
        self.amend = 0;
        (self.hunt, self.queue_max) = (false, usize::MAX);
        self.delay_us_max = self.delay_us_max.min(5_000);
        self.write_us_max = self.write_us_max.min(10_000);
        self.apply_us_max = self.apply_us_max.min(2_000);
    }
}

fn often(prng: &mut Prng, chances: &[u64]) -> u64 {
    chances[prng.below(chances.len() as u64) as usize]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::options::Faults;

    #[test]
    fn what_is_not_allowed_does_not_happen_and_the_rest_stays() {
        for seed in 0..50 {
            let draw = |faults| {
                let options = Options { faults, ..Options::of(1) };
                Swarm::draw(&mut Prng::from_seed(seed), &options)
            };
            let (all, some) = (draw(Faults::ALL), draw(Faults::ALL.without(Fault::Drop)));
            assert_eq!(some.drop_per_mille, 0);
            assert_eq!((all.crash, all.common.nodes, all.split), (some.crash, some.common.nodes, some.split));
            let none = draw(Faults::NONE);
            assert!(none.keeps_order && none.queue_max == usize::MAX && !none.hunt);
            assert_eq!(none.crash + none.pause + none.split + none.jump + none.drift_per_mille, 0);
            assert_eq!(none.common.raft, all.common.raft);
        }
    }
}
