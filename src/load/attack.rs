//! `bench --attack`: what a PBFT group still does while as many of its nodes lie as it endures, its primary among them. The load goes
//! through the others. In the first third of the measured time all are honest, in the second the liars play their attack, in the third
//! they are honest again.

use super::record::{TICK, Tick};
use super::words::grouped;
use crate::admin::client::Client;
use crate::io::process;
use crate::protocol::pbft::liars;
use serde::Serialize;
use std::time::Duration;

/// Of the calm rate, what counts as being back.
const BACK: f64 = 0.9;
/// So long a primary stands still for the sake of another view.
const PAUSE: Duration = Duration::from_secs(1);
/// A node that takes longer to tell its figures does not tell them.
const ASK_WITHIN: Duration = Duration::from_secs(2);
/// Over this time the rate is taken.
const WINDOW: Duration = Duration::from_secs(1);

/// How many of so many nodes may lie.
pub fn liars_max(nodes: usize) -> usize {
    nodes.saturating_sub(1) / 3
}

/// Whom an attack is played in.
pub struct Group<'a> {
    /// Of each node, in the order in which they lead.
    pub processes: &'a [u32],
    /// Their service planes.
    pub admins: &'a [String],
    /// Who leads now.
    pub leader: usize,
}

/// Which processes lie, and when, counted from the beginning of the measured time.
#[derive(Clone, Debug)]
pub struct Attack {
    /// Its name.
    pub name: String,
    /// Who plays it: started with `--byzantine-waits`.
    pub liars: Vec<u32>,
    admins: Vec<String>,
    /// A correct primary that stands still for a while, where the lie is about the next view.
    paused: Option<u32>,
    /// A correct node that stands still until the attack begins, where the lie is about states: then it needs one.
    absent: Option<u32>,
    begins: Duration,
    ends: Duration,
}

impl Attack {
    /// In the middle of the measured time, by the primaries of this view and the next ones; by those of the next ones, if it is about them.
    pub fn amid(name: &str, group: &Group, measured: Duration) -> Attack {
        let nodes = group.processes.len();
        let attack = liars::Attack::ALL.iter().find(|attack| attack.name() == name);
        let is_of_new_view = attack.is_some_and(|attack| attack.is_of_a_new_view());
        let is_of_state = attack.is_some_and(|attack| attack.is_of_a_state());
        let first = group.leader + usize::from(is_of_new_view);
        let places = || (first..).take(liars_max(nodes)).map(|place| place % nodes);
        Attack {
            name: name.to_string(),
            liars: places().map(|place| group.processes[place]).collect(),
            admins: places().map(|place| group.admins[place].clone()).collect(),
            paused: is_of_new_view.then(|| group.processes[group.leader]),
            // Whoever leads last.
            absent: is_of_state.then(|| group.processes[(group.leader + nodes - 1) % nodes]),
            begins: measured / 3,
            ends: measured * 2 / 3,
        }
    }

    /// Whether a client of this process is answered all the time but for what the others endure.
    pub fn spares(&self, process: u32) -> bool {
        !self.liars.contains(&process) && self.absent != Some(process)
    }

    /// Plays it from a thread of its own: the load must not wait.
    pub fn play(self) {
        std::thread::spawn(move || {
            // Whoever has ended lies no more: the figures show it.
            let tell_all = |tell: fn(u32) -> bool| self.liars.iter().filter(|liar| tell(**liar)).count();
            self.absent.map(process::pause);
            std::thread::sleep(self.begins);
            tell_all(process::user_signal_1);
            self.absent.map(process::resume);
            if let Some(primary) = self.paused {
                process::pause(primary);
                std::thread::sleep(PAUSE);
                process::resume(primary);
            }
            std::thread::sleep(
                self.ends.saturating_sub(self.begins + self.paused.map_or(Duration::ZERO, |_| PAUSE)),
            );
            tell_all(process::user_signal_2);
        });
    }

    /// How many lies its liars have told; none that does not say so.
    fn lies(&self) -> u64 {
        let count = |admin: &String| {
            let text = Client::new(admin, ASK_WITHIN, None)
                .get("/metrics")
                .map_or(String::new(), |reply| reply.body);
            let line = text.lines().find(|line| line.starts_with("quorate_lies_total"));
            line.and_then(|line| line.rsplit(' ').next())
                .and_then(|value| value.parse::<u64>().ok())
                .unwrap_or(0)
        };
        self.admins.iter().map(count).sum()
    }

