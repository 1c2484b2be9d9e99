//! The service plane's way to ask the data plane.

use crate::admin::bell::Give;
use crate::admin::{Answer, Ask, Probe};
use crate::crypto::SecretKey;
use crate::io::driver::Doorbell;
use crate::replica::agent::Question;
use crossbeam::channel::Sender;
use std::sync::Arc;

/// Hands questions to the replica's core.
pub struct DataPlaneProbe {
    ask: Sender<Question>,
    doorbell: Arc<dyn Doorbell>,
}

impl DataPlaneProbe {
    /// The replica takes from the other end of `ask`; `doorbell` wakes its core.
    pub fn new(ask: Sender<Question>, doorbell: Arc<dyn Doorbell>) -> DataPlaneProbe {
        DataPlaneProbe { ask, doorbell }
    }
    /// Lets the replica sign with another key once the group's members list it.
    pub fn hold(&self, key: &SecretKey) {
        // A full channel means that nothing works there; the key is on the disk, and held from the next start on.
        if self.ask.try_send(Question::Hold(key.signing())).is_ok() {
            self.doorbell.ring();
        }
    }
}

impl Probe for DataPlaneProbe {
    fn ask(&self, ask: Ask, answer: Give<Answer>) {
        let question = match ask {
            Ask::LinearizableRead => {
                let could = move || answer.give(Ok("a linearizable read was made".to_string()));
                Question::Read(Box::new(could))
            }
            Ask::TransferLeader { to } => {
                Question::Transfer { to, answer: Box::new(|verdict| answer.give(verdict)) }
            }
            Ask::Amend { batch } => {
                Question::Amend { batch, answer: Box::new(|verdict| answer.give(verdict)) }
            }
        };
        // A full channel drops the question, which tells the asker.
        if self.ask.try_send(question).is_ok() {
            self.doorbell.ring();
        }
    }
}
