//! A body: bytes that travel through the whole house without being copied, with their digest.
//!
//! The digest is made once, where the bytes come into being, and serves three rooms: the tag of a frame covers the digests and
//! so the bodies (one hash a body, not one a peer), a log record binds it, and a Byzantine protocol votes on it.

use bytes::Bytes;
use std::fmt;

/// BLAKE3 of a body, 32 bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Hash)]
pub struct Digest(pub [u8; 32]);

impl Digest {
    /// Hashes `bytes`.
    pub fn of(bytes: &[u8]) -> Digest {
        Digest(*blake3::hash(bytes).as_bytes())
    }
}
impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0[..4].iter().try_for_each(|b| write!(f, "{b:02x}"))
    }
}

/// Bytes and their digest. Invariant: `digest` is the BLAKE3 hash of `bytes`, or all zero when `bytes` is empty.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Body {
    bytes: Bytes,
    digest: Digest,
}

impl Body {
    /// No bytes; its digest is zero, so that empty entries cost no hash.
    pub const EMPTY: Body = Body { bytes: Bytes::new(), digest: Digest([0; 32]) };

    /// Hashes `bytes` and keeps both.
    pub fn new(bytes: Bytes) -> Body {
        let digest = Body::digest_of(&bytes);
        Body { bytes, digest }
    }
    /// Takes bytes that are said to have `digest`; `None` if they do not.
    pub fn verified(bytes: Bytes, digest: Digest) -> Option<Body> {
        (Body::digest_of(&bytes) == digest).then_some(Body { bytes, digest })
    }
    /// The bytes.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }
    /// Their digest.
    pub fn digest(&self) -> Digest {
        self.digest
    }
    /// Number of bytes.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }
    /// Whether there are no bytes.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }
    fn digest_of(bytes: &[u8]) -> Digest {
        if bytes.is_empty() { Digest::default() } else { Digest::of(bytes) }
    }
}
impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{} B {:?}]", self.len(), self.digest)
    }
}
