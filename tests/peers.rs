//! The way between nodes, whole and over real sockets: receiver, opener, sealer and sender of several nodes on one thread, each node
//! with a ring of its own. Tests wait for conditions, never for time.

use crossbeam::channel::Receiver;
use quorate::auth::{self, Open, Seal};
use quorate::base::ring::{Consumer, Producer, ring};
use quorate::base::{Body, GroupId, NodeId, Prng, Slot, Stamp, Term};
use quorate::crypto::{ClusterId, Fingerprint, SecretKey, VerifyingKey};
use quorate::io::driver::Driver;
use quorate::io::{Agent, Completion, Entropy, Uring, UringOptions};
use quorate::net::handshake::Identity;
use quorate::net::rx::{self, Following, PeerAddress, Rings, Rx};
use quorate::net::tx::Tx;
use quorate::wire::hop::{LinkEvent, Opened, Outgoing, PeerNumbers};
use quorate::wire::members::{Member, Membership};
use quorate::wire::roster::{Roll, Roster};
use quorate::wire::{Message, raft};
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::time::Duration;

const QUEUE_BYTES_MAX: usize = 1 << 20;

/// One node's agents and ring.
struct Node {
    id: NodeId,
    driver: Uring,
    rx: Rx,
    open: Open,
    seal: Seal,
    tx: Tx,
    say: Producer<Outgoing>,
    heard: Consumer<Opened>,
    events: Consumer<LinkEvent>,
    numbers: BTreeMap<NodeId, PeerNumbers>,
    completions: Vec<Completion>,
    /// Its replica takes nothing.
    is_deaf: bool,
    /// Everything that was heard or told so far.
    messages: Vec<(NodeId, Message)>,
    told: Vec<LinkEvent>,
}

struct Seeded(Prng);
impl Entropy for Seeded {
    fn fill(&mut self, bytes: &mut [u8]) {
        bytes.iter_mut().for_each(|byte| *byte = self.0.next_u64() as u8);
    }
}

fn secret(node: u8) -> SecretKey {
    SecretKey::from_entropy([node; 32])
}

/// Node `id` of a cluster of `nodes`.
fn identity(id: u8, nodes: u8) -> Identity {
    Identity {
        node: NodeId(id),
        boot: 1,
        cluster: ClusterId([9; 16]),
        fingerprint: Fingerprint([8; 32]),
        secret: secret(id),
        other: None,
        other_for: Default::default(),
        encrypt: false,
        peers: (1..=nodes).filter(|n| *n != id).map(|n| (NodeId(n), secret(n).public())).collect(),
    }
}

fn settings(listen: &str) -> rx::Settings {
    rx::Settings {
        listen: Some(listen.into()),
        reconnect_min: Duration::from_millis(5),
        reconnect_max: Duration::from_millis(50),
        handshake_max: Duration::from_secs(5),
        silence_max: Duration::from_secs(10),
    }
}

