//! Addresses as the configuration writes them, `host:port` or a path, and what the kernel makes of them.

use std::io;
use std::mem::ManuallyDrop;
use std::net::{SocketAddr, TcpListener, TcpStream, ToSocketAddrs};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 1024;
/// A silent connection is probed after this time, in seconds; then every `KEEPALIVE_INTERVAL`, and given up after `KEEPALIVE_PROBES`.
const KEEPALIVE_IDLE: i32 = 30;
const KEEPALIVE_INTERVAL: i32 = 10;
const KEEPALIVE_PROBES: i32 = 3;

/// Where to connect to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Target {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

/// An address in the kernel's form.
pub(super) struct RawAddress {
    pub(super) storage: libc::sockaddr_storage,
    pub(super) len: libc::socklen_t,
}

/// Whether an address is a path of a Unix socket.
fn as_path(address: &str) -> Option<&Path> {
    address.contains('/').then(|| Path::new(address))
}

/// What an address may mean, in the order to try. A name is looked up, which blocks; numbers and paths do not.
pub(super) fn resolve(address: &str) -> io::Result<Vec<Target>> {
    if let Some(path) = as_path(address) {
        return Ok(vec![Target::Unix(path.to_path_buf())]);
    }
    let targets: Vec<Target> = address.to_socket_addrs()?.map(Target::Tcp).collect();
    if targets.is_empty() {
        return Err(io::Error::new(io::ErrorKind::NotFound, format!("{address} has no address")));
    }
    Ok(targets)
}

impl Target {
    /// A blocking socket of the right kind: the ring waits, not the socket.
    pub(super) fn socket(&self) -> io::Result<OwnedFd> {
        let family = match self {
            Target::Tcp(SocketAddr::V4(_)) => libc::AF_INET,
            Target::Tcp(SocketAddr::V6(_)) => libc::AF_INET6,
            Target::Unix(_) => libc::AF_UNIX,
        };
        // SAFETY: no pointers are passed.
        let descriptor = unsafe { libc::socket(family, libc::SOCK_STREAM | libc::SOCK_CLOEXEC, 0) };
        if descriptor < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the kernel has just given us this descriptor; nobody else owns it.
        let socket = unsafe { OwnedFd::from_raw_fd(descriptor) };
        if let Target::Tcp(address) = self {
            tune(descriptor)?;
            if address.ip().is_loopback() {
                unpace(descriptor);
            }
        }
        Ok(socket)
    }

    pub(super) fn raw(&self) -> io::Result<RawAddress> {
        // SAFETY: all zero is a valid `sockaddr_storage`.
        let mut storage: libc::sockaddr_storage = unsafe { std::mem::zeroed() };
        let at = std::ptr::from_mut(&mut storage);
        let len = match self {
            Target::Tcp(SocketAddr::V4(address)) => {
                let raw = libc::sockaddr_in {
                    sin_family: libc::AF_INET as libc::sa_family_t,
                    sin_port: address.port().to_be(),
                    sin_addr: libc::in_addr { s_addr: u32::from_ne_bytes(address.ip().octets()) },
                    sin_zero: [0; 8],
                };
                // SAFETY: `sockaddr_storage` is large enough and aligned for every address family.
                unsafe { at.cast::<libc::sockaddr_in>().write(raw) };
                size_of::<libc::sockaddr_in>()
            }
            Target::Tcp(SocketAddr::V6(address)) => {
                let raw = libc::sockaddr_in6 {
                    sin6_family: libc::AF_INET6 as libc::sa_family_t,
                    sin6_port: address.port().to_be(),
                    sin6_flowinfo: address.flowinfo(),
                    sin6_addr: libc::in6_addr { s6_addr: address.ip().octets() },
                    sin6_scope_id: address.scope_id(),
                };
                // SAFETY: as above.
                unsafe { at.cast::<libc::sockaddr_in6>().write(raw) };
                size_of::<libc::sockaddr_in6>()
            }
            Target::Unix(path) => {
                let raw = unix(path)?;
                // SAFETY: as above.
                unsafe { at.cast::<libc::sockaddr_un>().write(raw) };
                size_of::<libc::sockaddr_un>()
            }
        };
        Ok(RawAddress { storage, len: len as libc::socklen_t })
    }
}

fn unix(path: &Path) -> io::Result<libc::sockaddr_un> {
    let bytes = path.as_os_str().as_bytes();
    let mut raw = libc::sockaddr_un { sun_family: libc::AF_UNIX as libc::sa_family_t, sun_path: [0; 108] };
    if raw.sun_path.len() <= bytes.len() {
        let message =
            format!("a socket's path has at most 107 bytes, this has {}: {}", bytes.len(), path.display());
        return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
    }
    raw.sun_path.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from as libc::c_char);
    Ok(raw)
}

