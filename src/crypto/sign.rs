//! Ed25519: what a node says in a form that convinces third parties.
//!
//! A tag of a frame convinces only the node that holds the same key. Where a statement must be shown to others (a view change, a
//! batch that another node passes on, the proof of a lie), it is signed. Keys are made from entropy that is passed in.

use super::{HexError, read_hex, write_hex};
use crate::base::{NodeId, NodeSet};
use ed25519_dalek::Signer as _;
use std::collections::BTreeMap;
use std::fmt;
use zeroize::Zeroizing;

/// An Ed25519 signature (RFC 8032).
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Signature(pub [u8; 64]);

impl Signature {
    /// Stands for "not signed"; no key made it.
    pub const NONE: Signature = Signature([0; 64]);
}
impl Default for Signature {
    fn default() -> Signature {
        Signature::NONE
    }
}
impl fmt::Debug for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_hex(&self.0[..4], f)
    }
}

/// A node's private signing key. Wiped from memory when dropped; never printed by accident.
#[derive(Clone)]
pub struct SigningKey(ed25519_dalek::SigningKey);

impl SigningKey {
    /// Makes a key from 32 bytes of the system's entropy.
    pub fn from_entropy(entropy: [u8; 32]) -> SigningKey {
        SigningKey(ed25519_dalek::SigningKey::from_bytes(&entropy))
    }
    /// Reads 64 hexadecimal digits.
    pub fn parse(text: &str) -> Result<SigningKey, HexError> {
        read_hex(text).map(SigningKey::from_entropy)
    }
    /// Hexadecimal digits, for the key file. The text is wiped when dropped.
    pub fn to_hex(&self) -> Zeroizing<String> {
        // The capacity is exact, so that no half-written copy is left behind by growing.
        let mut text = Zeroizing::new(String::with_capacity(64));
        write_hex(self.0.as_bytes(), &mut *text).expect("a string takes everything");
        text
    }
    /// The public key that belongs to it.
    pub fn public(&self) -> VerifyingKey {
        VerifyingKey(self.0.verifying_key().to_bytes())
    }
    /// Signs.
    pub fn sign(&self, message: &[u8]) -> Signature {
        Signature(self.0.sign(message).to_bytes())
    }
}
impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey(of {})", self.public())
    }
}

/// A node's public signing key, as every member's configuration lists it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VerifyingKey(pub [u8; 32]);

impl VerifyingKey {
    /// Reads 64 hexadecimal digits.
    pub fn parse(text: &str) -> Result<VerifyingKey, HexError> {
        read_hex(text).map(VerifyingKey)
    }
    /// Whether it is a point of the curve that a signature can be checked against.
    pub fn is_valid(&self) -> bool {
        ed25519_dalek::VerifyingKey::from_bytes(&self.0).is_ok_and(|key| !key.is_weak())
    }
}
impl fmt::Display for VerifyingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_hex(&self.0, f)
    }
}
impl fmt::Debug for VerifyingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The signing keys of a group: the own one whole, the others' public halves.
#[derive(Clone)]
pub struct Keyring(Keys);

#[derive(Clone)]
enum Keys {
    Real {
        own: Box<SigningKey>,
        /// Others that this node holds: what it signs with in another epoch.
        spare: Vec<SigningKey>,
        /// Decompressed once, which is a third of the cost of a check.
        others: BTreeMap<NodeId, ed25519_dalek::VerifyingKey>,
    },
    /// See [`Keyring::modelled`].
    Modelled { me: NodeId, own: VerifyingKey, members: BTreeMap<NodeId, VerifyingKey> },
}

