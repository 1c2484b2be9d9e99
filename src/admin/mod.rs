//! The service plane: one thread with a glommio executor, apart from the data plane, that serves operators and keeps snapshots.
//!
//! [`Service`] is the thread. It serves HTTP (`http`, `server`, `routes`) and runs the keeper of snapshots ([`keeper`]). What it
//! tells comes from a [`Status`] and a `meter::Board` that the cores refresh about once a second, and from a [`Probe`] that asks
//! the data plane. Events go through an [`EventSink`] to a thread of their own, so that a full pipe on stderr stops nobody.
//!
//! Nothing here is on the way of a command. The data plane hands over values and rings a [`Bell`]; it never waits for this room.

pub mod bell;
pub mod client;
mod context;
pub mod events;
pub mod http;
pub mod keeper;
pub mod log_lines;
mod members;
pub mod probe;
mod routes;
pub mod server;
pub mod service;
pub mod status;
pub mod token;

pub use bell::Bell;
pub use context::Context;
pub use events::{Event, EventSink};
pub use keeper::Keeper;
pub use log_lines::{LogFormat, LogLines};
pub use probe::{Answer, Ask, KeyMaker, Probe};
pub use service::{Service, ServiceError, ServiceOptions};
pub use status::{Facts, Status};
pub use token::Token;

#[cfg(test)]
mod service_tests;
#[cfg(test)]
pub(crate) mod testing;