/// No delay, and probes of silent connections. Connections inherit them from their listener.
fn tune(descriptor: RawFd) -> io::Result<()> {
    set(descriptor, libc::IPPROTO_TCP, libc::TCP_NODELAY, 1)?;
    set(descriptor, libc::SOL_SOCKET, libc::SO_KEEPALIVE, 1)?;
    set(descriptor, libc::IPPROTO_TCP, libc::TCP_KEEPIDLE, KEEPALIVE_IDLE)?;
    set(descriptor, libc::IPPROTO_TCP, libc::TCP_KEEPINTVL, KEEPALIVE_INTERVAL)?;
    set(descriptor, libc::IPPROTO_TCP, libc::TCP_KEEPCNT, KEEPALIVE_PROBES)
}

/// Within a machine there is no congestion to control, but BBR, where it is the default, sets a timer for every burst. A kernel that
/// refuses leaves it as it was.
fn unpace(descriptor: RawFd) {
    let name = b"reno";
    let len = name.len() as libc::socklen_t;
    // SAFETY: pointer and length are those of a live array.
    let _refused = unsafe {
        libc::setsockopt(descriptor, libc::IPPROTO_TCP, libc::TCP_CONGESTION, name.as_ptr().cast(), len)
    };
}

fn set(descriptor: RawFd, level: i32, option: i32, value: i32) -> io::Result<()> {
    let len = size_of::<i32>() as libc::socklen_t;
    // SAFETY: pointer and length are those of a live i32.
    let result = unsafe { libc::setsockopt(descriptor, level, option, (&raw const value).cast(), len) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// A listening socket. Of a path, a socket that an earlier process left there is removed; anything else there stays, and is an error.
pub(super) fn listen(address: &str) -> io::Result<OwnedFd> {
    let listener = match as_path(address) {
        Some(path) => {
            if std::fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_socket()) {
                std::fs::remove_file(path)?;
            }
            OwnedFd::from(UnixListener::bind(path)?)
        }
        None => {
            // SO_REUSEADDR is set by the standard library.
            let listener = TcpListener::bind(address)?;
            tune(listener.as_raw_fd())?;
            if listener.local_addr()?.ip().is_loopback() {
                unpace(listener.as_raw_fd());
            }
            OwnedFd::from(listener)
        }
    };
    // SAFETY: no pointers are passed; the descriptor is open. Listening again only changes the backlog.
    if unsafe { libc::listen(listener.as_raw_fd(), BACKLOG) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(listener)
}

/// Which end of a connection.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    Local,
    Peer,
}

/// The address of a socket's end: `host:port`, a path, or `unix` for an end without a name.
pub(super) fn name(descriptor: RawFd, end: End) -> io::Result<String> {
    // SAFETY: the caller's socket is open and stays open: `ManuallyDrop` does not close it. Of a `TcpStream` only name queries are made.
    let stream = ManuallyDrop::new(unsafe { TcpStream::from_raw_fd(descriptor) });
    let tcp = if end == End::Local { stream.local_addr() } else { stream.peer_addr() };
    match tcp {
        Ok(address) => Ok(address.to_string()),
        // Not an Internet address.
        Err(error) if error.kind() == io::ErrorKind::InvalidInput => unix_name(descriptor, end),
        Err(error) => Err(error),
    }
}

fn unix_name(descriptor: RawFd, end: End) -> io::Result<String> {
    // SAFETY: as in `name`.
    let stream = ManuallyDrop::new(unsafe { UnixStream::from_raw_fd(descriptor) });
    let address = if end == End::Local { stream.local_addr() } else { stream.peer_addr() };
    let path = address?.as_pathname().map(|path| path.display().to_string());
    Ok(path.unwrap_or_else(|| "unix".to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_told_from_a_name() {
        assert_eq!(resolve("./sock").unwrap(), [Target::Unix("./sock".into())]);
        assert_eq!(resolve("127.0.0.1:7").unwrap(), [Target::Tcp("127.0.0.1:7".parse().unwrap())]);
        assert!(resolve("nonsense").is_err());
    }

    #[test]
    fn a_long_path_is_refused_with_its_length() {
        let path = format!("/{}", "x".repeat(200));
        let error = resolve(&path).unwrap()[0].raw().err().unwrap();
        assert!(error.to_string().contains("201"), "{error}");
    }

    #[test]
    fn a_file_in_the_place_of_a_socket_is_not_removed() {
        let path = std::env::temp_dir().join(format!("quorate-not-a-socket-{}", std::process::id()));
        std::fs::write(&path, b"precious").unwrap();
        assert!(listen(path.to_str().unwrap()).is_err());
        assert_eq!(std::fs::read(&path).unwrap(), b"precious");
        std::fs::remove_file(&path).unwrap();
    }
}
