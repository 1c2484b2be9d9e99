//! What a correct PBFT replica promises: it says nothing that its disk would not tell it again (durable before it speaks), it never says
//! two things in one place, whatever its lives (at most one value a view and slot), it calls prepared, decided and stable only what a
//! quorum stands behind (TOCS 2002, 4.3), equal slots have equal states, and what it holds stays bounded whatever others say.

use crate::base::{Digest, NodeId, NodeSet, Slot, View};
use crate::protocol::pbft::choose::choose;
use crate::protocol::pbft::{Pbft, Quorum};
use crate::replica::Effects;
use crate::sim::coverage::{Coverage, Reached};
use crate::sim::host::Host;
use crate::sim::violation::{fail, hold};
use crate::wire::pbft::{Change, Message, Vote, digest};
use crate::wire::{Entry, EntryKind, Message as Any};
use std::collections::BTreeMap;

const DURABLE: &str = "pbft-durable-before-it-speaks";
const ONE_VALUE: &str = "pbft-one-value-a-slot";
const CERTIFICATES: &str = "pbft-certificates";
const CHECKPOINTS: &str = "pbft-checkpoint-agreement";
const HELD: &str = "pbft-decided-is-held";
const ACCOUNTABLE: &str = "pbft-no-correct-replica-is-convicted";
const BOUNDED: &str = "pbft-bounded-memory";

/// The checkers that know PBFT's words. They hear only correct replicas.
#[derive(Default)]
pub struct PbftChecks {
    accepted: BTreeMap<(NodeId, View, Slot), Digest>,
    assigned: BTreeMap<(View, Slot), Digest>,
    prepared: BTreeMap<(View, Slot), Digest>,
    /// The state at each checkpoint, and who has said so.
    states: BTreeMap<Slot, (Digest, NodeSet)>,
    /// Views that have begun, and the checkpoints that they began with, where `f + 1` had forgotten what lies below: whoever enters such a
    /// view knows that a quorum has been there, and vouches for it from then on.
    begun: BTreeMap<View, Slot>,
    /// The newest stable checkpoint of each that was looked at.
    stable: BTreeMap<NodeId, Slot>,
    liars: NodeSet,
    convicted: NodeSet,
    /// The last slot before each epoch, who is in it, and how many must agree.
    epochs: BTreeMap<u64, (Slot, NodeSet, Quorum)>,
}

impl PbftChecks {
    /// A burst of a correct node has ended.
    pub fn burst(
        &mut self,
        hosts: &[Host],
        host: &Host,
        core: &Pbft,
        effects: &Effects,
        coverage: &mut Coverage,
    ) {
        let base = core.epoch_base().slot;
        self.epochs.entry(core.epoch()).or_insert((base, core.member_set(), core.quorum()));
        for sent in &effects.outgoing {
            if let Any::Pbft(message) = &sent.message {
                self.said(hosts, host, message);
            }
        }
        for (node, kind, _) in core.proofs() {
            if self.convicts(host.id(), node, kind) {
                coverage.saw(Reached::Convicted);
            }
        }
        self.begins(core);
        self.is_stable(host, core);
        is_bounded(host.id(), core.held(), core.options().window as usize, core.quorum().n());
    }

    /// These nodes lie: proofs against them are to be expected, and their words count for nothing.
    pub fn expect_proofs(&mut self, liars: NodeSet) {
        self.liars = liars;
    }
    /// Against whom there is proof.
    pub fn convicted(&self) -> NodeSet {
        self.convicted
    }

    /// `id` has proof against `node`. True if this is new.
    fn convicts(&mut self, id: NodeId, node: NodeId, kind: &str) -> bool {
        hold!(ACCOUNTABLE, self.liars.contains(node), "node {id} convicts {node} by {kind}");
        self.convicted.insert(node)
    }

