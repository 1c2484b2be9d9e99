//! Where a bench writes: the first real disk among the usual places, in a directory of its own that goes when it ends.

use super::error::LoadError;
use super::machine::Filesystem;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

/// A directory of a run. Removed when dropped, unless it is the user's choice to keep it.
pub struct Place {
    dir: PathBuf,
    keep: bool,
}

impl Place {
    /// Takes `wanted`, or the first of the temporary directory, /var and the current directory that is a disk and can be written.
    /// `volatile` accepts memory too.
    pub fn choose(wanted: Option<&Path>, volatile: bool) -> Result<Place, LoadError> {
        let candidates = match wanted {
            Some(dir) => vec![dir.to_path_buf()],
            None => usual_places(),
        };
        let mut refusal = None;
        for candidate in candidates {
            match Place::within(&candidate, wanted.is_some(), volatile) {
                Ok(place) => return Ok(place),
                // The first reason is about the place that people expect.
                Err(error) => refusal = refusal.or(Some(error)),
            }
        }
        Err(refusal.expect("there is at least one candidate"))
    }

    fn within(parent: &Path, wanted: bool, volatile: bool) -> Result<Place, LoadError> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let dir = parent.join(format!("quorate-bench-{}-{count}", std::process::id()));
        let made = if wanted { std::fs::create_dir_all(&dir) } else { std::fs::create_dir(&dir) };
        made.map_err(|source| LoadError::file(&dir, "make it", source))?;
        let place = Place { dir, keep: false };
        match Filesystem::of(&place.dir) {
            Some(found) if found.is_memory() && !volatile => {
                Err(LoadError::NoDisk { path: parent.to_path_buf(), kind: found.kind })
            }
            _ => Ok(place),
        }
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.dir
    }

    /// Leaves it where it is, for a look at what went wrong.
    pub fn keep(&mut self) {
        self.keep = true;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if !self.keep {
            // Nothing can be done about what cannot be removed, and the result stands.
            let _ = std::fs::remove_dir_all(&self.dir);
        }
    }
}

fn usual_places() -> Vec<PathBuf> {
    let current = std::env::current_dir().unwrap_or_else(|_| PathBuf::from("."));
    vec![std::env::temp_dir(), PathBuf::from("/var/tmp"), current]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_refused_unless_nothing_need_be_durable() {
        let memory = Path::new("/dev/shm");
        if Filesystem::of(memory).is_some_and(|found| found.is_memory()) {
            let refused = Place::choose(Some(memory), false).err().unwrap();
            assert!(matches!(&refused, LoadError::NoDisk { kind, .. } if kind == "tmpfs"), "{refused}");
            assert_eq!(refused.exit_code(), 2);
            let place = Place::choose(Some(memory), true).unwrap();
            assert!(place.path().is_dir());
            let path = place.path().to_path_buf();
            drop(place);
            assert!(!path.exists());
        }
        assert!(Place::choose(Some(Path::new("/proc")), true).is_err());
    }

    #[test]
    fn a_place_is_found_and_goes_unless_kept() {
        let mut place = Place::choose(None, true).unwrap();
        let path = place.path().to_path_buf();
        place.keep();
        drop(place);
        assert!(path.is_dir());
        std::fs::remove_dir(&path).unwrap();
    }
}
