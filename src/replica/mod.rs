//! The replication role: shards, gate, deadlines, routes.