impl Node {
    /// A node that knows the others under `addresses`, the own one among them.
    fn start(identity: Identity, addresses: &[String], settings: rx::Settings) -> Node {
        Node::following(identity, addresses, settings, None)
    }
    /// The same, where members come and go: who they are, and keys that it is given.
    fn following(
        identity: Identity,
        addresses: &[String],
        settings: rx::Settings,
        members: Option<(Roster, Receiver<SecretKey>)>,
    ) -> Node {
        let mut driver = Uring::new(UringOptions::NODE).expect("this machine has io_uring");
        let id = identity.node;
        let others = (1..=addresses.len() as u8).map(NodeId).filter(|other| *other != id);
        let numbers: BTreeMap<_, _> = others.map(|other| (other, PeerNumbers::default())).collect();
        let known = numbers.iter().filter(|(peer, _)| identity.peers.contains_key(peer));
        let peers: BTreeMap<_, _> = known
            .map(|(peer, numbers)| {
                let address = addresses[usize::from(peer.0) - 1].clone();
                (*peer, PeerAddress { address, numbers: numbers.clone() })
            })
            .collect();
        let (to_open, from_rx) = ring(16);
        let (to_seal, seal_links) = ring(64);
        let (to_tx, tx_links) = ring(64);
        let (event, events) = ring(256);
        let (to_replica, heard) = ring(16);
        let (say, outgoing) = ring(4096);
        let (sealed, frames) = ring(256);
        let rings = Rings { open: to_open, seal: to_seal, tx: to_tx, events: event };
        let entropy = Box::new(Seeded(Prng::from_seed(u64::from(id.0))));
        let mut rx = Rx::new(settings, identity, peers, entropy, rings);
        if let Some((roster, keys)) = members {
            rx = rx.following(Following { roster, numbers: numbers.clone(), keys, seen: 0 });
        }
        let sealing = auth::seal::Settings {
            node: id,
            queue_bytes_max: QUEUE_BYTES_MAX,
            keep_alive: Duration::from_millis(500),
        };
        rx.start(0, &mut driver).expect("the address is free");
        let mut tx = Tx::new(Duration::from_secs(10), frames, tx_links, numbers.clone());
        tx.start(1, &mut driver).expect("it needs nothing");
        Node {
            id,
            rx,
            open: Open::new(from_rx, to_replica, numbers.clone()),
            seal: Seal::new(sealing, [outgoing, ring(1).1], seal_links, sealed, numbers.clone()),
            tx,
            driver,
            say,
            heard,
            events,
            numbers,
            completions: Vec::new(),
            is_deaf: false,
            messages: Vec::new(),
            told: Vec::new(),
        }
    }
    /// One turn of all agents.
    fn turn(&mut self) -> usize {
        self.driver.reap(&mut self.completions);
        let mut done = self.completions.len();
        for completion in self.completions.drain(..) {
            match completion.token.agent {
                0 => self.rx.complete(completion, &mut self.driver),
                _ => self.tx.complete(completion, &mut self.driver),
            }
        }
        done += self.rx.work(&mut self.driver) + self.open.work(&mut self.driver);
        done += self.seal.work(&mut self.driver) + self.tx.work(&mut self.driver);
        if !self.is_deaf {
            let heard = std::iter::from_fn(|| self.heard.pop());
            self.messages.extend(heard.map(|opened| (opened.from, opened.message)));
        }
        self.told.extend(std::iter::from_fn(|| self.events.pop()));
        done
    }
    fn say(&mut self, to: u8, message: Message) {
        let outgoing = Outgoing { to: NodeId(to), group: GroupId(1), message };
        self.say.push(outgoing).expect("the test says little at once");
    }
    fn is_linked(&self, peer: u8) -> bool {
        let last = self.told.iter().rev().find_map(|event| match event {
            LinkEvent::Up { peer: p, .. } if p.0 == peer => Some(true),
            LinkEvent::Down { peer: p, .. } if p.0 == peer => Some(false),
            _ => None,
        });
        last == Some(true)
    }
    fn was_refused(&self, part: &str) -> bool {
        self.told.iter().any(|event| matches!(event, LinkEvent::Refused { why, .. } if why.contains(part)))
    }
    fn lost(&self, peer: u8) -> u64 {
        self.numbers[&NodeId(peer)].lost.get()
    }
    fn terms(&self, from: u8) -> Vec<u64> {
        let of = self.messages.iter().filter(|(peer, _)| peer.0 == from);
        of.filter_map(|(_, message)| match message {
            Message::Raft(raft::Message::TimeoutNow { term }) => Some(term.0),
            _ => None,
        })
        .collect()
    }
    fn pieces(&self, from: u8) -> Vec<u64> {
        let of = self.messages.iter().filter(|(peer, _)| peer.0 == from);
        of.filter_map(|(_, message)| match message {
            Message::Raft(raft::Message::Piece { offset, .. }) => Some(*offset),
            _ => None,
        })
        .collect()
    }
}

/// Turns all nodes until `done` holds.
fn until(nodes: &mut [Node], mut done: impl FnMut(&mut [Node]) -> bool) {
    while !done(nodes) {
        let worked: usize = nodes.iter_mut().map(Node::turn).sum();
        if worked == 0 {
            // Nothing to do here: let the kernel have the core for a moment, and wake for the nearest deadline.
            let now = nodes[0].driver.now();
            nodes[0].driver.park(Some(now.after(Duration::from_millis(1))));
        }
    }
}

fn all_linked(nodes: &[Node]) -> bool {
    let pairs = nodes.iter().flat_map(|a| nodes.iter().map(move |b| (a, b)));
    pairs.filter(|(a, b)| a.id != b.id).all(|(a, b)| a.is_linked(b.id.0))
}

