//! The agent that answers clients: takes plans and answers, has them put in order (`order`), and sends.
//!
//! A socket has one outstanding send; what is answered meanwhile leaves with the next.

use super::SHARD;
use super::order::{Order, Outcome};
use super::plan::{Planned, Settled};
use super::verify::{Verification, Verifier};
use crate::base::Instant;
use crate::base::ring::Consumer;
use crate::io::{self, Agent, Completion, Driver, Op, Token};
use crate::meter::stages::Stage;
use crate::meter::{Metered, Report, latencies};
use crate::wire::hop::Answer;
use hdrhistogram::Histogram;

/// The agent. See the module.
pub struct Reply {
    plans: Consumer<Planned>,
    /// From the store, and from the replica.
    answers: [Consumer<Answer>; 2],
    settled: Settled,
    order: Order,
    /// Where answers wait for other replicas to confirm them.
    verifier: Option<Verifier>,
    slot: u8,
    sends: u64,
    bytes_out: u64,
    /// When the replies of this turn were made, a value a batch of writes.
    made: Vec<Instant>,
    /// Nanoseconds from there to the end of the turn, in which they went to the kernel.
    reply: Histogram<u64>,
}

impl Reply {
    /// Publishes what is answered in `settled`. With `verification` only what others confirm is answered.
    pub fn new(
        plans: Consumer<Planned>,
        store_answers: Consumer<Answer>,
        replica_answers: Consumer<Answer>,
        settled: Settled,
        verification: Option<Verification>,
    ) -> Reply {
        let answers = [store_answers, replica_answers];
        Reply {
            plans,
            answers,
            settled,
            order: Order::new(),
            verifier: verification.map(Verifier::new),
            slot: 0,
            sends: 0,
            bytes_out: 0,
            made: Vec::new(),
            reply: latencies(),
        }
    }

    /// Takes what has come over the rings. The answers that are taken were there before the plans were looked at: whatever is
    /// answered has then been planned, although answers come by another way.
    fn hear(&mut self, now: Instant) -> usize {
        let counts = [self.answers[0].len(), self.answers[1].len()];
        let mut heard = counts[0] + counts[1];
        while let Some(Planned { seat, plan }) = self.plans.pop() {
            self.order.plan(seat, plan);
            heard += 1;
        }
        for (ring, count) in counts.into_iter().enumerate() {
            for _ in 0..count {
                let Some(answer) = self.answers[ring].pop() else { break };
                if let Answer::Write { made, .. } = &answer {
                    self.made.push(*made);
                }
                self.take_answer(now, answer);
            }
        }
        heard
    }

    fn take_answer(&mut self, now: Instant, answer: Answer) {
        match answer {
            Answer::Write { sequence, replies, ends, .. } => match &mut self.verifier {
                Some(verifier) if self.order.writes.is_open(sequence) => {
                    let outcome = verifier.replied(now, sequence, replies, ends);
                    self.answer_write(sequence, outcome);
                }
                _ => self.order.answer_write(sequence, Outcome::Replies(replies, ends)),
            },
            Answer::Vouched { sequence, from, digest } => {
                if let Some(verifier) = self.verifier.as_mut().filter(|_| self.order.writes.is_open(sequence))
                {
                    let outcome = verifier.vouched(sequence, from, digest);
                    self.answer_write(sequence, outcome);
                }
            }
            Answer::Read { id, replies, ends } => self.order.answer_read(id, Outcome::Replies(replies, ends)),
            Answer::WriteFailed { sequence, why } => {
                self.verifier.iter_mut().for_each(|verifier| verifier.forget(sequence));
                self.order.answer_write(sequence, Outcome::Failed(why));
            }
            Answer::ReadFailed { id, why } => self.order.answer_read(id, Outcome::Failed(why)),
            Answer::Superseded { sequence } => {
                self.order.supersede(sequence);
                self.verifier.iter_mut().for_each(|verifier| verifier.settled(sequence));
            }
        }
    }

    fn answer_write(&mut self, sequence: u64, outcome: Option<Outcome>) {
        if let Some(outcome) = outcome {
            self.order.answer_write(sequence, outcome);
        }
    }

