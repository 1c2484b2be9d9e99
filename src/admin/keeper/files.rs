//! Where snapshots lie: names, and what is found at start. Blocking, for start-up; the running keeper uses glommio's files.

use crate::base::{GroupId, Slot};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

const SUFFIX: &str = ".qs";
/// Of files that are being written. What carries it after a crash is worth nothing.
pub(super) const TEMPORARY: &str = ".tmp";

/// A snapshot's path.
pub fn path_of(directory: &Path, group: GroupId, slot: Slot) -> PathBuf {
    directory.join(format!("snapshot-{group}-{slot}{SUFFIX}"))
}

/// The path of a snapshot that is being made. `what` tells own ones from received ones, which may be of one slot.
pub(super) fn temporary_path_of(directory: &Path, group: GroupId, slot: Slot, what: &str) -> PathBuf {
    directory.join(format!("snapshot-{group}-{slot}{SUFFIX}.{what}{TEMPORARY}"))
}

/// A snapshot file, by its name.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Found {
    /// Where it lies.
    pub path: PathBuf,
    /// Its last slot.
    pub slot: Slot,
    /// Its size.
    pub bytes: u64,
}

/// The group's snapshots in `directory`, newest first. More than one means that the node died before it could remove the older;
/// when the newest does not pass its check, the next one may.
pub fn survey(directory: &Path, group: GroupId) -> io::Result<Vec<Found>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let name = entry.file_name();
        let Some((its_group, slot)) = name.to_str().and_then(parse) else { continue };
        if its_group == group {
            found.push(Found { path: entry.path(), slot, bytes: entry.metadata()?.len() });
        }
    }
    found.sort_by_key(|snapshot| std::cmp::Reverse(snapshot.slot));
    Ok(found)
}

/// The newest snapshot of the group, by name and unchecked.
pub fn newest(directory: &Path, group: GroupId) -> io::Result<Option<Found>> {
    Ok(survey(directory, group)?.into_iter().next())
}

/// Removes what was being written when the node died, and the group's snapshots before `keep`. Returns how many files went.
pub fn sweep(directory: &Path, group: GroupId, keep: Option<Slot>) -> io::Result<usize> {
    let mut removed = 0;
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let name = entry.file_name();
        let Some(name) = name.to_str() else { continue };
        let unfinished = name.starts_with("snapshot-") && name.ends_with(TEMPORARY);
        let older =
            parse(name).is_some_and(|(its, slot)| its == group && keep.is_some_and(|keep| slot < keep));
        if unfinished || older {
            fs::remove_file(entry.path())?;
            removed += 1;
        }
    }
    if 0 < removed {
        fs::File::open(directory)?.sync_all()?;
    }
    Ok(removed)
}

/// The group and slot of a snapshot's name, if it is one exactly as `path_of` writes it.
fn parse(name: &str) -> Option<(GroupId, Slot)> {
    let (group, slot) = name.strip_prefix("snapshot-")?.strip_suffix(SUFFIX)?.split_once('-')?;
    let (group, slot) = (GroupId(group.parse().ok()?), Slot(slot.parse().ok()?));
    let same = path_of(Path::new(""), group, slot) == Path::new(name);
    same.then_some((group, slot))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::testing::Scratch;
    use crate::base::GROUP_ONE;

    #[test]
    fn the_newest_is_found_and_the_rest_swept() {
        let scratch = Scratch::new("survey");
        let directory = scratch.path();
        assert_eq!(newest(directory, GROUP_ONE).unwrap(), None);
        let names = [
            "snapshot-1-9.qs",
            "snapshot-1-10.qs",
            "snapshot-2-11.qs",
            "snapshot-1-12.qs.own.tmp",
            "snapshot-1-013.qs",
            "snapshot-1-+14.qs",
            "notes",
        ];
        for (bytes, name) in names.iter().enumerate() {
            fs::write(directory.join(name), vec![0; bytes]).unwrap();
        }
        let expected = Found { path: directory.join("snapshot-1-10.qs"), slot: Slot(10), bytes: 1 };
        assert_eq!(newest(directory, GROUP_ONE).unwrap(), Some(expected));
        assert_eq!(survey(directory, GROUP_ONE).unwrap().len(), 2);
        assert_eq!(sweep(directory, GROUP_ONE, Some(Slot(10))).unwrap(), 2);
        assert_eq!(sweep(directory, GROUP_ONE, Some(Slot(10))).unwrap(), 0);
        let mut left: Vec<_> = fs::read_dir(directory)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        left.sort();
        let kept =
            ["notes", "snapshot-1-+14.qs", "snapshot-1-013.qs", "snapshot-1-10.qs", "snapshot-2-11.qs"];
        assert_eq!(left, kept);
    }
}
