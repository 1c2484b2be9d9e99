//! Directed lives of connections, and one drawn at random against a simple model.

use super::*;
use crate::base::Prng;

const FIRST: u32 = 0;
const SECOND: u32 = 1;

fn order(seats: u32) -> (Order, Vec<Arc<Flow>>) {
    let mut order = Order::new();
    let flows: Vec<Arc<Flow>> = (0..seats).map(|_| Arc::default()).collect();
    for (seat, flow) in flows.iter().enumerate() {
        open(&mut order, seat as u32, flow);
    }
    (order, flows)
}

fn open(order: &mut Order, seat: u32, flow: &Arc<Flow>) {
    order.plan(seat, Plan::Open { fd: Fd(seat), flow: flow.clone() });
}

fn range(batch: u64, first: u32, count: u32) -> Range {
    Range { batch, first, count, silent: false }
}

fn local(text: &'static str) -> Plan {
    Plan::Local { bytes: Bytes::from_static(text.as_bytes()), count: 1 }
}

/// Replies `a0 a1 ...` of a batch.
fn replies(name: &str, count: usize) -> Outcome {
    let (mut bytes, mut ends) = (Vec::new(), Vec::new());
    for place in 0..count {
        bytes.extend_from_slice(format!("{name}{place} ").as_bytes());
        ends.push(bytes.len() as u32);
    }
    Outcome::Replies(bytes.into(), ends)
}

/// What the connection would send now. The send is then outstanding.
fn outgoing(order: &mut Order, seat: u32) -> String {
    while order.next_ready().is_some() {}
    let Some(line) = order.line(seat) else { return "closed".to_string() };
    if line.sending || line.outbox.is_empty() {
        return String::new();
    }
    let bytes = line.outbox.take().concat();
    line.handed(bytes.len() as u64);
    String::from_utf8(bytes).unwrap()
}

fn sent(order: &mut Order, seat: u32, bytes: usize) {
    let counted = order.line(seat).unwrap().sent(bytes as u64);
    order.sent(counted);
    order.list(seat);
}

#[test]
fn replies_leave_in_the_order_of_the_connection_whatever_is_answered_first() {
    let (mut order, flows) = order(2);
    order.plan(FIRST, Plan::Read(range(1, 0, 2)));
    order.plan(FIRST, local("pong "));
    order.plan(FIRST, Plan::Write(range(1, 0, 1)));
    order.plan(SECOND, Plan::Write(range(1, 1, 2)));
    order.answer_write(1, replies("w", 3));
    assert_eq!(outgoing(&mut order, FIRST), "", "the read comes first");
    assert_eq!(outgoing(&mut order, SECOND), "w1 w2 ", "nobody waits for another connection");
    order.answer_read(1, replies("r", 2));
    assert_eq!(outgoing(&mut order, FIRST), "r0 r1 pong w0 ");
    assert_eq!([flows[0].answered(), flows[1].answered()], [4, 2]);
    assert_eq!([order.writes.settled(), order.reads.settled()], [1, 1]);
    assert!(order.writes.batches.is_empty() && order.reads.batches.is_empty(), "nothing is kept");
}

#[test]
fn one_send_at_a_time_and_the_rest_in_the_next() {
    let (mut order, flows) = order(1);
    order.plan(FIRST, local("one "));
    assert_eq!(outgoing(&mut order, FIRST), "one ");
    order.plan(FIRST, local("two "));
    order.plan(FIRST, local("three "));
    assert_eq!(outgoing(&mut order, FIRST), "");
    assert_eq!([flows[0].unsent(), order.unsent], [14, 14]);
    sent(&mut order, FIRST, 4);
    assert_eq!([flows[0].unsent(), flows[0].sent(), order.unsent], [10, 4, 10]);
    assert_eq!(outgoing(&mut order, FIRST), "two three ");
}

