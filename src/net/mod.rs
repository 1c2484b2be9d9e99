//! The network role: links between nodes, framing, handshakes.
