//! From layers to a [`Resolved`]: kinds, limits, and the relations between settings.

use super::cluster::{Cluster, Member, NativeClient};
use super::error::BadValue;
use super::knobs::{self, Fallback, Kind};
use super::layers::{Layers, Setting, WrittenMember};
use super::limits::{CLIENTS_MAX, NODES_MAX};
use super::origin::Origin;
use super::process::*;
use super::{ConfigError, units};
use crate::base::NodeId;
use crate::crypto::{ClusterId, PublicKey, VerifyingKey};
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

impl Layers {
    /// Checks every value and every relation, and fills in what nobody set. Reads `client.password_file`.
    pub fn resolve(&self) -> Result<Resolved, ConfigError> {
        let cluster = self.cluster()?;
        let node = self.node(&cluster)?;
        let own = cluster.member(node.id).expect("checked by `node`");
        Ok(Resolved {
            client: self.client(own)?,
            peer: self.peer(own)?,
            admin: self.admin(own, &node)?,
            group: self.group(&cluster)?,
            raft: self.raft()?,
            log: self.log()?,
            store: Store { maxmemory: self.size("store.maxmemory")? },
            times: self.times()?,
            placement: self.placement()?,
            log_lines: self.log_lines()?,
            cluster,
            node,
        })
    }

    fn group(&self, cluster: &Cluster) -> Result<Group, ConfigError> {
        let protocol = self.protocol(cluster)?;
        if let Some(client) = cluster.clients.first().filter(|_| protocol != ProtocolKind::Pbft) {
            return Err(ConfigError::Missing {
                key: format!("group.protocol = \"pbft\" for native client {}", client.id),
                cure: "only such a group has native clients; leave [[cluster.clients]] out".into(),
            });
        }
        let group = Group {
            protocol,
            fast_reads: self.boolean("group.fast_reads")?,
            client_auth: match self.word("group.client_auth")? {
                "mac" => ClientAuth::Mac,
                _ => ClientAuth::Sign,
            },
            verify: self.boolean("group.verify")?,
            faulty: self.faulty(cluster)?,
            sign_pre_prepares: self.boolean("group.sign_pre_prepares")?,
            clock_skew_max: self.duration("group.clock_skew_max")?,
            request_timeout: self.duration("group.request_timeout")?,
        };
        if group.verify && group.protocol != ProtocolKind::Pbft {
            return Err(self.bad(
                "group.verify",
                "the replies of several nodes are compared only in a pbft group".into(),
                "leave it out, or begin a cluster with `quorate init --protocol pbft`",
            ));
        }
        if group.fast_reads && !group.verify {
            return Err(self.bad(
                "group.fast_reads",
                "a node that answers writes on its own word would make fast reads stale".into(),
                "set group.verify = true as well",
            ));
        }
        Ok(group)
    }

    fn faulty(&self, cluster: &Cluster) -> Result<usize, ConfigError> {
        let (members, most) = (cluster.members.len(), cluster.members.len().saturating_sub(1) / 3);
        if self.text("group.f").is_none() {
            return Ok(most);
        }
        let faulty = self.integer("group.f")? as usize;
        if most < faulty {
            return Err(self.bad(
                "group.f",
                format!("{members} members bear at most {most} that lie"),
                "choose fewer, leave it out, or begin with 3f + 1 members",
            ));
        }
        Ok(faulty)
    }

    fn protocol(&self, cluster: &Cluster) -> Result<ProtocolKind, ConfigError> {
        if self.word("group.protocol")? != ProtocolKind::Pbft.name() {
            return Ok(ProtocolKind::Raft);
        }
        match cluster.members.iter().chain(&cluster.joined).find(|member| member.signing_key.is_none()) {
            None => Ok(ProtocolKind::Pbft),
            Some(member) => Err(ConfigError::Missing {
                key: format!("cluster.members.signing_key of member {}", member.id),
                cure: "a pbft group needs everybody's; `quorate init --protocol pbft` writes them".into(),
            }),
        }
    }

