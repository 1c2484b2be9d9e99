//! Which faults and limits a seed stands for, as at level 1: drawn, not fixed, and tiny limits often.

use super::driver::Manners;
use super::node::base_config;
use super::pbft::Pbft;
use crate::base::{NodeId, NodeSet, Prng};
use crate::config::{Cluster, Resolved};
use crate::log::record::batch_bytes;
use crate::node::sizes::Sizes;
use crate::sim::options::{Fault, Options, ProtocolName};
use std::time::Duration;

/// The mixture of a seed. Chances are per 100,000 events unless said otherwise; times are in microseconds.
#[derive(Clone, Debug)]
pub struct Swarm {
    /// Nodes, with the ids from 1 on.
    pub nodes: usize,
    /// Connections of clients.
    pub clients: usize,
    /// Commands that a client sends at once, at most.
    pub pipeline: u64,
    /// How long a client thinks.
    pub think_us: u64,
    /// How long a client waits for an answer.
    pub patience_us: u64,
    /// Keys that clients use at a time.
    pub keys: u64,
    /// Of 10 commands, so many are reads.
    pub reads_of_ten: u64,
    /// Bytes by which some values are longer than need be: so that log batches have many sectors, and tear in more ways.
    pub ballast: u64,
    /// What no operator chooses.
    pub sizes: Sizes,
    /// Of the drivers.
    pub manners: Manners,
    /// What a job of the keeper takes.
    pub keeper_delay: Duration,
    /// Chance of an agent to be left out of a pass, per 1,000: its core is busy.
    pub skip_per_mille: u64,

    /// A segment of a stream takes up to this long.
    pub delay_us: u64,
    /// Most bytes of a segment.
    pub segment_bytes: usize,
    /// Most bytes on their way in one direction of a connection.
    pub window_bytes: usize,
    /// Chance of a segment to be late by far, per 1,000.
    pub late_per_mille: u64,
    /// A write takes up to this long.
    pub write_us: u64,
    /// A read takes up to this long.
    pub read_us: u64,
    /// Clocks run between this much slower and faster, per 1,000.
    pub drift_per_mille: u64,

    /// Nodes crash.
    pub crash: u64,
    /// Of 10 crashes, so many lose power.
    pub power_of_ten: u64,
    /// Of 10 starts, so many are cut short.
    pub cut_of_ten: u64,
    /// All nodes crash at once.
    pub blackout: u64,
    /// Nodes stand still.
    pub pause: u64,
    /// The network breaks, or heals.
    pub split: u64,
    /// A connection is reset.
    pub reset: u64,
    /// A node is shut down in order.
    pub drain: u64,
    /// Wall clocks are set.
    pub step: u64,
    /// A write fails once.
    pub error: u64,
    /// A disk is full for a while.
    pub full: u64,
    /// A disk is slow for a while.
    pub slow: u64,
    /// Bits flip at rest.
    pub flip: u64,
    /// Sectors become unreadable.
    pub wear: u64,
    /// A write lands in another place.
    pub misdirect: u64,
    /// What travels between nodes is changed on the way.
    pub tamper: u64,
    /// A frame comes again.
    pub replay: u64,
    /// Devices of this many nodes acknowledge syncs and do not do them.
    pub lying_disks: usize,
    /// Of a PBFT group; one of Raft otherwise.
    pub pbft: Option<Pbft>,

    raft: Raft,
    segment: u64,
}

/// What is drawn of the configuration.
#[derive(Clone, Copy, Debug)]
struct Raft {
    entries_per_append: usize,
    append_bytes: usize,
    window_appends: usize,
    tail_bytes: usize,
    snapshot_threshold: u64,
    snapshot_bytes: u64,
    snapshot_keep: u64,
    piece_bytes: usize,
    encrypt: bool,
}

impl Swarm {
    /// What a seed stands for, as far as the options allow.
    pub fn of(seed: u64, options: &Options) -> Swarm {
        let mut swarm = Swarm::draw(&mut Prng::from_seed(seed));
        if options.protocol == ProtocolName::Pbft {
            swarm.become_pbft(&mut Prng::from_seed(seed.rotate_left(17) ^ 1), options);
        }
        swarm.within(options)
    }