impl Keyring {
    /// Keys that are not valid are left out: nothing signed with them is believed.
    pub fn new(own: SigningKey, members: impl IntoIterator<Item = (NodeId, VerifyingKey)>) -> Keyring {
        let others = members.into_iter().filter_map(decompressed).collect();
        Keyring(Keys::Real { own: Box::new(own), spare: Vec::new(), others })
    }
    /// For whoever only checks, and signs nothing.
    pub fn checking(members: impl IntoIterator<Item = (NodeId, VerifyingKey)>) -> Keyring {
        Keyring::new(SigningKey::from_entropy([0; 32]), members)
    }
    /// Holds another private key too, to sign with where the own public key is the one that belongs to it.
    #[must_use]
    pub fn with_spare(mut self, key: SigningKey) -> Keyring {
        if let Keys::Real { spare, .. } = &mut self.0 {
            spare.push(key);
        }
        self
    }
    /// The same ring with other members in the place of `before`: nothing that only an earlier key has signed is believed any more. It
    /// signs with the key that is listed for `me`, if that is here.
    #[must_use]
    pub fn renewed(
        &self,
        me: NodeId,
        before: NodeSet,
        now: impl IntoIterator<Item = (NodeId, VerifyingKey)>,
    ) -> Keyring {
        let mut ring = self.clone();
        match &mut ring.0 {
            Keys::Real { own, spare, others } => {
                others.retain(|node, _| !before.contains(*node));
                for (node, key) in now {
                    let held = spare.iter().position(|held| node == me && held.public() == key);
                    if let Some(at) = held {
                        std::mem::swap(&mut **own, &mut spare[at]);
                    }
                    others.extend(decompressed((node, key)));
                }
            }
            Keys::Modelled { own, members, .. } => {
                members.retain(|node, _| !before.contains(*node));
                members.extend(now);
                *own = members.get(&me).copied().unwrap_or(*own);
            }
        }
        ring
    }
    /// Keys of a simulated world, in which most of the time would go into signatures: a hash of signer and message stands for one. Only
    /// [`crate::sim`] makes such a ring, and there only its owner signs with it; anybody else who runs code could (`tests/tidy`).
    pub fn modelled(me: NodeId, members: NodeSet) -> Keyring {
        let key = |node| (node, modelled_key(node, 0));
        Keyring(Keys::Modelled { me, own: modelled_key(me, 0), members: members.iter().map(key).collect() })
    }
    /// As `modelled`, with a key also for one that is no node.
    #[must_use]
    pub fn with_modelled(mut self, id: NodeId) -> Keyring {
        if let Keys::Modelled { me, own, members } = &mut self.0 {
            members.insert(id, modelled_key(id, 0));
            *own = if *me == id { modelled_key(id, 0) } else { *own };
        }
        self
    }
    /// Signs as this node.
    pub fn sign(&self, message: &[u8]) -> Signature {
        match &self.0 {
            Keys::Real { own, .. } => own.sign(message),
            Keys::Modelled { own, .. } => modelled(own, message),
        }
    }
    /// The public key by which `node` is believed.
    pub fn listed(&self, node: NodeId) -> Option<VerifyingKey> {
        match &self.0 {
            Keys::Real { others, .. } => others.get(&node).map(|key| VerifyingKey(key.to_bytes())),
            Keys::Modelled { members, .. } => members.get(&node).copied(),
        }
    }
    /// Whether anything that `node` signs could be believed.
    pub fn knows(&self, node: NodeId) -> bool {
        match &self.0 {
            Keys::Real { others, .. } => others.contains_key(&node),
            Keys::Modelled { members, .. } => members.contains_key(&node),
        }
    }
    /// Whether `node` signed `message`. Strict: a signature has one form (RFC 8032, 5.1.7, without the cofactor).
    pub fn verify(&self, node: NodeId, message: &[u8], signature: &Signature) -> bool {
        match &self.0 {
            Keys::Real { others, .. } => {
                let signature = ed25519_dalek::Signature::from_bytes(&signature.0);
                others.get(&node).is_some_and(|key| key.verify_strict(message, &signature).is_ok())
            }
            Keys::Modelled { members, .. } => {
                members.get(&node).is_some_and(|key| *signature == modelled(key, message))
            }
        }
    }
}
impl fmt::Debug for Keyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Keys::Real { own, others, .. } => write!(f, "Keyring({own:?}, {} members)", others.len()),
            Keys::Modelled { me, members, .. } => {
                write!(f, "Keyring(modelled, of {me}, {} members)", members.len())
            }
        }
    }
}

fn decompressed((id, key): (NodeId, VerifyingKey)) -> Option<(NodeId, ed25519_dalek::VerifyingKey)> {
    let key = ed25519_dalek::VerifyingKey::from_bytes(&key.0).ok()?;
    (!key.is_weak()).then_some((id, key))
}

/// The key number `generation` of a node, in a simulated world: see [`Keyring::modelled`].
pub fn modelled_key(node: NodeId, generation: u8) -> VerifyingKey {
    VerifyingKey(std::array::from_fn(|at| if at == 0 { node.0 } else { generation }))
}

