//! Sessions without sockets: bytes in; plans, batches and local replies out.

use super::*;
use crate::base::{NodeId, Prng};
use crate::front::view::{Facts, Member};
use crate::resp::batch::Reader;
use crate::wire::hop::FollowerNumbers;
use crate::wire::members::Membership;
use crate::wire::roster::{Roll, Roster};

/// A node of three, the leader, with everything it needs to answer.
pub(in crate::front) fn view() -> View {
    let member =
        |node: u8| Member { node: NodeId(node), host: "10.0.0.1".into(), port: 7000 + u16::from(node) };
    let facts = Facts::default();
    facts.leader.set(1);
    facts.term.set(7);
    facts.committed.set(42);
    facts.loaded.set(1);
    let followers = [(NodeId(2), 42, 0), (NodeId(3), 40, 0)].map(|(node, matched, restored)| {
        let numbers = FollowerNumbers::default();
        numbers.matched.set(matched);
        numbers.restored.set(restored);
        (node, numbers)
    });
    let facts = Facts { followers: followers.to_vec(), ..facts };
    View {
        node: NodeId(1),
        cluster: 9,
        generation: 1,
        members: (1..=3).map(member).collect(),
        roster: None,
        memory_max: 0,
        process: 4711,
        facts,
    }
}

#[test]
fn who_is_shown_follows_the_members() {
    let named = |id: u8, client: &str| crate::wire::members::Member {
        id: NodeId(id),
        key: crate::crypto::PublicKey([id; 32]),
        signing_key: crate::crypto::VerifyingKey([id; 32]),
        peer: String::new(),
        client: client.into(),
        admin: String::new(),
    };
    let membership = |members| Membership { epoch: 1, faulty: 0, retired: Default::default(), members };
    let roll = |members| Roll::new(membership(members), Default::default(), 1, 1);
    let roster = Roster::new(roll(vec![named(1, "a:1")]));
    let mut view = View { roster: Some((roster.clone(), 0)), ..view() };
    view.follow();
    assert_eq!(view.members, [Member { node: NodeId(1), host: "a".into(), port: 1 }]);
    roster.put(roll(vec![named(1, "a:1"), named(4, "/run/x.sock")]));
    view.follow();
    assert_eq!(view.member(NodeId(4)).map(|m| (m.host.as_str(), m.port)), Some(("/run/x.sock", 0)));
    view.follow();
    assert_eq!(view.members.len(), 2);
}

/// One connection at a desk, and everything that has left it.
pub(in crate::front) struct Client {
    pub session: Session,
    pub desk: Desk,
    parser: Parser,
    pub plans: Vec<Plan>,
    pub demands: Vec<Demand>,
}

impl Client {
    pub fn with(options: Options) -> Client {
        let mut desk = Desk::new(options, view());
        desk.directory.push(Some(Identity { id: 5, peer: "1.2.3.4:5".into(), ..Identity::default() }));
        desk.plans_room = 1 << 20;
        desk.demands_room = 1 << 20;
        let session = Session::new(0, Arc::default(), desk.secret.is_none());
        Client { session, desk, parser: Parser::new(), plans: Vec::new(), demands: Vec::new() }
    }
    pub fn new() -> Client {
        Client::with(Options::at("unused"))
    }
    pub fn run(&mut self, bytes: &[u8]) -> Ran {
        let ran = self.session.run(&mut self.parser, &mut self.desk, bytes);
        self.plans.append(&mut self.desk.plans);
        ran
    }
    /// The end of a turn.
    pub fn leave(&mut self) {
        self.desk.leave_writes();
        self.desk.leave_reads();
        self.demands.append(&mut self.desk.demands);
    }
    /// Runs inline commands and returns the local replies to them.
    pub fn ask(&mut self, commands: &str) -> String {
        self.plans.clear();
        self.run(format!("{commands}\r\n").as_bytes());
        let replies = self.plans.drain(..).map(|plan| match plan {
            Plan::Local { bytes, .. } => String::from_utf8_lossy(&bytes).into_owned(),
            other => format!("{other:?}"),
        });
        replies.collect()
    }
    fn answer_all(&mut self) {
        self.session.flow.set_answered(self.session.planned);
    }
}

fn range(batch: u64, first: u32, count: u32) -> Range {
    Range { batch, first, count, silent: false }
}

/// Plans in short: `w1:0+2` is two commands of write batch 1 from place 0.
fn short(plans: &[Plan]) -> String {
    let one = |plan: &Plan| match plan {
        Plan::Write(r) => format!("w{}:{}+{}", r.batch, r.first, r.count),
        Plan::Read(r) => format!("r{}:{}+{}", r.batch, r.first, r.count),
        Plan::Local { count, .. } => format!("l{count}"),
        other => format!("{other:?}"),
    };
    plans.iter().map(one).collect::<Vec<_>>().join(" ")
}