    fn node(&self, cluster: &Cluster) -> Result<Node, ConfigError> {
        let id = NodeId(self.integer("node.id")? as u8);
        if cluster.member(id).is_none() {
            let ids: Vec<String> = cluster.members.iter().map(|m| m.id.to_string()).collect();
            return Err(self.bad(
                "node.id",
                format!("the members are {}", ids.join(", ")),
                "choose one of them, or add a [[cluster.members]] to all nodes before the cluster's first start",
            ));
        }
        let dir = self.path("node.dir")?.ok_or_else(|| self.missing("node.dir"))?;
        let key_file = self.path("node.key_file")?.unwrap_or_else(|| dir.join("key"));
        let charter_file = self.path("node.charter_file")?.unwrap_or_else(|| dir.join("charter"));
        Ok(Node { id, dir, key_file, charter_file })
    }

    fn client(&self, own: &Member) -> Result<Client, ConfigError> {
        let listen = self.address("client.listen")?.unwrap_or_else(|| own.client.clone());
        let client = Client {
            password: self.password()?,
            insecure: self.boolean("client.insecure")?,
            connections_max: self.integer("client.connections_max")? as usize,
            bulk_bytes_max: self.size("client.bulk_bytes_max")? as usize,
            arguments_max: self.integer("client.arguments_max")? as usize,
            pipeline_max: self.integer("client.pipeline_max")? as usize,
            output_bytes_max: self.size("client.output_bytes_max")? as usize,
            pending_bytes_max: self.size("client.pending_bytes_max")? as usize,
            listen,
        };
        if client.password.is_none() && !client.insecure && !is_local(&client.listen) {
            return Err(BadValue {
                origin: self.origin("client.listen"),
                key: "client.listen".into(),
                value: client.listen,
                limit: "a port beyond loopback needs a password".into(),
                cure: "set client.password_file, listen on 127.0.0.1, or say --insecure".into(),
            }
            .into());
        }
        Ok(client)
    }

    fn password(&self) -> Result<Option<Password>, ConfigError> {
        if let Some(setting) = self.settings.get("client.password") {
            return match setting.text.is_empty() {
                true => Err(self.bad(
                    "client.password",
                    "a password has at least one character".into(),
                    "leave the key out for none",
                )),
                false => Ok(Some(Password(setting.text.clone()))),
            };
        }
        let Some(path) = self.path("client.password_file")? else { return Ok(None) };
        let text = std::fs::read_to_string(&path).map_err(|source| ConfigError::Read { path, source })?;
        match text.lines().next().unwrap_or_default() {
            "" => Err(self.bad(
                "client.password_file",
                "its first line is empty".into(),
                "write the password into it",
            )),
            line => Ok(Some(Password(line.to_owned()))),
        }
    }

    fn peer(&self, own: &Member) -> Result<Peer, ConfigError> {
        let peer = Peer {
            listen: self.address("peer.listen")?.unwrap_or_else(|| own.peer.clone()),
            encrypt: self.boolean("peer.encrypt")?,
            queue_bytes_max: self.size("peer.queue_bytes_max")? as usize,
            reconnect_min: self.duration("peer.reconnect_min")?,
            reconnect_max: self.duration("peer.reconnect_max")?,
        };
        self.at_most("peer.reconnect_min", peer.reconnect_min, "peer.reconnect_max", peer.reconnect_max)?;
        Ok(peer)
    }

    fn admin(&self, own: &Member, node: &Node) -> Result<Admin, ConfigError> {
        let default = || own.admin.clone().unwrap_or_else(|| "127.0.0.1:0".into());
        let above =
            || node.dir.parent().map(|p| p.join("admin.token")).unwrap_or_else(|| "admin.token".into());
        Ok(Admin {
            listen: self
                .address("admin.listen")?
                .map_or_else(|| Ok(default()), |listen| self.not_a_path("admin.listen", listen))?,
            token_file: self.path("admin.token_file")?.unwrap_or_else(above),
        })
    }