    fn said(&mut self, hosts: &[Host], host: &Host, message: &Message) {
        let id = host.id();
        match message {
            Message::PrePrepare { view, proposals, .. } => {
                for proposal in proposals {
                    let vote = Vote { slot: proposal.entry.slot, digest: digest(&proposal.entry) };
                    self.accepts(host, *view, vote);
                    once(&mut self.assigned, (*view, vote.slot), vote.digest, id);
                }
            }
            Message::Prepare { view, votes } => {
                votes.iter().for_each(|vote| self.accepts(host, *view, *vote))
            }
            Message::Commit { view, votes } => {
                for vote in votes {
                    durable(host, *view, *vote, true);
                    self.is_certified(hosts, host, *view, *vote);
                    once(&mut self.prepared, (*view, vote.slot), vote.digest, id);
                }
            }
            Message::Checkpoint { vote, .. } => self.has_state(id, *vote),
            Message::Succession(word) => self.has_state(id, word.vote),
            Message::ViewChange(change) if change.node == id && host.disk.view() < change.view => {
                fail(DURABLE, format_args!("node {id} asks for view {} before it is written", change.view));
            }
            _ => (),
        }
    }

    fn has_state(&mut self, id: NodeId, vote: Vote) {
        let (first, who) = self.states.entry(vote.slot).or_insert((vote.digest, NodeSet::default()));
        let is_same = *first == vote.digest;
        hold!(CHECKPOINTS, is_same, "node {id} has another state at {} than others", vote.slot);
        who.insert(id);
    }

    fn accepts(&mut self, host: &Host, view: View, vote: Vote) {
        durable(host, view, vote, false);
        let first = *self.accepted.entry((host.id(), view, vote.slot)).or_insert(vote.digest);
        if first != vote.digest {
            let (id, slot) = (host.id(), vote.slot);
            fail(ONE_VALUE, format_args!("node {id} accepts two values at slot {slot} of view {view}"));
        }
    }
}

impl PbftChecks {
    /// What prepared was accepted by a quorum, so by that many less the liars.
    fn is_certified(&self, hosts: &[Host], host: &Host, view: View, vote: Vote) {
        let (_, members, quorum) = self.epochs[&view.epoch()];
        let primary = members.iter().nth(view.number() as usize % members.len());
        // A primary has accepted what its new-view begins with once it has entered that view.
        let leads = |other: &Host| primary == Some(other.id());
        let entered = |other: &Host| leads(other) && 0 < view.number() && view <= other.disk.view();
        let accepts = |other: &&Host| other.disk.said(view, vote, false) || entered(other);
        let accepted = self.correct(hosts).filter(accepts).count();
        let (id, slot, enough) = (host.id(), vote.slot, quorum.exact() <= accepted + self.liars.len());
        hold!(CERTIFICATES, enough, "node {id} says that slot {slot} prepared, which {accepted} accepted");
    }

    /// A view has begun here.
    fn begins(&mut self, core: &Pbft) {
        if let Some(new_view) = core.new_view().filter(|_| !self.begun.contains_key(&core.view())) {
            let changes: Vec<&Change> = new_view.changes.iter().collect();
            let choice = choose(&changes, core.quorum(), core.options().window);
            let slot = choice.map(|choice| choice.checkpoint.slot).unwrap_or_default();
            let beyond = changes.iter().filter(|change| slot <= change.stable).count();
            self.begun.insert(core.view(), if core.quorum().weak() <= beyond { slot } else { Slot::ZERO });
        }
    }

    /// What is stable was said by a quorum, this node among them, or lies below what was: equal histories came to equal states.
    fn is_stable(&mut self, host: &Host, core: &Pbft) {
        let (id, stable) = (host.id(), core.stable());
        if self.stable.insert(id, stable.slot) == Some(stable.slot) || stable.slot == Slot::ZERO {
            return;
        }
        let (state, who) = self.states.entry(stable.slot).or_insert((stable.digest, NodeSet::default()));
        let is_same = *state == stable.digest;
        hold!(CHECKPOINTS, is_same, "node {id} calls another state stable at {}", stable.slot);
        who.insert(id);
        let said = self.states.range(stable.slot..).map(|(_, (_, who))| who.len()).max().unwrap_or(0);
        let is_begun = self.begun.values().any(|slot| stable.slot <= *slot);
        let quorum = self.quorum_at(stable.slot);
        let enough = is_begun || quorum.exact() <= said + self.liars.len();
        hold!(CERTIFICATES, enough, "slot {} is stable at node {id}, and {said} have said so", stable.slot);
    }