fn modelled(key: &VerifyingKey, message: &[u8]) -> Signature {
    let mut hasher = blake3::Hasher::new_derive_key("quorate v1 modelled signature");
    hasher.update(&key.0);
    hasher.update(message);
    let mut signature = [0; 64];
    hasher.finalize_xof().fill(&mut signature);
    Signature(signature)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 8032, 7.1, test 2.
    #[test]
    fn a_signature_is_the_one_that_rfc_8032_lists() {
        let secret = "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb";
        let key = SigningKey::parse(secret).expect("digits");
        let public = "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c";
        assert_eq!(key.public().to_string(), public);
        let mut text = String::new();
        write_hex(&key.sign(&[0x72]).0, &mut text).expect("a string takes everything");
        assert!(text.starts_with("92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da"));
        assert!(text.ends_with("085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00"));
    }

    #[test]
    fn only_the_signer_and_only_the_message_pass() {
        let keys: Vec<SigningKey> = (1..=2).map(|n| SigningKey::from_entropy([n; 32])).collect();
        let members = (1..).map(NodeId).zip(keys.iter().map(SigningKey::public));
        let ring = Keyring::new(keys[0].clone(), members);
        let signature = ring.sign(b"x");
        assert!(ring.verify(NodeId(1), b"x", &signature));
        assert!(!ring.verify(NodeId(2), b"x", &signature));
        assert!(!ring.verify(NodeId(1), b"y", &signature));
        assert!(!ring.verify(NodeId(3), b"x", &signature), "no member");
        assert!(!ring.verify(NodeId(1), b"x", &Signature::NONE));
        assert!(!format!("{:?}", keys[0]).contains("0101"));
    }

    #[test]
    fn modelled_signatures_bind_signer_and_message() {
        let ring = Keyring::modelled(NodeId(1), [1, 2].into_iter().map(NodeId).collect());
        let signature = ring.sign(b"x");
        assert!(ring.verify(NodeId(1), b"x", &signature));
        assert!(!ring.verify(NodeId(2), b"x", &signature) && !ring.verify(NodeId(1), b"y", &signature));
        let stranger = modelled(&modelled_key(NodeId(3), 0), b"x");
        assert!(!ring.verify(NodeId(3), b"x", &stranger), "no member");
    }

    #[test]
    fn a_renewed_ring_signs_with_its_new_key_and_believes_no_earlier_one() {
        let keys: Vec<SigningKey> = (1..=4).map(|n| SigningKey::from_entropy([n; 32])).collect();
        let (me, peer, client) = (NodeId(1), NodeId(2), NodeId(200));
        let publics = [(me, keys[0].public()), (peer, keys[1].public()), (client, keys[3].public())];
        let ring = Keyring::new(keys[0].clone(), publics).with_spare(keys[2].clone());
        let before = ring.sign(b"x");
        let members = [me, peer].into_iter().collect();
        let renewed = ring.renewed(me, members, [(me, keys[2].public()), (NodeId(3), keys[1].public())]);
        assert!(renewed.verify(me, b"x", &renewed.sign(b"x")));
        assert!(!renewed.verify(me, b"x", &before) && ring.verify(me, b"x", &before));
        assert!(!renewed.knows(peer) && renewed.verify(NodeId(3), b"x", &keys[1].sign(b"x")));
        assert!(renewed.verify(client, b"x", &keys[3].sign(b"x")), "clients stay");

        let ring = Keyring::modelled(me, members);
        let renewed = ring.renewed(me, members, [(me, modelled_key(me, 1)), (peer, modelled_key(peer, 0))]);
        assert!(renewed.verify(me, b"x", &renewed.sign(b"x")));
        assert!(!renewed.verify(me, b"x", &ring.sign(b"x")));
    }

    #[test]
    fn keys_survive_text_and_a_weak_one_is_told() {
        let key = SigningKey::from_entropy([7; 32]);
        assert_eq!(SigningKey::parse(&key.to_hex()).expect("digits").public(), key.public());
        assert_eq!(VerifyingKey::parse(&key.public().to_string()), Ok(key.public()));
        assert!(key.public().is_valid());
        let identity = VerifyingKey(std::array::from_fn(|i| u8::from(i == 0)));
        assert!(!identity.is_valid(), "of small order");
    }
}
