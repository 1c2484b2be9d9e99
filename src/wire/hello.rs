//! What two nodes say before they know each other: packets of a handshake, in the clear.
//!
//! A packet is a prefix of eight bytes (magic, kind, zero, length) and its content. Both hellos become the Noise prologue, so a
//! change on the way ends the handshake. A hello begins with its version, and nothing behind it is read when that does not fit.

use crate::base::NodeId;
use crate::crypto::{ClusterId, Fingerprint};
use thiserror::Error;

/// First bytes of a packet.
const MAGIC: u32 = u32::from_le_bytes(*b"QRH1");
/// Version of the whole peer protocol: handshake, frames, heads.
pub const VERSION: u16 = super::frame::VERSION;
/// Bytes of a packet before its content.
const PREFIX: usize = 8;
/// Largest content, in bytes.
pub const CONTENT_MAX: usize = 512;
/// Bytes of a hello's content.
const HELLO: usize = 72;

/// The sender wants frames hidden, not only authentic. If either does, both do.
pub const CAPABILITY_ENCRYPT: u64 = 1;

/// Who somebody says to be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Hello {
    /// Its name in the cluster.
    pub node: NodeId,
    /// Its cluster.
    pub cluster: ClusterId,
    /// Of its settings.
    pub fingerprint: Fingerprint,
    /// `CAPABILITY_*`. Unknown bits are ignored.
    pub capabilities: u64,
    /// Which of its lives this is.
    pub boot: u64,
}

/// Why a connection is turned down.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum RefusalCode {
    /// Another version of the peer protocol.
    Version = 1,
    /// Another cluster.
    Cluster = 2,
    /// Settings that must be equal differ.
    Fingerprint = 3,
    /// No such member.
    UnknownNode = 4,
    /// The node with the higher id makes the connection.
    Direction = 5,
    /// The static key is not the one that the configuration lists.
    Key = 6,
    /// The cryptographic handshake did not open.
    Handshake = 7,
    /// The node is in an earlier life than one that was met before: it has forgotten what it promised since.
    Life = 8,
}
const CODES: [RefusalCode; 8] = [
    RefusalCode::Version,
    RefusalCode::Cluster,
    RefusalCode::Fingerprint,
    RefusalCode::UnknownNode,
    RefusalCode::Direction,
    RefusalCode::Key,
    RefusalCode::Handshake,
    RefusalCode::Life,
];

/// One packet.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Packet {
    /// Who the sender says to be.
    Hello(Hello),
    /// A hello of a version that this node does not read.
    OtherVersion(u16),
    /// A message of the Noise handshake.
    Noise(Vec<u8>),
    /// The acceptor has taken the dialer in: frames follow.
    Ready,
    /// The sender hangs up.
    Refuse {
        /// Why; `None` for a code of a later version.
        code: Option<RefusalCode>,
        /// Why, for people. Printable.
        text: String,
    },
}

/// The bytes are no packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum PacketError {
    /// Not the protocol of peers.
    #[error("the other side does not speak the peer protocol (bytes {0:08x}): is the address a client port?")]
    Magic(u32),
    /// Malformed.
    #[error("malformed handshake packet of kind {kind} and {length} bytes")]
    Malformed {
        /// What it says to be.
        kind: u8,
        /// Length of its content.
        length: usize,
    },
}

const KIND_HELLO: u8 = 1;
const KIND_NOISE: u8 = 2;
const KIND_READY: u8 = 3;
const KIND_REFUSE: u8 = 4;

impl Packet {
    /// Appends the packet's bytes.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(&MAGIC.to_le_bytes());
        out.extend_from_slice(&[0; 4]);
        out[start + 4] = match self {
            Packet::Hello(hello) => {
                hello.encode(out);
                KIND_HELLO
            }
            Packet::OtherVersion(version) => {
                out.extend_from_slice(&version.to_le_bytes());
                KIND_HELLO
            }
            Packet::Noise(message) => {
                out.extend_from_slice(message);
                KIND_NOISE
            }
            Packet::Ready => KIND_READY,
            Packet::Refuse { code, text } => {
                out.push(code.map_or(0, |code| code as u8));
                // A character cut in two reads as a replacement character.
                out.extend_from_slice(&text.as_bytes()[..text.len().min(CONTENT_MAX - 1)]);
                KIND_REFUSE
            }
        };
        let length = out.len() - start - PREFIX;
        assert!(length <= CONTENT_MAX);
        out[start + 6..start + 8].copy_from_slice(&(length as u16).to_le_bytes());
    }
    /// Takes a packet off the front, if one is there whole. Also says how many bytes it had.
    pub fn decode(bytes: &[u8]) -> Result<Option<(Packet, usize)>, PacketError> {
        // What cannot become a packet is refused at its first wrong byte: a client of another protocol does not wait for a time-out.
        let seen = bytes.len().min(4);
        if bytes[..seen] != MAGIC.to_le_bytes()[..seen] {
            let mut found = [0; 4];
            found[..seen].copy_from_slice(&bytes[..seen]);
            return Err(PacketError::Magic(u32::from_be_bytes(found)));
        }
        let Some(prefix) = bytes.first_chunk::<PREFIX>() else { return Ok(None) };
        let (kind, length) = (prefix[4], usize::from(u16::from_le_bytes([prefix[6], prefix[7]])));
        let malformed = PacketError::Malformed { kind, length };
        if prefix[5] != 0 || CONTENT_MAX < length {
            return Err(malformed);
        }
        let Some(content) = bytes.get(PREFIX..PREFIX + length) else { return Ok(None) };
        let packet = match kind {
            KIND_HELLO => Hello::decode(content).ok_or(malformed)?,
            KIND_NOISE => Packet::Noise(content.to_vec()),
            KIND_READY if content.is_empty() => Packet::Ready,
            KIND_REFUSE => {
                let (code, text) = content.split_first().ok_or(malformed)?;
                let code = CODES.into_iter().find(|known| *known as u8 == *code);
                Packet::Refuse { code, text: printable(text) }
            }
            _ => return Err(malformed),
        };
        Ok(Some((packet, PREFIX + length)))
    }
}

