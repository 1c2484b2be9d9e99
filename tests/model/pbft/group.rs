//! Four replicas and the links between them: what is sent over a link comes in its order, or not at all. One of them may lie.

use super::super::explore::{Model, Property};
use super::book::{Book, Event, NODES, Replica, Step};
use super::lies;
use quorate::base::canary::{self, Canary};
use quorate::base::{Instant, NodeId, NodeSet, Slot, View};
use quorate::sim::table::{Seat, setup};
use quorate::wire::Batch;
use quorate::wire::pbft::{Vote, digest};
use std::cell::RefCell;
use std::rc::Rc;

/// How far is explored.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Nobody loses patience in this view.
    pub views: u64,
    /// So often somebody loses patience; others follow whoever has.
    pub impatient: u8,
    /// The backups wait for a request that the first primary never hears of.
    pub two_requests: bool,
    /// Who lies, if anybody: it says whatever it likes to whom it likes, and is told nothing.
    pub liar: Option<NodeId>,
    /// So many lies are told.
    pub lies: u8,
}

/// The model.
pub struct Group {
    bounds: Bounds,
    canary: Option<Canary>,
    book: RefCell<Book>,
    /// Letters that the liar may write, by number.
    lies: Vec<u32>,
    /// The first is asked for at node 1, the other at the others, if there are two.
    requests: [Batch; 2],
}

/// Something that happens.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Action {
    /// The letter of this number, the oldest on its link, arrives.
    Arrives(u32),
    /// This replica, counted from 0, has waited for too long.
    LosesPatience(u8),
    /// The liar writes the letter of this number.
    Lies(u32),
}

/// A state.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct State {
    /// By number; the liar's place stays as it was.
    replicas: [u32; NODES],
    /// On their way, by number: sorted by links, the oldest first within each.
    mail: Vec<(u8, u32)>,
    impatient: u8,
    lies: u8,
}

/// The link between two replicas, counted from 0.
fn link(from: NodeId, to: NodeId) -> u8 {
    (from.0 - 1) * NODES as u8 + (to.0 - 1)
}

impl State {
    fn post(&mut self, link: u8, letter: u32) {
        let place = self.mail.partition_point(|(other, _)| *other <= link);
        self.mail.insert(place, (link, letter));
    }
    fn oldest(&self) -> impl Iterator<Item = (usize, u8, u32)> {
        let is_oldest = |at: usize| at == 0 || self.mail[at - 1].0 != self.mail[at].0;
        (0..self.mail.len()).filter(move |at| is_oldest(*at)).map(|at| (at, self.mail[at].0, self.mail[at].1))
    }
}

impl Group {
    /// Everything is explored from here.
    pub fn new(bounds: Bounds, canary: Option<Canary>) -> Group {
        let liars: NodeSet = bounds.liar.into_iter().collect();
        let mut book = Book::new(liars);
        let requests = [1, 2].map(|node| request(NodeId(node)));
        let letters = bounds.liar.map(|liar| lies::all(liar, &requests, bounds.views)).unwrap_or_default();
        let lies = letters.into_iter().map(|letter| book.number_of(letter)).collect();
        Group { bounds, canary, book: RefCell::new(book), lies, requests }
    }

    /// How many replicas in how many states wrote how many letters in how many steps.
    pub fn counts(&self) -> (usize, usize, usize) {
        self.book.borrow().counts()
    }

    fn is_liar(&self, at: usize) -> bool {
        self.bounds.liar == Some(NodeId(at as u8 + 1))
    }

    fn step(&self, replica: u32, event: Event) -> Rc<Step> {
        let step = || self.book.borrow_mut().step(replica, event);
        self.canary.map_or_else(step, |bug| canary::with(bug, step))
    }

    /// A replica does something.
    fn happens(&self, state: &mut State, at: usize, event: Event) -> bool {
        let step = self.step(state.replicas[at], event);
        let is_news = step.replica != state.replicas[at] || !step.letters.is_empty();
        self.take(state, at, &step);
        is_news
    }
    fn take(&self, state: &mut State, at: usize, step: &Step) {
        state.replicas[at] = step.replica;
        for letter in &step.letters {
            let to = self.book.borrow().letter(*letter).to;
            state.post(link(NodeId(at as u8 + 1), to), *letter);
        }
    }

    /// Letters that change nothing and never will are read at once.
    fn tidy(&self, state: &mut State) {
        loop {
            let idle =
                state.oldest().find_map(|(at, link, letter)| self.is_idle(state, link, letter).then_some(at));
            let Some(at) = idle else { return };
            state.mail.remove(at);
        }
    }
    fn is_idle(&self, state: &State, link: u8, letter: u32) -> bool {
        let replica = state.replicas[usize::from(link) % NODES];
        let is_early = || {
            let book = self.book.borrow();
            book.replica(replica).is_early(book.letter(letter))
        };
        let changes = || {
            let step = self.step(replica, Event::Hears(letter));
            step.replica != replica || !step.letters.is_empty()
        };
        !is_early() && !changes()
    }

