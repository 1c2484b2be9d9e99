//! Commands as bytes, from a front through the log to every store: written once, where the client's bytes are still warm, read in
//! place ever after.
//!
//! Layout of a command, little endian, no padding: op `u8`, flags `u8`, number of arguments `u16`, length of what follows `u32`,
//! then for each argument its length `u32` and its bytes. Arguments do not repeat the command's name.

use super::Op;

/// The client speaks RESP3: the reply is to be written so.
pub const FLAG_RESP3: u8 = 1;

const HEAD: usize = 8;

/// Appends a command. `args` are those after the name.
pub fn write<'a>(out: &mut Vec<u8>, op: Op, flags: u8, args: impl Iterator<Item = &'a [u8]>) {
    let start = out.len();
    out.extend_from_slice(&[op as u8, flags, 0, 0, 0, 0, 0, 0]);
    let mut count = 0u16;
    for arg in args {
        out.extend_from_slice(&(arg.len() as u32).to_le_bytes());
        out.extend_from_slice(arg);
        count += 1;
    }
    let length = (out.len() - start - HEAD) as u32;
    out[start + 2..start + 4].copy_from_slice(&count.to_le_bytes());
    out[start + 4..start + 8].copy_from_slice(&length.to_le_bytes());
}

/// A command in place.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Command<'a> {
    /// What to do.
    pub op: Op,
    /// `FLAG_*`.
    pub flags: u8,
    /// Number of arguments.
    pub count: u16,
    args: &'a [u8],
}

impl<'a> Command<'a> {
    /// The arguments, in order. Stops early where the bytes are damaged.
    pub fn args(&self) -> Args<'a> {
        Args { rest: self.args }
    }
}

/// Iterates over arguments.
#[derive(Clone, Debug)]
pub struct Args<'a> {
    rest: &'a [u8],
}
impl<'a> Iterator for Args<'a> {
    type Item = &'a [u8];
    fn next(&mut self) -> Option<&'a [u8]> {
        let (length, rest) = self.rest.split_first_chunk::<4>()?;
        let (arg, rest) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)?;
        self.rest = rest;
        Some(arg)
    }
}

/// Iterates over the commands of a batch. Stops at the first damage; `is_clean` tells whether there was any.
#[derive(Clone, Debug)]
pub struct Reader<'a> {
    rest: &'a [u8],
}
impl<'a> Reader<'a> {
    /// Reads `bytes`.
    pub fn new(bytes: &'a [u8]) -> Reader<'a> {
        Reader { rest: bytes }
    }
    /// Whether everything so far could be read.
    pub fn is_clean(&self) -> bool {
        self.rest.is_empty()
    }
}
impl<'a> Iterator for Reader<'a> {
    type Item = Command<'a>;
    fn next(&mut self) -> Option<Command<'a>> {
        let (head, rest) = self.rest.split_first_chunk::<HEAD>()?;
        let op = Op::from_u8(head[0])?;
        let count = u16::from_le_bytes([head[2], head[3]]);
        let (args, rest) =
            rest.split_at_checked(u32::from_le_bytes([head[4], head[5], head[6], head[7]]) as usize)?;
        self.rest = rest;
        Some(Command { op, flags: head[1], count, args })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_read_and_damage_stops_the_reader() {
        let mut bytes = Vec::new();
        write(&mut bytes, Op::Set, 0, [&b"key"[..], b"value"].into_iter());
        write(&mut bytes, Op::Dbsize, FLAG_RESP3, std::iter::empty());
        let mut reader = Reader::new(&bytes);
        let first = reader.next().unwrap();
        assert_eq!((first.op, first.count), (Op::Set, 2));
        assert_eq!(first.args().collect::<Vec<_>>(), [&b"key"[..], b"value"]);
        assert_eq!(reader.next().unwrap().flags, FLAG_RESP3);
        assert!(reader.next().is_none() && reader.is_clean());
        for cut in 1..bytes.len() {
            let mut reader = Reader::new(&bytes[..cut]);
            assert!(reader.by_ref().count() < 2 || reader.is_clean());
        }
    }
}