    /// Draws what a PBFT group has and one of Raft has not.
    fn become_pbft(&mut self, prng: &mut Prng, options: &Options) {
        let nodes = [1, 3, 4, 4, 4, 4, 4, 5, 6, 7][prng.below(10) as usize];
        self.nodes = options.nodes.unwrap_or(nodes);
        let pbft = Pbft::draw(prng, self.nodes, options);
        self.sizes.pbft = Some(pbft.sizes);
        // Frames are long: in segments of a few bytes most of what happens would be their arriving.
        self.segment_bytes = self.segment_bytes.max(100);
        // What a replica says at once fits, as it does in a real node: else the same messages are dropped each time.
        self.sizes.ring_values = self.sizes.ring_values.max(32 * self.nodes);
        // The log takes whatever the core stores: two of the longest records a segment, so that segments change.
        self.sizes.new_view_bytes_max = pbft.new_view_bytes(self.nodes);
        let longest = self.sizes.body_max.max(self.sizes.new_view_bytes_max);
        self.segment = self.segment.max(2 * batch_bytes(longest).next_multiple_of(4096) as u64);
        self.pbft = Some(pbft);
    }

    /// The mixture of a seed, of a Raft group.
    pub fn draw(prng: &mut Prng) -> Swarm {
        let nodes = [1, 2, 3, 3, 3, 3, 4, 5, 5][prng.below(9) as usize];
        let mut often = |chances: &[u64]| chances[prng.below(chances.len() as u64) as usize];
        let mut swarm = Swarm {
            crash: often(&[0, 20, 60, 200]),
            power_of_ten: often(&[0, 5, 10]),
            cut_of_ten: often(&[0, 2, 5]),
            blackout: often(&[0, 0, 10, 30]),
            pause: often(&[0, 0, 30]),
            split: often(&[0, 30, 100]),
            reset: often(&[0, 30, 300]),
            drain: often(&[0, 0, 20]),
            step: often(&[0, 0, 30]),
            error: often(&[0, 0, 0, 20]),
            full: often(&[0, 0, 0, 20]),
            slow: often(&[0, 0, 50]),
            flip: often(&[0, 0, 0, 0, 20]),
            wear: often(&[0, 0, 0, 0, 20]),
            late_per_mille: often(&[0, 0, 5, 30]),
            drift_per_mille: often(&[0, 0, 50]),
            skip_per_mille: often(&[0, 0, 50, 300]),
            ..Swarm::calm(nodes)
        };
        swarm.clients = often(&[1, 3, 6, 10]) as usize;
        swarm.pipeline = often(&[1, 2, 5]);
        swarm.think_us = often(&[1_000, 10_000, 50_000]);
        swarm.keys = often(&[2, 6, 20]);
        swarm.reads_of_ten = often(&[2, 5, 8]);
        swarm.delay_us = often(&[200, 2_000, 15_000]);
        swarm.segment_bytes = often(&[7, 100, 1500, 65_536]) as usize;
        swarm.window_bytes = often(&[512, 4096, 65_536]) as usize;
        swarm.write_us = often(&[100, 2_000, 20_000]);
        swarm.read_us = often(&[100, 2_000]);
        swarm.keeper_delay = Duration::from_micros(often(&[500, 20_000, 200_000]));
        swarm.draw_limits(prng);
        // Drawn last: the seeds of earlier findings mean what they meant.
        let mut often = |chances: &[u64]| chances[prng.below(chances.len() as u64) as usize];
        swarm.misdirect = often(&[0, 0, 0, 0, 20]);
        swarm.tamper = often(&[0, 0, 0, 60]);
        swarm.replay = often(&[0, 0, 0, 60]);
        swarm.ballast = often(&[0, 0, 600, 1000]);
        swarm.manners.short_transfers = often(&[0, 0, 50, 300]);
        swarm
    }