/// Addresses that were free a moment ago.
fn addresses(count: usize) -> Vec<String> {
    let listeners: Vec<_> = (0..count).map(|_| TcpListener::bind("127.0.0.1:0").expect("a port")).collect();
    listeners.iter().map(|listener| listener.local_addr().expect("it is bound").to_string()).collect()
}

/// A cluster of `count` nodes, linked.
fn cluster(count: u8, addresses: &[String], change: impl Fn(&mut Identity)) -> Vec<Node> {
    let node = |id: u8| {
        let mut identity = identity(id, count);
        change(&mut identity);
        Node::start(identity, addresses, settings(&addresses[usize::from(id) - 1]))
    };
    let mut nodes: Vec<Node> = (1..=count).map(node).collect();
    until(&mut nodes, |nodes| all_linked(nodes));
    nodes
}

fn urgent(term: u64) -> Message {
    raft::Message::TimeoutNow { term: Term(term) }.into()
}

fn bulk(number: u64, bytes: usize) -> Message {
    raft::Message::Piece {
        term: Term(1),
        slot: Slot(1),
        slot_term: Term(1),
        stamp: Stamp(1),
        offset: number,
        total: 0,
        body: Body::new(vec![number as u8; bytes].into()),
    }
    .into()
}

#[test]
fn nodes_link_up_and_what_one_says_every_other_hears_in_order() {
    for encrypt in [false, true] {
        let addresses = addresses(3);
        let mut nodes = cluster(3, &addresses, |identity| identity.encrypt = encrypt && identity.node.0 == 2);
        for number in 0..50 {
            for node in &mut nodes {
                let from = node.id.0;
                for to in (1..=3).filter(|to| *to != from) {
                    node.say(to, urgent(number));
                    node.say(to, bulk(number, 20_000));
                }
                node.turn();
            }
        }
        let whole: Vec<u64> = (0..50).collect();
        until(&mut nodes, |nodes| nodes.iter().all(|node| node.messages.len() == 200));
        for node in &nodes {
            for from in (1..=3).filter(|from| *from != node.id.0) {
                assert_eq!((node.terms(from), node.pieces(from)), (whole.clone(), whole.clone()));
                assert_eq!(node.lost(from), 1);
            }
        }
    }
}

#[test]
fn a_path_is_a_unix_socket() {
    let directory = std::env::temp_dir().join(format!("quorate-peers-{}", std::process::id()));
    std::fs::create_dir_all(&directory).expect("a directory");
    let paths: Vec<String> =
        (1..=2).map(|n| directory.join(format!("{n}.sock")).display().to_string()).collect();
    let mut nodes = cluster(2, &paths, |_| ());
    nodes[0].say(2, urgent(7));
    until(&mut nodes, |nodes| nodes[1].terms(1) == [7]);
    drop(nodes);
    std::fs::remove_dir_all(&directory).expect("it is ours");
}

#[test]
fn a_node_that_does_not_fit_is_refused_and_both_sides_are_told_why() {
    type Change = fn(&mut Identity);
    let cases: [(Change, &str); 4] = [
        (|identity| identity.cluster = ClusterId([7; 16]), "is of cluster 0707"),
        (|identity| identity.fingerprint = Fingerprint([7; 32]), "fingerprint 0707070707070707 at node 2"),
        (|identity| identity.secret = secret(99), "node 2 proved a key with hash"),
        (|identity| identity.node = NodeId(5), "expected a peer and met node 5"),
    ];
    for (change, words) in cases {
        let addresses = addresses(2);
        let mut odd = identity(2, 2);
        change(&mut odd);
        let mut nodes = vec![
            Node::start(identity(1, 2), &addresses, settings(&addresses[0])),
            Node::start(odd, &addresses, settings(&addresses[1])),
        ];
        until(&mut nodes, |nodes| nodes.iter().all(|node| node.was_refused(words)));
        assert!(nodes.iter().all(|node| node.rx.counters().links == 0));
    }
}

/// Where a group stands that has these members, each with the key of that seed.
fn roll(epoch: u64, members: &[(u8, u8)], addresses: &[String]) -> Roll {
    let member = |(id, key): &(u8, u8)| Member {
        id: NodeId(*id),
        key: secret(*key).public(),
        signing_key: VerifyingKey([*id; 32]),
        peer: addresses[usize::from(*id) - 1].clone(),
        client: String::new(),
        admin: String::new(),
    };
    let members = members.iter().map(member).collect();
    let membership = Membership { epoch, faulty: 0, retired: Default::default(), members };
    Roll::new(membership, Default::default(), 1, 1)
}

