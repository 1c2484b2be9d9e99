//! The handshake of one connection, without its socket: bytes in, bytes out, and in the end the keys of a link or a reason.
//!
//! ```text
//! dialer                                   acceptor
//! hello                 ->
//!                       <-                 hello, or refuse
//! noise 1 (e)           ->
//!                       <-                 noise 2 (e, ee, s, es)
//! noise 3 (s, se)       ->
//!                       <-                 ready, or refuse
//! ```
//! Either side may refuse instead, with a code and a sentence, so that both operators see why. Both hellos are the Noise prologue:
//! whoever changes them on the way (another node, fewer capabilities) ends the handshake. A static key counts only as the key that
//! the configuration lists for the node that the hello names.

use crate::base::NodeId;
use crate::crypto::{ClusterId, Fingerprint, LinkKeys, Noise, NoiseError, PublicKey, SecretKey, Side};
use crate::wire::hello::{CAPABILITY_ENCRYPT, Hello, Packet, PacketError, RefusalCode, VERSION};
use std::collections::{BTreeMap, BTreeSet};
use thiserror::Error;
use zeroize::Zeroizing;

/// Who this node is, and whom it knows.
#[derive(Clone, Debug)]
pub struct Identity {
    /// This node.
    pub node: NodeId,
    /// Which of its lives this is.
    pub boot: u64,
    /// Its cluster.
    pub cluster: ClusterId,
    /// Of the settings that must be equal everywhere.
    pub fingerprint: Fingerprint,
    /// Its static key.
    pub secret: SecretKey,
    /// Another that it holds: that of an epoch to come, or of the last.
    pub other: Option<SecretKey>,
    /// Who has refused the first: other members, and native clients.
    pub other_for: BTreeSet<NodeId>,
    /// It wants frames hidden. If either side does, both do.
    pub encrypt: bool,
    /// The other members and their static keys.
    pub peers: BTreeMap<NodeId, PublicKey>,
}

/// The latest life in which each peer was met. A node that comes back in an earlier one runs from an older copy of its directory: it
/// has forgotten votes and entries that others count on.
pub type Lives = BTreeMap<NodeId, u64>;

impl Identity {
    /// The key to show to a peer.
    fn secret_for(&self, peer: NodeId) -> &SecretKey {
        self.other.as_ref().filter(|_| self.other_for.contains(&peer)).unwrap_or(&self.secret)
    }
    /// From now on this node's key is the one that belongs to `listed`, if it holds that, for everybody.
    pub fn take_up(&mut self, listed: PublicKey) {
        if let Some(other) = self.other.as_mut().filter(|other| other.public() == listed) {
            std::mem::swap(&mut self.secret, other);
        }
        self.other_for.clear();
    }
    /// A peer has refused the key that it was shown: the next time it is shown the other.
    pub fn change_key_for(&mut self, peer: NodeId) {
        if self.other.is_some() && !self.other_for.insert(peer) {
            self.other_for.remove(&peer);
        }
    }
    fn hello(&self) -> Hello {
        Hello {
            node: self.node,
            cluster: self.cluster,
            fingerprint: self.fingerprint,
            capabilities: if self.encrypt { CAPABILITY_ENCRYPT } else { 0 },
            boot: self.boot,
        }
    }
}

/// Why a handshake came to nothing.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum HandshakeError {
    /// This side refused. The peer has been told in the same words.
    #[error("{text}")]
    Refused {
        /// Why.
        code: RefusalCode,
        /// Why, for people.
        text: String,
    },
    /// The other side refused.
    #[error("the other side refuses: {text}")]
    RefusedByPeer {
        /// Why; `None` for a reason of a later version.
        code: Option<RefusalCode>,
        /// Its words.
        text: String,
    },
    /// The other side does not speak this protocol.
    #[error("{0}")]
    Packet(#[from] PacketError),
    /// A packet that has no business here.
    #[error("a packet came that the handshake does not expect here")]
    OutOfTurn,
}

/// The two sides know each other.
#[derive(Debug)]
pub struct Established {
    /// Who the other side is.
    pub peer: NodeId,
    /// Which of its lives this is.
    pub boot: u64,
    /// Of the link.
    pub keys: LinkKeys,
    /// What came in behind the last packet: the beginning of frames.
    pub rest: Vec<u8>,
}

