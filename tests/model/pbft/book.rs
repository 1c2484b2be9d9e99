//! Replicas and letters by number. What a replica does upon a letter depends on the two of them alone, so it is computed once, however
//! many states of the group it is a part of.

use quorate::base::{Instant, NodeId, NodeSet, View};
use quorate::protocol::Protocol;
use quorate::protocol::pbft::Options;
use quorate::protocol::pbft::choose::choose;
use quorate::sim::table::{Letter, Seat, setup};
use quorate::wire::pbft::{Change, Message, Vote, digest};
use quorate::wire::{Batch, Entry, EntryKind};
use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::rc::Rc;
use std::time::Duration;

/// Replicas have the ids 1 to 4.
pub const NODES: usize = 4;

/// Nothing but suspicion has a time-out within this: who catches up, and how, is not explored.
const LONG: Duration = Duration::from_secs(1 << 24);

/// What the replicas are tuned by: no checkpoint within reach, and only lost patience is due soon.
fn options() -> Options {
    Options { status_every: LONG, stall_after: LONG, ..Options::default() }
}

/// A replica in some state.
pub struct Replica {
    seat: Seat,
    now: Instant,
    /// What it has executed: slot and value.
    pub executed: Vec<Vote>,
    /// What its view began with, above no checkpoint.
    pub chosen: Vec<Vote>,
    /// It has accused, or convicted, one who is no liar.
    pub slanders: bool,
}

/// Something that a replica meets with.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Event {
    /// It is told the letter of this number.
    Hears(u32),
    /// It has waited for too long.
    LosesPatience,
}

/// What came of it.
pub struct Step {
    /// The replica's number from now on.
    pub replica: u32,
    /// Letters that it wrote.
    pub letters: Vec<u32>,
}

/// All that were met with.
pub struct Book {
    liars: NodeSet,
    replicas: Vec<Replica>,
    by_outline: HashMap<u64, u32>,
    letters: Vec<Letter>,
    by_text: HashMap<u64, u32>,
    steps: HashMap<(u32, Event), Rc<Step>>,
}

impl Book {
    /// Empty, of a group in which these lie.
    pub fn new(liars: NodeSet) -> Book {
        Book {
            liars,
            replicas: Vec::new(),
            by_outline: HashMap::new(),
            letters: Vec::new(),
            by_text: HashMap::new(),
            steps: HashMap::new(),
        }
    }

    /// A replica that has never run and has heard of these batches. Gives back what it writes, too.
    pub fn newcomer(&mut self, id: NodeId, heard: &[Batch]) -> Step {
        let now = Instant(1_000_000);
        let mut seat = Seat::new(setup(id, NODES, 1, &options()), now);
        // Where it stands is said at once, and not again within reach.
        seat.tick(now);
        for batch in heard {
            let (from, batch) = (batch.origin.node, batch.clone());
            seat.step(now, quorate::protocol::Input::Heard { from, batch });
        }
        self.enter(seat, now, false)
    }

    /// The replica of this number.
    pub fn replica(&self, number: u32) -> &Replica {
        &self.replicas[number as usize]
    }
    /// The letter of this number.
    pub fn letter(&self, number: u32) -> &Letter {
        &self.letters[number as usize]
    }
    /// The number of a letter.
    pub fn number_of(&mut self, letter: Letter) -> u32 {
        let mut hasher = DefaultHasher::new();
        format!("{letter:?}").hash(&mut hasher);
        let letters = &mut self.letters;
        *self.by_text.entry(hasher.finish()).or_insert_with(|| {
            letters.push(letter);
            letters.len() as u32 - 1
        })
    }

    /// What a replica does.
    pub fn step(&mut self, number: u32, event: Event) -> Rc<Step> {
        if let Some(known) = self.steps.get(&(number, event)) {
            return known.clone();
        }
        let before = &self.replicas[number as usize];
        let (mut seat, mut now, slanders) = (before.seat.clone(), before.now, before.slanders);
        match event {
            Event::Hears(letter) => {
                let Letter { from, message, .. } = self.letter(letter).clone();
                seat.hear(now, from, message);
            }
            Event::LosesPatience => {
                now = seat.core.deadline().expect("a core always waits for something");
                seat.tick(now);
            }
        }
        let step = Rc::new(self.enter(seat, now, slanders));
        self.steps.insert((number, event), step.clone());
        step
    }