/// Whoever is in another epoch than its peer believes what its own lists.
#[test]
fn links_follow_the_members_and_their_keys_although_some_are_behind() {
    let addresses = addresses(3);
    let first = roll(0, &[(1, 1), (2, 2)], &addresses);
    let second = roll(1, &[(1, 1), (2, 2), (3, 3)], &addresses);
    let third = roll(2, &[(1, 1), (2, 50), (3, 3)], &addresses);
    let rosters = [&first, &first, &second].map(|roll| Roster::new(roll.clone()));
    let (give, taken) = crossbeam::channel::bounded(1);
    let mut keys = [None, Some(taken), None];
    let mut nodes: Vec<Node> = (1..=3)
        .map(|id: u8| {
            let at = usize::from(id) - 1;
            let keys = keys[at].take().unwrap_or_else(|| crossbeam::channel::bounded(1).1);
            let nobody = Identity { peers: BTreeMap::new(), ..identity(id, 3) };
            Node::following(nobody, &addresses, settings(&addresses[at]), Some((rosters[at].clone(), keys)))
        })
        .collect();
    until(&mut nodes, |nodes| all_linked(&nodes[..2]) && nodes[2].was_refused("and met node 3"));
    assert!(!nodes[0].is_linked(3) && !nodes[1].is_linked(3), "it is no member there");
    rosters[..2].iter().for_each(|roster| roster.put(second.clone()));
    until(&mut nodes, |nodes| all_linked(nodes));
    // The second holds another key, which one peer lists already and the other does not yet.
    give.send(secret(50)).expect("there is room");
    rosters[0].put(third.clone());
    until(&mut nodes, |nodes| !nodes[0].is_linked(2));
    until(&mut nodes, |nodes| all_linked(nodes));
    assert!(
        nodes[0].was_refused("proved a key") && nodes[2].lost(2) == 1,
        "the third is behind and notices nothing"
    );
    rosters[1].put(third.clone());
    rosters[2].put(third);
    until(&mut nodes, |nodes| 2 <= nodes[2].lost(2) && all_linked(nodes));
    // Who has left is hung up on, and turned away.
    let last = roll(3, &[(1, 1), (2, 50)], &addresses);
    rosters[..2].iter().for_each(|roster| roster.put(last.clone()));
    until(&mut nodes, |nodes| !nodes[2].is_linked(1) && !nodes[2].is_linked(2));
    assert!(all_linked(&nodes[..2]));
    nodes[0].say(2, urgent(9));
    nodes[0].say(3, urgent(9));
    until(&mut nodes, |nodes| nodes[1].terms(1).last() == Some(&9));
    assert_eq!((nodes[2].terms(1), nodes[0].seal.counters().unlinked), (vec![], 1));
}

#[test]
fn a_peer_that_went_away_is_linked_again_and_lost_says_so() {
    let addresses = addresses(2);
    let mut nodes = cluster(2, &addresses, |_| ());
    for round in 2..5u64 {
        // The dialler and the dialled go away in turn.
        let gone = (round % 2) as usize;
        drop(nodes.remove(gone));
        until(&mut nodes, |nodes| !nodes[0].is_linked(gone as u8 + 1));
        let identity = identity(gone as u8 + 1, 2);
        nodes.insert(gone, Node::start(identity, &addresses, settings(&addresses[gone])));
        until(&mut nodes, |nodes| all_linked(nodes));
        let stayed = 1 - gone;
        assert!(2 <= nodes[stayed].lost(gone as u8 + 1));
        assert_eq!(nodes[gone].lost(stayed as u8 + 1), 1);
        let from = nodes[gone].id.0;
        nodes[gone].say(stayed as u8 + 1, urgent(round));
        until(&mut nodes, |nodes| nodes[stayed].terms(from).last() == Some(&round));
    }
}