fn ops(demand: &Demand) -> Vec<Op> {
    let bytes = match demand {
        Demand::Write { body, .. } => body.bytes(),
        Demand::Read { body, .. } => body,
    };
    Reader::new(bytes).map(|command| command.op).collect()
}

#[test]
fn a_burst_of_commands_of_one_road_is_one_plan() {
    let mut client = Client::new();
    let ran = client.run(b"SET a 1\r\nINCR a\r\nPING\r\nECHO x\r\nDEL a\r\n");
    assert_eq!((ran.commands, ran.stop), (5, Stop::Starved));
    assert_eq!(short(&client.plans), "w1:0+2 l2 w1:2+1");
    client.leave();
    assert_eq!(ops(&client.demands[0]), [Op::Set, Op::Incr, Op::Del]);
}

#[test]
fn rule_1_a_read_behind_an_unanswered_write_goes_into_the_log() {
    let mut client = Client::new();
    client.run(b"SET a 1\r\nGET a\r\n");
    assert_eq!(short(&client.plans), "w1:0+2");
    client.leave();
    client.plans.clear();
    client.run(b"GET a\r\n");
    assert_eq!(short(&client.plans), "w2:0+1");
}

#[test]
fn rule_2_a_read_behind_answered_writes_takes_a_read_index() {
    let mut client = Client::new();
    client.run(b"SET a 1\r\n");
    client.leave();
    client.answer_all();
    client.plans.clear();
    client.run(b"GET a\r\nGET b\r\n");
    assert_eq!(short(&client.plans), "r1:0+2");
}

#[test]
fn rule_3_reads_of_the_burst_move_before_the_write_and_others_hold_it_back() {
    let mut client = Client::new();
    client.run(b"GET a\r\nPING\r\nGET b\r\nSET a 1\r\nGET c\r\n");
    assert_eq!(short(&client.plans), "w1:0+1 l1 w1:1+3");
    client.leave();
    assert_eq!(ops(&client.demands[0]), [Op::Get, Op::Get, Op::Set, Op::Get]);
    client.answer_all();
    client.plans.clear();
    client.run(b"GET a\r\n");
    client.leave();
    let ran = client.run(b"SET a 2\r\n");
    assert_eq!((ran.used, ran.stop), (0, Stop::Waiting), "the read has left and is not answered");
    client.answer_all();
    assert_eq!(client.run(b"SET a 2\r\n").stop, Stop::Starved);
    assert_eq!(short(&client.plans), "r1:0+1 w2:0+1");
}

#[test]
fn commands_come_in_pieces_of_any_size() {
    let stream = b"*3\r\n$3\r\nSET\r\n$1\r\na\r\n$5\r\nhello\r\nGET a\r\n*2\r\n$4\r\nINCR\r\n$1\r\nb\r\n";
    for piece in 1..stream.len() {
        let mut client = Client::new();
        let mut rest = Vec::new();
        for bytes in stream.chunks(piece) {
            rest.extend_from_slice(bytes);
            let ran = client.run(&rest);
            rest.drain(..ran.used);
        }
        client.leave();
        assert!(rest.is_empty());
        assert_eq!(ops(&client.demands[0]), [Op::Set, Op::Get, Op::Incr], "pieces of {piece}");
    }
}

#[test]
fn limits_stop_a_run_and_lose_nothing() {
    let three = b"SET a 1\r\nSET a 2\r\nSET a 3\r\n";
    let mut client = Client::with(Options { burst_commands_max: 2, ..Options::at("") });
    assert_eq!(client.run(three), Ran { used: 18, commands: 2, stop: Stop::Budget });
    assert_eq!(client.run(&three[18..]).stop, Stop::Starved);

    let mut client = Client::with(Options { pipeline_max: 2, ..Options::at("") });
    assert_eq!(client.run(three).stop, Stop::Waiting);
    client.answer_all();
    assert_eq!(client.run(&three[18..]).commands, 1);

    let mut client = Client::new();
    client.desk.plans_room = 2;
    assert_eq!(client.run(three), Ran { used: 0, commands: 0, stop: Stop::Full });
    client.desk.plans_room = 100;
    client.desk.demands_room = 3;
    assert_eq!(client.run(three).stop, Stop::Full);
}

#[test]
fn a_full_batch_leaves_and_the_next_begins() {
    let mut client = Client::with(Options { batch_bytes_max: 60, ..Options::at("") });
    client.run("SET a 0123456789\r\n".repeat(4).as_bytes());
    client.leave();
    assert_eq!(short(&client.plans), "w1:0+2 w2:0+2");
    assert_eq!(client.demands.len(), 2);
}

