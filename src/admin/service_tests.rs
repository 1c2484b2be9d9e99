//! The service plane over real sockets.

use super::bell::Give;
use super::client::{Client, ClientError};
use super::context::Context;
use super::http::{BODY_BYTES_MAX, HEAD_BYTES_MAX};
use super::server::Limits;
use super::service::{Service, ServiceError, ServiceOptions};
use super::status::{Facts, Status};
use super::testing::Scratch;
use super::{Answer, Ask, EventSink, KeyMaker, Probe, Token};
use crate::base::{Digest, GROUP_ONE, NodeId, Slot};
use crate::crypto::{ClusterId, PublicKey, SigningKey, VerifyingKey};
use crate::meter::{Board, Figures, Report};
use crate::wire::members::{Amendment, Member, Membership, Signed};
use crate::wire::pbft::Vote;
use crate::wire::roster::{Roll, Roster};
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

const TOKEN: &str = "6e6f7420612073656372657420617420616c6c";
const WAIT: Duration = Duration::from_secs(20);

/// A data plane that answers what the test wants, and remembers the questions.
#[derive(Default)]
struct Oracle {
    answer: Mutex<Option<Answer>>,
    asked: Mutex<Vec<Ask>>,
    kept: Mutex<Vec<Give<Answer>>>,
}

impl Probe for Oracle {
    fn ask(&self, ask: Ask, answer: Give<Answer>) {
        self.asked.lock().unwrap().push(ask);
        match self.answer.lock().unwrap().clone() {
            Some(known) => {
                // From another thread, as the data plane does.
                let giver = std::thread::spawn(move || answer.give(known));
                giver.join().unwrap();
            }
            None => self.kept.lock().unwrap().push(answer),
        }
    }
}

struct House {
    service: Service,
    status: Arc<Status>,
    board: Arc<Board>,
    oracle: Arc<Oracle>,
    _scratch: Scratch,
}

fn facts() -> Facts {
    Facts {
        node: 3,
        cluster: "test".into(),
        group: 1,
        role: "follower".into(),
        term: 7,
        leader: Some(2),
        commit: 100,
        applied: 98,
        ..Facts::default()
    }
}

fn membership() -> Membership {
    let (key, signing_key) = (PublicKey([4; 32]), VerifyingKey([5; 32]));
    let (peer, client, admin) = ("h:1".into(), "h:2".into(), "h:3".into());
    let members = vec![Member { id: NodeId(2), key, signing_key, peer, client, admin }];
    Membership { epoch: 6, faulty: 0, retired: [NodeId(9)].into_iter().collect(), members }
}

fn roster() -> Roster {
    let base = Vote { slot: Slot(512), digest: Digest([3; 32]) };
    Roster::new(Roll::new(membership(), base, 8, 4))
}

struct Maker;
impl KeyMaker for Maker {
    fn next(&self) -> Result<(PublicKey, VerifyingKey), String> {
        Ok((PublicKey([1; 32]), VerifyingKey([2; 32])))
    }
}

fn house(limits: Limits) -> House {
    let scratch = Scratch::new("service");
    let path = scratch.path().join("token");
    std::fs::write(&path, TOKEN).unwrap();
    std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let status = Arc::new(Status::new(1, Duration::from_secs(3600), facts()));
    let (board, oracle) = (Arc::new(Board::new(1)), Arc::new(Oracle::default()));
    *oracle.answer.lock().unwrap() = Some(Ok("answered at slot 100".into()));
    let context = Context {
        status: status.clone(),
        board: board.clone(),
        probe: oracle.clone(),
        roster: roster(),
        keys: Arc::new(Maker),
        token: Some(Token::read(&path).unwrap()),
        applied_lag_max: 10,
        probe_wait: Duration::from_millis(50),
        own: Vec::new(),
    };
    let options = ServiceOptions { address: "127.0.0.1:0".parse().unwrap(), limits };
    let (events, _) = EventSink::new();
    let service = Service::start(options, context, None, events).unwrap();
    House { service, status, board, oracle, _scratch: scratch }
}

