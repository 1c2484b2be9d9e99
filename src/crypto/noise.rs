//! The Noise handshake between two nodes: `XX` with static keys, bound to what both sides said in the clear.

use super::keys::{PublicKey, SecretKey};
use super::tag::{DirectionKeys, LinkKeys};
use snow::params::{CipherChoice, DHChoice, HashChoice};
use snow::resolvers::{CryptoResolver, DefaultResolver};
use snow::types::{Cipher, Dh, Hash, Random};
use thiserror::Error;
use zeroize::Zeroizing;

/// The handshake's name, which is part of what it binds.
const PATTERN: &str = "Noise_XX_25519_ChaChaPoly_BLAKE2s";

/// Largest handshake message, in bytes: two keys of 32, two tags of 16, and room to spare.
pub const NOISE_MAX: usize = 128;

/// Who speaks first.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Side {
    /// Made the connection; sends messages 1 and 3.
    Dialer,
    /// Took it; sends message 2.
    Acceptor,
}

/// The handshake failed: somebody changed what was said in the clear, or the bytes are no handshake.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
#[error("Noise message {message} does not open: the hellos or the handshake were altered on the way")]
pub struct NoiseError {
    /// Which of the three, from 1.
    pub message: u8,
}

/// A handshake under way.
pub struct Noise {
    state: snow::HandshakeState,
    side: Side,
    messages: u8,
}

impl Noise {
    /// `bound` is what both sides said in the clear; `entropy` makes the ephemeral key and must be fresh.
    pub fn new(side: Side, secret: &SecretKey, bound: &[u8], entropy: [u8; 32]) -> Noise {
        let builder = snow::Builder::with_resolver(
            PATTERN.parse().expect("the pattern is well formed"),
            Box::new(Seeded(Zeroizing::new(entropy))),
        )
        .local_private_key(secret.bytes())
        .and_then(|b| b.prologue(bound))
        .expect("each parameter is set once");
        let state = match side {
            Side::Dialer => builder.build_initiator(),
            Side::Acceptor => builder.build_responder(),
        };
        Noise { state: state.expect("every part of the pattern is built in"), side, messages: 0 }
    }
    /// The next message, when it is this side's turn.
    pub fn write(&mut self) -> Vec<u8> {
        assert!(self.state.is_my_turn() && !self.is_finished());
        let mut message = vec![0; NOISE_MAX];
        let len = self.state.write_message(&[], &mut message).expect("the state allows a message that fits");
        message.truncate(len);
        self.messages += 1;
        message
    }
    /// Takes the peer's next message.
    pub fn read(&mut self, message: &[u8]) -> Result<(), NoiseError> {
        self.messages += 1;
        let mut payload = [0; NOISE_MAX];
        let error = NoiseError { message: self.messages };
        if self.is_finished() || self.state.is_my_turn() || NOISE_MAX < message.len() {
            return Err(error);
        }
        self.state.read_message(message, &mut payload).map(|_| ()).map_err(|_| error)
    }
    /// The peer's static key, once it is known.
    pub fn remote(&self) -> Option<PublicKey> {
        self.state.get_remote_static()?.try_into().ok().map(PublicKey)
    }
    /// Whether all three messages have passed.
    pub fn is_finished(&self) -> bool {
        self.state.is_handshake_finished()
    }
    /// The link's keys.
    pub fn finish(mut self, encrypt: bool) -> LinkKeys {
        assert!(self.is_finished());
        let (dialer, acceptor) = self.state.dangerously_get_raw_split();
        let (dialer, acceptor) = (Zeroizing::new(dialer), Zeroizing::new(acceptor));
        let (send, receive) = match self.side {
            Side::Dialer => (&dialer, &acceptor),
            Side::Acceptor => (&acceptor, &dialer),
        };
        LinkKeys {
            send: DirectionKeys::derive(send, encrypt),
            receive: DirectionKeys::derive(receive, encrypt),
        }
    }
}

/// The library's own arithmetic with our randomness.
struct Seeded(Zeroizing<[u8; 32]>);

/// Stretches the entropy that was passed in.
struct Stretch(blake3::OutputReader);

impl Random for Stretch {
    fn try_fill_bytes(&mut self, dest: &mut [u8]) -> Result<(), snow::Error> {
        self.0.fill(dest);
        Ok(())
    }
}
impl CryptoResolver for Seeded {
    fn resolve_rng(&self) -> Option<Box<dyn Random>> {
        let mut hasher = blake3::Hasher::new_derive_key("quorate v1 handshake randomness");
        hasher.update(&*self.0);
        Some(Box::new(Stretch(hasher.finalize_xof())))
    }
    fn resolve_dh(&self, choice: &DHChoice) -> Option<Box<dyn Dh>> {
        DefaultResolver.resolve_dh(choice)
    }
    fn resolve_hash(&self, choice: &HashChoice) -> Option<Box<dyn Hash>> {
        DefaultResolver.resolve_hash(choice)
    }
    fn resolve_cipher(&self, choice: &CipherChoice) -> Option<Box<dyn Cipher>> {
        DefaultResolver.resolve_cipher(choice)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(bound_dialer: &[u8], bound_acceptor: &[u8]) -> (Noise, Noise) {
        let (dialer, acceptor) = (SecretKey::from_entropy([1; 32]), SecretKey::from_entropy([2; 32]));
        (
            Noise::new(Side::Dialer, &dialer, bound_dialer, [3; 32]),
            Noise::new(Side::Acceptor, &acceptor, bound_acceptor, [4; 32]),
        )
    }

    #[test]
    fn both_sides_learn_each_other_and_agree_on_keys_that_differ_by_direction() {
        let (mut dialer, mut acceptor) = pair(b"hellos", b"hellos");
        acceptor.read(&dialer.write()).expect("message 1");
        dialer.read(&acceptor.write()).expect("message 2");
        acceptor.read(&dialer.write()).expect("message 3");
        assert_eq!(dialer.remote(), Some(SecretKey::from_entropy([2; 32]).public()));
        assert_eq!(acceptor.remote(), Some(SecretKey::from_entropy([1; 32]).public()));
        let (dialer, acceptor) = (dialer.finish(false), acceptor.finish(false));
        assert_eq!(dialer.send.tagger().tag(), acceptor.receive.tagger().tag());
        assert_eq!(dialer.receive.tagger().tag(), acceptor.send.tagger().tag());
        assert_ne!(dialer.send.tagger().tag(), dialer.receive.tagger().tag());
    }

    #[test]
    fn hellos_that_differ_on_the_way_end_the_handshake() {
        let (mut dialer, mut acceptor) = pair(b"hellos", b"hellos, downgraded");
        acceptor.read(&dialer.write()).expect("message 1 is in the clear");
        assert_eq!(dialer.read(&acceptor.write()), Err(NoiseError { message: 2 }));
    }

    #[test]
    fn any_bytes_at_any_turn_are_an_error_and_no_panic() {
        for len in [0, 1, 31, 32, 48, 96, 128, 129, 4096] {
            let (mut dialer, mut acceptor) = pair(b"h", b"h");
            assert!(dialer.read(&vec![0; len]).is_err(), "it is the dialer's turn to write");
            if acceptor.read(&vec![0x5a; len]).is_ok() {
                acceptor.write();
                assert!(acceptor.read(&vec![0x5a; len]).is_err());
            }
        }
    }
}
