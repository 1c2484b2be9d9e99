//! The network role: links between nodes, handshakes, the cutting of streams into frames.

pub mod assembler;
pub mod backoff;
pub mod connection;
pub mod handshake;
pub mod queue;
pub mod rx;
pub mod tx;