impl House {
    fn client(&self, token: bool) -> Client {
        let path = self._scratch.path().join("token");
        let token = token.then(|| Token::read(&path).unwrap());
        Client::new(&self.service.address().to_string(), WAIT, token)
    }
}

/// Sends bytes and returns whatever comes back until the server closes.
fn raw(address: SocketAddr, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(WAIT)).unwrap();
    // The server may have refused and closed before everything is sent.
    let _ = stream.write_all(bytes);
    let _ = stream.shutdown(Shutdown::Write);
    let mut out = Vec::new();
    let _ = stream.read_to_end(&mut out);
    String::from_utf8(out).unwrap()
}

#[test]
fn every_route_answers() {
    let house = house(Limits::default());
    let client = house.client(false);
    let mut figures = Figures::new(&[("node", "3")]);
    figures.counter("quorate_commands_total", "Commands.", &[], 5);
    house.board.publish(0, &mut figures);
    let metrics = client.get("/metrics").unwrap().body;
    assert!(metrics.contains("quorate_commands_total{node=\"3\"} 5\n"), "{metrics}");
    assert!(metrics.contains("quorate_admin_connections{node=\"3\"} 1\n"), "{metrics}");
    let json = client.get("/metrics.json").unwrap().body;
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["quorate_commands_total"][0]["value"], 5);
    assert_eq!(client.get("/livez").unwrap().body, "ok\n");
    assert_eq!(client.status().unwrap(), facts());
    assert!(client.get("/statusz").unwrap().body.contains("\"uptime_seconds\""));
    assert!(client.get("/").unwrap().body.contains("/readyz"));
    for (path, status) in [("/nothing", 404), ("/leader/transfer", 405), ("/metrics/", 404)] {
        let error = client.get(path).unwrap_err();
        assert!(matches!(&error, ClientError::Refused { status: its, .. } if *its == status), "{error}");
    }
    let error = house.client(true).post("/metrics").unwrap_err();
    assert!(matches!(error, ClientError::Refused { status: 405, .. }), "{error}");
    house.service.stop();
}

#[test]
fn readiness_names_what_is_missing() {
    let house = house(Limits::default());
    let client = house.client(false);
    let reply = client.look("/readyz").unwrap();
    assert_eq!((reply.status, reply.body.as_str()), (200, "ready\n"));
    let reply = client.look("/readyz?verbose").unwrap();
    let expected = "[+] leader: node 2 leads term 7\n[+] applied: applied 98 of 100 committed slots\n\
                    [+] disk: no error\n[+] read: answered at slot 100\nready\n";
    assert_eq!(reply.body, expected);

    house.status.update(|facts| {
        facts.commit = 120;
        facts.disk_error = Some("write at 4096: no space".into());
    });
    *house.oracle.answer.lock().unwrap() = None;
    let reply = client.look("/readyz").unwrap();
    let expected = "[-] applied: applied 98 of 120 committed slots, allowed lag 10\n\
                    [-] disk: write at 4096: no space\n[-] read: no answer within 50 ms\nnot ready\n";
    assert_eq!((reply.status, reply.body.as_str()), (503, expected));
    assert_eq!(house.oracle.kept.lock().unwrap().len(), 1);

    house.status.update(|facts| facts.leader = None);
    let reply = client.look("/readyz").unwrap();
    assert!(reply.body.starts_with("[-] leader: no leader is known in term 7\n"), "{}", reply.body);
    assert!(reply.body.contains("[-] read: not tried without a leader\n"), "{}", reply.body);
    assert_eq!(client.get("/livez").unwrap().status, 200, "liveness is about the event loops alone");
    house.service.stop();
}