#[test]
fn a_peer_that_does_not_turn_costs_the_others_nothing_and_is_cut_off_at_its_limit() {
    let addresses = addresses(3);
    let mut nodes = cluster(3, &addresses, |_| ());
    let mut slow = nodes.pop().expect("three");
    let (count, bytes) = (400, 100_000);
    for number in 0..count {
        for to in [2, 3] {
            nodes[0].say(to, bulk(number, bytes));
        }
        // The second is listened to, the third has stopped.
        until(&mut nodes, |nodes| nodes[1].pieces(1).len() as u64 == number + 1);
    }
    let sealing = nodes[0].seal.counters();
    assert!(0 < sealing.overflowed && sealing.overflowed < count, "{sealing:?}");
    assert_eq!((nodes[0].lost(2), nodes[0].lost(3)), (1, 1));
    // Urgent words still pass, and when the third turns again it hears what had been taken, in order, and the sender hears of the loss.
    nodes[0].say(3, urgent(1));
    nodes.push(std::mem::replace(&mut slow, dummy()));
    until(&mut nodes, |nodes| nodes[2].terms(1) == [1] && nodes[0].lost(3) == 2);
    let heard = nodes[2].pieces(1);
    assert!(heard.is_sorted() && (heard.len() as u64) < count);
    assert_eq!(nodes[0].rx.counters().ended, 0);
}

#[test]
fn a_replica_that_takes_nothing_holds_its_peers_back_and_loses_nothing_that_had_come() {
    let addresses = addresses(2);
    let mut nodes = cluster(2, &addresses, |_| ());
    nodes[1].is_deaf = true;
    let mut said = 0;
    until(&mut nodes, |nodes| {
        if nodes[0].seal.counters().overflowed == 0 {
            nodes[0].say(2, bulk(said, 100_000));
            said += 1;
        }
        0 < nodes[1].rx.counters().held_back && 0 < nodes[0].seal.counters().overflowed
    });
    nodes[1].is_deaf = false;
    let whole: Vec<u64> = (0..said - nodes[0].seal.counters().overflowed).collect();
    until(&mut nodes, |nodes| nodes[1].pieces(1).len() == whole.len() && nodes[0].lost(2) == 2);
    assert_eq!(nodes[1].pieces(1), whole);
    assert!(nodes.iter().all(|node| node.rx.counters().ended == 0));
}

#[test]
fn a_stranger_who_dawdles_is_hung_up_on() {
    let addresses = addresses(1);
    let hasty = rx::Settings { handshake_max: Duration::from_millis(20), ..settings(&addresses[0]) };
    let mut nodes = vec![Node::start(identity(1, 1), &addresses, hasty)];
    let mut stream = TcpStream::connect(&addresses[0]).expect("it listens");
    stream.write_all(b"QRH1").expect("it listens");
    until(&mut nodes, |nodes| nodes[0].was_refused("it took too long"));
    stream.set_nonblocking(true).expect("a socket");
    let mut byte = [0];
    until(
        &mut nodes,
        |_| !matches!(stream.read(&mut byte), Err(e) if e.kind() == std::io::ErrorKind::WouldBlock),
    );
}

/// A node of a cluster of one, to stand in a place for a moment.
fn dummy() -> Node {
    let addresses = addresses(1);
    Node::start(identity(1, 1), &addresses, settings(&addresses[0]))
}

#[test]
fn hostile_bytes_at_every_state_end_their_connection_and_nothing_else() {
    let addresses = addresses(2);
    let mut nodes = cluster(2, &addresses, |_| ());
    let mut prng = Prng::from_seed(7);
    let mut hello = b"QRH1\x01\x00\x48\x00\x01\x00\x02".to_vec();
    hello.extend_from_slice(&[0; 5]);
    hello.extend_from_slice(&[9; 16]);
    hello.extend_from_slice(&[8; 32]);
    hello.extend_from_slice(&[0; 16]);
    let mut noise = b"QRH1\x02\x00\x20\x00".to_vec();
    noise.extend_from_slice(&[3; 32]);
    let mut garbage = |len: usize| -> Vec<u8> { (0..len).map(|_| prng.next_u64() as u8).collect() };
    let enemies = [
        b"*1\r\n$4\r\nPING\r\n".to_vec(),
        garbage(1),
        garbage(10_000),
        [&hello[..], &garbage(500)].concat(),
        [&hello[..], &hello].concat(),
        [&hello[..], &noise, &garbage(500)].concat(),
        [&hello[..], &noise, &noise].concat(),
        [&hello[..], &noise, b"QRF1", &garbage(60)].concat(),
    ];
    for enemy in enemies {
        let mut stream = TcpStream::connect(&addresses[0]).expect("it listens");
        let _ = stream.write_all(&enemy);
        stream.set_nonblocking(true).expect("a socket");
        let mut answer = Vec::new();
        // Hung up on: the end of the stream, or a reset for what was not read.
        until(&mut nodes, |_| {
            let mut piece = [0; 1024];
            match stream.read(&mut piece) {
                Ok(0) => true,
                Ok(read) => {
                    answer.extend_from_slice(&piece[..read]);
                    false
                }
                Err(error) => error.kind() != std::io::ErrorKind::WouldBlock,
            }
        });
    }
    // Somebody who says nothing at all does not stand in the way either.
    let silent: Vec<_> = (0..80).map(|_| TcpStream::connect(&addresses[0]).expect("it listens")).collect();
    until(&mut nodes, |nodes| nodes[0].rx.counters().evicted == 16);
    nodes[1].say(1, urgent(5));
    until(&mut nodes, |nodes| nodes[0].terms(2) == [5]);
    assert!(nodes[0].is_linked(2) && nodes[0].rx.counters().ended == 0);
    drop(silent);
}

