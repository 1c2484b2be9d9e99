//! The loop of the proxy: accepts, dials, reads, holds and hands on. Its principal type is [`Relay`].

use super::control::{self, LINE_MAX, LinkState, Request};
use super::transit::{Piece, Transit};
use super::{Detour, Pattern, Shape};
use crate::base::{Instant, Prng};
use crate::io::driver::{BufferId, Completion, Driver, Fd, Op, Outcome, Token};
use bytes::Bytes;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// What a token's highest byte says; below it are 32 bits of a number and one of a direction.
const ACCEPT: u64 = 1 << 56;
const DIAL: u64 = 2 << 56;
const RECEIVE: u64 = 3 << 56;
const SEND: u64 = 4 << 56;
const CONTROL: u64 = 5 << 56;
const ASKED: u64 = 6 << 56;
const ANSWERED: u64 = 7 << 56;
const KIND: u64 = 0xff << 56;

/// Connections through a proxy at most; a cluster of 63 has 1,953.
const PAIRS_MAX: usize = 4096;
/// Connections that ask it.
const ASKERS_MAX: usize = 16;

/// What a proxy is to do.
#[derive(Clone, Debug)]
pub struct RelayOptions {
    /// Its ports.
    pub detours: Vec<Detour>,
    /// How links behave at first; later ones win.
    pub shapes: Vec<(Pattern, Shape)>,
    /// Where it is asked; nowhere if none.
    pub control: Option<String>,
    /// Draws latencies and flips.
    pub seed: u64,
}

/// A detour with its two directed links: there (0) and back (1).
struct Way {
    detour: Detour,
    listener: Fd,
    shapes: [Shape; 2],
    bytes: [u64; 2],
}

/// Whether bytes of an end are asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Reading {
    Idle,
    Armed,
    Stopping,
}

/// One side of a connection through the proxy.
struct End {
    fd: Fd,
    reading: Reading,
    /// It has closed its side.
    ended: bool,
    /// What is on its way from here to the other end.
    transit: Transit,
    /// A send to this end is under way.
    sending: bool,
}

/// A connection through the proxy.
struct Pair {
    way: usize,
    /// The one that dialled, and the one behind the port once it has answered.
    ends: Vec<End>,
    /// The end of one direction has arrived: it ends once what was handed to the kernel is sent.
    ending: bool,
}

/// Somebody who asks.
struct Asker {
    fd: Fd,
    line: Vec<u8>,
    answers: Vec<Bytes>,
    sending: bool,
}

/// The proxy.
pub struct Relay<'a> {
    driver: &'a mut dyn Driver,
    ways: Vec<Way>,
    pairs: BTreeMap<u32, Pair>,
    pairs_made: u32,
    control: Option<Fd>,
    askers: BTreeMap<u32, Asker>,
    askers_made: u32,
    random: Prng,
}

