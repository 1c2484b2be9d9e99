//! The agent that answers clients: takes plans and answers, has them put in order (`order`), and sends.
//!
//! A socket has one outstanding send; what is answered meanwhile leaves with the next.

use super::order::{Order, Outcome};
use super::plan::{Planned, Settled};
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
    slot: u8,
    sends: u64,
    bytes_out: u64,
    /// When the replies of this turn were made, a value a batch of writes.
    made: Vec<Instant>,
    /// Nanoseconds from there to the end of the turn, in which they went to the kernel.
    reply: Histogram<u64>,
}

impl Reply {
    /// Publishes what is answered in `settled`.
    pub fn new(
        plans: Consumer<Planned>,
        store_answers: Consumer<Answer>,
        replica_answers: Consumer<Answer>,
        settled: Settled,
    ) -> Reply {
        let answers = [store_answers, replica_answers];
        Reply {
            plans,
            answers,
            settled,
            order: Order::new(),
            slot: 0,
            sends: 0,
            bytes_out: 0,
            made: Vec::new(),
            reply: latencies(),
        }
    }

    /// Takes what has come over the rings. The answers that are taken were there before the plans were looked at: whatever is
    /// answered has then been planned, although answers come by another way.
    fn hear(&mut self) -> usize {
        let counts = [self.answers[0].len(), self.answers[1].len()];
        let mut heard = counts[0] + counts[1];
        while let Some(Planned { seat, plan }) = self.plans.pop() {
            self.order.plan(seat, plan);
            heard += 1;
        }
        for (ring, count) in self.answers.iter_mut().zip(counts) {
            for answer in (0..count).map_while(|_| ring.pop()) {
                if let Answer::Write { made, .. } = &answer {
                    self.made.push(*made);
                }
                take_answer(&mut self.order, answer);
            }
        }
        heard
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

fn take_answer(order: &mut Order, answer: Answer) {
    match answer {
        Answer::Write { sequence, replies, ends, .. } => {
            order.answer_write(sequence, Outcome::Replies(replies, ends));
        }
        Answer::Read { id, replies, ends } => order.answer_read(id, Outcome::Replies(replies, ends)),
        Answer::WriteFailed { sequence, why } => order.answer_write(sequence, Outcome::Failed(why)),
        Answer::ReadFailed { id, why } => order.answer_read(id, Outcome::Failed(why)),
        Answer::Superseded { sequence } => order.supersede(sequence),
    }
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
        let mut done = self.hear();
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
        None
    }
}

impl Metered for Reply {
    fn report(&self, to: &mut dyn Report) {
        to.counter("quorate_commands_answered_total", "Commands answered.", &[], self.order.answered);
        to.counter("quorate_client_sends_total", "Sends to clients.", &[], self.sends);
        to.counter("quorate_client_sent_bytes_total", "Bytes sent to clients.", &[], self.bytes_out);
        Stage::Reply.report(&self.reply, to);
        let help = "Client connections that could not be sent to, or did not take their replies.";
        to.counter("quorate_client_connections_broken_total", help, &[], self.order.broken);
        let help = "Bytes of replies that are made and not yet sent.";
        to.gauge("quorate_client_unsent_bytes", help, &[], self.order.unsent as f64);
    }
}
