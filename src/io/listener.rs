//! Listening sockets of the service plane, whose reactor is glommio's.

use super::patience::patiently;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{FromRawFd, IntoRawFd};

/// Listens on `address` for nobody else: glommio's own `bind` shares ports (`SO_REUSEPORT`), which would let two nodes take turns on one
/// address without a word, and fails for a minute after others' connections there have ended (`TIME_WAIT`).
pub fn listen(address: SocketAddr) -> io::Result<glommio::net::TcpListener> {
    let listener = patiently(|| std::net::TcpListener::bind(address))?;
    // SAFETY: the descriptor is open, is a listening socket, and `into_raw_fd` has given up its only owner.
    Ok(unsafe { glommio::net::TcpListener::from_raw_fd(listener.into_raw_fd()) })
}
