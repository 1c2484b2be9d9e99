//! The service plane's way to ask the data plane.

use crate::admin::bell::Give;
use crate::admin::{Answer, Ask, Probe};
use crate::io::driver::Doorbell;
use crate::replica::agent::Probe as ReadProbe;
use crossbeam::channel::Sender;
use std::sync::Arc;

/// Hands questions to the replica's core.
pub struct DataPlaneProbe {
    ask: Sender<ReadProbe>,
    doorbell: Arc<dyn Doorbell>,
}

impl DataPlaneProbe {
    /// The replica takes from the other end of `ask`; `doorbell` wakes its core.
    pub fn new(ask: Sender<ReadProbe>, doorbell: Arc<dyn Doorbell>) -> DataPlaneProbe {
        DataPlaneProbe { ask, doorbell }
    }
}

impl Probe for DataPlaneProbe {
    fn ask(&self, ask: Ask, answer: Give<Answer>) {
        match ask {
            Ask::LinearizableRead => {
                let could = move || answer.give(Ok("a linearizable read was made".to_string()));
                // A full channel drops the question, which tells the asker.
                if self.ask.try_send(Box::new(could)).is_ok() {
                    self.doorbell.ring();
                }
            }
            Ask::TransferLeader { .. } => {
                let why = "leadership moves when its node is stopped in order (SIGTERM)".to_string();
                answer.give(Err(why));
            }
        }
    }
}
