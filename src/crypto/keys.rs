//! X25519 static keys: a node's identity towards its peers.

use super::{HexError, SigningKey, read_hex, write_hex};
use snow::params::DHChoice;
use snow::resolvers::{CryptoResolver, DefaultResolver};
use std::fmt;
use zeroize::{Zeroize, Zeroizing};

/// A node's private key. Wiped from memory when dropped; never printed by accident.
pub struct SecretKey([u8; 32]);

impl SecretKey {
    /// Makes a key from 32 bytes of the system's entropy.
    pub fn from_entropy(entropy: [u8; 32]) -> SecretKey {
        SecretKey(entropy)
    }
    /// Reads 64 hexadecimal digits.
    pub fn parse(text: &str) -> Result<SecretKey, HexError> {
        read_hex(text).map(SecretKey)
    }
    /// Hexadecimal digits, for the key file. The text is wiped when dropped.
    pub fn to_hex(&self) -> Zeroizing<String> {
        // The capacity is exact, so that no half-written copy is left behind by growing.
        let mut text = Zeroizing::new(String::with_capacity(2 * self.0.len()));
        write_hex(&self.0, &mut *text).expect("a string takes everything");
        text
    }
    /// The public key that belongs to it.
    pub fn public(&self) -> PublicKey {
        let mut dh = DefaultResolver.resolve_dh(&DHChoice::Curve25519).expect("X25519 is built in");
        dh.set(&self.0);
        PublicKey(dh.pubkey().try_into().expect("X25519 keys are 32 bytes"))
    }
    /// The key that this node signs with: derived, so that a node has one secret to keep.
    pub fn signing(&self) -> SigningKey {
        SigningKey::from_entropy(blake3::derive_key("quorate v1 node signing key", &self.0))
    }
    /// For the handshake.
    pub(super) fn bytes(&self) -> &[u8; 32] {
        &self.0
    }
}
impl Clone for SecretKey {
    fn clone(&self) -> SecretKey {
        SecretKey(self.0)
    }
}
impl Drop for SecretKey {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}
impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretKey(of {})", self.public().short())
    }
}

/// A node's public key, as every member's configuration lists it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PublicKey(pub [u8; 32]);

impl PublicKey {
    /// Reads 64 hexadecimal digits.
    pub fn parse(text: &str) -> Result<PublicKey, HexError> {
        read_hex(text).map(PublicKey)
    }
    /// Sixteen digits of its hash, for messages that two operators compare.
    pub fn short(&self) -> String {
        let mut text = String::with_capacity(16);
        write_hex(&blake3::hash(&self.0).as_bytes()[..8], &mut text).expect("a string takes everything");
        text
    }
}
impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_hex(&self.0, f)
    }
}
impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({})", self.short())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 7748, 6.1: Bob's key pair.
    #[test]
    fn the_public_key_is_the_one_that_rfc_7748_lists() {
        let secret = "5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb";
        let public = SecretKey::parse(secret).expect("digits").public().to_string();
        assert_eq!(public, "de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f");
    }

    #[test]
    fn keys_survive_text_and_a_secret_is_never_printed() {
        let secret = SecretKey::from_entropy([7; 32]);
        let again = SecretKey::parse(&secret.to_hex()).expect("digits");
        assert_eq!(again.public(), secret.public());
        let public = secret.public();
        assert_eq!(PublicKey::parse(&public.to_string()), Ok(public));
        assert!(!format!("{secret:?}").contains("0707"));
        assert_eq!(public.short().len(), 16);
    }
}