    /// Nodes that lie.
    pub fn liars(&self) -> NodeSet {
        self.pbft.as_ref().map(|pbft| pbft.liars).unwrap_or_default()
    }
    /// How many nodes make progress.
    pub fn quorum(&self) -> usize {
        self.pbft.as_ref().map_or(self.nodes / 2 + 1, |pbft| pbft.quorum(self.nodes).exact())
    }
    /// Nodes whose disks may rot. With those that lie they are so few that a quorum without damage is left.
    pub fn rotting(&self) -> Vec<usize> {
        let few = match &self.pbft {
            None => (self.nodes - 1) / 2,
            Some(pbft) => pbft.faulty - pbft.liars.len(),
        };
        let is_correct = |node: &usize| !self.liars().contains(NodeId(*node as u8 + 1));
        (0..self.nodes).filter(is_correct).take(few).collect()
    }

    /// What the options do not allow does not happen.
    #[must_use]
    fn within(mut self, options: &Options) -> Swarm {
        self.nodes = options.nodes.unwrap_or(self.nodes);
        let zero = |fault, chance: &mut u64| {
            if !options.faults.has(fault) {
                *chance = 0;
            }
        };
        zero(Fault::Delay, &mut self.late_per_mille);
        zero(Fault::Drift, &mut self.drift_per_mille);
        zero(Fault::Crash, &mut self.crash);
        zero(Fault::Storm, &mut self.cut_of_ten);
        zero(Fault::Blackout, &mut self.blackout);
        zero(Fault::Pause, &mut self.pause);
        zero(Fault::Partition, &mut self.split);
        zero(Fault::Relink, &mut self.reset);
        zero(Fault::Drain, &mut self.drain);
        zero(Fault::Jump, &mut self.step);
        zero(Fault::WriteError, &mut self.error);
        zero(Fault::DiskFull, &mut self.full);
        zero(Fault::DiskSlow, &mut self.slow);
        zero(Fault::BitFlip, &mut self.flip);
        zero(Fault::BadSector, &mut self.wear);
        zero(Fault::Misdirect, &mut self.misdirect);
        zero(Fault::Tamper, &mut self.tamper);
        zero(Fault::Replay, &mut self.replay);
        zero(Fault::ShortTransfer, &mut self.manners.short_transfers);
        self
    }

    fn draw_limits(&mut self, prng: &mut Prng) {
        let mut often = |chances: &[u64]| chances[prng.below(chances.len() as u64) as usize];
        self.manners = Manners {
            buffers: often(&[2, 8, 64]) as u16,
            buffer_bytes: often(&[64, 1024, 16_384]) as usize,
            accept_fails: often(&[0, 0, 100]),
            short_receives: often(&[0, 100, 500]),
            short_transfers: 0,
            direct: often(&[0, 1, 1, 1]) == 1,
        };
        let ring_values = often(&[8, 32, 256]) as usize;
        let errands_max = often(&[2, 8, 64]) as usize;
        let few = often(&[8, 64]) as usize;
        self.segment = often(&[6, 7, 8, 16, 64]) << 12;
        let log_batch_bytes = (often(&[2, 3, 16]) as usize) << 12;
        self.sizes = Sizes {
            ring_values,
            errands_max,
            few,
            log_batch_bytes: log_batch_bytes.min(self.segment as usize - 4096),
            ..self.sizes
        };
        self.raft = Raft {
            entries_per_append: often(&[1, 2, 7, 100]) as usize,
            append_bytes: often(&[64, 1024, 64 << 10]) as usize,
            window_appends: often(&[1, 2, 8, 64]) as usize,
            tail_bytes: often(&[128, 4096, 1 << 20]) as usize,
            snapshot_threshold: often(&[3, 10, 40, 200, 10_000]),
            snapshot_bytes: often(&[500, 8 << 10, 1 << 20]),
            snapshot_keep: often(&[1, 5, 50]),
            // Smaller ones than a quarter of what a node allows would let the log outrun every snapshot.
            piece_bytes: often(&[1024, 4096, 16 << 10]) as usize,
            encrypt: often(&[0, 0, 1]) == 1,
        };
    }

