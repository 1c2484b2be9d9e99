//! The states that a key may be in, each stored once: equal states have equal numbers, so the search compares numbers.
//!
//! A text is a rope (its predecessor and a piece), so that a thousand appends take linear space. Ropes are found by a fingerprint and
//! then compared byte by byte, never trusted to the fingerprint.

use super::event::{Literal, Table, canonical_integer};
use hashbrown::HashTable;
use std::sync::Arc;

/// A state of a key, as a place in [`States`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct State(u32);

impl State {
    /// There is no such key; every key begins so.
    pub const ABSENT: State = State(0);
    /// Its number.
    pub fn number(self) -> u32 {
        self.0
    }
}

/// The name of a field, as a number.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Field(u32);

/// Texts of up to so many bytes may be numbers: `i64::MIN` has twenty.
const INTEGER_BYTES_MAX: u64 = 20;
/// An odd base of the polynomial that is a rope's fingerprint.
const BASE: u64 = 0x9E37_79B9_7F4A_7C15;

#[derive(Debug)]
enum Node {
    Absent,
    Integer(i64),
    /// Never a canonical number.
    Text(Rope),
    /// Sorted by field and never empty.
    Fields(Box<[(Field, State)]>),
}

#[derive(Clone, Debug)]
struct Rope {
    /// A text that comes before the piece.
    before: Option<State>,
    piece: Arc<str>,
    length: u64,
    print: u64,
}

/// All states met so far.
#[derive(Debug)]
pub struct States {
    nodes: Vec<Node>,
    places: HashTable<u32>,
    fields: Table<Arc<str>, Field>,
    names: Vec<Arc<str>>,
    bytes: usize,
}

impl Default for States {
    fn default() -> States {
        States {
            nodes: vec![Node::Absent],
            places: HashTable::new(),
            fields: Table::default(),
            names: Vec::new(),
            bytes: 0,
        }
    }
}

impl States {
    /// About how much memory they take.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The state that holds this value.
    pub fn literal(&mut self, literal: &Literal) -> State {
        match literal {
            Literal::Nil => State::ABSENT,
            Literal::Integer(number) => self.integer(*number),
            Literal::Text(text) => self.text(text),
            Literal::Fields(fields) => {
                let pairs = fields.iter().map(|(name, value)| (self.field(name), self.literal_flat(value)));
                let pairs: Vec<_> = pairs.collect();
                pairs.into_iter().fold(State::ABSENT, |state, (field, value)| {
                    self.with_field(state, field, value).expect("a hash or nothing takes a field")
                })
            }
        }
    }

    /// A field holds no hash; what claims so is told apart from every value by its print.
    fn literal_flat(&mut self, literal: &Literal) -> State {
        match literal {
            Literal::Fields(_) => self.text(&literal.to_string()),
            flat => self.literal(flat),
        }
    }

    /// The number of a field's name.
    pub fn field(&mut self, name: &str) -> Field {
        if let Some(field) = self.fields.get(name) {
            return *field;
        }
        let (field, name) = (Field(self.names.len() as u32), Arc::<str>::from(name));
        self.names.push(name.clone());
        self.bytes += 2 * size_of::<Arc<str>>() + name.len();
        self.fields.insert(name, field);
        field
    }

    /// The state that is this number.
    pub fn integer(&mut self, number: i64) -> State {
        self.intern(Node::Integer(number))
    }

    /// The number that a state is; an absent key counts from nothing.
    pub fn as_integer(&self, state: State) -> Option<i64> {
        match &self.nodes[state.0 as usize] {
            Node::Absent => Some(0),
            Node::Integer(number) => Some(*number),
            Node::Text(_) | Node::Fields(_) => None,
        }
    }

    /// The state that is this text.
    pub fn text(&mut self, text: &str) -> State {
        match canonical_integer(text) {
            Some(number) => self.integer(number),
            None => self.rope(None, Arc::from(text)),
        }
    }

    /// The text with a piece more; none for a hash.
    pub fn append(&mut self, state: State, piece: &Arc<str>) -> Option<State> {
        match &self.nodes[state.0 as usize] {
            Node::Absent => Some(self.text(piece)),
            Node::Integer(number) => Some(self.text(&format!("{number}{piece}"))),
            Node::Text(_) if piece.is_empty() => Some(state),
            Node::Text(rope) if rope.length + piece.len() as u64 <= INTEGER_BYTES_MAX => {
                Some(self.text(&(self.show_text(rope, usize::MAX) + piece)))
            }
            Node::Text(_) => Some(self.rope(Some(state), piece.clone())),
            Node::Fields(_) => None,
        }
    }

