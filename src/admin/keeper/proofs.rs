//! Proof that replicas lie, on disk: one file a replica and kind, so a handful at most, each written once.

use super::files::TEMPORARY;
use crate::base::NodeId;
use bytes::Bytes;
use glommio::io::{BufferedFile, Directory};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

const SUFFIX: &str = ".proof";

/// The path of a proof.
pub fn path_of(directory: &Path, accused: NodeId, kind: &str) -> PathBuf {
    directory.join(format!("node-{accused}-{kind}{SUFFIX}"))
}

/// All that lie in `directory`, by name. Blocking, for start-up and for commands.
pub fn survey(directory: &Path) -> io::Result<Vec<(PathBuf, Bytes)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        if path.to_str().is_some_and(|name| name.ends_with(SUFFIX)) {
            let bytes = fs::read(&path)?;
            found.push((path, bytes.into()));
        }
    }
    found.sort();
    Ok(found)
}

/// Writes one and makes it durable.
pub(super) async fn write(path: &Path, proof: &Bytes) -> io::Result<()> {
    let directory = path.parent().expect("a proof lies in a directory");
    let temporary = path.with_extension(TEMPORARY.trim_start_matches('.'));
    let mut file = BufferedFile::create(&temporary).await?;
    let written = file.write_at(proof.to_vec(), 0).await?;
    if written != proof.len() {
        let text = format!("{written} of {} bytes were written", proof.len());
        return Err(io::Error::new(io::ErrorKind::StorageFull, text));
    }
    file.fdatasync().await?;
    file.rename(path).await?;
    file.close().await?;
    let entries = Directory::open(directory).await?;
    entries.sync().await?;
    entries.close().await?;
    Ok(())
}