    /// A cluster without faults and without tight limits.
    pub fn calm(nodes: usize) -> Swarm {
        Swarm {
            nodes,
            clients: 4,
            pipeline: 3,
            think_us: 5_000,
            patience_us: 3_000_000,
            keys: 6,
            reads_of_ten: 5,
            ballast: 0,
            sizes: Sizes {
                ring_values: 256,
                errands_max: 64,
                few: 64,
                body_max: 12 << 10,
                log_batch_bytes: 32 << 10,
                bucket_bits: 5,
                new_view_bytes_max: 0,
                pbft: None,
            },
            manners: Manners {
                buffers: 64,
                buffer_bytes: 16 << 10,
                accept_fails: 0,
                short_receives: 0,
                short_transfers: 0,
                direct: true,
            },
            keeper_delay: Duration::from_millis(2),
            skip_per_mille: 0,
            delay_us: 500,
            segment_bytes: 65_536,
            window_bytes: 65_536,
            late_per_mille: 0,
            write_us: 200,
            read_us: 200,
            drift_per_mille: 0,
            crash: 0,
            power_of_ten: 0,
            cut_of_ten: 0,
            blackout: 0,
            pause: 0,
            split: 0,
            reset: 0,
            drain: 0,
            step: 0,
            error: 0,
            full: 0,
            slow: 0,
            flip: 0,
            wear: 0,
            misdirect: 0,
            tamper: 0,
            replay: 0,
            lying_disks: 0,
            pbft: None,
            raft: Raft {
                entries_per_append: 100,
                append_bytes: 64 << 10,
                window_appends: 64,
                tail_bytes: 1 << 20,
                snapshot_threshold: 100,
                snapshot_bytes: 1 << 20,
                snapshot_keep: 20,
                piece_bytes: 16 << 10,
                encrypt: false,
            },
            segment: 64 << 10,
        }
    }

    /// Ends all faults. Limits stay as they are.
    pub fn heal(&mut self) {
        let Swarm { nodes, .. } = *self;
        let calm = Swarm::calm(nodes);
        for (mine, quiet) in [
            (&mut self.crash, calm.crash),
            (&mut self.blackout, calm.blackout),
            (&mut self.pause, calm.pause),
            (&mut self.split, calm.split),
            (&mut self.reset, calm.reset),
            (&mut self.drain, calm.drain),
            (&mut self.step, calm.step),
            (&mut self.error, calm.error),
            (&mut self.full, calm.full),
            (&mut self.slow, calm.slow),
            (&mut self.flip, calm.flip),
            (&mut self.wear, calm.wear),
            (&mut self.misdirect, calm.misdirect),
            (&mut self.tamper, calm.tamper),
            (&mut self.replay, calm.replay),
            (&mut self.late_per_mille, calm.late_per_mille),
            (&mut self.cut_of_ten, calm.cut_of_ten),
        ] {
            *mine = quiet;
        }
        self.delay_us = self.delay_us.min(2_000);
        self.write_us = self.write_us.min(5_000);
    }

    /// The configuration of the first node.
    pub fn config(&self, cluster: Cluster) -> Resolved {
        let mut config = base_config(cluster);
        let Raft { entries_per_append, append_bytes, window_appends, tail_bytes, .. } = self.raft;
        let Raft { snapshot_threshold, snapshot_bytes, snapshot_keep, piece_bytes, encrypt, .. } = self.raft;
        config.raft.max_log_entries_per_append = entries_per_append;
        config.raft.append_bytes_max = append_bytes;
        config.raft.window_appends = window_appends;
        config.raft.tail_bytes = tail_bytes;
        config.raft.snapshot_threshold = snapshot_threshold;
        config.raft.snapshot_threshold_bytes = snapshot_bytes;
        config.raft.snapshot_keep = snapshot_keep;
        config.raft.snapshot_piece_bytes = piece_bytes;
        config.peer.encrypt = encrypt;
        config.log.segment_bytes = self.segment;
        if let Some(pbft) = &self.pbft {
            pbft.configure(&mut config.group);
        }
        config
    }
}
