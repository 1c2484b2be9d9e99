//! A new primary that leaves out what binds it: its new-view is made of view-changes that it chose for what they do not say, that it
//! forged, or that are too few (TOCS 2002, 4.5.2: why backups verify).

use super::{Lie, Scene, Word, word};
use crate::base::{NodeId, View};
use crate::crypto::Signature;
use crate::wire::pbft::{Change, Message, NewView};
use std::collections::BTreeMap;

/// View-changes of so many views are remembered.
const VIEWS_MAX: usize = 4;

/// See the module.
pub struct OmitsPrepared {
    heard: BTreeMap<View, BTreeMap<NodeId, Change>>,
    how: How,
}

enum How {
    /// Those that claim least.
    Chosen,
    /// Those of others, with what prepared taken out of them.
    Forged,
    /// Too few.
    Few,
    /// One of them twice, under another name.
    Twice,
}

impl OmitsPrepared {
    /// In some way.
    pub fn new(scene: &mut Scene) -> OmitsPrepared {
        let how = match scene.prng.below(4) {
            0 => How::Chosen,
            1 => How::Forged,
            2 => How::Few,
            _ => How::Twice,
        };
        OmitsPrepared { heard: BTreeMap::new(), how }
    }

    fn changes(&self, scene: &Scene, view: View) -> Vec<Change> {
        let Some(heard) = self.heard.get(&view) else { return Vec::new() };
        let mut changes: Vec<Change> = heard.values().cloned().collect();
        changes.sort_by_key(|change| (change.prepared.len(), change.node));
        let own = |node: NodeId, like: &Change| {
            let bare = Change { node, prepared: Vec::new(), accepted: Vec::new(), ..like.clone() };
            match scene.signed(node, Message::ViewChange(bare)) {
                Message::ViewChange(change) => change,
                _ => unreachable!("it was one"),
            }
        };
        let liars: Vec<Change> = changes
            .first()
            .into_iter()
            .flat_map(|like| scene.corrupted.iter().map(|n| own(n, like)))
            .collect();
        changes.splice(0..0, liars);
        let strong = scene.quorum.exact();
        match self.how {
            How::Chosen => changes.truncate(strong),
            How::Few => changes.truncate(strong - 1),
            How::Forged => {
                changes.truncate(strong);
                for change in changes.iter_mut().filter(|c| !scene.corrupted.contains(c.node)) {
                    (change.prepared, change.accepted) = (Vec::new(), Vec::new());
                }
            }
            How::Twice => {
                changes.truncate(strong - 1);
                let missing = scene.all().find(|node| changes.iter().all(|change| change.node != *node));
                if let (Some(node), Some(first)) = (missing, changes.first().cloned()) {
                    changes.push(Change { node, ..first });
                }
            }
        }
        changes.sort_by_key(|change| change.node);
        changes
    }
}

impl Lie for OmitsPrepared {
    fn overhear(&mut self, scene: &mut Scene, _: NodeId, said: &Message, out: &mut Vec<Word>) {
        let Message::ViewChange(change) = said else { return };
        let (view, primary) = (change.view, scene.primary_of(change.view));
        let heard = self.heard.entry(view).or_default();
        let is_news = heard.insert(change.node, change.clone()).is_none();
        let enough = scene.quorum.exact() <= heard.len() + scene.corrupted.len();
        while VIEWS_MAX < self.heard.len() {
            self.heard.pop_first();
        }
        if is_news && enough && scene.corrupted.contains(primary) {
            let changes = self.changes(scene, view);
            let new_view = NewView { view, changes, signature: Signature::NONE };
            let lie = scene.signed(primary, Message::NewView(new_view));
            out.extend(scene.correct().map(|to| word(primary, to, lie.clone())));
        }
    }
}
