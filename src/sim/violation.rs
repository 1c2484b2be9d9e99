//! A property that does not hold ends its run by a panic, so that a checker may look from anywhere. [`catch`] makes a value of it where
//! a panic unwinds; where it ends the process (`panic = "abort"`), the last words are all that is left to tell it.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Once, OnceLock};

/// What a panic of ours begins with that comes from a checker.
const LEAD: &str = "violation of ";
/// The property of everything else that panics: an invariant that the production code asserts of itself.
pub const ASSERTION: &str = "assertion";

/// Panics with a violation of the property unless it holds: `hold!(PROPERTY, holds, "what is seen")`.
macro_rules! hold {
    ($property:expr, $holds:expr, $($text:tt)+) => {
        if !$holds {
            $crate::sim::violation::fail($property, format_args!($($text)+))
        }
    };
}
pub(crate) use hold;

/// Panics with a violation of `property`.
#[track_caller]
#[cold]
pub fn fail(property: &str, what: fmt::Arguments<'_>) -> ! {
    panic!("{LEAD}{property}: {what}")
}

/// A property that did not hold.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Violation {
    /// The checker's stable name, or [`ASSERTION`].
    pub property: String,
    /// What was seen.
    pub message: String,
    /// How many events had happened.
    pub events: u64,
}

thread_local! {
    static EVENTS: Cell<u64> = const { Cell::new(0) };
    static IS_CAUGHT: Cell<bool> = const { Cell::new(false) };
    static PLACE: RefCell<String> = const { RefCell::new(String::new()) };
}

/// What ends the process, given a violation.
pub type LastWords = Box<dyn Fn(&Violation) + Send + Sync>;

static LAST_WORDS: OnceLock<LastWords> = OnceLock::new();

/// From now on a violation is told by `words` at once, on the thread that it is seen on. The first to set them does.
pub fn last_words(words: LastWords) {
    LAST_WORDS.get_or_init(|| words);
}

/// How far the run of this thread has come, for whoever asks after a violation.
#[inline]
pub fn at(events: u64) {
    EVENTS.set(events);
}

/// Runs `body`; what it panics with becomes a violation, and nothing is printed.
pub fn catch<T>(body: impl FnOnce() -> T) -> Result<T, Violation> {
    quiet();
    EVENTS.set(0);
    let before = IS_CAUGHT.replace(true);
    // What the body has touched is gone with it.
    let result = catch_unwind(AssertUnwindSafe(body));
    IS_CAUGHT.set(before);
    result.map_err(|payload| Violation::of(&*payload))
}

/// Panics unless `body` finds that `property` does not hold.
#[cfg(test)]
#[track_caller]
pub fn violates(property: &str, body: impl FnOnce()) {
    let found = catch(body).expect_err("the property does not hold, and its checker says nothing");
    assert_eq!(found.property, property, "{found}");
}

/// From now on a panic inside [`catch`] says nothing; any other is told as before.
fn quiet() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if IS_CAUGHT.get() {
                PLACE.set(info.location().map(ToString::to_string).unwrap_or_default());
                if let Some(words) = LAST_WORDS.get() {
                    words(&Violation::of(info.payload()));
                }
            } else {
                before(info);
            }
        }));
    });
}

impl Violation {
    fn of(payload: &dyn Any) -> Violation {
        let text = payload.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| payload.downcast_ref::<&str>().copied()).unwrap_or("no message");
        let events = EVENTS.get();
        match text.strip_prefix(LEAD).and_then(|rest| rest.split_once(": ")) {
            Some((property, message)) => {
                Violation { property: property.to_owned(), message: message.to_owned(), events }
            }
            None => {
                let message = format!("{text}, at {}", PLACE.take());
                Violation { property: ASSERTION.to_owned(), message, events }
            }
        }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} after {} events: {}", self.property, self.events, self.message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_violation_has_its_property_and_anything_else_is_an_assertion() {
        let found = catch(|| {
            at(7);
            hold!("one-vote", 1 == 1, "fine");
            hold!("one-vote", 1 == 2, "node {}: two votes", 3);
        });
        let expected =
            Violation { property: "one-vote".into(), message: "node 3: two votes".into(), events: 7 };
        assert_eq!(found, Err(expected));

        let found = catch(|| assert_eq!(1, 2)).unwrap_err();
        assert_eq!((found.property.as_str(), found.events), (ASSERTION, 0));
        assert!(found.message.contains("violation.rs"), "{}", found.message);
        assert_eq!(catch(|| 5), Ok(5));
    }
}