    fn raft(&self) -> Result<Raft, ConfigError> {
        let raft = Raft {
            election_min: self.duration("raft.election_min")?,
            election_max: self.duration("raft.election_max")?,
            heartbeat: self.duration("raft.heartbeat")?,
            max_log_entries_per_append: self.integer("raft.max_log_entries_per_append")? as usize,
            append_bytes_max: self.size("raft.append_bytes_max")? as usize,
            window_appends: self.integer("raft.window_appends")? as usize,
            window_bytes: self.size("raft.window_bytes")? as usize,
            uncommitted_bytes_max: self.size("raft.uncommitted_bytes_max")? as usize,
            tail_bytes: self.size("raft.tail_bytes")? as usize,
            snapshot_threshold: self.integer("raft.snapshot_threshold")?,
            snapshot_threshold_bytes: self.size("raft.snapshot_threshold_bytes")?,
            snapshot_keep: self.integer("raft.snapshot_keep")?,
            snapshot_piece_bytes: self.size("raft.snapshot_piece_bytes")? as usize,
            snapshot_bytes_per_s: self.size("raft.snapshot_bytes_per_s")?,
        };
        if raft.election_max <= raft.election_min {
            let maximum = units::show_duration(raft.election_max);
            return Err(self.bad(
                "raft.election_min",
                format!("it must be below raft.election_max ({maximum}): time-outs are drawn between the two, lest votes split"),
                "lower it or raise the other",
            ));
        }
        // One lost heartbeat must not cost an election (thesis 3.9: broadcast time << election time-out).
        if raft.election_min <= 2 * raft.heartbeat {
            let minimum = units::show_duration(raft.election_min);
            return Err(self.bad(
                "raft.heartbeat",
                format!("it must be below half of raft.election_min ({minimum})"),
                "lower it, or raise raft.election_min and raft.election_max",
            ));
        }
        Ok(raft)
    }

    fn log(&self) -> Result<Log, ConfigError> {
        let segment_bytes = self.size("log.segment_bytes")?;
        if !segment_bytes.is_multiple_of(super::limits::BLOCK_BYTES as u64) {
            return Err(self.bad(
                "log.segment_bytes",
                "it must be a multiple of 4KiB".into(),
                "write it in MiB",
            ));
        }
        let durability = match self.word("log.durability")? {
            "none" => Durability::None,
            _ => Durability::QuorumSync,
        };
        Ok(Log { segment_bytes, durability })
    }

    fn times(&self) -> Result<Times, ConfigError> {
        Ok(Times {
            write_wait: self.duration("times.write_wait")?,
            answer_within: self.duration("times.answer_within")?,
            drain_within: self.duration("times.drain_within")?,
        })
    }

    fn placement(&self) -> Result<Placement, ConfigError> {
        Ok(Placement {
            cores: self.integer("placement.cores")? as usize,
            first_core: self.integer("placement.first_core")? as usize,
            pin: self.boolean("placement.pin")?,
            spin: self.boolean("placement.spin")?,
        })
    }

    fn log_lines(&self) -> Result<LogLines, ConfigError> {
        let format = match self.word("log_lines.format")? {
            "json" => LineFormat::Json,
            _ => LineFormat::Text,
        };
        Ok(LogLines { format })
    }

    // ---- the cluster ------------------------------------------------------------------------------------------------

    fn cluster(&self) -> Result<Cluster, ConfigError> {
        let text = self.text("cluster.id").ok_or_else(|| self.missing("cluster.id"))?;
        let id = ClusterId::parse(&text).map_err(|error| {
            self.bad("cluster.id", error.to_string(), "take it from another node of the cluster")
        })?;
        if self.members.is_empty() {
            return Err(ConfigError::Missing {
                key: knobs::MEMBERS_KEY.into(),
                cure: "write one [[cluster.members]] a node, or let `quorate init` write the file".into(),
            });
        }
        let mut members: Vec<Member> = Vec::new();
        for written in &self.members {
            let member = written.resolve()?;
            members.iter().try_for_each(|other| written.differs_from(&member, other))?;
            members.push(member);
        }
        members.sort_by_key(|m| m.id);
        let clients = self.native_clients(&members)?;
        let (joined, operator) = (self.joined(&members)?, self.operator()?);
        Ok(Cluster { id, members, clients, joined, operator })
    }