#[test]
fn silent_ranges_are_counted_and_not_sent() {
    let (mut order, flows) = order(1);
    order.plan(FIRST, Plan::Write(Range { silent: true, ..range(1, 0, 2) }));
    order.plan(FIRST, Plan::Write(range(1, 2, 1)));
    order.answer_write(1, replies("w", 3));
    assert_eq!(outgoing(&mut order, FIRST), "w2 ");
    assert_eq!(flows[0].answered(), 3);
}

#[test]
fn each_failure_is_told_once_a_command_and_late_answers_are_dropped() {
    let failures = [
        (Failure::NoLeader, "-CLUSTERDOWN "),
        (Failure::Overloaded, "-OVERLOADED "),
        (Failure::OutOfMemory, "-OOM command not allowed when used memory > 'maxmemory'."),
        (
            Failure::Indeterminate,
            "-INDETERMINATE the outcome is unknown: the command may or may not have taken effect; read \
                                  before you send it again",
        ),
        (Failure::Unverified, "-UNVERIFIED "),
        (Failure::Draining, "-CLUSTERDOWN "),
    ];
    let (mut order, _) = order(1);
    for (number, (why, begin)) in (1..).zip(failures) {
        order.plan(FIRST, Plan::Write(range(number, 0, 2)));
        order.answer_write(number, Outcome::Failed(why));
        order.answer_write(number, replies("late", 2));
        let said = outgoing(&mut order, FIRST);
        assert_eq!(said.lines().filter(|line| line.starts_with(begin)).count(), 2, "{said}");
        assert!(said.ends_with("\r\n") && said.lines().count() == 2);
        order.answer_write(number, replies("later still", 2));
        sent(&mut order, FIRST, said.len());
        assert_eq!(outgoing(&mut order, FIRST), "");
    }
    assert!(order.writes.batches.is_empty());
}

#[test]
fn superseded_batches_without_an_answer_are_indeterminate_and_later_ones_wait() {
    let (mut order, _) = order(1);
    (1..=4).for_each(|batch| order.plan(FIRST, Plan::Write(range(batch, 0, 1))));
    order.answer_write(2, replies("w", 1));
    order.supersede(3);
    let said = outgoing(&mut order, FIRST);
    let begins: Vec<&str> = said.split_inclusive("\r\n").map(|line| &line[..4]).collect();
    assert_eq!(begins[0], "-IND");
    assert!(said.contains("w0 -INDETERMINATE"), "{said}");
    assert_eq!(order.writes.settled(), 3);
    order.supersede(u64::MAX);
    assert_eq!(order.writes.settled(), 4, "no further than what was asked");
}

#[test]
fn a_connection_closes_when_all_is_answered_and_sent() {
    let (mut order, flows) = order(1);
    order.plan(FIRST, Plan::Write(range(1, 0, 1)));
    order.plan(FIRST, Plan::Close);
    assert!(order.next_ready().is_some() && !order.line(FIRST).unwrap().is_over());
    order.answer_write(1, replies("w", 1));
    assert_eq!(outgoing(&mut order, FIRST), "w0 ");
    assert!(!order.line(FIRST).unwrap().is_over(), "the send is outstanding");
    sent(&mut order, FIRST, 3);
    assert!(order.line(FIRST).unwrap().is_over());
    order.close(FIRST);
    assert!(flows[0].is_gone());
    let again: Arc<Flow> = Arc::default();
    open(&mut order, FIRST, &again);
    assert!(order.line_of(FIRST, 1).is_none(), "completions of the first life find nobody");
    assert!(order.line_of(FIRST, 2).is_some() && !again.is_gone());
}

#[test]
fn a_broken_connection_is_still_counted_and_keeps_nothing() {
    let (mut order, flows) = order(1);
    order.plan(FIRST, local("lost "));
    order.plan(FIRST, Plan::Write(range(1, 0, 2)));
    assert_eq!(outgoing(&mut order, FIRST), "lost ");
    order.break_off(FIRST);
    order.answer_write(1, replies("w", 2));
    assert_eq!(outgoing(&mut order, FIRST), "");
    assert!(flows[0].is_broken() && flows[0].answered() == 3);
    assert_eq!([order.unsent, order.broken, flows[0].unsent()], [0, 1, 0]);
    order.plan(FIRST, Plan::Abandon);
    assert!(order.next_ready().is_some() && order.line(FIRST).unwrap().is_over(), "it waits for no send");
}