impl Hello {
    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&VERSION.to_le_bytes());
        out.extend_from_slice(&[self.node.0, 0, 0, 0, 0, 0]);
        out.extend_from_slice(&self.cluster.0);
        out.extend_from_slice(&self.fingerprint.0);
        out.extend_from_slice(&self.capabilities.to_le_bytes());
        out.extend_from_slice(&self.boot.to_le_bytes());
    }
    fn decode(content: &[u8]) -> Option<Packet> {
        let version = u16::from_le_bytes(*content.first_chunk()?);
        if version != VERSION {
            return Some(Packet::OtherVersion(version));
        }
        let content: &[u8; HELLO] = content.try_into().ok()?;
        let u64_at = |at: usize| u64::from_le_bytes(content[at..at + 8].try_into().expect("eight bytes"));
        content[3..8].iter().all(|byte| *byte == 0).then(|| {
            Packet::Hello(Hello {
                node: NodeId(content[2]),
                cluster: ClusterId(content[8..24].try_into().expect("16 bytes")),
                fingerprint: Fingerprint(content[24..56].try_into().expect("32 bytes")),
                capabilities: u64_at(56),
                boot: u64_at(64),
            })
        })
    }
}

/// Text that a stranger chose must not move an operator's cursor.
fn printable(text: &[u8]) -> String {
    String::from_utf8_lossy(text).chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn packets() -> Vec<Packet> {
        let hello = Hello {
            node: NodeId(4),
            cluster: ClusterId([1; 16]),
            fingerprint: Fingerprint([2; 32]),
            capabilities: CAPABILITY_ENCRYPT,
            boot: 9,
        };
        vec![
            Packet::Hello(hello),
            Packet::OtherVersion(7),
            Packet::Noise(vec![1, 2, 3]),
            Packet::Ready,
            Packet::Refuse { code: Some(RefusalCode::Key), text: "node 3 proved another key".into() },
            Packet::Refuse { code: None, text: String::new() },
        ]
    }

    #[test]
    fn packets_read_back_and_a_part_of_one_is_no_packet_yet() {
        for packet in packets() {
            let mut bytes = Vec::new();
            packet.encode(&mut bytes);
            assert_eq!(Packet::decode(&bytes), Ok(Some((packet, bytes.len()))));
            for cut in 0..bytes.len() {
                assert_eq!(Packet::decode(&bytes[..cut]), Ok(None));
            }
        }
    }

    #[test]
    fn a_long_reason_is_cut_and_control_characters_are_not_passed_on() {
        let mut bytes = Vec::new();
        let text = "ä\u{1b}[2J".repeat(200);
        Packet::Refuse { code: Some(RefusalCode::Key), text }.encode(&mut bytes);
        let Ok(Some((Packet::Refuse { text, .. }, _))) = Packet::decode(&bytes) else { panic!("a refusal") };
        assert!(text.starts_with("ä [2J") && text.chars().count() < CONTENT_MAX);
    }

    #[test]
    fn another_protocol_is_told_at_its_first_byte() {
        assert_eq!(Packet::decode(b"*1\r\n"), Err(PacketError::Magic(0x2a31_0d0a)));
        assert_eq!(Packet::decode(b"G"), Err(PacketError::Magic(0x4700_0000)));
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..100), which in 0..6usize, at: prop::sample::Index) {
            let _ = Packet::decode(&bytes);
            let mut packet = Vec::new();
            packets()[which].encode(&mut packet);
            let at = at.index(packet.len());
            packet[at] = packet[at].wrapping_add(1);
            if let Ok(Some((_, length))) = Packet::decode(&packet) {
                prop_assert!(length <= packet.len());
            }
        }
    }
}