    fn correct(&self, state: &State, mut look: impl FnMut(&Replica)) {
        let book = self.book.borrow();
        let correct = (0..NODES).filter(|at| !self.is_liar(*at));
        correct.for_each(|at| look(book.replica(state.replicas[at])));
    }
    /// Who has executed what, and in which view it is now.
    fn executed(&self, state: &State) -> Vec<(View, Vote)> {
        let mut all = Vec::new();
        self.correct(state, |one| all.extend(one.executed.iter().map(|vote| (one.view(), *vote))));
        all
    }
}

/// A batch of this node's clients.
fn request(node: NodeId) -> Batch {
    Seat::new(setup(node, NODES, 1, &Default::default()), Instant::ZERO).batch(1, &[node.0])
}

impl Model for Group {
    type State = State;
    type Action = Action;
    const PROPERTIES: &'static [Property<Group>] = PROPERTIES;
    const SOMETIMES: &'static [Property<Group>] = SOMETIMES;

    fn first(&self) -> State {
        let mut state = State { replicas: [0; NODES], mail: Vec::new(), impatient: 0, lies: 0 };
        for at in 0..NODES {
            let which = usize::from(0 < at && self.bounds.two_requests);
            let heard = &self.requests[which..=which];
            let step = self.book.borrow_mut().newcomer(NodeId(at as u8 + 1), heard);
            match self.is_liar(at) {
                true => state.replicas[at] = step.replica,
                false => self.take(&mut state, at, &step),
            }
        }
        self.tidy(&mut state);
        state
    }

    fn actions(&self, state: &State) -> Vec<Action> {
        let mut actions: Vec<Action> = state.oldest().map(|(.., letter)| Action::Arrives(letter)).collect();
        for at in (0..NODES).filter(|at| !self.is_liar(*at)) {
            let book = self.book.borrow();
            let replica = book.replica(state.replicas[at]);
            let may = state.impatient < self.bounds.impatient && replica.view().0 < self.bounds.views;
            if may && replica.may_lose_patience() {
                actions.push(Action::LosesPatience(at as u8));
            }
        }
        if state.lies < self.bounds.lies {
            actions.extend(self.lies.iter().map(|letter| Action::Lies(*letter)));
        }
        actions
    }

    fn after(&self, last: &State, action: Action) -> Option<State> {
        let mut state = last.clone();
        let to = |letter: u32| usize::from(self.book.borrow().letter(letter).to.0) - 1;
        let is_news = match action {
            Action::Arrives(letter) => {
                let at = state.mail.iter().position(|(_, other)| *other == letter)?;
                state.mail.remove(at);
                self.happens(&mut state, to(letter), Event::Hears(letter));
                true
            }
            Action::LosesPatience(at) => {
                state.impatient += 1;
                self.happens(&mut state, usize::from(at), Event::LosesPatience)
            }
            Action::Lies(letter) => {
                state.lies += 1;
                self.happens(&mut state, to(letter), Event::Hears(letter))
            }
        };
        self.tidy(&mut state);
        is_news.then_some(state)
    }

    fn tell(&self, state: &State) -> String {
        let mut text = String::new();
        self.correct(state, |one| text += &format!("  {}\n", one.line()));
        let book = self.book.borrow();
        let letters = state.mail.iter().map(|(_, letter)| format!("  {:?}\n", book.letter(*letter)));
        text + &letters.collect::<String>()
    }
}

/// What holds in every state.
const PROPERTIES: &[Property<Group>] = &[
    ("agreement", |group, state| {
        let executed = group.executed(state);
        let differs = |(_, one): &(View, Vote)| {
            executed.iter().any(|(_, other)| one.slot == other.slot && one.digest != other.digest)
        };
        !executed.iter().any(differs)
    }),
    ("what is executed is what a view begins with", |group, state| {
        let (executed, mut holds) = (group.executed(state), true);
        group.correct(state, |one| {
            let rewrites = |begun: &Vote| {
                executed.iter().any(|(_, vote)| vote.slot == begun.slot && vote.digest != begun.digest)
            };
            holds &= !one.chosen.iter().any(rewrites);
        });
        holds
    }),
    ("nobody correct is accused", |group, state| {
        let mut holds = true;
        group.correct(state, |one| holds &= !one.slanders);
        holds
    }),
];

/// What holds in some, or the bounds are too tight to mean anything.
const SOMETIMES: &[Property<Group>] = &[
    ("all execute the first request", |group, state| {
        let mut all = true;
        group.correct(state, |one| all &= !one.executed.is_empty());
        all
    }),
    ("a later view begins", |group, state| {
        let mut some = false;
        group.correct(state, |one| some |= one.has_begun_anew());
        some
    }),
    ("a later view begins with what was executed before", |group, state| {
        let (executed, mut some) = (group.executed(state), false);
        let before = |vote: &Vote| executed.iter().any(|(view, other)| *view == View(0) && other == vote);
        group.correct(state, |one| some |= one.chosen.iter().any(before));
        some
    }),
    ("all have executed something, and are in a later view", |group, state| {
        let mut all = true;
        group.correct(state, |one| all &= one.has_begun_anew() && !one.executed.is_empty());
        all
    }),
    ("another request takes the first slot", |group, state| {
        let other = lies::entry(&group.requests[1]);
        let is_it = |(_, vote): &(View, Vote)| vote.slot == Slot(1) && vote.digest == digest(&other);
        group.executed(state).iter().any(is_it)
    }),
];