    /// This node, where it is none of the first members.
    fn joined(&self, members: &[Member]) -> Result<Option<Member>, ConfigError> {
        let Some(written) = self.joined.first() else { return Ok(None) };
        let member = written.resolve()?;
        members.iter().try_for_each(|other| written.differs_from(&member, other))?;
        let bad = |name: &str, limit: &str, cure: &str| {
            Err(bad_of(knobs::JOINED_KEY, name, &written.keys[name], limit, cure))
        };
        match self.text("node.id") {
            _ if 1 < self.joined.len() => {
                bad("id", "only the node itself stands there", "leave the others out: the charter names them")
            }
            Some(own) if own == member.id.to_string() => Ok(Some(member)),
            _ => bad("id", "it is the node itself that came later", "write the number of node.id"),
        }
    }

    fn operator(&self) -> Result<Option<VerifyingKey>, ConfigError> {
        let Some(text) = self.text("cluster.operator") else { return Ok(None) };
        let cure = "take it from another node of the cluster; `quorate init` wrote it";
        let key = VerifyingKey::parse(&text)
            .map_err(|error| self.bad("cluster.operator", error.to_string(), cure))?;
        match key.is_valid() {
            true => Ok(Some(key)),
            false => Err(self.bad(
                "cluster.operator",
                "it is no key that a signature can be checked with".into(),
                cure,
            )),
        }
    }

    fn native_clients(&self, members: &[Member]) -> Result<Vec<NativeClient>, ConfigError> {
        let mut clients: Vec<NativeClient> = Vec::new();
        for written in &self.clients {
            let client = written.resolve_client()?;
            let taken = |name: &str| {
                Err(bad_client(name, &written.keys[name], "somebody else has the same", "give each its own"))
            };
            if clients.iter().any(|other| other.id == client.id) {
                return taken("id");
            }
            let keys = members.iter().map(|m| m.key).chain(clients.iter().map(|c| c.key));
            if keys.into_iter().any(|key| key == client.key) {
                return taken("key");
            }
            clients.push(client);
        }
        clients.sort_by_key(|client| client.id);
        Ok(clients)
    }

    // ---- one value --------------------------------------------------------------------------------------------------