#[test]
fn a_send_is_no_longer_than_a_slow_reader_can_be_measured_by() {
    let (mut order, flows) = order(1);
    let long = Bytes::from(vec![b'x'; 2 * SEND_BYTES_MAX + 5]);
    order.plan(FIRST, Plan::Local { bytes: long, count: 1 });
    for expected in [SEND_BYTES_MAX, SEND_BYTES_MAX, 5] {
        assert_eq!(outgoing(&mut order, FIRST).len(), expected);
        sent(&mut order, FIRST, expected);
    }
    assert_eq!([order.unsent, flows[0].unsent(), flows[0].sent()], [0, 0, 2 * SEND_BYTES_MAX as u64 + 5]);
}

#[test]
fn long_replies_are_sent_from_where_they_are_and_short_ones_together() {
    let (mut order, _) = order(1);
    let long = Bytes::from(vec![b'x'; COPIED_BYTES_MAX]);
    order.plan(FIRST, local("a"));
    order.plan(FIRST, local("b"));
    order.plan(FIRST, Plan::Local { bytes: long.clone(), count: 1 });
    order.plan(FIRST, local("c"));
    while order.next_ready().is_some() {}
    let parts = order.line(FIRST).unwrap().outbox.take();
    assert_eq!(parts.iter().map(|p| p.len()).collect::<Vec<_>>(), [2, COPIED_BYTES_MAX, 1]);
    assert_eq!(parts[1].as_ptr(), long.as_ptr());
}

/// Batches of both roads with ranges of random connections, answered in random order: each connection reads what it planned.
#[test]
fn any_order_of_answers_gives_the_order_of_plans() {
    for seed in 0..50 {
        let mut random = Prng::from_seed(seed);
        let (mut order, flows) = order(4);
        let mut expected = vec![String::new(); 4];
        let mut counts = [Vec::new(), Vec::new()];
        for number in 1..=20u64 {
            for (road, counts) in counts.iter_mut().enumerate() {
                let mut first = 0;
                for _ in 0..=random.below(5) {
                    let (seat, count) = (random.below(4) as u32, 1 + random.below(3) as u32);
                    let plan = range(number, first, count);
                    order.plan(seat, if road == 0 { Plan::Write(plan) } else { Plan::Read(plan) });
                    let name = if road == 0 { "w" } else { "r" };
                    (first..first + count)
                        .for_each(|c| expected[seat as usize] += &format!("{name}{number}:{c} "));
                    first += count;
                }
                counts.push((number, first as usize));
            }
        }
        let mut read = vec![String::new(); 4];
        while counts.iter().any(|c| !c.is_empty()) {
            let road = random.below(2) as usize;
            if counts[road].is_empty() {
                continue;
            }
            let at = random.below(counts[road].len() as u64) as usize;
            let (number, count) = counts[road].remove(at);
            match road {
                0 => order.answer_write(number, replies(&format!("w{number}:"), count)),
                _ => order.answer_read(number, replies(&format!("r{number}:"), count)),
            }
            for seat in 0..4 {
                let said = outgoing(&mut order, seat);
                if !said.is_empty() {
                    sent(&mut order, seat, said.len());
                }
                read[seat as usize] += &said;
            }
        }
        assert!(flows.iter().all(|flow| !flow.is_broken()));
        assert_eq!(read, expected, "seed {seed}");
        assert_eq!([order.writes.settled(), order.reads.settled()], [20, 20]);
        assert!(order.writes.batches.is_empty() && order.reads.batches.is_empty() && order.unsent == 0);
    }
}
