//! hedge
use super::plan::{Flow, Plan, Planned, Range, Settled};
use crate::base::Instant;
use crate::base::ring::Consumer;
use crate::io::{Agent, Completion, Driver, Fd, Op, Outcome, Token};
use crate::meter::{Metered, Report};
use crate::wire::hop::{Answer, Failure};
use bytes::Bytes;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
struct Conn {
    fd: Fd,
    flow: Arc<Flow>,
    queue: VecDeque<Plan>,
    out: Vec<Bytes>,
    sending: bool,
    unsent: u64,
    sent: u64,
    answered: u64,
    close: bool,
}
enum Got {
    Ok(Bytes, Vec<u32>),
    Failed(Failure),
}
#[derive(Default)]
struct Batch {
    ranges: usize,
    seats: Vec<u32>,
    got: Option<Got>,
}
/// Reply
pub struct Reply {
    plans: Consumer<Planned>,
    answers: [Consumer<Answer>; 2],
    settled: Settled,
    conns: Vec<Option<Conn>>,
    batches: [BTreeMap<u64, Batch>; 2],
    top: [u64; 2],
    slot: u8,
    dirty: Vec<u32>,
}
impl Reply {
    /// new
    pub fn new(
        plans: Consumer<Planned>,
        store: Consumer<Answer>,
        replica: Consumer<Answer>,
        settled: Settled,
    ) -> Reply {
        Reply {
            plans,
            answers: [store, replica],
            settled,
            conns: Vec::new(),
            batches: Default::default(),
            top: [0; 2],
            slot: 0,
            dirty: Vec::new(),
        }
    }
    fn plan(&mut self, Planned { seat, plan }: Planned) {
        let index = seat as usize;
        while self.conns.len() <= index {
            self.conns.push(None);
        }
        if let Plan::Open { fd, flow } = plan {
            self.conns[index] = Some(Conn {
                fd,
                flow,
                queue: VecDeque::new(),
                out: Vec::new(),
                sending: false,
                unsent: 0,
                sent: 0,
                answered: 0,
                close: false,
            });
            return;
        }
        let road = match &plan {
            Plan::Write(r) => Some((0, *r)),
            Plan::Read(r) => Some((1, *r)),
            _ => None,
        };
        if let Some((road, range)) = road {
            self.top[road] = self.top[road].max(range.batch);
            let b = self.batches[road].entry(range.batch).or_default();
            b.ranges += 1;
            if b.seats.last() != Some(&seat) {
                b.seats.push(seat);
            }
        }
        if let Some(conn) = &mut self.conns[index] {
            conn.queue.push_back(plan);
        }
        self.dirty.push(seat);
    }
    fn got(&mut self, road: usize, batch: u64, got: Got) {
        if let Some(b) = self.batches[road].get_mut(&batch) {
            if b.got.is_none() {
                b.got = Some(got);
                self.dirty.extend_from_slice(&b.seats);
            }
        }
    }
    fn pump(&mut self, seat: u32) {
        let Some(conn) = &mut self.conns[seat as usize] else { return };
        while let Some(front) = conn.queue.front() {
            let (road, range): (usize, Range) = match front {
                Plan::Local { bytes, count } => {
                    conn.out.push(bytes.clone());
                    conn.unsent += bytes.len() as u64;
                    conn.answered += *count as u64;
                    conn.queue.pop_front();
                    continue;
                }
                Plan::Write(r) => (0, *r),
                Plan::Read(r) => (1, *r),
                _ => {
                    conn.close = true;
                    conn.queue.clear();
                    break;
                }
            };
            let Some(b) = self.batches[road].get_mut(&range.batch) else {
                conn.queue.pop_front();
                continue;
            };
            let bytes = match &b.got {
                None => break,
                Some(Got::Ok(all, ends)) => {
                    let from = if range.first == 0 { 0 } else { ends[range.first as usize - 1] as usize };
                    let to = ends[(range.first + range.count - 1) as usize] as usize;
                    all.slice(from..to)
                }
                Some(Got::Failed(f)) => {
                    let t: &[u8] = match f {
                        Failure::Indeterminate => b"-INDETERMINATE the outcome is unknown\r\n",
                        Failure::OutOfMemory => {
                            b"-OOM command not allowed when used memory > 'maxmemory'.\r\n"
                        }
                        Failure::Overloaded => b"-OVERLOADED too much in flight\r\n",
                        _ => b"-CLUSTERDOWN no leader\r\n",
                    };
                    Bytes::from(t.repeat(range.count as usize))
                }
            };
            b.ranges -= 1;
            if b.ranges == 0 {
                self.batches[road].remove(&range.batch);
            }
            conn.unsent += bytes.len() as u64;
            conn.answered += range.count as u64;
            if !range.silent {
                conn.out.push(bytes);
            }
            conn.queue.pop_front();
        }
        conn.flow.set_answered(conn.answered);
    }
}
impl Agent for Reply {
    fn name(&self) -> &'static str {
        "reply"
    }
    fn start(&mut self, slot: u8, _d: &mut dyn Driver) -> std::io::Result<()> {
        self.slot = slot;
        Ok(())
    }
    fn complete(&mut self, c: Completion, _driver: &mut dyn Driver) {
        let seat = c.token.value as u32;
        if let Some(conn) = &mut self.conns[seat as usize] {
            conn.sending = false;
            match c.outcome {
                Outcome::Sent { bytes, .. } => {
                    conn.unsent -= bytes as u64;
                    conn.sent += bytes as u64;
                }
                _ => {
                    conn.close = true;
                    conn.out.clear();
                }
            }
            self.dirty.push(seat);
        }
    }
    fn work(&mut self, driver: &mut dyn Driver) -> usize {
        let mut done = 0;
        while let Some(p) = self.plans.pop() {
            done += 1;
            self.plan(p);
        }
        for i in 0..2 {
            while let Some(a) = self.answers[i].pop() {
                done += 1;
                match a {
                    Answer::Write { sequence, replies, ends } => {
                        self.got(0, sequence, Got::Ok(replies, ends))
                    }
                    Answer::Read { id, replies, ends } => self.got(1, id, Got::Ok(replies, ends)),
                    Answer::WriteFailed { sequence, why } => self.got(0, sequence, Got::Failed(why)),
                    Answer::ReadFailed { id, why } => self.got(1, id, Got::Failed(why)),
                    Answer::Superseded { sequence } => {
                        let all: Vec<u64> = self.batches[0].range(..=sequence).map(|(k, _)| *k).collect();
                        for s in all {
                            self.got(0, s, Got::Failed(Failure::Indeterminate));
                        }
                    }
                }
            }
        }
        let mut dirty = std::mem::take(&mut self.dirty);
        dirty.sort_unstable();
        dirty.dedup();
        for &seat in &dirty {
            self.pump(seat);
            let Some(conn) = &mut self.conns[seat as usize] else { continue };
            if !conn.sending && !conn.out.is_empty() {
                conn.sending = true;
                driver.submit(
                    Op::Send { fd: conn.fd, parts: std::mem::take(&mut conn.out) },
                    Token { agent: self.slot, value: seat as u64 },
                );
                done += 1;
            } else if conn.close && !conn.sending {
                driver.submit(Op::Close { fd: conn.fd }, Token { agent: self.slot, value: seat as u64 });
                conn.flow.set_gone();
                self.conns[seat as usize] = None;
            }
        }
        let first = |m: &BTreeMap<u64, Batch>, top: u64| m.keys().next().map_or(top, |k| k - 1);
        self.settled.writes.set(first(&self.batches[0], self.top[0]));
        self.settled.reads.set(first(&self.batches[1], self.top[1]));
        done
    }
    fn deadline(&self) -> Option<Instant> {
        None
    }
}
impl Metered for Reply {
    fn report(&self, _to: &mut dyn Report) {}
}