    /// A decided value prepared at a quorum in one view, and is on the disks of so many that all may lose power.
    pub fn is_held(&self, hosts: &[Host], entry: &Entry) {
        let quorum = self.quorum_at(entry.slot);
        let mut prepared: BTreeMap<(View, Digest), usize> = BTreeMap::new();
        let of = |host: &Host| host.disk.prepared(entry.slot).collect::<Vec<_>>();
        self.correct(hosts).flat_map(of).for_each(|value| *prepared.entry(value).or_default() += 1);
        let most = prepared.values().max().copied().unwrap_or(0);
        let enough = quorum.exact() <= most + self.liars.len();
        hold!(CERTIFICATES, enough, "slot {} is decided and prepared at {most} correct nodes", entry.slot);
        if entry.kind == EntryKind::Batch {
            let holders = hosts.iter().filter(|host| host.disk.holds_value(entry)).count();
            let enough = quorum.exact() <= holders + quorum.f();
            hold!(HELD, enough, "slot {} is decided and on {holders} disks", entry.slot);
        }
    }

    /// How many must agree in the epoch that a slot belongs to.
    fn quorum_at(&self, slot: Slot) -> Quorum {
        let before = self.epochs.values().rev().find(|(base, ..)| *base < slot);
        before.expect("the first epoch begins below every slot").2
    }

    fn correct<'a>(&self, hosts: &'a [Host]) -> impl Iterator<Item = &'a Host> {
        let liars = self.liars;
        hosts.iter().filter(move |host| !liars.contains(host.id()))
    }
}

/// Two correct replicas never say different digests there.
fn once<K: Ord + std::fmt::Debug + Copy>(
    seen: &mut BTreeMap<K, Digest>,
    key: K,
    digest: Digest,
    node: NodeId,
) {
    if *seen.entry(key).or_insert(digest) != digest {
        fail(
            ONE_VALUE,
            format_args!("node {node} says another value at {key:?} than a correct replica before it"),
        );
    }
}

fn durable(host: &Host, view: View, vote: Vote, prepared: bool) {
    if !host.disk.said(view, vote, prepared) {
        let (id, slot, what) = (host.id(), vote.slot, if prepared { "prepared" } else { "accepted" });
        fail(
            DURABLE,
            format_args!("node {id} says that slot {slot} is {what} in view {view} before it is written"),
        );
    }
}

/// Slots and batches in memory: a few windows of the one, a limit a node of the other.
fn is_bounded(id: NodeId, (places, heard): (usize, usize), window: usize, nodes: usize) {
    let places_max = PLACES_OF_WINDOW * window;
    hold!(BOUNDED, places <= places_max, "node {id} holds {places} slots of windows of {window}");
    // Those of its members, and of the operator.
    let heard_max = HEARD_OF_NODE * (nodes + 1);
    hold!(BOUNDED, heard <= heard_max, "node {id} waits for {heard} batches");
}

