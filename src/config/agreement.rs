//! What all nodes of a group must have in common.

use super::cluster::FORMAT_VERSION;
use super::limits;
use super::process::{ClientAuth, ProtocolKind, Resolved};
use crate::crypto::Fingerprint;

impl Resolved {
    /// The group that this node is a member of, as it began: its protocol, its first members' ids, and whose word changes them. A data
    /// directory belongs to one group, for with another list of members its node would count other quorums over the same log. What became
    /// of the members since is no setting: it stands in the log.
    pub fn membership(&self) -> Fingerprint {
        let mut settings = self.group.protocol.name().as_bytes().to_vec();
        settings.extend(self.cluster.members.iter().map(|member| member.id.0));
        if let Some(operator) = self.cluster.operator.filter(|_| self.group.protocol == ProtocolKind::Pbft) {
            settings.extend_from_slice(&operator.0);
        }
        Fingerprint::of(&settings)
    }

    /// What two nodes must have in common to talk at all: the group, the settings by which one judges what the other says, and the
    /// limits of what travels. Addresses and keys are not in it, for whoever uses them checks them.
    pub fn fingerprint(&self) -> Fingerprint {
        let mut settings = self.cluster.id.0.to_vec();
        settings.extend_from_slice(&FORMAT_VERSION.to_le_bytes());
        settings.extend_from_slice(&self.membership().0);
        if self.group.protocol == ProtocolKind::Pbft {
            settings.extend_from_slice(&(self.group.faulty as u64).to_le_bytes());
            settings.push(u8::from(self.group.sign_pre_prepares));
            settings.push(u8::from(self.group.client_auth == ClientAuth::Mac));
        }
        for limit in [
            limits::BATCH_BYTES_MAX,
            limits::FRAME_BYTES_MAX,
            limits::FRAME_MESSAGES_MAX,
            limits::FRAME_BODIES_MAX,
            limits::PIECE_BYTES_MAX,
        ] {
            settings.extend_from_slice(&(limit as u64).to_le_bytes());
        }
        Fingerprint::of(&settings)
    }
}
