//! Is a recorded history linearizable?
//!
//! A [`History`] is read by [`formats`] or written by a load generator's [`Recorder`]; [`check`] cuts it into keys (linearizability is
//! local: M. Herlihy and J. Wing, "Linearizability", 1990, theorem 1), holds each against the sequential specification in
//! [`models`] by the search of [`search`], shrinks what does not fit to its core, and [`timeline`] draws that.
//! Nothing here looks at a clock: whoever calls brings [`Limits`].

// What is told.
pub mod event;
pub mod formats;
pub mod recorder;
// What it is held against.
pub mod models;
pub mod states;
// How it is decided.
pub mod judge;
pub mod memo;
pub mod search;
// What is shown.
pub mod shrink;
pub mod timeline;

pub use event::{History, Literal, Operation, Outcome, Verb};
pub use formats::{Format, FormatError};
pub use judge::{Report, Verdict, check};
pub use models::{Model, Nonsense};
pub use recorder::{Pen, Record, Recorder, Told};
pub use search::Limits;
pub use shrink::Offence;

#[cfg(test)]
mod tests;
