//! The bench harness: what a cluster can do, beside what the bare machine can do.
//!
//! [`run`](run::run) starts a cluster of real processes or takes endpoints, [`generate`](generator::generate) makes the load on one
//! thread and one ring, [`Report`] is what comes out. It is no part of the data plane and knows nodes only as
//! processes that speak RESP.

pub mod cli;
pub mod run;

pub mod etcd;
pub mod generator;
pub mod plan;
pub mod reply;
pub mod witness;
pub mod workload;

pub mod readback;

pub mod attack;
pub mod interleave;
pub mod limit;
pub mod local;
pub mod place;

pub mod proxy;
pub mod wan;

pub mod machine;
pub mod page;
pub mod record;
pub mod report;

pub mod ask;
pub mod error;

mod connection;
mod deal;
mod lines;
#[cfg(test)]
mod tests;
mod words;

pub use error::LoadError;
pub use plan::{Distribution, Plan};
pub use report::Report;
pub use run::{Options, Outcome, Target, run};
pub use witness::Witness;
