//! Opens frames: one [`Opener`] a link.
//!
//! The order of checks is the order of trust: lengths and version, the tag, the counter, the bodies' digests, and only then the heads.
//! What fails any of them leaves no trace but its error.

use super::codec::{self, HEAD_ALIGN, Heads};
use super::frame::{FrameError, HEADER_BYTES, Header, TABLE_LINE};
use super::opened::Opened;
use crate::base::canary::{self, Canary};
use crate::base::{Body, Digest, NodeId};
use crate::crypto::DirectionKeys;
use crate::crypto::tag::CIPHER_OVERHEAD;
use bytes::Bytes;

/// Opens what one peer says over one link.
pub struct Opener {
    from: NodeId,
    keys: DirectionKeys,
    /// The next frame's number, by lane.
    counters: [u64; 2],
    /// Of the frame that is being opened; kept for its capacity.
    bodies: Vec<Body>,
}

impl Opener {
    /// For a link that just came up.
    pub fn new(from: NodeId, keys: DirectionKeys) -> Opener {
        Opener { from, keys, counters: [0; 2], bodies: Vec::new() }
    }
    /// Opens a whole frame and appends its messages. After an error the link is to be closed: its counters no longer fit.
    pub fn open(&mut self, frame: Bytes, out: &mut Vec<Opened>) -> Result<Header, FrameError> {
        let header = self.header(&frame)?;
        let payload =
            if header.encrypted { self.uncover(&header, &frame)? } else { frame.slice(HEADER_BYTES..) };
        self.authenticate(&header, &payload)?;
        let before = out.len();
        let outcome = self.bodies(&header, &payload).and_then(|()| self.messages(&header, &payload, out));
        if outcome.is_err() {
            out.truncate(before);
        }
        self.bodies.clear();
        outcome.map(|()| header)
    }

    fn header(&self, frame: &Bytes) -> Result<Header, FrameError> {
        let bytes =
            frame.first_chunk().ok_or(FrameError::Length { sections: HEADER_BYTES, length: frame.len() })?;
        let header = Header::parse(bytes)?;
        if header.length != frame.len() {
            return Err(FrameError::Length { sections: header.length, length: frame.len() });
        }
        if header.from != self.from {
            return Err(FrameError::Field { field: "sender", found: header.from.0 });
        }
        if header.encrypted != self.keys.encrypts() {
            return Err(FrameError::Field { field: "flags", found: header.encrypted.into() });
        }
        Ok(header)
    }
    /// Gives table, heads and bodies of an encrypted frame.
    fn uncover(&self, header: &Header, frame: &[u8]) -> Result<Bytes, FrameError> {
        let hidden = &frame[HEADER_BYTES..];
        let sections = header.front() + CIPHER_OVERHEAD;
        if hidden.len() < sections {
            return Err(FrameError::Length { sections, length: hidden.len() });
        }
        if 1 << 63 <= header.counter {
            return Err(FrameError::Counter {
                expected: self.counters[header.lane as usize],
                found: header.counter,
            });
        }
        let mut plain = Heads::new();
        plain.resize(hidden.len() - CIPHER_OVERHEAD, 0);
        if !self.keys.decrypt(header.nonce(), &header.bound_bytes(), hidden, &mut plain) {
            return Err(FrameError::Tag);
        }
        Ok(Bytes::from_owner(plain))
    }
    fn authenticate(&mut self, header: &Header, payload: &[u8]) -> Result<(), FrameError> {
        let mut tagger = self.keys.tagger();
        tagger.add(&header.bound_bytes());
        tagger.add(&payload[..header.front()]);
        if !tagger.matches(&header.tag) {
            return Err(FrameError::Tag);
        }
        let expected = &mut self.counters[header.lane as usize];
        if header.counter != *expected && !canary::on(Canary::FrameReplayed) {
            return Err(FrameError::Counter { expected: *expected, found: header.counter });
        }
        *expected += 1;
        Ok(())
    }
    /// Cuts the bodies out and hashes each, once for this node.
    fn bodies(&mut self, header: &Header, payload: &Bytes) -> Result<(), FrameError> {
        let mut at = header.front();
        for (index, line) in payload[..header.bodies * TABLE_LINE].chunks_exact(TABLE_LINE).enumerate() {
            let digest = Digest(line[..32].try_into().expect("32 bytes"));
            let len = u32::from_le_bytes(line[32..36].try_into().expect("four bytes")) as usize;
            let left = payload.len() - at;
            if left < len {
                return Err(FrameError::Length { sections: len, length: left });
            }
            // An empty body has no line: a message has one encoding.
            let body = Some(payload.slice(at..at + len)).filter(|bytes| !bytes.is_empty());
            let body = body.and_then(|bytes| Body::verified(bytes, digest));
            self.bodies.push(body.ok_or(FrameError::Body { index })?);
            at += len;
        }
        if at == payload.len() {
            Ok(())
        } else {
            Err(FrameError::Length { sections: at, length: payload.len() })
        }
    }
    fn messages(&mut self, header: &Header, payload: &[u8], out: &mut Vec<Opened>) -> Result<(), FrameError> {
        let heads = &payload[header.bodies * TABLE_LINE..header.front()];
        // Frames are received into aligned memory; whoever hands in other memory pays one copy of the heads.
        let mut aligned = Heads::new();
        let mut heads = if (heads.as_ptr() as usize).is_multiple_of(HEAD_ALIGN) {
            heads
        } else {
            aligned.extend_from_slice(heads);
            &aligned
        };
        let mut bodies = self.bodies.drain(..);
        for _ in 0..header.messages {
            let (group, message) = codec::decode(&mut heads, &mut bodies)?;
            out.push(Opened::new(self.from, group, message));
        }
        if !heads.is_empty() {
            return Err(codec::CodecError::Trailing(heads.len()).into());
        }
        match bodies.count() {
            0 => Ok(()),
            spare => Err(FrameError::SpareBodies(spare)),
        }
    }
}
