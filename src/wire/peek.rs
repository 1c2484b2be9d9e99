//! What a frame says, for people who look on: nothing of it is proved, so nothing of it is an [`super::opened::Opened`].

use super::Message;
use super::codec::{self, Heads};
use super::frame::{HEADER_BYTES, Header, TABLE_LINE};
use crate::base::Body;
use bytes::Bytes;

/// The messages of a whole frame, unless it is encrypted or not well formed.
pub fn peek(frame: &[u8]) -> Option<Vec<Message>> {
    let header = Header::parse(frame.first_chunk()?).ok()?;
    if header.encrypted || header.length != frame.len() {
        return None;
    }
    let payload = Bytes::copy_from_slice(&frame[HEADER_BYTES..]);
    let (table, mut at) = (header.bodies * TABLE_LINE, header.front());
    let mut bodies = Vec::with_capacity(header.bodies);
    for line in payload.get(..table)?.chunks_exact(TABLE_LINE) {
        let len = u32::from_le_bytes(line[32..36].try_into().expect("four bytes")) as usize;
        payload.get(at..at + len)?;
        bodies.push(Body::new(payload.slice(at..at + len)));
        at += len;
    }
    let mut aligned = Heads::new();
    aligned.extend_from_slice(payload.get(table..header.front())?);
    let (mut heads, mut bodies) = (&aligned[..], bodies.into_iter());
    let message = |_| codec::decode(&mut heads, &mut bodies).ok().map(|(_, message)| message);
    (0..header.messages).map(message).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{GroupId, NodeId, Term};
    use crate::crypto::DirectionKeys;
    use crate::wire::frame::Lane;
    use crate::wire::raft;
    use crate::wire::sealer::Sealer;

    #[test]
    fn whoever_looks_on_sees_what_was_sealed_and_nothing_of_an_encrypted_link() {
        for is_encrypted in [false, true] {
            let mut sealer = Sealer::new(NodeId(1), DirectionKeys::derive(&[1; 32], is_encrypted));
            let message: Message = raft::Message::TimeoutNow { term: Term(5) }.into();
            sealer.push(Lane::Urgent, GroupId(1), &message).expect("it fits");
            let frame = sealer.seal(Lane::Urgent).parts.concat();
            assert_eq!(peek(&frame), (!is_encrypted).then_some(vec![message]));
            assert_eq!(peek(&frame[..frame.len() - 1]), None);
        }
    }
}
