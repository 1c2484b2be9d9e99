//! What the service plane asks the data plane. The room of composition implements it; here are only the questions.

use super::bell::Give;
use crate::base::NodeId;
use crate::crypto::{PublicKey, VerifyingKey};
use crate::wire::Batch;

/// A question, or a request, to the data plane.
#[derive(Clone, PartialEq, Debug)]
pub enum Ask {
    /// Does a linearizable read that starts now come to an answer?
    LinearizableRead,
    /// Hand leadership over, to `to` or to whoever is furthest.
    TransferLeader {
        /// The wished successor.
        to: Option<NodeId>,
    },
    /// Have an operator's amendment ordered.
    Amend {
        /// Its batch, signed.
        batch: Batch,
    },
}

/// Makes this node's next pair of keys.
pub trait KeyMaker: Send + Sync {
    /// The public halves of a pair that is on this node's disk and held by its data plane; the same one until it is in force. Writes a
    /// file.
    fn next(&self) -> Result<(PublicKey, VerifyingKey), String>;
}

/// What came of it: a sentence for the operator either way.
pub type Answer = Result<String, String>;

/// The way to the data plane. Never blocks; an answer that does not come is the service plane's time-out.
pub trait Probe: Send + Sync {
    /// Hands the question over. Dropping `answer` says that the data plane could not take it.
    fn ask(&self, ask: Ask, answer: Give<Answer>);
}