    /// Gives up what others should have confirmed by now.
    fn expire(&mut self, now: Instant) -> usize {
        let mut count = 0;
        while let Some((sequence, outcome)) = self.verifier.as_mut().and_then(|verifier| verifier.expire(now))
        {
            self.order.answer_write(sequence, outcome);
            count += 1;
        }
        count
    }

    /// Sends to a seat, or closes it.
    fn act(&mut self, seat: u32, driver: &mut dyn Driver) {
        let Some(line) = self.order.line(seat) else { return };
        if line.is_over() {
            driver.submit(Op::Close { fd: line.fd }, token(self.slot, seat, line.life));
            return self.order.close(seat);
        }
        if line.sending || line.outbox.is_empty() {
            return;
        }
        let parts = line.outbox.take();
        line.handed(parts.iter().map(|p| p.len() as u64).sum());
        self.sends += 1;
        driver.submit(Op::Send { fd: line.fd, parts }, token(self.slot, seat, line.life));
    }

    fn publish(&self) {
        self.settled.writes.set(self.order.writes.settled());
        self.settled.reads.set(self.order.reads.settled());
        self.settled.unsent.set(self.order.unsent);
        self.settled.broken.set(self.order.broken);
    }
}

fn token(slot: u8, seat: u32, life: u32) -> Token {
    Token { agent: slot, value: u64::from(life) << 32 | u64::from(seat) }
}

impl Agent for Reply {
    fn name(&self) -> &'static str {
        "reply"
    }

    fn start(&mut self, slot: u8, _driver: &mut dyn Driver) -> std::io::Result<()> {
        self.slot = slot;
        Ok(())
    }

    fn complete(&mut self, completion: Completion, _driver: &mut dyn Driver) {
        let (seat, life) = (completion.token.value as u32, (completion.token.value >> 32) as u32);
        let Some(line) = self.order.line_of(seat, life) else { return };
        match completion.outcome {
            io::Outcome::Sent { bytes, parts } => {
                let was_under_way = line.sent(bytes as u64);
                line.outbox.give_back(parts);
                self.bytes_out += bytes as u64;
                self.order.sent(was_under_way);
                self.order.list(seat);
            }
            _ => {
                line.failed();
                self.order.break_off(seat);
            }
        }
    }

    fn work(&mut self, driver: &mut dyn Driver) -> usize {
        let mut done = self.hear(driver.now());
        if self.deadline().is_some_and(|at| at <= driver.now()) {
            done += self.expire(driver.now());
        }
        while let Some(seat) = self.order.next_ready() {
            self.act(seat, driver);
            done += 1;
        }
        self.publish();
        if !self.made.is_empty() {
            let handed = driver.fresh();
            let nanos = self.made.drain(..).map(|made| handed.since(made).as_nanos() as u64);
            nanos.for_each(|nanos| self.reply.saturating_record(nanos));
        }
        done
    }

    fn deadline(&self) -> Option<Instant> {
        self.verifier.as_ref()?.deadline()
    }
}

impl Metered for Reply {
    fn report(&self, to: &mut dyn Report) {
        to.counter("quorate_commands_answered_total", "Commands answered.", &[], self.order.answered);
        to.counter("quorate_client_sends_total", "Sends to clients.", &[], self.sends);
        to.counter("quorate_client_sent_bytes_total", "Bytes sent to clients.", &[], self.bytes_out);
        Stage::Reply.report(("shard", SHARD), &self.reply, to);
        if let Some(verifier) = &self.verifier {
            let help = "Replies of this node that f+1 other nodes contradicted.";
            to.counter(
                "quorate_replies_contradicted_total",
                help,
                &[("shard", SHARD)],
                verifier.contradicted,
            );
            let help = "Replies of this node that too few nodes confirmed in time.";
            to.counter("quorate_replies_unconfirmed_total", help, &[("shard", SHARD)], verifier.unconfirmed);
        }
        let help = "Client connections that could not be sent to, or did not take their replies.";
        to.counter("quorate_client_connections_broken_total", help, &[], self.order.broken);
        let help = "Bytes of replies that are made and not yet sent.";
        to.gauge("quorate_client_unsent_bytes", help, &[], self.order.unsent as f64);
    }
}
