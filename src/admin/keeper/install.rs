//! A leader's snapshot on its way in: staged piece by piece, checked from the disk, named, then brought to the store.

use super::shelf::{Volume, read_exactly};
use super::writer::Writer;
use super::{Check, Core, FULL_PAUSE, count};
use crate::admin::events::Event;
use crate::base::Body;
use crate::wire::hop::{Kept, Load, SnapshotId};
use std::io;
use std::rc::Rc;
use std::sync::atomic::Ordering;

/// What is read, checked and handed to the store at a time.
const CHUNK_BYTES: usize = 256 * 1024;

impl Core {
    /// Stages a piece. A piece that does not join the previous one is let go by: its leader's protocol sends from where it is
    /// acknowledged, or anew.
    pub(super) async fn piece(
        self: &Rc<Self>,
        id: SnapshotId,
        offset: u64,
        total: u64,
        body: &Body,
        staged: &mut Option<Writer>,
    ) {
        if self.installing.get().is_some() || id.slot <= self.newest_slot(id.group) {
            return;
        }
        if offset == 0 {
            *staged = self.stage(id, total, staged.take()).await;
        }
        let Some(writer) = staged.as_mut().filter(|writer| writer.id == id && writer.len() == offset) else {
            return;
        };
        count(&self.counts.taken_bytes, body.len() as u64);
        let len = writer.len() + body.len() as u64;
        let outcome = if len <= total {
            writer.append(body.bytes(), &self.write_pace).await.map_err(|error| error.to_string())
        } else {
            Err(format!("{len} bytes have come of a snapshot of {total}"))
        };
        let whole = outcome.is_ok() && len == total;
        if outcome.is_ok() && !whole {
            return;
        }
        let Some(writer) = staged.take() else { return };
        if let Err(why) = outcome {
            self.failed(id, &why);
            return writer.discard().await;
        }
        // Checking and loading take long; pieces for followers are served meanwhile.
        self.installing.set(Some(id));
        let core = self.clone();
        glommio::spawn_local(async move {
            let outcome = core.install(writer).await;
            core.installing.set(None);
            // Told last: whoever hears of it finds the keeper ready for the next try.
            if let Err(why) = outcome {
                core.failed(id, &why);
            }
        })
        .detach();
    }

    /// Begins to stage a snapshot, in place of whatever was being staged.
    async fn stage(&self, id: SnapshotId, total: u64, before: Option<Writer>) -> Option<Writer> {
        if let Some(before) = before {
            before.discard().await;
        }
        let max = self.options.received_bytes_max;
        if max < total {
            self.failed(id, &format!("the leader's snapshot has {total} bytes, allowed are {max}"));
            return None;
        }
        match Writer::create(&self.options.directory, id, "received", Some(total)).await {
            Ok(writer) => Some(writer),
            Err(error) => {
                self.failed(id, &error.to_string());
                None
            }
        }
    }

    async fn install(&self, mut writer: Writer) -> Result<(), String> {
        let id = writer.id;
        let outcome = match writer.complete(&self.write_pace).await {
            Ok(()) => self.check(&writer).await,
            Err(error) => Err(error.to_string()),
        };
        if outcome.is_err() {
            writer.discard().await;
            return outcome;
        }
        // None when an own one has become durable meanwhile: then the store is there already.
        let Some(volume) = self.publish(writer).await.map_err(|error| error.to_string())? else {
            return Ok(());
        };
        let bytes = volume.bytes;
        // When this fails the store keeps its present state, for a load counts only with its end; a restart loads the file.
        self.load(&volume).await.map_err(|error| error.to_string())?;
        self.counts.installed.fetch_add(1, Ordering::Relaxed);
        self.events.emit(Event::SnapshotInstalled { slot: id.slot.0, bytes });
        self.tell(Kept::Installed { id, bytes }).await;
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

    /// Streams a durable snapshot to the store.
    async fn load(&self, volume: &Volume) -> io::Result<()> {
        self.hand_over(Load::Begin(volume.id)).await;
        let mut offset = 0;
        while offset < volume.bytes {
            self.read_pace.spend(CHUNK_BYTES).await;
            let bytes = volume.piece(offset, CHUNK_BYTES).await?;
            offset += bytes.len() as u64;
            self.hand_over(Load::Chunk(bytes)).await;
        }
        self.hand_over(Load::End).await;
        Ok(())
    }

    async fn hand_over(&self, load: Load) {
        let mut load = load;
        loop {
            let pushed = self.to_store.borrow_mut().push(load);
            match pushed {
                Ok(()) => return self.wake_data_plane(),
                Err(back) => load = back,
            }
            glommio::timer::sleep(FULL_PAUSE).await;
        }
    }
}