/// A handshake under way.
pub struct Handshake {
    side: Side,
    /// Whom this side dialled.
    dialled: Option<NodeId>,
    /// Makes the ephemeral key.
    entropy: Zeroizing<[u8; 32]>,
    /// This side's hello as it was sent.
    hello: Vec<u8>,
    theirs: Option<Hello>,
    state: State,
    /// What has come and is no whole packet yet.
    inbox: Vec<u8>,
}

enum State {
    /// Waits for the other side's hello.
    Hello,
    /// Waits for a Noise message.
    Noise(Box<Noise>),
    /// The dialer has sent its last message and waits for `Ready`.
    Ready(Box<Noise>),
    Over,
}

impl Handshake {
    /// Begins as the side that made the connection; `out` gets what is to be sent. `entropy` must be fresh.
    pub fn dial(identity: &Identity, peer: NodeId, entropy: [u8; 32], out: &mut Vec<u8>) -> Handshake {
        let handshake = Handshake::new(identity, Side::Dialer, Some(peer), entropy);
        out.extend_from_slice(&handshake.hello);
        handshake
    }
    /// Begins as the side that took the connection.
    pub fn accept(identity: &Identity, entropy: [u8; 32]) -> Handshake {
        Handshake::new(identity, Side::Acceptor, None, entropy)
    }
    fn new(identity: &Identity, side: Side, dialled: Option<NodeId>, entropy: [u8; 32]) -> Handshake {
        let mut hello = Vec::new();
        Packet::Hello(identity.hello()).encode(&mut hello);
        Handshake {
            side,
            dialled,
            entropy: Zeroizing::new(entropy),
            hello,
            theirs: None,
            state: State::Hello,
            inbox: Vec::new(),
        }
    }
    /// Who the other side is or says to be.
    pub fn peer(&self) -> Option<NodeId> {
        self.dialled.or(self.theirs.map(|hello| hello.node))
    }
    /// Takes bytes in. `out` gets what is to be sent, before the connection is closed when this fails.
    pub fn receive(
        &mut self,
        identity: &Identity,
        lives: &Lives,
        bytes: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<Option<Established>, HandshakeError> {
        self.inbox.extend_from_slice(bytes);
        let outcome = self.take_packets(identity, lives, out);
        if let Err(HandshakeError::Refused { code, text }) = &outcome {
            Packet::Refuse { code: Some(*code), text: text.clone() }.encode(out);
        }
        if outcome.is_err() {
            self.state = State::Over;
        }
        outcome
    }

    fn take_packets(
        &mut self,
        identity: &Identity,
        lives: &Lives,
        out: &mut Vec<u8>,
    ) -> Result<Option<Established>, HandshakeError> {
        while let Some((packet, length)) = Packet::decode(&self.inbox)? {
            let bytes: Vec<u8> = self.inbox.drain(..length).collect();
            if let Packet::Hello(hello) = &packet {
                lives_on(identity, lives, hello)?;
            }
            if let Some(established) = self.take(identity, packet, &bytes, out)? {
                return Ok(Some(established));
            }
        }
        Ok(None)
    }

    fn take(
        &mut self,
        identity: &Identity,
        packet: Packet,
        bytes: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<Option<Established>, HandshakeError> {
        match (std::mem::replace(&mut self.state, State::Over), packet) {
            (_, Packet::Refuse { code, text }) => Err(HandshakeError::RefusedByPeer { code, text }),
            (State::Hello, Packet::OtherVersion(version)) => Err(refused(
                RefusalCode::Version,
                format!(
                    "the peer protocol of the other side has version {version}, that of node {} has {VERSION}; run the same release",
                    identity.node
                ),
            )),
            (State::Hello, Packet::Hello(hello)) => {
                self.greet(identity, hello, bytes, out)?;
                Ok(None)
            }
            (State::Noise(noise), Packet::Noise(message)) => self.take_noise(identity, noise, &message, out),
            (State::Ready(noise), Packet::Ready) => Ok(Some(self.finish(identity, *noise))),
            _ => Err(HandshakeError::OutOfTurn),
        }
    }

    /// Both hellos are known: checks the other side's, and begins the cryptographic part.
    fn greet(
        &mut self,
        identity: &Identity,
        hello: Hello,
        bytes: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), HandshakeError> {
        self.fits(identity, &hello)?;
        self.theirs = Some(hello);
        let bound = match self.side {
            Side::Dialer => [&self.hello, bytes].concat(),
            Side::Acceptor => [bytes, &self.hello].concat(),
        };
        let mut noise =
            Box::new(Noise::new(self.side, identity.secret_for(hello.node), &bound, *self.entropy));
        match self.side {
            Side::Dialer => Packet::Noise(noise.write()).encode(out),
            Side::Acceptor => out.extend_from_slice(&self.hello),
        }
        self.state = State::Noise(noise);
        Ok(())
    }

    fn fits(&self, identity: &Identity, hello: &Hello) -> Result<(), HandshakeError> {
        let (us, them) = (identity.node, hello.node);
        if hello.cluster != identity.cluster {
            return Err(refused(
                RefusalCode::Cluster,
                format!(
                    "node {them} is of cluster {}, node {us} of cluster {}; one of the two addresses or directories is another cluster's",
                    hello.cluster, identity.cluster
                ),
            ));
        }
        if hello.fingerprint != identity.fingerprint {
            return Err(refused(
                RefusalCode::Fingerprint,
                format!(
                    "settings that must be equal differ: fingerprint {} at node {them}, {} at node {us}; compare `config show` of both",
                    hello.fingerprint, identity.fingerprint
                ),
            ));
        }
        if !identity.peers.contains_key(&them) || self.dialled.is_some_and(|dialled| dialled != them) {
            let whom = self.dialled.map_or("a peer".into(), |dialled| format!("node {dialled}"));
            return Err(refused(
                RefusalCode::UnknownNode,
                format!(
                    "node {us} expected {whom} and met node {them}; check the members' ids and addresses in both configurations, \
                     or, where members have changed, `quorate ctl members`"
                ),
            ));
        }
        if self.side == Side::Acceptor && them < us {
            return Err(refused(
                RefusalCode::Direction,
                format!("node {them} dialled node {us}, but the node with the higher id dials"),
            ));
        }
        Ok(())
    }

    fn take_noise(
        &mut self,
        identity: &Identity,
        mut noise: Box<Noise>,
        message: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<Option<Established>, HandshakeError> {
        noise.read(message).map_err(|NoiseError { message }| {
            let error = NoiseError { message };
            refused(RefusalCode::Handshake, format!("node {}: {error}", identity.node))
        })?;
        self.key_fits(identity, &noise)?;
        match (self.side, noise.is_finished()) {
            // Message 2 has come.
            (Side::Dialer, _) => {
                Packet::Noise(noise.write()).encode(out);
                self.state = State::Ready(noise);
                Ok(None)
            }
            // Message 1 has come.
            (Side::Acceptor, false) => {
                Packet::Noise(noise.write()).encode(out);
                self.state = State::Noise(noise);
                Ok(None)
            }
            // Message 3 has come.
            (Side::Acceptor, true) => {
                Packet::Ready.encode(out);
                Ok(Some(self.finish(identity, *noise)))
            }
        }
    }

    /// The static key, once it is known, must be the one that the configuration lists for the node that the hello named.
    fn key_fits(&self, identity: &Identity, noise: &Noise) -> Result<(), HandshakeError> {
        let them = self.theirs.expect("a hello came before").node;
        let Some(proved) = noise.remote() else { return Ok(()) };
        let listed = identity.peers[&them];
        if proved == listed {
            return Ok(());
        }
        let us = identity.node;
        Err(refused(
            RefusalCode::Key,
            format!(
                "node {them} proved a key with hash {}, the configuration of node {us} lists {} for it; one of the two is not the key that `init` made for node {them}",
                proved.short(),
                listed.short()
            ),
        ))
    }

    fn finish(&mut self, identity: &Identity, noise: Noise) -> Established {
        let hello = self.theirs.expect("a hello came before");
        let encrypt = identity.encrypt || hello.capabilities & CAPABILITY_ENCRYPT != 0;
        Established {
            peer: hello.node,
            boot: hello.boot,
            keys: noise.finish(encrypt),
            rest: std::mem::take(&mut self.inbox),
        }
    }
}

/// Nobody comes back from an earlier life.
fn lives_on(identity: &Identity, lives: &Lives, hello: &Hello) -> Result<(), HandshakeError> {
    let (them, life) = (hello.node, hello.boot);
    match lives.get(&them) {
        // A stranger's life says nothing about a member's.
        Some(met) if life < *met && hello.cluster == identity.cluster => Err(refused(
            RefusalCode::Life,
            format!(
                "node {them} is in life {life}, but node {} has met it in life {met}: its directory is an older copy that has forgotten votes and entries; replace node {them}",
                identity.node
            ),
        )),
        _ => Ok(()),
    }
}

fn refused(code: RefusalCode, text: String) -> HandshakeError {
    HandshakeError::Refused { code, text }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn secret(node: u8) -> SecretKey {
        SecretKey::from_entropy([node; 32])
    }
    fn identity(node: u8) -> Identity {
        let others = (1..=3).filter(|other| *other != node);
        Identity {
            node: NodeId(node),
            boot: u64::from(node) * 10,
            cluster: ClusterId([9; 16]),
            fingerprint: Fingerprint([8; 32]),
            secret: secret(node),
            other: None,
            other_for: BTreeSet::new(),
            encrypt: false,
            peers: others.map(|other| (NodeId(other), secret(other).public())).collect(),
        }
    }

    #[test]
    fn who_holds_two_keys_shows_the_other_to_whom_refused_the_first_and_takes_up_what_is_listed() {
        let mut holder = Identity { other: Some(secret(50)), ..identity(2) };
        let shown = |holder: &Identity, peer| holder.secret_for(NodeId(peer)).public();
        holder.change_key_for(NodeId(1));
        assert_eq!((shown(&holder, 1), shown(&holder, 3)), (secret(50).public(), secret(2).public()));
        holder.change_key_for(NodeId(1));
        assert_eq!(shown(&holder, 1), secret(2).public());
        holder.change_key_for(NodeId(200));
        assert_eq!(shown(&holder, 200), secret(50).public(), "a native client that is behind");
        holder.change_key_for(NodeId(3));
        holder.take_up(secret(50).public());
        assert_eq!([1, 3].map(|peer| shown(&holder, peer)), [secret(50).public(); 2]);
        holder.change_key_for(NodeId(3));
        assert_eq!(shown(&holder, 3), secret(2).public(), "who is behind knows the earlier one");
        holder.take_up(secret(9).public());
        assert_eq!(shown(&holder, 3), secret(50).public(), "a key that it does not hold");
        // A rotated key is refused by whoever lists the other, and believed by whoever lists it.
        let (rotated, mut lister) = (Identity { secret: secret(50), ..identity(2) }, identity(1));
        assert!(matches!(
            run(&rotated, &lister, usize::MAX),
            (_, Some(Err(HandshakeError::Refused { code: RefusalCode::Key, .. })))
        ));
        lister.peers.insert(NodeId(2), secret(50).public());
        assert!(matches!(run(&rotated, &lister, usize::MAX), (Some(Ok(_)), Some(Ok(_)))));
    }

    type Ended = Result<Established, HandshakeError>;

    /// Carries bytes between two sides, in pieces of `step`, until both have ended; says how each ended.
    fn run(dialer: &Identity, acceptor: &Identity, step: usize) -> (Option<Ended>, Option<Ended>) {
        let (mut to_acceptor, mut to_dialer) = (Vec::new(), Vec::new());
        let mut dialing = Handshake::dial(dialer, NodeId(1), [1; 32], &mut to_acceptor);
        let mut accepting = Handshake::accept(acceptor, [2; 32]);
        let (mut dialed, mut accepted) = (None, None);
        while !(to_acceptor.is_empty() && to_dialer.is_empty()) {
            let bytes: Vec<u8> = to_acceptor.drain(..step.min(to_acceptor.len())).collect();
            if accepted.is_none() && !bytes.is_empty() {
                accepted = accepting.receive(acceptor, &Lives::new(), &bytes, &mut to_dialer).transpose();
            }
            let bytes: Vec<u8> = to_dialer.drain(..step.min(to_dialer.len())).collect();
            if dialed.is_none() && !bytes.is_empty() {
                dialed = dialing.receive(dialer, &Lives::new(), &bytes, &mut to_acceptor).transpose();
            }
        }
        (dialed, accepted)
    }

    /// How a handshake ends that the acceptor or the dialer refuses: the code, and the sentence that both sides have seen.
    fn refusal(dialer: &Identity, acceptor: &Identity) -> (RefusalCode, String) {
        let (dialed, accepted) = run(dialer, acceptor, usize::MAX);
        let ends = (dialed.expect("it ended").map(|_| ()), accepted.expect("it ended").map(|_| ()));
        let ((
            Err(HandshakeError::Refused { code, text }),
            Err(HandshakeError::RefusedByPeer { code: told, text: said }),
        )
        | (
            Err(HandshakeError::RefusedByPeer { code: told, text: said }),
            Err(HandshakeError::Refused { code, text }),
        )) = ends
        else {
            panic!("one refuses and the other is told: {ends:?}")
        };
        assert_eq!((told, &said), (Some(code), &text));
        (code, text)
    }

    #[test]
    fn members_come_to_know_each_other_however_the_bytes_are_cut() {
        for step in [1, 7, 100, usize::MAX] {
            let (dialed, accepted) = run(&identity(2), &identity(1), step);
            let dialed = dialed.expect("it ended").expect("it is a member");
            let accepted = accepted.expect("it ended").expect("it is a member");
            assert_eq!((dialed.peer, dialed.boot), (NodeId(1), 10));
            assert_eq!((accepted.peer, accepted.boot), (NodeId(2), 20));
            assert_eq!(dialed.keys.send.tagger().tag(), accepted.keys.receive.tagger().tag());
            assert!(!dialed.keys.send.encrypts());
        }
    }

    #[test]
    fn frames_are_hidden_when_either_side_wants_it() {
        for (dialer, acceptor) in [(true, false), (false, true)] {
            let dialer = Identity { encrypt: dialer, ..identity(2) };
            let acceptor = Identity { encrypt: acceptor, ..identity(1) };
            let (dialed, accepted) = run(&dialer, &acceptor, usize::MAX);
            for ended in [dialed, accepted] {
                let keys = ended.expect("it ended").expect("it is a member").keys;
                assert!(keys.send.encrypts() && keys.receive.encrypts());
            }
        }
    }

    #[test]
    fn a_foreign_cluster_is_refused_with_both_ids() {
        let foreign = Identity { cluster: ClusterId([7; 16]), ..identity(2) };
        let (code, text) = refusal(&foreign, &identity(1));
        assert_eq!(code, RefusalCode::Cluster);
        assert!(text.contains(&"07".repeat(16)) && text.contains(&"09".repeat(16)), "{text}");
    }

    #[test]
    fn other_settings_are_refused_with_both_fingerprints() {
        let other = Identity { fingerprint: Fingerprint([7; 32]), ..identity(2) };
        let (code, text) = refusal(&other, &identity(1));
        assert_eq!(code, RefusalCode::Fingerprint);
        assert!(text.contains("0707070707070707 at node 2, 0808080808080808 at node 1"), "{text}");
    }

    #[test]
    fn a_key_that_the_configuration_does_not_list_is_refused_by_whichever_side_sees_it() {
        let stranger = Identity { secret: secret(99), ..identity(2) };
        let (code, text) = refusal(&stranger, &identity(1));
        assert_eq!(code, RefusalCode::Key);
        assert!(text.contains("node 2 proved a key"), "{text}");
        for key in [secret(99), secret(2)] {
            assert!(text.contains(&key.public().short()), "{text}");
        }
        let stranger = Identity { secret: secret(98), ..identity(1) };
        let (code, text) = refusal(&identity(2), &stranger);
        assert_eq!(code, RefusalCode::Key);
        assert!(text.contains("node 1 proved a key"), "{text}");
    }

    #[test]
    fn an_unknown_node_a_wrong_address_and_a_wrong_direction_are_refused() {
        let unknown = Identity { node: NodeId(9), ..identity(2) };
        assert_eq!(refusal(&unknown, &identity(1)).0, RefusalCode::UnknownNode);
        let (code, text) = refusal(&identity(2), &identity(3));
        assert_eq!(code, RefusalCode::Direction, "{text}");
        // Node 3 dials the address of node 1 and meets node 2.
        let (code, text) = refusal(&identity(3), &identity(2));
        assert_eq!(code, RefusalCode::UnknownNode);
        assert!(text.contains("expected node 1 and met node 2"), "{text}");
    }

    #[test]
    fn another_version_is_refused_by_name() {
        let mut out = Vec::new();
        let mut hello = Vec::new();
        Packet::OtherVersion(VERSION + 1).encode(&mut hello);
        let acceptor = identity(1);
        let ended = Handshake::accept(&acceptor, [0; 32]).receive(&acceptor, &Lives::new(), &hello, &mut out);
        let Err(HandshakeError::Refused { code: RefusalCode::Version, text }) = ended else {
            panic!("{ended:?}")
        };
        assert!(text.contains("has version 2, that of node 1 has 1"), "{text}");
        assert!(matches!(Packet::decode(&out), Ok(Some((Packet::Refuse { .. }, _)))));
    }

    #[test]
    fn a_node_that_comes_back_from_an_earlier_life_is_refused() {
        let acceptor = identity(1);
        let ended = |met: u64| {
            let (mut hello, mut out) = (Vec::new(), Vec::new());
            Handshake::dial(&identity(2), NodeId(1), [1; 32], &mut hello);
            let lives = Lives::from([(NodeId(2), met)]);
            Handshake::accept(&acceptor, [2; 32]).receive(&acceptor, &lives, &hello, &mut out).map(|_| ())
        };
        assert_eq!(ended(20), Ok(()));
        let Err(HandshakeError::Refused { code: RefusalCode::Life, text }) = ended(21) else {
            panic!("{:?}", ended(21))
        };
        assert!(text.contains("node 2 is in life 20, but node 1 has met it in life 21"), "{text}");
    }

    #[test]
    fn a_hello_changed_on_the_way_ends_the_handshake() {
        let (dialer, acceptor) = (identity(2), Identity { encrypt: true, ..identity(1) });
        let (mut to_acceptor, mut to_dialer) = (Vec::new(), Vec::new());
        let mut dialing = Handshake::dial(&dialer, NodeId(1), [1; 32], &mut to_acceptor);
        let mut accepting = Handshake::accept(&acceptor, [2; 32]);
        accepting
            .receive(&acceptor, &Lives::new(), &std::mem::take(&mut to_acceptor), &mut to_dialer)
            .expect("a good hello");
        // Somebody takes the wish for secrecy out of the acceptor's hello.
        let place = 8 + 56;
        assert_eq!(to_dialer[place], 1);
        to_dialer[place] = 0;
        dialing
            .receive(&dialer, &Lives::new(), &std::mem::take(&mut to_dialer), &mut to_acceptor)
            .expect("a good hello");
        accepting
            .receive(&acceptor, &Lives::new(), &std::mem::take(&mut to_acceptor), &mut to_dialer)
            .expect("message 1");
        let ended = dialing.receive(&dialer, &Lives::new(), &to_dialer, &mut to_acceptor);
        assert!(
            matches!(ended, Err(HandshakeError::Refused { code: RefusalCode::Handshake, .. })),
            "{ended:?}"
        );
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// Whatever an enemy says instead of the dialer, at any turn: no panic, no link.
        #[test]
        fn any_bytes_at_any_turn_are_survived(
            bytes in prop::collection::vec(any::<u8>(), 1..300), kind in 0..6u8, turns in 0..3usize,
        ) {
            let (dialer, acceptor) = (identity(2), identity(1));
            let (mut to_acceptor, mut to_dialer) = (Vec::new(), Vec::new());
            let mut dialing = Handshake::dial(&dialer, NodeId(1), [1; 32], &mut to_acceptor);
            let mut accepting = Handshake::accept(&acceptor, [2; 32]);
            for _ in 0..turns.min(2) {
                accepting.receive(&acceptor, &Lives::new(), &std::mem::take(&mut to_acceptor), &mut to_dialer).expect("good");
                dialing.receive(&dialer, &Lives::new(), &std::mem::take(&mut to_dialer), &mut to_acceptor).expect("good");
            }
            let mut packet = b"QRH1".to_vec();
            packet.extend_from_slice(&[kind, 0]);
            packet.extend_from_slice(&(bytes.len() as u16).to_le_bytes());
            packet.extend_from_slice(&bytes);
            let mut out = Vec::new();
            prop_assert!(!matches!(accepting.receive(&acceptor, &Lives::new(), &packet, &mut out), Ok(Some(_))));
            prop_assert!(!matches!(accepting.receive(&acceptor, &Lives::new(), &bytes, &mut out), Ok(Some(_))));
        }
    }
}