    /// How many bytes a text has; none for a hash.
    pub fn length(&self, state: State) -> Option<u64> {
        match &self.nodes[state.0 as usize] {
            Node::Absent => Some(0),
            Node::Integer(number) => Some(number.to_string().len() as u64),
            Node::Text(rope) => Some(rope.length),
            Node::Fields(_) => None,
        }
    }

    /// All of a text; none for a hash.
    pub fn whole_text(&self, state: State) -> Option<String> {
        match &self.nodes[state.0 as usize] {
            Node::Absent => Some(String::new()),
            Node::Integer(number) => Some(number.to_string()),
            Node::Text(rope) => Some(self.show_text(rope, usize::MAX)),
            Node::Fields(_) => None,
        }
    }

    /// The value of a field, absent if there is none; none if this is no hash.
    pub fn field_of(&self, state: State, field: Field) -> Option<State> {
        let fields = self.fields_of(state)?;
        let found = fields.binary_search_by_key(&field, |pair| pair.0);
        Some(found.map_or(State::ABSENT, |place| fields[place].1))
    }

    /// The hash with that field so; absent removes it. None if this is no hash.
    pub fn with_field(&mut self, state: State, field: Field, value: State) -> Option<State> {
        let mut fields = self.fields_of(state)?.to_vec();
        match (fields.binary_search_by_key(&field, |pair| pair.0), value) {
            (Ok(place), State::ABSENT) => drop(fields.remove(place)),
            (Err(_), State::ABSENT) => {}
            (Ok(place), value) => fields[place].1 = value,
            (Err(place), value) => fields.insert(place, (field, value)),
        }
        let empty = fields.is_empty();
        Some(if empty { State::ABSENT } else { self.intern(Node::Fields(fields.into())) })
    }

    /// True for a hash and for an absent key.
    pub fn is_hash(&self, state: State) -> bool {
        self.fields_of(state).is_some()
    }

    fn fields_of(&self, state: State) -> Option<&[(Field, State)]> {
        match &self.nodes[state.0 as usize] {
            Node::Absent => Some(&[]),
            Node::Fields(fields) => Some(fields),
            Node::Integer(_) | Node::Text(_) => None,
        }
    }

    /// For people, cut off after about `bytes_max`.
    pub fn show(&self, state: State, bytes_max: usize) -> String {
        let scalar = |state: State| match &self.nodes[state.0 as usize] {
            Node::Integer(number) => number.to_string(),
            Node::Text(rope) if rope.length > bytes_max as u64 => {
                format!("{:?} (the end of {} bytes)", self.show_text(rope, bytes_max), rope.length)
            }
            Node::Text(rope) => format!("{:?}", self.show_text(rope, bytes_max)),
            Node::Absent | Node::Fields(_) => "nil".into(),
        };
        let Node::Fields(fields) = &self.nodes[state.0 as usize] else { return scalar(state) };
        let mut text = String::from("{");
        for (field, value) in fields {
            let comma = if text.len() == 1 { "" } else { ", " };
            text += &format!("{comma}{}: {}", self.names[field.0 as usize], scalar(*value));
            if text.len() > bytes_max {
                text += ", ...";
                break;
            }
        }
        text + "}"
    }

    /// The last `bytes_max` bytes of a text, or a few more, so that no piece is cut.
    fn show_text(&self, rope: &Rope, bytes_max: usize) -> String {
        let (mut pieces, mut bytes, mut next) = (Vec::new(), 0, Some(rope));
        while let Some(Rope { before, piece, .. }) = next.filter(|_| bytes < bytes_max) {
            bytes += piece.len();
            pieces.push(&**piece);
            next = before.map(|state| self.rope_of(state));
        }
        pieces.into_iter().rev().collect()
    }

    fn rope_of(&self, state: State) -> &Rope {
        match &self.nodes[state.0 as usize] {
            Node::Text(rope) => rope,
            other => unreachable!("only a text comes before a piece, not {other:?}"),
        }
    }

    fn rope(&mut self, before: Option<State>, piece: Arc<str>) -> State {
        let (length, print) = before.map_or((0, 0), |state| {
            let rope = self.rope_of(state);
            (rope.length, rope.print)
        });
        // H(ab) = H(a) B^|b| + H(b), with every byte counted from one so that leading zeros count.
        let print = piece.bytes().fold(print, |h, byte| h.wrapping_mul(BASE).wrapping_add(byte as u64 + 1));
        self.intern(Node::Text(Rope { before, length: length + piece.len() as u64, piece, print }))
    }

    fn intern(&mut self, node: Node) -> State {
        let hash = fingerprint(&node);
        let found = self.places.find(hash, |place| self.same(&self.nodes[*place as usize], &node));
        if let Some(place) = found {
            return State(*place);
        }
        let place = u32::try_from(self.nodes.len()).expect("the memory limit comes before 2^32 states");
        self.bytes += size_of::<Node>() + 5 + weight(&node);
        self.nodes.push(node);
        let nodes = &self.nodes;
        self.places.insert_unique(hash, place, |place| fingerprint(&nodes[*place as usize]));
        State(place)
    }

