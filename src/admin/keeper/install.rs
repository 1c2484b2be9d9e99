//! A leader's snapshot on its way in: staged piece by piece, checked from the disk, named, then brought to the store.
//!
//! The replica acknowledges a piece when it hands it over, so a piece that does not come to the disk is asked for again
//! (`Kept::Rewound`), and so is a whole snapshot that fails its check.

use super::shelf::{Volume, read_exactly};
use super::writer::Writer;
use super::{Check, Core, FULL_PAUSE};
use crate::admin::events::Event;
use crate::base::Body;
use crate::store::inspect::Inspection;
use crate::wire::hop::{Kept, Load, SnapshotId};
use std::io;
use std::rc::Rc;
use std::time::{Duration, Instant};

/// What is read, checked and handed to the store at a time.
const CHUNK_BYTES: usize = 256 * 1024;
/// Chunks on their way to the store, whatever its ring holds: they are memory.
const CHUNKS_AHEAD_MAX: usize = 8;
/// Pieces that follow a lost one come in a flood; they are answered once in this time.
const ASK_PAUSE: Duration = Duration::from_millis(200);
/// A snapshot that gets no further for so long is asked for again: its last pieces may have been the lost ones.
const STALL: Duration = Duration::from_secs(1);
/// And one that gets no further for so long is given up with its space; its leader is gone.
const GIVE_UP: Duration = Duration::from_secs(120);
/// Whole snapshots that wait for their check, or are being checked and loaded.
const INSTALLS_MAX: usize = 2;

/// A leader's snapshot as far as it has come.
pub(super) struct Staged {
    writer: Writer,
    /// When its last piece came.
    moved: Instant,
}

impl Core {
    /// Takes a piece. The first starts anew; others must join the previous one.
    pub(super) async fn piece(
        self: &Rc<Self>,
        id: SnapshotId,
        offset: u64,
        total: u64,
        body: &Body,
        staged: &mut Option<Staged>,
    ) {
        if self.installs.borrow().contains(&id) || self.retrying.get() == Some(id) {
            return;
        }
        if id.slot <= self.newest_slot(id.group) {
            return self.load_again(id);
        }
        if offset == 0 && !self.stage(id, total, staged).await {
            return self.retry_later(id);
        }
        let Some(found) = staged.as_mut().filter(|staged| staged.writer.id == id) else {
            return self.ask_again(id, 0).await;
        };
        let next = found.writer.len();
        if next != offset {
            return if next < offset {
                self.ask_again(id, next).await
            };
        }
        self.counts.of(id.group, |tally| tally.taken_bytes += body.len() as u64);
        found.moved = Instant::now();
        let outcome = self.append(&mut found.writer, total, body).await;
        if outcome == Ok(false) {
            return;
        }
        let Some(Staged { writer, .. }) = staged.take() else { return };
        match outcome {
            Ok(_) if self.installs.borrow().len() < INSTALLS_MAX => self.spawn_install(writer),
            Ok(_) => {
                writer.discard().await;
                self.retry_later(id);
            }
            Err(why) => {
                writer.discard().await;
                self.failed(id, &why);
                self.retry_later(id);
            }
        }
    }

    /// Appends a piece. True when the snapshot is whole.
    async fn append(&self, writer: &mut Writer, total: u64, body: &Body) -> Result<bool, String> {
        let len = writer.len() + body.len() as u64;
        if total < len {
            return Err(format!("{len} bytes have come of a snapshot of {total}"));
        }
        writer.append(body.bytes(), &self.write_pace).await.map_err(|error| error.to_string())?;
        Ok(len == total)
    }

    /// Looks after a snapshot whose pieces have ceased to come.
    pub(super) async fn tend(&self, staged: &mut Option<Staged>) {
        let Some(found) = staged else { return };
        let (id, next, still) = (found.writer.id, found.writer.len(), found.moved.elapsed());
        if GIVE_UP <= still {
            if let Some(given_up) = staged.take() {
                given_up.writer.discard().await;
            }
        } else if STALL <= still {
            self.ask_again(id, next).await;
        }
    }

    /// Asks for what follows `next`, unless that was asked a moment ago.
    pub(super) async fn ask_again(&self, id: SnapshotId, next: u64) {
        let (now, asked) = (Instant::now(), self.asked.get());
        let is_echo = |(its, from, at): (SnapshotId, u64, Instant)| {
            (its, from) == (id, next) && now.duration_since(at) < ASK_PAUSE
        };
        if !asked.is_some_and(is_echo) {
            self.asked.set(Some((id, next, now)));
            self.tell(Kept::Rewound { id, next }).await;
        }
    }

    /// Asks for the whole snapshot after a pause, in which its pieces are let go by: what has failed would fail at once again.
    fn retry_later(self: &Rc<Self>, id: SnapshotId) {
        self.retrying.set(Some(id));
        let core = self.clone();
        glommio::spawn_local(async move {
            glommio::timer::sleep(core.retry_pause).await;
            if core.retrying.get() == Some(id) {
                core.retrying.set(None);
            }
            core.tell(Kept::Rewound { id, next: 0 }).await;
        })
        .detach();
    }

