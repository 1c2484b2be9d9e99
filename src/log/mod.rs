//! The log role: one write-ahead stream a shard.