    /// As written, or the default's text.
    fn text(&self, key: &str) -> Option<String> {
        let knob = knobs::find(key).expect("resolve names only knobs of the table");
        match (self.settings.get(key), knob.fallback) {
            (Some(setting), _) => Some(setting.text.clone()),
            (None, Fallback::Value(text)) => Some(text.to_owned()),
            (None, _) => None,
        }
    }
    fn origin(&self, key: &str) -> Origin {
        self.settings.get(key).map_or(Origin::Default, |s| s.origin.clone())
    }
    fn bad(&self, key: &str, limit: String, cure: &str) -> ConfigError {
        let shown = match knobs::find(key) {
            Some(knob) if knob.secret => "(hidden)".to_owned(),
            _ => self.text(key).unwrap_or_default(),
        };
        BadValue { origin: self.origin(key), key: key.into(), value: shown, limit, cure: cure.into() }.into()
    }
    fn missing(&self, key: &str) -> ConfigError {
        let variable = key.to_uppercase().replacen('.', "__", 1);
        ConfigError::Missing {
            key: key.into(),
            cure: format!("set it in the file, by QUORATE_{variable}, or by --set {key}=VALUE"),
        }
    }
    fn within(
        &self,
        key: &str,
        value: Option<u64>,
        min: u64,
        max: u64,
        form: impl Fn(u64) -> String,
    ) -> Result<u64, ConfigError> {
        let limit = format!("it must be from {} to {}", form(min), form(max));
        match value {
            Some(value) if (min..=max).contains(&value) => Ok(value),
            _ => Err(self.bad(key, limit, "choose a value in that range")),
        }
    }
    fn integer(&self, key: &str) -> Result<u64, ConfigError> {
        let text = self.text(key).ok_or_else(|| self.missing(key))?;
        let Some(Kind::Integer { min, max }) = knobs::find(key).map(|k| k.kind) else {
            unreachable!("{key} is an integer")
        };
        self.within(key, text.parse().ok(), min, max, |n| n.to_string())
    }
    fn size(&self, key: &str) -> Result<u64, ConfigError> {
        let text = self.text(key).ok_or_else(|| self.missing(key))?;
        let Some(Kind::Size { min, max }) = knobs::find(key).map(|k| k.kind) else {
            unreachable!("{key} is a size")
        };
        self.within(key, units::parse_size(&text), min, max, units::show_size)
    }
    fn duration(&self, key: &str) -> Result<Duration, ConfigError> {
        let text = self.text(key).ok_or_else(|| self.missing(key))?;
        let Some(Kind::Duration { min_ms, max_ms }) = knobs::find(key).map(|k| k.kind) else {
            unreachable!("{key} is a duration")
        };
        let nanos = units::parse_duration(&text).map(|d| d.as_nanos() as u64);
        let show = |nanos| units::show_duration(Duration::from_nanos(nanos));
        self.within(key, nanos, min_ms * 1_000_000, max_ms * 1_000_000, show).map(Duration::from_nanos)
    }
    fn boolean(&self, key: &str) -> Result<bool, ConfigError> {
        match self.text(key).as_deref() {
            Some("true") => Ok(true),
            Some("false") => Ok(false),
            _ => Err(self.bad(key, "it must be true or false".into(), "write one of the two")),
        }
    }
    fn word(&self, key: &str) -> Result<&'static str, ConfigError> {
        let Some(Kind::OneOf(words)) = knobs::find(key).map(|k| k.kind) else {
            unreachable!("{key} is a word")
        };
        let text = self.text(key).unwrap_or_default();
        let found = words.iter().find(|w| **w == text).copied();
        found.ok_or_else(|| {
            self.bad(key, format!("it must be one of {}", words.join(", ")), "write one of them")
        })
    }
    fn path(&self, key: &str) -> Result<Option<PathBuf>, ConfigError> {
        match self.settings.get(key) {
            Some(s) if s.text.is_empty() => {
                Err(self.bad(key, "a path is not empty".into(), "name a file or leave the key out"))
            }
            Some(s) => Ok(Some(self.base.join(&s.text))),
            None => Ok(None),
        }
    }
    fn address(&self, key: &str) -> Result<Option<String>, ConfigError> {
        let Some(setting) = self.settings.get(key) else { return Ok(None) };
        check_address(key, setting, 0).map(Some)
    }
    /// The service plane speaks HTTP over TCP only.
    fn not_a_path(&self, key: &str, address: String) -> Result<String, ConfigError> {
        match address.contains('/') {
            false => Ok(address),
            true => {
                Err(self.bad(key, "it must be host:port, not a path".into(), "write it like 127.0.0.1:7201"))
            }
        }
    }

    fn at_most(
        &self,
        low: &str,
        low_value: Duration,
        high: &str,
        high_value: Duration,
    ) -> Result<(), ConfigError> {
        if low_value <= high_value {
            return Ok(());
        }
        let limit = format!("it must not exceed {high} ({})", units::show_duration(high_value));
        Err(self.bad(low, limit, "lower it or raise the other"))
    }
}

impl WrittenMember {
    fn resolve(&self) -> Result<Member, ConfigError> {
        let id = self.required("id")?;
        let number =
            id.text.parse::<u8>().ok().filter(|n| (1..=super::limits::NODES_MAX).contains(&usize::from(*n)));
        let number =
            number.ok_or_else(|| bad_member("id", id, "ids are 1 to 63", "number the members from 1"))?;
        let key = self.required("key")?;
        let public = PublicKey::parse(&key.text).map_err(|error| {
            bad_member("key", key, &error.to_string(), "take it from what `quorate init` wrote")
        })?;
        let client = self.required("client")?;
        if self.required("peer")?.text == client.text {
            return Err(bad_member(
                "client",
                client,
                "it is also its peer address",
                "give each port its own",
            ));
        }
        let admin =
            self.keys.get("admin").map(|s| check_address("cluster.members.admin", s, 1)).transpose()?;
        Ok(Member {
            id: NodeId(number),
            peer: check_address("cluster.members.peer", self.required("peer")?, 1)?,
            client: check_address("cluster.members.client", client, 1)?,
            admin,
            key: public,
            signing_key: self.signing_key()?,
        })
    }

