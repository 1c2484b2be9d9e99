//! A certified state on its way in by ranges: what the own newest snapshot has is copied, the rest comes from others; each range was
//! checked before it is written, so the file is not read back. And the other side: ranges of the own snapshots for others.

use super::Core;
use super::shelf::{Piece, Volume};
use super::writer::Writer;
use crate::base::{Body, GroupId, Slot};
use crate::store::gather::{Gathering, Next, Then, Took};
use crate::wire::hop::{Certified, Kept, SnapshotId};
use bytes::Bytes;
use std::rc::Rc;
use std::time::{Duration, Instant};

/// A state that gets no further for so long is given up with its space.
const GIVE_UP: Duration = Duration::from_secs(120);

/// A certified state, as far as it has come.
pub(super) struct Gathered {
    id: SnapshotId,
    gathering: Gathering,
    /// Once there is an outline.
    writer: Option<Writer>,
    /// When its last piece came.
    moved: Instant,
}

impl Core {
    /// Takes a piece of an answer.
    pub(super) async fn range(
        self: &Rc<Self>,
        id: SnapshotId,
        (offset, total, body): (u64, u64, &Bytes),
        certified: &Certified,
        gathered: &mut Option<Gathered>,
    ) {
        if self.installs.borrow().contains(&id) {
            return;
        }
        if id.slot <= self.newest_slot(id.group) {
            return self.load_again(id);
        }
        if gathered.as_ref().is_none_or(|known| !known.gathering.is_of(id, certified.digest)) {
            self.give_up(gathered).await;
            let gathering = Gathering::new(id, certified.digest, self.verify.options());
            *gathered = Some(Gathered { id, gathering, writer: None, moved: Instant::now() });
        }
        let Some(known) = gathered.as_mut() else { return };
        known.moved = Instant::now();
        self.counts.of(id.group, |tally| tally.ranges_fetched_bytes += body.len() as u64);
        match known.gathering.take(offset, total, body, &certified.ranges) {
            Took::Nothing | Took::Part => {}
            Took::Again(next) => self.ask_again(id, next).await,
            Took::Poisoned(why) => self.poisoned(id, &why).await,
            Took::Outlined(head) => {
                let begun = self.begin_file(known, &head).await;
                self.go_on(begun, gathered).await;
            }
            Took::Ranges(bytes, then) => {
                let written = self.write_ranges(known, &bytes).await;
                match (written, then) {
                    (Ok(()), Then::Part) => {}
                    (Ok(()), Then::Poisoned(why)) => self.poisoned(id, why).await,
                    (written, _) => self.go_on(written, gathered).await,
                }
            }
        }
    }

    async fn poisoned(&self, id: SnapshotId, why: &str) {
        self.failed(id, why);
        self.tell(Kept::Poisoned { id }).await;
    }

    /// Begins the file, with all that the own newest snapshot has.
    async fn begin_file(&self, known: &mut Gathered, head: &[u8]) -> Result<(), String> {
        let id = known.id;
        let created = Writer::create(&self.options.directory, id, "gathered", None).await;
        known.writer = Some(created.map_err(|error| error.to_string())?);
        self.write_ranges(known, head).await?;
        let newest =
            self.shelves.borrow_mut().get_mut(&id.group).and_then(|shelf| shelf.ask(None, Instant::now()));
        match newest {
            Some(volume) => self.copy_had(known, &volume).await,
            None => Ok(()),
        }
    }

    async fn copy_had(&self, known: &mut Gathered, volume: &Volume) -> Result<(), String> {
        let index = match volume.index(&self.read_pace).await {
            Ok(index) => index,
            // What the own disk does not give comes from others.
            Err(error) => {
                self.disk_error("reading the own snapshot", &error);
                return Ok(());
            }
        };
        for number in known.gathering.had(&index) {
            let Ok(range) = volume.range(&index, number).await else { continue };
            self.read_pace.spend(range.len()).await;
            if known.gathering.adopt(number, &range) {
                self.counts.of(known.id.group, |tally| tally.ranges_had_bytes += range.len() as u64);
                self.write_ranges(known, &range).await?;
            }
        }
        Ok(())
    }

    async fn write_ranges(&self, known: &mut Gathered, bytes: &[u8]) -> Result<(), String> {
        let Some(writer) = &mut known.writer else { return Ok(()) };
        if self.options.received_bytes_max < writer.len() + bytes.len() as u64 {
            return Err(format!("the state has more than {} bytes", self.options.received_bytes_max));
        }
        writer.append(bytes, &self.write_pace).await.map_err(|error| error.to_string())
    }

    /// Asks for what is missing, or ends.
    async fn go_on(self: &Rc<Self>, written: Result<(), String>, gathered: &mut Option<Gathered>) {
        let Some(known) = gathered.as_mut() else { return };
        let id = known.id;
        let next = match written {
            Ok(()) => known.gathering.go_on().map_err(|damage| damage.to_string()),
            Err(why) => Err(why),
        };
        let failure = match next {
            Ok(Next::Wanted(ranges)) => return self.tell(Kept::Wanted { id, ranges }).await,
            Ok(Next::Whole(trailer)) => self.write_ranges(known, &trailer).await.err(),
            Err(why) => Some(why),
        };
        match failure {
            None => {
                if let Some(writer) = gathered.take().and_then(|known| known.writer) {
                    self.spawn(id, move |core| async move { core.install(writer, false).await });
                }
            }
            // The disk, most likely. The core asks again when nothing comes for a while.
            Some(why) => {
                self.failed(id, &why);
                self.give_up(gathered).await;
            }
        }
    }

    async fn give_up(&self, gathered: &mut Option<Gathered>) {
        if let Some(writer) = gathered.take().and_then(|known| known.writer) {
            writer.discard().await;
        }
    }

    /// Looks after a state whose pieces have ceased to come.
    pub(super) async fn tend_gathered(&self, gathered: &mut Option<Gathered>) {
        if gathered.as_ref().is_some_and(|known| GIVE_UP <= known.moved.elapsed()) {
            self.give_up(gathered).await;
        }
    }

    /// A piece of an answer for another replica. No piece when the snapshot is gone, cannot be read or has no such range.
    pub(super) async fn fetch_range(
        &self,
        group: GroupId,
        slot: Slot,
        ranges: &[u8],
        offset: u64,
        bytes: usize,
    ) -> Piece {
        let volume = self.shelves.borrow_mut().get_mut(&group)?.ask(Some(slot), Instant::now())?;
        self.read_pace.spend(bytes.min(super::shelf::PIECE_BYTES_MAX)).await;
        match volume.answer(&self.read_pace, ranges, offset, bytes).await {
            Ok(answer) => {
                let (total, piece) = answer?;
                self.counts.of(group, |tally| tally.shipped_bytes += piece.len() as u64);
                Some((volume.id, total, offset, Body::new(piece)))
            }
            Err(error) => {
                self.disk_error("reading a snapshot", &error);
                // The core has the next one made; until then others serve.
                self.lose(volume.id);
                None
            }
        }
    }
}
