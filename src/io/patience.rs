//! Waiting for an address that is about to be free.

use super::clock;
use std::io;
use std::time::Duration;

/// For how long a taken address is tried again.
const ADDRESS_WAIT: Duration = Duration::from_secs(5);
/// How often.
const ADDRESS_PAUSE: Duration = Duration::from_millis(10);

/// Tries again while the address is taken: the kernel lets go of a ring's sockets a little after its process has ended, and a node
/// that is started again at once would meet its own former life.
pub fn patiently<T>(mut begin: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    let until = clock::monotonic().after(ADDRESS_WAIT);
    loop {
        match begin() {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && clock::monotonic() < until => {
                std::thread::sleep(ADDRESS_PAUSE);
            }
            ended => return ended,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_taken_address_is_tried_again() {
        let mut tries = 0;
        let freed = patiently(|| {
            tries += 1;
            if tries < 3 { Err(io::ErrorKind::AddrInUse.into()) } else { Ok(tries) }
        });
        assert_eq!(freed.unwrap(), 3);
        let refused: io::Result<()> = patiently(|| Err(io::ErrorKind::PermissionDenied.into()));
        assert_eq!(refused.unwrap_err().kind(), io::ErrorKind::PermissionDenied);
    }
}
