//! Classic bugs, each a switch: the test bench must find every one of them, or it proves nothing.
//!
//! A canary stands where the right code is: `if canary::on(Canary::X) { wrong } else { right }`. Without the cargo feature `canaries`,
//! [`on`] is the constant `false` and the wrong code is not built. A switch is on for one thread: the simulator runs a whole cluster on
//! one, so tests of other threads stay sound.

/// Makes the enum, its names and its descriptions from one list.
macro_rules! canaries {
    ($($(#[doc = $text:literal])+ $variant:ident = $name:literal, $source:literal;)+) => {
        /// A bug that can be switched on. Documentation of each: what goes wrong.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
        pub enum Canary { $($(#[doc = $text])+ $variant),+ }

        impl Canary {
            /// All, in the order of the list.
            pub const ALL: &'static [Canary] = &[$(Canary::$variant),+];
            /// Its name on the command line.
            pub fn name(self) -> &'static str {
                match self { $(Canary::$variant => $name),+ }
            }
            /// Where the bug was met or is warned of.
            pub fn source(self) -> &'static str {
                match self { $(Canary::$variant => $source),+ }
            }
            /// What goes wrong, in a sentence.
            pub fn description(self) -> &'static str {
                match self { $(Canary::$variant => concat!($($text),+).trim_ascii()),+ }
            }
        }
    };
}

canaries! {
    /// An entry of an older term is committed by counting replicas.
    CommitOlderTerm = "commit-older-term", "Raft thesis 3.6.2, figure 3.7; PySyncObj#169";
}

impl Canary {
    /// The canary of this name.
    pub fn named(name: &str) -> Option<Canary> {
        Canary::ALL.iter().copied().find(|canary| canary.name() == name)
    }
}

#[cfg(feature = "canaries")]
thread_local! {
    static ON: std::cell::Cell<Option<Canary>> = const { std::cell::Cell::new(None) };
}

/// Whether this thread runs with that bug.
#[cfg(feature = "canaries")]
#[inline]
pub fn on(canary: Canary) -> bool {
    ON.with(|on| on.get() == Some(canary))
}

/// Whether this thread runs with that bug: never, in a build without the feature `canaries`.
#[cfg(not(feature = "canaries"))]
#[inline(always)]
pub const fn on(_: Canary) -> bool {
    false
}

/// Runs `body` with that bug on this thread; it is off again afterwards, also after a panic.
#[cfg(feature = "canaries")]
pub fn with<T>(canary: Canary, body: impl FnOnce() -> T) -> T {
    struct Restore(Option<Canary>);
    impl Drop for Restore {
        fn drop(&mut self) {
            ON.with(|on| on.set(self.0));
        }
    }
    let _restore = Restore(ON.with(|on| on.replace(Some(canary))));
    body()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn names_are_unique_and_lead_back() {
        let names: BTreeSet<_> = Canary::ALL.iter().map(|canary| canary.name()).collect();
        assert_eq!(names.len(), Canary::ALL.len());
        for canary in Canary::ALL {
            assert_eq!(Canary::named(canary.name()), Some(*canary));
            assert!(canary.description().ends_with('.') && !canary.source().is_empty());
        }
        assert_eq!(Canary::named("no-such-bug"), None);
    }

    #[cfg(feature = "canaries")]
    #[test]
    fn a_switch_is_off_after_a_panic_too() {
        let inside = std::panic::catch_unwind(|| {
            with(Canary::CommitOlderTerm, || {
                assert!(on(Canary::CommitOlderTerm));
                panic!("found")
            })
        });
        assert!(inside.is_err() && !on(Canary::CommitOlderTerm));
    }
}
