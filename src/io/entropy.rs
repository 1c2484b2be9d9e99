//! Where randomness comes from: the kernel in a node, a seed in the simulator.
//!
//! Keys and handshakes take an [`Entropy`]; what need not be secret (election time-outs) is drawn from a `base::Prng` that was seeded
//! from one.

/// A source of random bytes.
pub trait Entropy: Send {
    /// Fills `bytes`.
    fn fill(&mut self, bytes: &mut [u8]);

    /// Eight of them as a number: a seed.
    fn seed(&mut self) -> u64 {
        let mut bytes = [0; 8];
        self.fill(&mut bytes);
        u64::from_le_bytes(bytes)
    }
}

/// The kernel's generator, `getrandom(2)`.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemEntropy;

impl Entropy for SystemEntropy {
    /// Panics when the kernel refuses: a node without randomness must not make keys.
    fn fill(&mut self, bytes: &mut [u8]) {
        let mut rest = bytes;
        while !rest.is_empty() {
            // SAFETY: pointer and length are those of a live, exclusively borrowed slice.
            let filled = unsafe { libc::getrandom(rest.as_mut_ptr().cast(), rest.len(), 0) };
            match usize::try_from(filled) {
                Ok(filled) => rest = &mut rest[filled..],
                Err(_) => {
                    let error = std::io::Error::last_os_error();
                    assert_eq!(error.kind(), std::io::ErrorKind::Interrupted, "getrandom failed: {error}");
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_requests_are_filled_whole() {
        let mut bytes = vec![0u8; 1 << 20];
        SystemEntropy.fill(&mut bytes);
        let zeros = bytes.iter().filter(|b| **b == 0).count();
        // 4,096 are expected; sixty standard deviations away would be astonishing.
        assert!((1_000..8_000).contains(&zeros), "{zeros} zero bytes");
        assert!(bytes[bytes.len() - 64..].iter().any(|b| *b != 0));
    }

    #[test]
    fn two_seeds_differ() {
        let mut source: Box<dyn Entropy> = Box::new(SystemEntropy);
        assert_ne!(source.seed(), source.seed());
    }
}