#[test]
fn memory_and_flight_have_bounds_with_errors_of_their_own() {
    let mut client = Client::with(Options { pending_bytes_max: 40, ..Options::at("") });
    assert_eq!(client.ask("SET a 1\r\nSET a 2\r\nSET a 3\r\nPING").matches("-OVERLOADED").count(), 1);
    let mut client = Client::new();
    client.desk.view.memory_max = 1000;
    client.desk.memory = 990;
    assert!(client.ask("SET a 1").starts_with("-OOM command not allowed when used memory > 'maxmemory'."));
    assert!(client.ask("DEL a").contains("Write"), "what frees memory is taken");
    assert!(client.ask("SETRANGE a 18446744073709551615 x").starts_with("-OOM"), "growth saturates");
}

#[test]
fn offsets_that_a_client_makes_up_overflow_no_sum() {
    let mut client = Client::new();
    for _ in 0..3 {
        client.run(&format!("SETRANGE k {} x\r\n", u64::MAX).repeat(3).into_bytes());
        client.leave();
    }
    let growths = client.demands.iter().map(|demand| match demand {
        Demand::Write { growth, .. } => *growth,
        Demand::Read { .. } => 0,
    });
    // More than any value may hold, so that a bound of memory refuses it; far from the end of the numbers.
    assert!(growths.clone().all(|growth| 1 << 32 < growth && growth < 1 << 40));
    assert_eq!(growths.sum::<u64>(), client.desk.gather.pending_growth());
}

#[test]
fn errors_of_redis() {
    let mut client = Client::new();
    let cases = [
        ("GET", "-ERR wrong number of arguments for 'get' command\r\n"),
        ("nosuch a b", "-ERR unknown command 'nosuch', with args beginning with: 'a' 'b' \r\n"),
        ("MULTI", "-ERR unknown command 'MULTI', this server does not support it\r\n"),
    ];
    for (command, error) in cases {
        assert_eq!(client.ask(command), error);
    }
    client.desk.loading = true;
    assert!(client.ask("GET a").starts_with("-LOADING "));
    client.desk.loading = false;
    client.desk.draining = true;
    assert!(client.ask("GET a").starts_with("-CLUSTERDOWN "));
    assert_eq!(client.ask("PING"), "+PONG\r\n");
}

#[test]
fn a_protocol_error_is_told_and_ends_the_connection() {
    let mut client = Client::new();
    let bytes = b"PING\r\n*1\r\n!oops\r\nPING\r\n";
    let ran = client.run(bytes);
    assert_eq!((ran.used, ran.stop), (bytes.len(), Stop::Closing));
    let Plan::Local { bytes, count } = &client.plans[0] else { panic!("{:?}", client.plans) };
    assert_eq!((&bytes[..], *count), (&b"+PONG\r\n-ERR Protocol error: expected '$', got '!'\r\n"[..], 2));
    assert_eq!(client.run(b"PING\r\n").commands, 0);
}

#[test]
fn silence_is_planned_with_the_commands_that_it_is_about() {
    let mut client = Client::new();
    client.run(
        b"CLIENT REPLY SKIP\r\nSET a 1\r\nSET a 2\r\nCLIENT REPLY OFF\r\nSET a 3\r\nCLIENT REPLY ON\r\n",
    );
    let ranges: Vec<Range> =
        client.plans.iter().filter_map(|p| if let Plan::Write(r) = p { Some(*r) } else { None }).collect();
    let silent = |r: Range| Range { silent: true, ..r };
    assert_eq!(ranges, [silent(range(1, 0, 1)), range(1, 1, 1), silent(range(1, 2, 1))]);
    let Some(Plan::Local { bytes, .. }) = client.plans.last() else { panic!() };
    assert_eq!(&bytes[..], b"+OK\r\n");
}

/// Bytes of all kinds: no panic, every command taken is planned once, and the stream is never read past its end.
#[test]
fn hostile_bytes_are_commands_or_errors() {
    let words: [&[u8]; 12] = [
        b"*3\r\n",
        b"$3\r\nSET\r\n",
        b"$-1\r\n",
        b"*2147483648\r\n",
        b"GET a\r\n",
        b"$1\r\na\r\n",
        b"\0\xff\r\n",
        b"HELLO 3\r\n",
        b"CLIENT REPLY OFF\r\n",
        b"CLIENT SETNAME \"a\\nb\"\r\n",
        b"AUTH x y z\r\n",
        b"\"",
    ];
    for seed in 0..500 {
        let mut random = Prng::from_seed(seed);
        let stream: Vec<u8> =
            (0..random.below(30)).flat_map(|_| words[random.below(12) as usize].iter().copied()).collect();
        let mut client = Client::new();
        let ran = client.run(&stream);
        assert!(ran.used <= stream.len());
        let planned: u64 = client
            .plans
            .iter()
            .map(|plan| match plan {
                Plan::Local { count, .. } => u64::from(*count),
                Plan::Write(r) | Plan::Read(r) => u64::from(r.count),
                _ => 0,
            })
            .sum();
        assert_eq!(planned, client.session.planned, "seed {seed}");
    }
}