#[test]
fn what_changes_something_needs_the_token() {
    let house = house(Limits::default());
    let refused = |client: &Client| match client.post("/leader/transfer?to=2").unwrap_err() {
        ClientError::Refused { status, .. } => status,
        other => panic!("{other}"),
    };
    assert_eq!(refused(&house.client(false)), 401);
    let wrong =
        format!("POST /leader/transfer HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {TOKEN}x\r\n\r\n");
    assert!(raw(house.service.address(), wrong.as_bytes()).starts_with("HTTP/1.1 401 "));
    assert!(house.oracle.asked.lock().unwrap().is_empty());

    let client = house.client(true);
    let reply = client.post("/leader/transfer?to=2").unwrap();
    assert_eq!((reply.status, reply.body.contains("answered at slot 100")), (202, true));
    client.post("/leader/transfer").unwrap();
    let asked = house.oracle.asked.lock().unwrap().clone();
    assert_eq!(asked, [Ask::TransferLeader { to: Some(NodeId(2)) }, Ask::TransferLeader { to: None }]);
    for bad in ["to=", "to=0", "to=256", "to=x"] {
        let error = client.post(&format!("/leader/transfer?{bad}")).unwrap_err();
        assert!(matches!(error, ClientError::Refused { status: 400, .. }), "{bad}: {error}");
    }
    *house.oracle.answer.lock().unwrap() = Some(Err("node 2 is too far behind".into()));
    assert_eq!(refused(&client), 409);
    house.service.stop();
}

#[test]
fn a_connection_carries_many_requests_in_any_pieces() {
    let house = house(Limits::default());
    let mut stream = TcpStream::connect(house.service.address()).unwrap();
    stream.set_read_timeout(Some(WAIT)).unwrap();
    let body = "x".repeat(BODY_BYTES_MAX);
    let long = format!("POST /metrics HTTP/1.1\r\nHost: a\r\nContent-Length: {BODY_BYTES_MAX}\r\n\r\n{body}");
    stream.write_all(b"GET /livez HTTP/1.1\r\nHost: a\r\n\r\nHEAD /livez HTTP/1.1\r\nHo").unwrap();
    stream.write_all(b"st: a\r\n\r\n").unwrap();
    stream.write_all(long.as_bytes()).unwrap();
    stream.write_all(b"GET /livez HTTP/1.0\r\n\r\n").unwrap();
    let mut out = String::new();
    stream.read_to_string(&mut out).unwrap();
    let statuses: Vec<&str> = out.match_indices("HTTP/1.1 ").map(|(at, _)| &out[at + 9..at + 12]).collect();
    assert_eq!(statuses, ["200", "200", "405", "200"]);
    assert_eq!(out.matches("\r\n\r\nok\n").count(), 2, "HEAD has no body: {out}");
    house.service.stop();
}

#[test]
fn hostile_bytes_are_refused_and_the_service_goes_on() {
    let house = house(Limits::default());
    let address = house.service.address();
    let long = format!("GET /{}", "x".repeat(2 * HEAD_BYTES_MAX));
    let cases: [(&[u8], &str); 7] = [
        (b"*1\r\n$4\r\nPING\r\n", "400"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", "400"),
        (b"\0\0\0\0", "400"),
        (long.as_bytes(), "431"),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999\r\n\r\n", "413"),
        (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "501"),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "505"),
    ];
    for (bytes, status) in cases {
        let answer = raw(address, bytes);
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{bytes:?}: {answer:?}");
        assert!(answer.contains("\r\nConnection: close\r\n"));
    }
    assert_eq!(raw(address, b""), "");
    assert_eq!(raw(address, b"GET / HTT"), "");
    let mut random = crate::base::Prng::from_seed(11);
    for _ in 0..50 {
        let bytes: Vec<u8> = (0..random.below(300)).map(|_| random.next_u64() as u8).collect();
        raw(address, &bytes);
    }
    assert_eq!(house.client(false).get("/livez").unwrap().body, "ok\n");
    let metrics = house.client(false).get("/metrics").unwrap().body;
    assert!(metrics.contains("quorate_admin_malformed_total"));
    house.service.stop();
}