    fn same(&self, one: &Node, other: &Node) -> bool {
        match (one, other) {
            (Node::Absent, Node::Absent) => true,
            (Node::Integer(one), Node::Integer(other)) => one == other,
            (Node::Fields(one), Node::Fields(other)) => one == other,
            (Node::Text(one), Node::Text(other)) => {
                one.length == other.length && one.print == other.print && self.same_text(one, other)
            }
            _ => false,
        }
    }

    /// Compares two texts of equal length from their ends, piece by piece.
    fn same_text(&self, one: &Rope, other: &Rope) -> bool {
        let (mut left, mut left_before) = (one.piece.as_bytes(), one.before);
        let (mut right, mut right_before) = (other.piece.as_bytes(), other.before);
        loop {
            let count = left.len().min(right.len());
            let (left_rest, left_end) = left.split_at(left.len() - count);
            let (right_rest, right_end) = right.split_at(right.len() - count);
            if left_end != right_end {
                return false;
            }
            (left, right) = (left_rest, right_rest);
            if left.is_empty() && right.is_empty() && left_before == right_before {
                return true;
            }
            for (piece, before) in [(&mut left, &mut left_before), (&mut right, &mut right_before)] {
                if let (true, Some(state)) = (piece.is_empty(), *before) {
                    let rope = self.rope_of(state);
                    (*piece, *before) = (rope.piece.as_bytes(), rope.before);
                }
            }
        }
    }
}

fn fingerprint(node: &Node) -> u64 {
    match node {
        Node::Absent => 0,
        Node::Integer(number) => mix(*number as u64),
        Node::Text(rope) => mix(rope.print ^ mix(rope.length)),
        Node::Fields(fields) => fields
            .iter()
            .fold(1, |hash, (field, value)| mix(hash ^ (u64::from(field.0) << 32 | u64::from(value.0)))),
    }
}

fn weight(node: &Node) -> usize {
    match node {
        Node::Absent | Node::Integer(_) => 0,
        // The piece is shared with the operation that appends it.
        Node::Text(rope) => {
            if rope.before.is_none() {
                rope.piece.len()
            } else {
                0
            }
        }
        Node::Fields(fields) => size_of_val(&**fields),
    }
}

/// Spreads the bits of a number over all of it (the finalizer of SplitMix64).
pub(super) fn mix(number: u64) -> u64 {
    let number = number.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let number = (number ^ (number >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    number ^ (number >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grown(states: &mut States, pieces: &[&str]) -> State {
        pieces.iter().fold(State::ABSENT, |state, piece| states.append(state, &Arc::from(*piece)).unwrap())
    }

    #[test]
    fn a_text_is_one_state_however_it_grew() {
        let mut states = States::default();
        let long = "abcdefghijklmnopqrstuvwxyz";
        let whole = states.text(long);
        for pieces in [&[&long[..1], &long[1..25], &long[25..]][..], &[&long[..24], &long[24..]], &["", long]]
        {
            assert_eq!(grown(&mut states, pieces), whole, "{pieces:?}");
        }
        let other = grown(&mut states, &[&long[..24], "zy"]);
        assert_ne!(other, whole);
        assert_eq!(states.show(whole, 100), format!("{long:?}"));
        assert_eq!(states.length(whole), Some(26));
    }

    #[test]
    fn a_text_that_becomes_a_number_is_that_number() {
        let mut states = States::default();
        let number = states.integer(-123);
        assert_eq!(grown(&mut states, &["-", "12", "3"]), number);
        assert_eq!(states.as_integer(number), Some(-123));
        let word = states.text("-0");
        assert_eq!(states.as_integer(word), None);
    }

    #[test]
    fn a_hash_without_fields_is_absent_and_order_does_not_matter() {
        let mut states = States::default();
        let (a, b, one) = (states.field("a"), states.field("b"), states.integer(1));
        let ab = states.with_field(State::ABSENT, a, one).and_then(|s| states.with_field(s, b, one));
        let ba = states.with_field(State::ABSENT, b, one).and_then(|s| states.with_field(s, a, one));
        assert!(ab == ba && ab.is_some());
        let just_a = states.with_field(ab.unwrap(), b, State::ABSENT).unwrap();
        assert_eq!(states.with_field(just_a, a, State::ABSENT), Some(State::ABSENT));
        assert_eq!(states.with_field(one, a, one), None);
        assert_eq!(states.show(just_a, 100), "{a: 1}");
    }
}
