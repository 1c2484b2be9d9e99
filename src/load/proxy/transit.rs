//! One direction of one connection: bytes on their way, each piece with the time at which it arrives.

use super::shape::Shape;
use crate::base::{Instant, Prng};
use bytes::{Bytes, BytesMut};
use std::collections::VecDeque;
use std::time::Duration;

/// Bytes on their way at most; then the sender is not read from. A gigabit for 32 ms.
pub const TRANSIT_BYTES_MAX: usize = 4 << 20;
/// Pieces that are handed on together.
const PIECES_MAX: usize = 64;

/// What arrives.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Piece {
    /// Bytes.
    Bytes(Bytes),
    /// The sender has closed its side.
    End,
}

/// What is on its way, in order.
#[derive(Default)]
pub struct Transit {
    queue: VecDeque<(Instant, Piece)>,
    held: usize,
    /// When the last piece arrives.
    last: Instant,
    /// When the line is free again, where its bandwidth is bounded.
    free: Instant,
}

impl Transit {
    /// A piece is sent now.
    pub fn put(&mut self, now: Instant, piece: Piece, shape: &Shape, random: &mut Prng) {
        let mut leaves = now;
        let piece = match piece {
            Piece::Bytes(bytes) => {
                if let Some(rate) = shape.bandwidth {
                    let takes = bytes.len() as u128 * 1_000_000_000 / u128::from(rate);
                    self.free = self.free.max(now).after(Duration::from_nanos(takes as u64));
                    leaves = self.free;
                }
                self.held += bytes.len();
                Piece::Bytes(flip(bytes, shape.flips, random))
            }
            Piece::End => Piece::End,
        };
        self.last = self.last.max(leaves.after(draw(shape, random)));
        self.queue.push_back((self.last, piece));
    }

    /// What has arrived: at most so much that one send is of a sensible size.
    pub fn take(&mut self, now: Instant) -> Vec<Piece> {
        let due = self.queue.iter().take(PIECES_MAX).take_while(|(at, _)| *at <= now).count();
        let pieces: Vec<Piece> = self.queue.drain(..due).map(|(_, piece)| piece).collect();
        for piece in &pieces {
            if let Piece::Bytes(bytes) = piece {
                self.held -= bytes.len();
            }
        }
        pieces
    }

    /// When the next piece arrives.
    pub fn next(&self) -> Option<Instant> {
        self.queue.front().map(|(at, _)| *at)
    }

    /// No more may be taken in.
    pub fn is_full(&self) -> bool {
        TRANSIT_BYTES_MAX <= self.held
    }

    /// More may be taken in again.
    pub fn has_room(&self) -> bool {
        self.held <= TRANSIT_BYTES_MAX / 2
    }
}

/// A latency within the jitter.
fn draw(shape: &Shape, random: &mut Prng) -> Duration {
    if shape.jitter.is_zero() {
        return shape.latency;
    }
    let swing = shape.jitter.as_nanos() as u64 * 2 + 1;
    (shape.latency + Duration::from_nanos(random.below(swing))).saturating_sub(shape.jitter)
}

/// Flips single bits, as often as the shape says.
fn flip(bytes: Bytes, flips: u32, random: &mut Prng) -> Bytes {
    if flips == 0 {
        return bytes;
    }
    let mut changed = BytesMut::from(&bytes[..]);
    for byte in changed.iter_mut() {
        if random.chance(u64::from(flips), 1_000_000) {
            *byte ^= 1 << random.below(8);
        }
    }
    changed.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    fn shape(text: &str) -> Shape {
        Shape::parse(text).unwrap()
    }
    fn piece(len: usize) -> Piece {
        Piece::Bytes(Bytes::from(vec![0; len]))
    }

    #[test]
    fn pieces_arrive_within_their_jitter_and_in_order() {
        let (mut transit, mut random) = (Transit::default(), Prng::from_seed(1));
        let wild = shape("latency=50ms,jitter=50ms");
        let mut latest = 0;
        for sent in 0..1_000u64 {
            transit.put(Instant(sent * MS), piece(1), &wild, &mut random);
            let arrives = transit.queue.back().unwrap().0.0;
            assert!(latest <= arrives && sent * MS <= arrives && arrives <= (sent + 100) * MS);
            latest = arrives;
        }
        assert!(transit.take(Instant(0)).len() <= 1 && transit.take(Instant(latest)).len() == PIECES_MAX);
        let (mut alone, mut sum) = (Vec::new(), 0);
        for _ in 0..1_000 {
            let drawn = draw(&wild, &mut random).as_millis() as u64;
            alone.push(drawn);
            sum += drawn;
        }
        assert!(
            (45..55).contains(&(sum / 1_000))
                && alone.iter().any(|ms| *ms < 10)
                && alone.iter().any(|ms| 90 < *ms)
        );
    }

    #[test]
    fn bandwidth_spaces_pieces_out() {
        let (mut transit, mut random) = (Transit::default(), Prng::from_seed(1));
        let slow = shape("bandwidth=1000B,latency=1ms");
        (0..3).for_each(|_| transit.put(Instant(5 * MS), piece(100), &slow, &mut random));
        let arrivals: Vec<u64> = transit.queue.iter().map(|(at, _)| at.0 / MS).collect();
        assert_eq!(arrivals, [106, 206, 306]);
    }

    #[test]
    fn an_end_arrives_after_what_was_sent_before() {
        let (mut transit, mut random) = (Transit::default(), Prng::from_seed(1));
        transit.put(Instant(0), piece(7), &shape("latency=9ms"), &mut random);
        transit.put(Instant(0), Piece::End, &shape("clear"), &mut random);
        assert_eq!(transit.next(), Some(Instant(9 * MS)));
        assert_eq!(transit.take(Instant(9 * MS)), [piece(7), Piece::End]);
        assert!(transit.next().is_none());
    }

    #[test]
    fn a_full_transit_says_so_until_half_has_left() {
        let (mut transit, mut random) = (Transit::default(), Prng::from_seed(1));
        let mut count = 0;
        while !transit.is_full() {
            transit.put(Instant(count), piece(64 << 10), &Shape::default(), &mut random);
            count += 1;
        }
        assert!(!transit.has_room());
        assert_eq!(transit.take(Instant(count / 2)).len() as u64, count / 2 + 1);
        assert!(transit.has_room() && !transit.is_full());
    }

    #[test]
    fn bits_are_flipped_as_often_as_asked() {
        let mut random = Prng::from_seed(3);
        let clean = Bytes::from(vec![0u8; 1_000_000]);
        assert_eq!(flip(clean.clone(), 0, &mut random), clean);
        let flipped = flip(clean, 100, &mut random);
        let bits: u32 = flipped.iter().map(|byte| byte.count_ones()).sum();
        assert!((60..150).contains(&bits), "{bits}");
    }
}