impl<'a> Relay<'a> {
    /// Listens on all its ports. Port 0 takes any.
    pub fn new(driver: &'a mut dyn Driver, options: &RelayOptions) -> std::io::Result<Relay<'a>> {
        let mut ways = Vec::new();
        for detour in &options.detours {
            let listener = driver.listen(&detour.listen)?;
            let listen = driver.local_address(listener)?;
            driver.submit(Op::Accept { listener }, token(ACCEPT | ways.len() as u64));
            let detour = Detour { listen, ..detour.clone() };
            ways.push(Way { detour, listener, shapes: [Shape::default(); 2], bytes: [0; 2] });
        }
        let control = options.control.as_deref().map(|address| driver.listen(address)).transpose()?;
        if let Some(listener) = control {
            driver.submit(Op::Accept { listener }, token(CONTROL));
        }
        let mut relay = Relay {
            driver,
            ways,
            pairs: BTreeMap::new(),
            pairs_made: 0,
            control,
            askers: BTreeMap::new(),
            askers_made: 0,
            random: Prng::from_seed(options.seed),
        };
        for (pattern, shape) in &options.shapes {
            relay.set(pattern, shape);
        }
        Ok(relay)
    }

    /// Its detours, with the ports that it has taken.
    pub fn detours(&self) -> Vec<Detour> {
        self.ways.iter().map(|way| way.detour.clone()).collect()
    }

    /// Where it is asked.
    pub fn control(&self) -> Option<String> {
        self.control.and_then(|fd| self.driver.local_address(fd).ok())
    }

    /// Works until `stop` is set and the driver's doorbell has rung.
    pub fn run(&mut self, stop: &Arc<AtomicBool>) {
        let mut completions = Vec::new();
        while !stop.load(Ordering::SeqCst) {
            self.driver.reap(&mut completions);
            for completion in completions.drain(..) {
                self.take(completion);
            }
            self.deliver();
            let next = self.next_arrival();
            self.driver.park(next);
        }
        let pairs: Vec<u32> = self.pairs.keys().copied().collect();
        pairs.into_iter().for_each(|pair| self.end_pair(pair));
        let listeners = self.ways.iter().map(|way| way.listener).chain(self.control);
        for fd in listeners.chain(self.askers.values().map(|asker| asker.fd)).collect::<Vec<_>>() {
            self.driver.submit(Op::Close { fd }, token(ACCEPT));
        }
        self.driver.reap(&mut Vec::new());
    }

    fn take(&mut self, completion: Completion) {
        let value = completion.token.value;
        let number = (value >> 1) as u32;
        let side = (value & 1) as usize;
        match (value & KIND, completion.outcome) {
            (ACCEPT, Outcome::Accepted(fd)) => self.accepted((value & !KIND) as usize, fd),
            (DIAL, Outcome::Connected(fd)) => self.dialled(number, fd),
            (DIAL, _) => self.end_pair(number),
            (RECEIVE, Outcome::Received { buffer, len }) => self.received(number, side, buffer, len),
            (RECEIVE, Outcome::Closed { stopped: true }) => self.stopped(number, side),
            (RECEIVE, Outcome::Closed { .. }) => self.closed(number, side),
            (RECEIVE, _) => self.closed(number, side),
            (SEND, Outcome::Sent { .. }) => self.sent(number, side),
            (SEND, _) => self.end_pair(number),
            (CONTROL, Outcome::Accepted(fd)) => self.asker_comes(fd),
            (ASKED, Outcome::Received { buffer, len }) => self.asked(number, buffer, len),
            (ASKED, _) => self.asker_goes(number),
            (ANSWERED, Outcome::Sent { .. }) => self.answered(number),
            (ANSWERED, _) => self.asker_goes(number),
            // The driver arms a listener again by itself.
            (_, _) => {}
        }
    }

    // ---- connections ------------------------------------------------------------------------------------------------

    fn accepted(&mut self, way: usize, fd: Fd) {
        if self.is_cut(way) || PAIRS_MAX <= self.pairs.len() {
            self.driver.submit(Op::Close { fd }, token(ACCEPT));
            return;
        }
        let number = self.pairs_made;
        self.pairs_made = self.pairs_made.wrapping_add(1);
        self.pairs.insert(number, Pair { way, ends: vec![End::new(fd)], ending: false });
        let address = self.ways[way].detour.target.clone();
        self.driver.submit(Op::Connect { address }, of_pair(DIAL, number, 0));
    }

    fn dialled(&mut self, number: u32, fd: Fd) {
        let Some(pair) = self.pairs.get_mut(&number) else {
            self.driver.submit(Op::Close { fd }, token(ACCEPT));
            return;
        };
        pair.ends.push(End::new(fd));
        (0..2).for_each(|side| self.read(number, side));
    }

    /// Asks for bytes of an end.
    fn read(&mut self, number: u32, side: usize) {
        let Some(pair) = self.pairs.get_mut(&number) else { return };
        let end = &mut pair.ends[side];
        end.reading = Reading::Armed;
        self.driver.submit(Op::Receive { fd: end.fd }, of_pair(RECEIVE, number, side));
    }

    fn received(&mut self, number: u32, side: usize, buffer: BufferId, len: usize) {
        if let Some(pair) = self.pairs.get_mut(&number) {
            let bytes = Bytes::copy_from_slice(self.driver.received(buffer, len));
            let shape = &self.ways[pair.way].shapes[side];
            let end = &mut pair.ends[side];
            end.transit.put(self.driver.now(), Piece::Bytes(bytes), shape, &mut self.random);
            if end.transit.is_full() && end.reading == Reading::Armed {
                end.reading = Reading::Stopping;
                self.driver.submit(Op::StopReceive { fd: end.fd }, of_pair(RECEIVE, number, side));
            }
        }
        self.driver.recycle(buffer);
    }

    fn stopped(&mut self, number: u32, side: usize) {
        if let Some(pair) = self.pairs.get_mut(&number) {
            pair.ends[side].reading = Reading::Idle;
        }
    }

    /// An end has closed: the other one learns of it behind all that is still on its way.
    fn closed(&mut self, number: u32, side: usize) {
        let Some(pair) = self.pairs.get_mut(&number) else { return };
        let shape = &self.ways[pair.way].shapes[side];
        let end = &mut pair.ends[side];
        (end.reading, end.ended) = (Reading::Idle, true);
        end.transit.put(self.driver.now(), Piece::End, shape, &mut self.random);
    }

    fn sent(&mut self, number: u32, side: usize) {
        if let Some(pair) = self.pairs.get_mut(&number) {
            pair.ends[side].sending = false;
        }
    }

    fn end_pair(&mut self, number: u32) {
        for end in self.pairs.remove(&number).into_iter().flat_map(|pair| pair.ends) {
            self.driver.submit(Op::Close { fd: end.fd }, token(ACCEPT));
        }
    }

    fn is_cut(&self, way: usize) -> bool {
        self.ways[way].shapes.iter().any(|shape| shape.cut)
    }

    // ---- arrivals ---------------------------------------------------------------------------------------------------

    /// Hands on what has arrived.
    fn deliver(&mut self) {
        let now = self.driver.now();
        let numbers: Vec<u32> = self.pairs.keys().copied().collect();
        for number in numbers {
            for side in 0..2 {
                self.hand_on(number, side, now);
            }
        }
    }

    fn hand_on(&mut self, number: u32, side: usize, now: Instant) {
        let Some(pair) = self.pairs.get_mut(&number).filter(|pair| pair.ends.len() == 2) else { return };
        if pair.ending {
            if !pair.ends.iter().any(|end| end.sending) {
                self.end_pair(number);
            }
            return;
        }
        let way = &mut self.ways[pair.way];
        if way.shapes[side].stall || pair.ends[1 - side].sending {
            return;
        }
        let mut parts = Vec::new();
        for piece in pair.ends[side].transit.take(now) {
            match piece {
                Piece::Bytes(bytes) => {
                    way.bytes[side] += bytes.len() as u64;
                    parts.push(bytes);
                }
                Piece::End => pair.ending = true,
            }
        }
        let from = &pair.ends[side];
        let reads_again = from.reading == Reading::Idle && !from.ended && from.transit.has_room();
        if !parts.is_empty() {
            let to = &mut pair.ends[1 - side];
            to.sending = true;
            self.driver.submit(Op::Send { fd: to.fd, parts }, of_pair(SEND, number, 1 - side));
        }
        let is_over = pair.ending && !pair.ends.iter().any(|end| end.sending);
        if is_over {
            self.end_pair(number);
        } else if reads_again && !pair.ending {
            self.read(number, side);
        }
    }

    /// When something arrives that could be handed on.
    fn next_arrival(&self) -> Option<Instant> {
        let mut next: Option<Instant> = None;
        for pair in self.pairs.values().filter(|pair| pair.ends.len() == 2) {
            for side in 0..2 {
                let held = self.ways[pair.way].shapes[side].stall || pair.ends[1 - side].sending;
                if let Some(at) = pair.ends[side].transit.next().filter(|_| !held) {
                    next = Some(next.map_or(at, |next| next.min(at)));
                }
            }
        }
        next
    }

    // ---- control ----------------------------------------------------------------------------------------------------

    /// Changes links; how many.
    fn set(&mut self, pattern: &Pattern, shape: &Shape) -> usize {
        let mut changed = 0;
        for way in &mut self.ways {
            let (from, to) = (way.detour.from.as_str(), way.detour.to.as_str());
            for (side, (from, to)) in [(from, to), (to, from)].into_iter().enumerate() {
                if pattern.is(from, to) {
                    way.shapes[side] = *shape;
                    changed += 1;
                }
            }
        }
        let cut = |pair: &Pair| self.ways[pair.way].shapes.iter().any(|shape| shape.cut);
        let cut: Vec<u32> =
            self.pairs.iter().filter(|(_, pair)| cut(pair)).map(|(number, _)| *number).collect();
        cut.into_iter().for_each(|number| self.end_pair(number));
        changed
    }

    fn links(&self) -> Vec<LinkState> {
        let link = |(index, way): (usize, &Way), side: usize| {
            let names = [&way.detour.from, &way.detour.to];
            LinkState {
                from: names[side].clone(),
                to: names[1 - side].clone(),
                shape: way.shapes[side],
                connections: self
                    .pairs
                    .values()
                    .filter(|pair| pair.way == index && pair.ends.len() == 2)
                    .count(),
                bytes: way.bytes[side],
            }
        };
        self.ways.iter().enumerate().flat_map(|way| [link(way, 0), link(way, 1)]).collect()
    }

    fn answer(&mut self, line: &str) -> Value {
        match Request::parse(line) {
            Ok(Request::Show) => control::shown(&self.links()),
            Ok(Request::Set(pattern, shape)) => json!({"changed": self.set(&pattern, &shape)}),
            Err(error) => json!({"error": error}),
        }
    }

    fn asker_comes(&mut self, fd: Fd) {
        if ASKERS_MAX <= self.askers.len() {
            self.driver.submit(Op::Close { fd }, token(ACCEPT));
            return;
        }
        let number = self.askers_made;
        self.askers_made = self.askers_made.wrapping_add(1);
        self.askers.insert(number, Asker { fd, line: Vec::new(), answers: Vec::new(), sending: false });
        self.driver.submit(Op::Receive { fd }, of_pair(ASKED, number, 0));
    }

    fn asked(&mut self, number: u32, buffer: BufferId, len: usize) {
        let bytes = self.driver.received(buffer, len).to_vec();
        self.driver.recycle(buffer);
        for byte in bytes {
            let Some(asker) = self.askers.get_mut(&number) else { return };
            match byte {
                b'\n' => {
                    let line = std::mem::take(&mut asker.line);
                    let answer = format!("{}\n", self.answer(&String::from_utf8_lossy(&line)));
                    let asker = self.askers.get_mut(&number).expect("an answer ends no asker");
                    asker.answers.push(Bytes::from(answer));
                }
                _ if LINE_MAX <= asker.line.len() => self.asker_goes(number),
                byte => asker.line.push(byte),
            }
        }
        self.send_answers(number);
    }

    fn answered(&mut self, number: u32) {
        if let Some(asker) = self.askers.get_mut(&number) {
            asker.sending = false;
        }
        self.send_answers(number);
    }

    fn send_answers(&mut self, number: u32) {
        let Some(asker) = self.askers.get_mut(&number) else { return };
        if !asker.sending && !asker.answers.is_empty() {
            asker.sending = true;
            let parts = std::mem::take(&mut asker.answers);
            self.driver.submit(Op::Send { fd: asker.fd, parts }, of_pair(ANSWERED, number, 0));
        }
    }

    fn asker_goes(&mut self, number: u32) {
        if let Some(asker) = self.askers.remove(&number) {
            self.driver.submit(Op::Close { fd: asker.fd }, token(CONTROL));
        }
    }
}

impl End {
    fn new(fd: Fd) -> End {
        End { fd, reading: Reading::Idle, ended: false, transit: Transit::default(), sending: false }
    }
}

fn token(value: u64) -> Token {
    Token { agent: 0, value }
}

fn of_pair(kind: u64, number: u32, side: usize) -> Token {
    token(kind | u64::from(number) << 1 | side as u64)
}
