//! Is a recorded history linearizable?
//!
//! A [`History`] is read by [`formats`] or written by a load generator's [`Recorder`]; [`check`] cuts it into keys (linearizability is
//! local: M. Herlihy and J. Wing, "Linearizability", 1990, theorem 1), holds each against the sequential specification in
//! [`models`] by the search of [`search`], shrinks what does not fit to its core, and [`timeline`] draws that.
//! Nothing here looks at a clock: whoever calls brings [`Limits`].

pub mod event;
pub mod formats;
pub mod memo;
pub mod models;
pub mod search;
pub mod states;

pub use event::{History, Literal, Operation, Outcome, Verb};
pub use formats::{Format, FormatError};
pub use models::{Model, Nonsense};
pub use search::Limits;

pub mod judge;
pub mod shrink;
pub mod timeline;

pub use judge::{Report, Verdict, check};
pub use shrink::Offence;

#[cfg(test)]
mod tests;
