//! Makes frames: one [`Sealer`] a link.

use super::Message;
use super::codec::{self, Heads};
use super::frame::{
    BODIES_MAX, FRAME_BYTES_AIM, FRAME_BYTES_MAX, HEADER_BOUND, HEADER_BYTES, Header, Lane, MESSAGES_MAX,
    TABLE_LINE,
};
use crate::base::{GroupId, NodeId};
use crate::crypto::DirectionKeys;
use crate::crypto::tag::CIPHER_OVERHEAD;
use bytes::Bytes;

/// Seals what this node says over one link.
pub struct Sealer {
    from: NodeId,
    keys: DirectionKeys,
    drafts: [Draft; 2],
}

/// Messages that will share a frame.
#[derive(Default)]
struct Draft {
    /// The next frame's number.
    counter: u64,
    table: Vec<u8>,
    heads: Heads,
    bodies: Vec<Bytes>,
    body_bytes: usize,
    messages: usize,
}

/// A frame ready to be sent.
#[derive(Clone, Debug)]
pub struct Sealed {
    /// In this order; bodies are references to the bytes that came in.
    pub parts: Vec<Bytes>,
    /// Sum of the parts.
    pub bytes: usize,
    /// Messages in it.
    pub messages: usize,
}

/// Why a message was not taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NotTaken {
    /// Seal what has been taken first.
    Full,
    /// It fits in no frame.
    TooLarge {
        /// What its frame would have, at least.
        bytes: usize,
        /// Its bodies.
        bodies: usize,
    },
}

impl Sealer {
    /// For a link that just came up.
    pub fn new(from: NodeId, keys: DirectionKeys) -> Sealer {
        Sealer { from, keys, drafts: Default::default() }
    }
    /// Adds a message to the lane's next frame.
    pub fn push(&mut self, lane: Lane, group: GroupId, message: &Message) -> Result<(), NotTaken> {
        let overhead = if self.keys.encrypts() { CIPHER_OVERHEAD } else { 0 };
        let draft = &mut self.drafts[lane as usize];
        let (mut bodies, mut bytes) = (0, codec::heads_bound(message));
        codec::for_each_body(message, |body| {
            bodies += 1;
            bytes += TABLE_LINE + body.len();
        });
        let alone = HEADER_BYTES + overhead + bytes;
        if FRAME_BYTES_MAX < alone || BODIES_MAX < bodies {
            return Err(NotTaken::TooLarge { bytes: alone, bodies });
        }
        let full = draft.messages == MESSAGES_MAX
            || BODIES_MAX < draft.bodies.len() + bodies
            || FRAME_BYTES_AIM < draft.bytes() + overhead + bytes;
        if full && 0 < draft.messages {
            return Err(NotTaken::Full);
        }
        codec::encode(&mut draft.heads, group, message);
        codec::for_each_body(message, |body| {
            draft.table.extend_from_slice(&body.digest().0);
            draft.table.extend_from_slice(&(body.len() as u32).to_le_bytes());
            draft.table.extend_from_slice(&[0; 12]);
            draft.body_bytes += body.len();
            draft.bodies.push(body.bytes().clone());
        });
        draft.messages += 1;
        Ok(())
    }
    /// Messages that wait in the lane's next frame.
    pub fn waiting(&self, lane: Lane) -> usize {
        self.drafts[lane as usize].messages
    }
    /// Seals the lane's next frame, with or without messages in it: an empty one says that this node lives.
    pub fn seal(&mut self, lane: Lane) -> Sealed {
        let draft = &mut self.drafts[lane as usize];
        let encrypted = self.keys.encrypts();
        let header = Header {
            length: draft.bytes() + if encrypted { CIPHER_OVERHEAD } else { 0 },
            messages: draft.messages,
            bodies: draft.bodies.len(),
            heads: draft.heads.len(),
            lane,
            encrypted,
            from: self.from,
            counter: draft.counter,
            tag: [0; 32],
        };
        assert!(header.length <= FRAME_BYTES_MAX);
        assert_eq!(draft.table.len() + draft.heads.len(), header.front());
        let bound = header.bound_bytes();
        let mut tagger = self.keys.tagger();
        [&bound[..], &draft.table, &draft.heads].iter().for_each(|part| tagger.add(part));
        let tag = tagger.tag();
        let sealed = if encrypted {
            draft.hidden(&header, &bound, &tag, &self.keys)
        } else {
            draft.open_to_read(&header, &bound, &tag)
        };
        draft.start_next();
        sealed
    }
}

impl Draft {
    /// The frame's bytes, without encryption.
    fn bytes(&self) -> usize {
        HEADER_BYTES + self.table.len() + self.heads.len() + self.body_bytes
    }
    fn start_next(&mut self) {
        self.counter += 1;
        self.table.clear();
        self.heads.clear();
        self.bodies.clear();
        self.body_bytes = 0;
        self.messages = 0;
    }
    fn open_to_read(&mut self, header: &Header, bound: &[u8; HEADER_BOUND], tag: &[u8; 32]) -> Sealed {
        let mut front = Vec::with_capacity(HEADER_BYTES + header.front());
        [&bound[..], tag, &self.table, &self.heads].iter().for_each(|part| front.extend_from_slice(part));
        let mut parts = Vec::with_capacity(1 + self.bodies.len());
        parts.push(Bytes::from(front));
        parts.append(&mut self.bodies);
        Sealed { parts, bytes: header.length, messages: self.messages }
    }
    /// One copy of the bodies is the price of secrecy.
    fn hidden(
        &mut self,
        header: &Header,
        bound: &[u8; HEADER_BOUND],
        tag: &[u8; 32],
        keys: &DirectionKeys,
    ) -> Sealed {
        let mut plain = Vec::with_capacity(header.length);
        [&self.table[..], &self.heads].iter().for_each(|part| plain.extend_from_slice(part));
        self.bodies.iter().for_each(|body| plain.extend_from_slice(body));
        let mut frame = vec![0; header.length];
        frame[..HEADER_BOUND].copy_from_slice(bound);
        frame[HEADER_BOUND..HEADER_BYTES].copy_from_slice(tag);
        keys.encrypt(header.nonce(), bound, &plain, &mut frame[HEADER_BYTES..]);
        Sealed { parts: vec![Bytes::from(frame)], bytes: header.length, messages: self.messages }
    }
}