/// So many windows of slots may be in memory: those executed and not stable, those under agreement, those that others call decided.
const PLACES_OF_WINDOW: usize = 4;
/// So many batches of one node may be waited for.
const HEARD_OF_NODE: usize = 512;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{GROUP_ONE, Ticket};
    use crate::sim::check::testing::{entry, hosts};
    use crate::sim::options::ProtocolName;
    use crate::sim::violation::violates;
    use crate::wire::Record;
    use crate::wire::pbft::Note;

    const VIEW: View = View(0);

    /// Four nodes of the first epoch.
    fn four() -> (Vec<Host>, PbftChecks) {
        let (hosts, mut checks) = (hosts(ProtocolName::Pbft, 4), PbftChecks::default());
        checks
            .epochs
            .insert(VIEW.epoch(), (Slot::ZERO, hosts.iter().map(Host::id).collect(), Quorum::most(4)));
        (hosts, checks)
    }
    fn vote(slot: u64, text: &'static [u8]) -> Vote {
        Vote { slot: Slot(slot), digest: digest(&entry(0, slot, text)) }
    }
    /// The node's disk holds these notes.
    fn write(host: &mut Host, notes: Vec<Note>) {
        let records =
            (1..).zip(notes).map(|(at, note)| (Ticket(at), Record::Pbft { group: GROUP_ONE, note }));
        host.disk.write(records.collect());
        host.disk.finish_all();
    }

    #[test]
    fn a_word_that_is_not_on_the_disk_is_told() {
        let ((mut hosts, mut checks), vote) = (four(), vote(1, b"x"));
        let prepare = Message::Prepare { view: VIEW, votes: vec![vote] };
        let mut say = |hosts: &[Host], message| checks.said(hosts, &hosts[0], message);
        violates("pbft-durable-before-it-speaks", || say(&hosts, &prepare));
        write(&mut hosts[0], vec![Note::Assigned { view: VIEW, vote }]);
        say(&hosts, &prepare);
        let commit = Message::Commit { view: VIEW, votes: vec![vote] };
        violates("pbft-durable-before-it-speaks", || say(&hosts, &commit));
        write(&mut hosts[0], vec![Note::Prepared { view: VIEW, vote }]);
        violates("pbft-certificates", || say(&hosts, &commit));
        hosts[1..3].iter_mut().for_each(|host| write(host, vec![Note::Assigned { view: VIEW, vote }]));
        say(&hosts, &commit);
    }

    #[test]
    fn two_values_of_a_replica_at_a_slot_are_told() {
        let (mut hosts, mut checks) = four();
        let both = [vote(1, b"x"), vote(1, b"y")];
        write(&mut hosts[0], both.map(|vote| Note::Assigned { view: VIEW, vote }).into());
        let [first, second] = both.map(|vote| Message::Prepare { view: VIEW, votes: vec![vote] });
        (0..2).for_each(|_| checks.said(&hosts, &hosts[0], &first));
        violates("pbft-one-value-a-slot", || checks.said(&hosts, &hosts[0], &second));
    }

    #[test]
    fn checkpoints_that_differ_are_told() {
        let (hosts, mut checks) = four();
        let say = |vote| Message::Checkpoint { vote, signature: Default::default() };
        checks.said(&hosts, &hosts[0], &say(vote(8, b"x")));
        checks.said(&hosts, &hosts[1], &say(vote(8, b"x")));
        checks.said(&hosts, &hosts[1], &say(vote(16, b"y")));
        violates("pbft-checkpoint-agreement", || checks.said(&hosts, &hosts[2], &say(vote(8, b"y"))));
    }

    #[test]
    fn a_decided_value_that_too_few_hold_is_told() {
        let ((mut hosts, checks), decided) = (four(), entry(0, 1, b"x"));
        let vote = vote(1, b"x");
        let pre_prepared = Note::PrePrepared { view: VIEW, entry: decided.clone() };
        write(&mut hosts[0], vec![pre_prepared.clone(), Note::Prepared { view: VIEW, vote }]);
        write(&mut hosts[1], vec![Note::Prepared { view: VIEW, vote }]);
        violates("pbft-certificates", || checks.is_held(&hosts, &decided));
        write(&mut hosts[2], vec![Note::Prepared { view: VIEW, vote }]);
        violates("pbft-decided-is-held", || checks.is_held(&hosts, &decided));
        write(&mut hosts[2], vec![pre_prepared]);
        checks.is_held(&hosts, &decided);
    }

    #[test]
    fn proof_against_a_correct_replica_is_told() {
        let mut checks = PbftChecks::default();
        checks.expect_proofs(NodeSet::from_iter([NodeId(4)]));
        assert!(checks.convicts(NodeId(1), NodeId(4), "equivocation"));
        assert!(!checks.convicts(NodeId(2), NodeId(4), "equivocation"));
        violates("pbft-no-correct-replica-is-convicted", || {
            checks.convicts(NodeId(1), NodeId(2), "equivocation");
        });
    }

    #[test]
    fn a_replica_that_keeps_more_than_its_limits_is_told() {
        is_bounded(NodeId(1), (PLACES_OF_WINDOW * 8, HEARD_OF_NODE * 5), 8, 4);
        violates("pbft-bounded-memory", || is_bounded(NodeId(1), (PLACES_OF_WINDOW * 8 + 1, 0), 8, 4));
        violates("pbft-bounded-memory", || is_bounded(NodeId(1), (0, HEARD_OF_NODE * 5 + 1), 8, 4));
    }
}
