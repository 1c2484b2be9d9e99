//! What the paths of the service plane share.

use super::bell::once;
use super::probe::{Answer, Ask, KeyMaker, Probe};
use super::status::Status;
use super::token::Token;
use crate::meter::{Board, Metered};
use crate::wire::roster::Roster;
use std::sync::Arc;
use std::time::Duration;

/// What the routes need. One a node.
pub struct Context {
    /// What the node says of itself.
    pub status: Arc<Status>,
    /// What the cores count.
    pub board: Arc<Board>,
    /// The way to the data plane.
    pub probe: Arc<dyn Probe>,
    /// Who is in the group.
    pub roster: Roster,
    /// Makes this node's next keys.
    pub keys: Arc<dyn KeyMaker>,
    /// What a request that changes something must show; without one, none may.
    pub token: Option<Token>,
    /// Commits that the store may lag behind and still be called ready.
    pub applied_lag_max: u64,
    /// How long the data plane may take for an answer.
    pub probe_wait: Duration,
    /// What the service plane itself counts.
    pub own: Vec<Arc<dyn Metered + Send + Sync>>,
}

impl Context {
    /// Asks the data plane and waits a bounded time.
    pub(super) async fn ask(&self, ask: Ask) -> Answer {
        let (give, take) = once();
        self.probe.ask(ask, give);
        match glommio::timer::timeout(self.probe_wait, async move { Ok(take.await) }).await {
            Ok(Some(answer)) => answer,
            Ok(None) => Err("the data plane takes no questions now".to_string()),
            Err(_) => Err(format!("no answer within {} ms", self.probe_wait.as_millis())),
        }
    }
}