/// A machine in the middle that carries bytes between a dialler and an acceptor, and can change them.
struct Middle {
    listener: TcpListener,
    ends: Option<(TcpStream, TcpStream)>,
    to: String,
    /// Bytes carried from the dialler so far; every connection begins anew.
    carried: Vec<u8>,
    back: usize,
}

impl Middle {
    fn new(to: &str) -> Middle {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        listener.set_nonblocking(true).expect("a socket");
        Middle { listener, ends: None, to: to.into(), carried: Vec::new(), back: 0 }
    }
    /// Carries what is there. `change` sees what the dialler said and where in the stream it stands.
    fn turn(&mut self, change: &mut dyn FnMut(&mut Vec<u8>, usize)) {
        if let Ok((dialler, _)) = self.listener.accept() {
            let acceptor = TcpStream::connect(&self.to).expect("it listens");
            dialler.set_nonblocking(true).expect("a socket");
            acceptor.set_nonblocking(true).expect("a socket");
            self.ends = Some((dialler, acceptor));
            (self.carried, self.back) = (Vec::new(), 0);
        }
        let Some((dialler, acceptor)) = &mut self.ends else { return };
        let mut piece = vec![0; 65536];
        let there = match dialler.read(&mut piece) {
            Ok(read) => {
                piece.truncate(read);
                let at = self.carried.len();
                self.carried.extend_from_slice(&piece);
                change(&mut piece, at);
                acceptor.write_all(&piece).is_ok() && read != 0
            }
            Err(error) => error.kind() == std::io::ErrorKind::WouldBlock,
        };
        let mut piece = vec![0; 65536];
        let back = match acceptor.read(&mut piece) {
            Ok(read) => {
                self.back += read;
                dialler.write_all(&piece[..read]).is_ok() && read != 0
            }
            Err(error) => error.kind() == std::io::ErrorKind::WouldBlock,
        };
        if !(there && back) {
            self.ends = None;
        }
    }
}

/// Two nodes with a machine between them; node 2 dials.
fn in_the_middle() -> (Vec<Node>, Middle) {
    let addresses = addresses(2);
    let middle = Middle::new(&addresses[0]);
    let detour = [middle.listener.local_addr().expect("it is bound").to_string(), addresses[1].clone()];
    let nodes = vec![
        Node::start(identity(1, 2), &addresses, settings(&addresses[0])),
        Node::start(identity(2, 2), &detour, settings(&addresses[1])),
    ];
    (nodes, middle)
}

fn linked_through(nodes: &mut [Node], middle: &mut Middle, links: u64) {
    until(nodes, |nodes| {
        middle.turn(&mut |_, _| ());
        nodes.iter().all(|node| links <= node.rx.counters().links) && all_linked(nodes)
    });
}