    /// Takes up a replica as it is now, and what it has written.
    fn enter(&mut self, mut seat: Seat, now: Instant, slandered: bool) -> Step {
        // Who stands where is for those who catch up; requests are known to whom they shall be known to.
        let mail = std::mem::take(&mut seat.mail);
        let is_of_use = |letter: &Letter| {
            let is_known = matches!(letter.message, Message::Status { .. } | Message::Request { .. });
            !is_known && !self.liars.contains(letter.to)
        };
        let said: Vec<Letter> = mail.into_iter().filter(is_of_use).collect();
        let letters = said.into_iter().map(|letter| self.number_of(letter)).collect();
        let accused = std::mem::take(&mut seat.faults).into_iter().map(|fault| fault.peer);
        let blamed = accused.chain(seat.core.proofs().map(|(node, ..)| node));
        let slanders = blamed.fold(slandered, |so_far, node| so_far || !self.liars.contains(node));
        let executed: Vec<Vote> = seat.history.iter().map(value).collect();
        let mut hasher = DefaultHasher::new();
        (seat.id(), slanders).hash(&mut hasher);
        seat.core.outline(&mut hasher);
        executed.iter().for_each(|vote| (vote.slot, vote.digest).hash(&mut hasher));
        let outline = hasher.finish();
        let replicas = &mut self.replicas;
        let replica = *self.by_outline.entry(outline).or_insert_with(|| {
            let chosen = chosen(&seat);
            replicas.push(Replica { seat, now, executed, chosen, slanders });
            replicas.len() as u32 - 1
        });
        Step { replica, letters }
    }

    /// How many replicas, letters and steps there are.
    pub fn counts(&self) -> (usize, usize, usize) {
        (self.replicas.len(), self.letters.len(), self.steps.len())
    }
}

/// A value by what it says; its stamp is compared with the rest of it.
fn value(entry: &Entry) -> Vote {
    Vote { slot: entry.slot, digest: digest(entry) }
}

/// What a replica's view began with.
fn chosen(seat: &Seat) -> Vec<Vote> {
    let Some(new_view) = seat.core.new_view() else { return Vec::new() };
    let changes: Vec<&Change> = new_view.changes.iter().collect();
    let choice = choose(&changes, seat.core.quorum(), seat.core.options().window);
    choice.map(|choice| choice.values).unwrap_or_default()
}

impl Replica {
    /// Who it is.
    pub fn id(&self) -> NodeId {
        self.seat.id()
    }
    /// The view that it is in, or leaves its own for.
    pub fn view(&self) -> View {
        self.seat.core.view()
    }
    /// Whether a view after the first has begun here.
    pub fn has_begun_anew(&self) -> bool {
        View(0) < self.view() && self.seat.core.is_active()
    }
    /// Whether it waits for something that may come too late.
    pub fn may_lose_patience(&self) -> bool {
        self.seat.core.deadline().is_some_and(|at| at < self.now.after(LONG / 2))
    }
    /// Whether the letter speaks of what has not begun here: it is not listened to now, and would be later.
    pub fn is_early(&self, letter: &Letter) -> bool {
        let core = &self.seat.core;
        match &letter.message {
            Message::PrePrepare { view, .. }
            | Message::Prepare { view, .. }
            | Message::Commit { view, .. } => {
                core.view() < *view || (core.view() == *view && !core.is_active())
            }
            Message::ViewChange(change) => core.view() < change.view,
            Message::NewView(new_view) => core.view() < new_view.view,
            // What is asked for and answered may be of use at another time.
            _ => true,
        }
    }
    /// What it is, in a line.
    pub fn line(&self) -> String {
        let core = &self.seat.core;
        let is = if core.is_active() { "in" } else { "on its way to" };
        let executed = self.seat.history.iter().map(|entry| match entry.kind {
            EntryKind::Batch => format!("{}:{}", entry.slot, entry.origin.node),
            _ => format!("{}:null", entry.slot),
        });
        format!("{} {is} view {}, executed {:?}", self.id(), core.view(), executed.collect::<Vec<_>>())
    }
}