    /// The leader sends what is durable here already, so the store has not come there: reading it must have failed. The newest is
    /// brought to the store again. If it still cannot be read it counts no more, so that the leader's takes its place.
    pub(super) fn load_again(self: &Rc<Self>, sent: SnapshotId) {
        let newest =
            self.shelves.borrow_mut().get_mut(&sent.group).and_then(|shelf| shelf.ask(None, Instant::now()));
        let Some(volume) = newest.filter(|_| self.installs.borrow().is_empty()) else { return };
        self.spawn(sent, move |core| async move {
            let brought = core.bring(&volume).await;
            if brought.is_err() {
                core.lose(volume.id);
            }
            brought
        });
    }

    fn spawn_install(self: &Rc<Self>, writer: Writer) {
        self.spawn(writer.id, move |core| async move { core.install(writer, true).await });
    }

    /// Checking and loading take long; pieces for followers are served meanwhile. One at a time.
    pub(super) fn spawn<F>(self: &Rc<Self>, id: SnapshotId, work: impl FnOnce(Rc<Core>) -> F + 'static)
    where
        F: Future<Output = Result<(), String>> + 'static,
    {
        self.installs.borrow_mut().push(id);
        let core = self.clone();
        glommio::spawn_local(async move {
            let turn = core.install_turn.acquire_permit(1).await;
            let outcome = work(core.clone()).await;
            drop(turn);
            core.installs.borrow_mut().retain(|other| *other != id);
            // Told last: whoever hears of it finds the keeper ready for the next try.
            if let Err(why) = outcome {
                core.failed(id, &why);
                core.retry_later(id);
            }
        })
        .detach();
    }

    /// Begins to stage a snapshot, in place of whatever was being staged.
    async fn stage(&self, id: SnapshotId, total: u64, staged: &mut Option<Staged>) -> bool {
        if let Some(before) = staged.take() {
            before.writer.discard().await;
        }
        let max = self.options.received_bytes_max;
        if max < total {
            self.failed(id, &format!("the leader's snapshot has {total} bytes, allowed are {max}"));
            return false;
        }
        match Writer::create(&self.options.directory, id, "received", Some(total)).await {
            Ok(writer) => *staged = Some(Staged { writer, moved: Instant::now() }),
            Err(error) => self.failed(id, &error.to_string()),
        }
        staged.is_some()
    }

    /// Makes a whole snapshot durable and brings it to the store; unless it has been checked range by range, it is checked as a whole.
    pub(super) async fn install(&self, mut writer: Writer, is_to_be_checked: bool) -> Result<(), String> {
        let outcome = match writer.complete(&self.write_pace).await {
            Ok(()) if is_to_be_checked => self.check(&writer).await,
            Ok(()) => Ok(()),
            Err(error) => Err(error.to_string()),
        };
        if outcome.is_err() {
            writer.discard().await;
            return outcome;
        }
        // None when an own one has become durable meanwhile: then the store is there already.
        match self.publish(writer).await.map_err(|error| error.to_string())? {
            Some(volume) => self.bring(&volume).await,
            None => Ok(()),
        }
    }

    /// Brings a durable snapshot to the store, and tells the replica. When it fails the store keeps its present state, for a load
    /// counts only with its end.
    async fn bring(&self, volume: &Volume) -> Result<(), String> {
        let members = self.load(volume).await.map_err(|error| error.to_string())?;
        let (id, bytes) = (volume.id, volume.bytes);
        self.counts.of(id.group, |tally| tally.installed += 1);
        self.events.emit(Event::SnapshotInstalled { slot: id.slot.0, bytes });
        self.tell(Kept::Installed { id, bytes, members }).await;
        Ok(())
    }

    /// Reads the file back, from its first byte to its last: what the disk holds is what counts.
    async fn check(&self, writer: &Writer) -> Result<(), String> {
        let mut check: Box<dyn Check> = self.verify.begin(writer.id);
        let (mut offset, total) = (0, writer.len());
        while offset < total {
            let want = (total - offset).min(CHUNK_BYTES as u64) as usize;
            self.read_pace.spend(want).await;
            let bytes = read_exactly(writer.file(), offset, want).await.map_err(|error| error.to_string())?;
            check.update(&bytes)?;
            offset += want as u64;
        }
        check.finish()
    }

    /// Streams a durable snapshot to the store. Gives back what it says of the group's members.
    async fn load(&self, volume: &Volume) -> io::Result<Body> {
        self.hand_over(Load::Begin(volume.id)).await;
        // Only what stands before the buckets is looked at; the store judges the whole.
        let (mut offset, mut head, mut members) = (0, Some(Inspection::of_any()), Body::EMPTY);
        while offset < volume.bytes {
            self.read_pace.spend(CHUNK_BYTES).await;
            let bytes = volume.piece(offset, CHUNK_BYTES).await?;
            if let Some(reading) = head.as_mut().filter(|head| head.header().is_none()) {
                let is_readable = reading.feed(&bytes).is_ok();
                members = Body::new(reading.members().bytes().into());
                head = head.filter(|_| is_readable);
            }
            offset += bytes.len() as u64;
            self.hand_over(Load::Chunk(bytes)).await;
        }
        self.hand_over(Load::End).await;
        Ok(members)
    }

    pub(super) async fn hand_over(&self, load: Load) {
        let mut load = load;
        loop {
            match self.push(load) {
                Ok(()) => return self.wake_data_plane(),
                Err(back) => load = back,
            }
            glommio::timer::sleep(FULL_PAUSE).await;
        }
    }

    fn push(&self, load: Load) -> Result<(), Load> {
        let mut ring = self.to_store.borrow_mut();
        if CHUNKS_AHEAD_MAX <= ring.capacity() - ring.room() { Err(load) } else { ring.push(load) }
    }
}