#[test]
fn a_bit_flipped_in_any_part_of_a_frame_ends_the_link_is_counted_and_the_link_comes_back() {
    let (mut nodes, mut middle) = in_the_middle();
    linked_through(&mut nodes, &mut middle, 1);
    // Header, tag, table, heads, body.
    for (round, place) in [9, 40, 70, 130, 400].into_iter().enumerate() {
        let before = nodes[0].messages.len();
        nodes[1].say(1, bulk(1, 1000));
        let mut flipped = false;
        until(&mut nodes, |nodes| {
            middle.turn(&mut |piece, _| {
                if !flipped && 1000 < piece.len() {
                    piece[place] ^= 4;
                    flipped = true;
                }
            });
            nodes[0].rx.counters().ended == round as u64 + 1
        });
        assert_eq!(nodes[0].messages.len(), before, "nothing of it was believed");
        linked_through(&mut nodes, &mut middle, round as u64 + 2);
        assert_eq!(nodes[0].lost(2), round as u64 + 2);
    }
    let counters = nodes[0].open.counters();
    assert!(2 <= counters.forged && 1 <= counters.malformed, "{counters:?}");
}

#[test]
fn a_frame_that_is_repeated_ends_the_link() {
    let (mut nodes, mut middle) = in_the_middle();
    linked_through(&mut nodes, &mut middle, 1);
    nodes[1].say(1, urgent(1));
    let mut repeated = false;
    until(&mut nodes, |nodes| {
        middle.turn(&mut |piece, _| {
            if !repeated && !piece.is_empty() {
                piece.extend_from_within(..);
                repeated = true;
            }
        });
        nodes[0].rx.counters().ended == 1
    });
    assert_eq!((nodes[0].terms(2), nodes[0].open.counters().disordered), (vec![1], 1));
    linked_through(&mut nodes, &mut middle, 2);
}

#[test]
fn a_frame_that_is_left_out_ends_the_link() {
    let (mut nodes, mut middle) = in_the_middle();
    linked_through(&mut nodes, &mut middle, 1);
    nodes[1].say(1, urgent(1));
    let mut dropped = false;
    until(&mut nodes, |_| {
        middle.turn(&mut |piece, _| {
            dropped |= !piece.is_empty();
            piece.clear();
        });
        dropped
    });
    nodes[1].say(1, urgent(2));
    until(&mut nodes, |nodes| {
        middle.turn(&mut |_, _| ());
        nodes[0].rx.counters().ended == 1
    });
    assert_eq!((nodes[0].terms(2), nodes[0].open.counters().disordered), (vec![], 1));
}

#[test]
fn a_connection_that_breaks_at_any_byte_of_the_handshake_is_made_again() {
    for cut in (0..260).step_by(20) {
        let (mut nodes, mut middle) = in_the_middle();
        until(&mut nodes, |_| {
            middle.turn(&mut |piece, at| piece.truncate(cut - at.min(cut)));
            cut <= middle.carried.len() && middle.ends.is_some()
        });
        middle.ends = None;
        linked_through(&mut nodes, &mut middle, 1);
    }
}

#[test]
fn a_peer_that_falls_silent_is_given_up() {
    let (addresses, impatient) = (addresses(2), Duration::from_millis(50));
    let patient = settings(&addresses[0]);
    let mut nodes = vec![
        Node::start(identity(1, 2), &addresses, rx::Settings { silence_max: impatient, ..patient }),
        Node::start(identity(2, 2), &addresses, settings(&addresses[1])),
    ];
    // The second keeps its links alive every 500 ms only, which is silence to the first.
    until(&mut nodes, |nodes| {
        nodes[0].told.iter().any(
            |event| matches!(event, LinkEvent::Down { why, .. } if why.contains("nothing was heard for 50ms")),
        )
    });
    assert!(1 <= nodes[0].rx.counters().ended);
}

#[test]
fn unix_strangers_are_hung_up_on_too() {
    let directory = std::env::temp_dir().join(format!("quorate-strangers-{}", std::process::id()));
    std::fs::create_dir_all(&directory).expect("a directory");
    let path = directory.join("1.sock");
    let mut nodes =
        vec![Node::start(identity(1, 1), &[String::new()], settings(&path.display().to_string()))];
    let mut stream = UnixStream::connect(&path).expect("it listens");
    stream.write_all(b"GET / HTTP/1.1\r\n\r\n").expect("it listens");
    until(&mut nodes, |nodes| nodes[0].was_refused("does not speak the peer protocol"));
    stream.set_nonblocking(true).expect("a socket");
    let mut byte = [0];
    until(
        &mut nodes,
        |_| !matches!(stream.read(&mut byte), Err(e) if e.kind() == std::io::ErrorKind::WouldBlock),
    );
    assert!(nodes[0].was_refused("47455420"), "{:?}", nodes[0].told);
    std::fs::remove_dir_all(&directory).expect("it is ours");
}