    fn resolve_client(&self) -> Result<NativeClient, ConfigError> {
        let id = self.required("id")?;
        let ids = NODES_MAX + 1..=NODES_MAX + CLIENTS_MAX;
        let number = id.text.parse::<u8>().ok().filter(|n| ids.contains(&usize::from(*n)));
        let number = number
            .ok_or_else(|| bad_client("id", id, "clients have the ids 64 to 127", "number them from 64"))?;
        let key = self.required("key")?;
        let public = PublicKey::parse(&key.text).map_err(|error| {
            bad_client("key", key, &error.to_string(), "take it from what `quorate init --clients` wrote")
        })?;
        self.required("signing_key")?;
        let signing_key = self.signing_key()?.expect("it is there");
        Ok(NativeClient { id: NodeId(number), key: public, signing_key })
    }

    fn signing_key(&self) -> Result<Option<VerifyingKey>, ConfigError> {
        let Some(setting) = self.keys.get("signing_key") else { return Ok(None) };
        let bad =
            |why: &str| bad_member("signing_key", setting, why, "take it from what `quorate init` wrote");
        let key = VerifyingKey::parse(&setting.text).map_err(|error| bad(&error.to_string()))?;
        if key.is_valid() {
            Ok(Some(key))
        } else {
            Err(bad("it is no key that a signature can be checked with"))
        }
    }

    fn required(&self, name: &str) -> Result<&Setting, ConfigError> {
        self.keys.get(name).ok_or_else(|| ConfigError::Missing {
            key: format!("cluster.members.{name} at {}", self.origin),
            cure: "every member has id, peer, client and key, every native client id, key and signing_key"
                .into(),
        })
    }

    /// Two members share neither id nor key nor any address.
    fn differs_from(&self, member: &Member, other: &Member) -> Result<(), ConfigError> {
        let taken = |name: &str| {
            let limit = format!("member {} has the same", other.id);
            Err(bad_member(name, &self.keys[name], &limit, "give each member its own"))
        };
        if member.id == other.id {
            return taken("id");
        }
        if member.key == other.key {
            return taken("key");
        }
        let addresses = |m: &Member| [Some(m.peer.clone()), Some(m.client.clone()), m.admin.clone()];
        let others = addresses(other);
        let clash = |a: &Option<String>| a.is_some() && others.contains(a);
        match addresses(member).iter().position(clash) {
            Some(place) => taken(["peer", "client", "admin"][place]),
            None => Ok(()),
        }
    }
}

fn bad_member(name: &str, setting: &Setting, limit: &str, cure: &str) -> ConfigError {
    bad_of(super::knobs::MEMBERS_KEY, name, setting, limit, cure)
}
fn bad_client(name: &str, setting: &Setting, limit: &str, cure: &str) -> ConfigError {
    bad_of(super::knobs::CLIENTS_KEY, name, setting, limit, cure)
}
fn bad_of(array: &str, name: &str, setting: &Setting, limit: &str, cure: &str) -> ConfigError {
    BadValue {
        origin: setting.origin.clone(),
        key: format!("{array}.{name}"),
        value: setting.text.clone(),
        limit: limit.into(),
        cure: cure.into(),
    }
    .into()
}

/// `host:port` with a port of at least `port_min`, or a path.
fn check_address(key: &str, setting: &Setting, port_min: u16) -> Result<String, ConfigError> {
    let text = &setting.text;
    let is_path = text.contains('/');
    let port = text
        .rsplit_once(':')
        .filter(|(host, _)| !host.is_empty())
        .and_then(|(_, port)| port.parse::<u16>().ok());
    match is_path || port.is_some_and(|p| port_min <= p) {
        true => Ok(text.clone()),
        false => Err(BadValue {
            origin: setting.origin.clone(),
            key: key.into(),
            value: text.clone(),
            limit: format!("an address is host:port with a port from {port_min} to 65535, or a path"),
            cure: "write it like 127.0.0.1:7301 or /run/quorate/1.sock".into(),
        }
        .into()),
    }
}

/// Whether only this machine can reach it.
pub(crate) fn is_local(address: &str) -> bool {
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host).trim_matches(['[', ']']);
    address.contains('/') || host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}
