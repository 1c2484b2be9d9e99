//! Directories that tests and demonstrations use and leave behind empty.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

/// A directory of its own, removed when dropped.
pub struct Scratch(PathBuf);

impl Scratch {
    /// Makes one in the temporary directory; `name` is for people who look there.
    pub fn new(name: &str) -> Scratch {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        Scratch::at(std::env::temp_dir().join(format!("quorate-{name}-{}-{count}", std::process::id())))
    }
    /// Takes that path, which nobody else uses.
    fn at(path: PathBuf) -> Scratch {
        std::fs::create_dir_all(&path).expect("the temporary directory can be written");
        Scratch(path)
    }
    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }
}
impl Drop for Scratch {
    fn drop(&mut self) {
        // Nothing can be done about a directory that stays; it holds no secret of a lasting cluster.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