#[test]
fn a_slow_client_is_sent_away_and_a_crowd_is_turned_away() {
    let quick = Duration::from_millis(100);
    let limits = Limits { connections_max: 2, idle_wait: quick, transfer_wait: quick };
    let house = house(limits);
    let address = house.service.address();
    let mut slow = TcpStream::connect(address).unwrap();
    slow.set_read_timeout(Some(WAIT)).unwrap();
    slow.write_all(b"GET / HTTP/1.1\r\n").unwrap();
    let mut out = String::new();
    slow.read_to_string(&mut out).unwrap();
    assert!(out.starts_with("HTTP/1.1 408 "), "{out}");
    let mut silent = TcpStream::connect(address).unwrap();
    silent.set_read_timeout(Some(WAIT)).unwrap();
    assert_eq!(silent.read(&mut [0; 8]).unwrap(), 0, "an idle connection is closed without a word");
    house.service.stop();

    let limits = Limits { connections_max: 2, ..Limits::default() };
    let house = self::house(limits);
    let address = house.service.address();
    let crowd: Vec<TcpStream> = (0..2)
        .map(|_| {
            let mut stream = TcpStream::connect(address).unwrap();
            stream.write_all(b"GET /livez HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
            stream.read_exact(&mut [0; 16]).unwrap();
            stream
        })
        .collect();
    assert!(raw(address, b"GET /livez HTTP/1.1\r\nHost: a\r\n\r\n").starts_with("HTTP/1.1 503 "));
    drop(crowd);
    house.service.stop();
}

#[test]
fn members_are_shown_and_changed_by_whoever_has_the_token_and_an_amendment() {
    let house = house(Limits::default());
    let shown: serde_json::Value =
        serde_json::from_str(&house.client(false).get("/members").unwrap().body).unwrap();
    assert_eq!((&shown["epoch"], &shown["base_slot"]), (&serde_json::json!(6), &serde_json::json!(512)));
    assert_eq!((&shown["members"][0]["admin"], &shown["retired"][0]), (&"h:3".into(), &serde_json::json!(9)));
    let bytes = crate::base::hex::from_hex(shown["membership"].as_str().unwrap()).unwrap();
    assert_eq!(Membership::take(&mut &bytes[..]), Some(membership()));
    let next = Membership { epoch: 7, ..membership() };
    let amendment =
        Amendment { cluster: ClusterId::default(), window: 8, checkpoint_every: 4, membership: next };
    let signed = Signed::new(&amendment, 1, GROUP_ONE, &SigningKey::from_entropy([1; 32])).bytes();
    for (path, body) in [("/members", &signed[..]), ("/keys/next", &[])] {
        let refused = house.client(false).post_body(path, body).unwrap_err();
        assert!(matches!(refused, ClientError::Refused { status: 401, .. }), "{refused}");
    }
    let cut = house.client(true).post_body("/members", &signed[1..]).unwrap_err();
    assert!(matches!(cut, ClientError::Refused { status: 400, .. }), "{cut}");
    assert_eq!(house.client(true).post_body("/members", &signed).unwrap().status, 202);
    let batch = Signed::decode(&signed).unwrap();
    assert_eq!(*house.oracle.asked.lock().unwrap(), [Ask::Amend { batch }]);
    let keys = house.client(true).post("/keys/next").unwrap().body;
    assert!(keys.contains(&"01".repeat(32)) && keys.contains(&"02".repeat(32)), "{keys}");
    house.service.stop();
}

#[test]
fn an_address_in_use_is_told() {
    let house = house(Limits::default());
    let address = house.service.address();
    let context = Context {
        status: house.status.clone(),
        board: house.board.clone(),
        probe: house.oracle.clone(),
        roster: roster(),
        keys: Arc::new(Maker),
        token: None,
        applied_lag_max: 10,
        probe_wait: Duration::from_millis(50),
        own: Vec::new(),
    };
    let options = ServiceOptions { address, limits: Limits::default() };
    let (events, _) = EventSink::new();
    let error = Service::start(options, context, None, events).err().unwrap();
    assert!(matches!(error, ServiceError::Bind { .. }), "{error}");
    assert!(error.to_string().contains(&address.to_string()));
    house.service.stop();
}