    /// What came of it.
    pub fn judge(&self, ticks: &[Tick]) -> Endured {
        let between = |from: Duration, to: Duration| {
            let within = ticks.iter().filter(|tick| from <= tick.at && tick.at + TICK <= to);
            let (count, ok) = within.fold((0u32, 0), |(count, ok), tick| (count + 1, ok + tick.ok));
            ok as f64 / (TICK * count.max(1)).as_secs_f64()
        };
        let calm_per_s = between(Duration::ZERO, self.begins);
        let middle = (self.begins + self.ends) / 2;
        let attacked_per_s = between(middle, self.ends);
        let is_back = |at: &Duration| BACK * calm_per_s <= between(*at, *at + WINDOW);
        let starts = |from: Duration, to: Duration| {
            let until = to.checked_sub(WINDOW);
            ticks.iter().map(|tick| tick.at).filter(move |at| from <= *at && until.is_some_and(|u| *at <= u))
        };
        let last = ticks.last().map_or(Duration::ZERO, |tick| tick.at + TICK);
        let ms = |at: Duration, from: Duration| at.saturating_sub(from).as_secs_f64() * 1e3;
        Endured {
            attack: self.name.clone(),
            liars: self.liars.len(),
            lies: self.lies(),
            calm_per_s,
            attacked_per_s,
            share: attacked_per_s / calm_per_s.max(1.0),
            pause_ms: pause(ticks, self.begins).as_secs_f64() * 1e3,
            back_amid_ms: starts(self.begins, self.ends).find(is_back).map(|at| ms(at, self.begins)),
            back_ms: starts(self.ends, last).find(is_back).map(|at| ms(at, self.ends)),
        }
    }
}

/// The longest time from then on in which nothing was answered.
fn pause(ticks: &[Tick], from: Duration) -> Duration {
    let (mut longest, mut empty) = (0u32, 0u32);
    for tick in ticks.iter().filter(|tick| from <= tick.at) {
        empty = if tick.ok == 0 { empty + 1 } else { 0 };
        longest = longest.max(empty);
    }
    TICK * longest
}

/// What a group still did.
#[derive(Clone, Debug, Serialize, PartialEq)]
pub struct Endured {
    /// The attack.
    pub attack: String,
    /// How many played it.
    pub liars: usize,
    /// How often: 0 where nothing happened about which to lie so.
    pub lies: u64,
    /// Writes a second while all were honest.
    pub calm_per_s: f64,
    /// Writes a second in the second half of the attack.
    pub attacked_per_s: f64,
    /// That as a part of the calm figure.
    pub share: f64,
    /// The longest time without an answer, from the beginning of the attack on, in tenths of a second.
    pub pause_ms: f64,
    /// From the beginning of the attack until a second brought nine tenths of the calm figure, while it went on; none if none did.
    pub back_amid_ms: Option<f64>,
    /// The same, from the end of the attack; none if no second of the rest did.
    pub back_ms: Option<f64>,
}

impl Endured {
    /// The table of several, as text.
    pub fn table(all: &[Endured]) -> String {
        let mut text =
            "| attack | lies | calm | under attack | share | longest pause | nine tenths again, amid it | after it |\n\
             |---|---|---|---|---|---|---|---|\n"
                .to_string();
        for one in all {
            let time = |ms: Option<f64>| ms.map_or("never".to_string(), |ms| format!("{ms:.0} ms"));
            let (calm, attacked) = (grouped(one.calm_per_s), grouped(one.attacked_per_s));
            text += &format!(
                "| {} by {} | {} | {calm}/s | {attacked}/s | {:.0} % | {:.0} ms | {} | {} |\n",
                one.attack,
                one.liars,
                grouped(one.lies as f64),
                one.share * 100.0,
                one.pause_ms,
                time(one.back_amid_ms),
                time(one.back_ms),
            );
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn primaries_lie_and_of_new_views_those_to_come() {
        let admins: Vec<String> = (0..7).map(|node| format!("node{node}")).collect();
        let group = Group { processes: &[10, 11, 12, 13, 14, 15, 16], admins: &admins, leader: 6 };
        let attack = |name| Attack::amid(name, &group, Duration::from_secs(3));
        assert_eq!((attack("silent").liars, attack("silent").paused), (vec![16, 10], None));
        let omits = attack("omits-prepared");
        assert_eq!(
            (omits.liars, omits.paused, omits.admins),
            (vec![10, 11], Some(16), vec!["node0".into(), "node1".into()])
        );
        let poisons = attack("poisoned-state");
        assert_eq!((&poisons.liars, poisons.absent), (&vec![16, 10], Some(15)));
        assert_eq!([15, 16, 14].map(|process| poisons.spares(process)), [false, false, true]);
    }

    #[test]
    fn shares_and_recoveries_are_read_from_the_timeline() {
        // 9 seconds: calm at 100 a tick; an attack that stops all for a second, then lets 60 pass; 95 a tick from half a second after it.
        let ok = |tick: u32| match tick {
            0..30 => 100,
            30..40 => 0,
            40..65 => 60,
            _ => 95,
        };
        let tick = |place: u32| Tick { at: TICK * place, ok: ok(place), ..Tick::default() };
        let ticks: Vec<Tick> = (0..90).map(tick).collect();
        let group = Group { processes: &[0; 4], admins: &[const { String::new() }; 4], leader: 3 };
        let endured = Attack::amid("silent", &group, Duration::from_secs(9)).judge(&ticks);
        assert_eq!((endured.calm_per_s, endured.attacked_per_s), (1000.0, 600.0));
        assert_eq!((endured.pause_ms, endured.back_amid_ms), (1000.0, None));
        // A window in which 95 outweigh some ticks of 60 counts.
        assert_eq!(endured.back_ms, Some(400.0));
        let table = Endured::table(&[endured]);
        assert!(
            table.contains("| silent by 1 | 0 | 1,000/s | 600/s | 60 % | 1000 ms | never | 400 ms |"),
            "{table}"
        );
    }
}
