//! Configuration: as written in four layers, then resolved into plain checked structs ([`Resolved`]).
//!
//! - [`knobs`]: the table of all settings, each with unit, limits, default and cost. `config show` and the README print it.
//! - [`layers`]: flag over environment over file over default; every value remembers where it came from.
//! - [`cluster`]: what is equal on every node. [`process`]: what may differ. [`limits`]: every maximum.
//!
//! Whoever runs with a [`Resolved`] never meets a missing or contradictory value.

mod agreement;
pub mod cluster;
pub mod error;
pub mod knobs;
pub mod layers;
pub mod limits;
mod origin;
pub mod process;
mod resolve;
pub mod units;

#[cfg(test)]
mod tests;

pub use cluster::{Cluster, FORMAT_VERSION, Member, NativeClient};
pub use error::ConfigError;
pub use layers::Layers;
pub use origin::Origin;
pub use process::{
    Admin, Client, ClientAuth, Durability, Group, LineFormat, Log, LogLines, Node, Password, Peer, Placement,
    ProtocolKind, Raft, Resolved, Store, Times,
};
pub(crate) use resolve::is_local;
