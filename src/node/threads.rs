//! The threads of a node's data plane: one a core, and beside them one that reads back what was stored, while the cores already say that
//! it does.

use super::agent::NodeAgent;
use super::ahead::{self, Ahead};
use super::boot::{self, Booted, SnapshotFiles};
use super::keys::Secrets;
use super::placement::Placement;
use super::run::{self, Core};
use super::sizes::Sizes;
use super::wiring::Ending;
use super::{MORE_PROCESSES, RunError, machine};
use crate::base::{Number, Origin};
use crate::config::Resolved;
use crate::io::driver::Doorbell;
use crate::io::{Driver, SystemEntropy, Uring, UringOptions, affinity};
use crate::wire::pbft::Charter;
use crossbeam::channel::{Receiver, Sender, bounded, select, unbounded};
use std::sync::Arc;
use std::time::Duration;

/// How often an orderly end looks whether it is done.
pub(super) const DRAIN_PAUSE: Duration = Duration::from_millis(5);
/// The ring with which the log is read back: no sockets, and nothing that counts as locked memory.
const READING: UringOptions = UringOptions {
    submissions: 16,
    completions: 64,
    receive_buffers: 1,
    receive_bytes: 4096,
    write_buffers: 0,
    ..UringOptions::NODE
};

/// What a thread tells the main one.
enum Word {
    Known(Origin, Charter),
    Booted(Box<Booted>),
    Started,
    Ended(Result<(), RunError>),
}

/// An agent that runs ahead of the others, with the number of its core and its place there.
pub(super) type Place = (usize, usize);

/// The threads of the data plane.
pub(super) struct Threads {
    pub(super) doorbells: Vec<Arc<dyn Doorbell>>,
    aheads: Vec<Sender<Vec<Ahead>>>,
    cores: Vec<Sender<Core>>,
    words: Receiver<Word>,
    handles: Vec<std::thread::JoinHandle<()>>,
    pub(super) stop: Number,
    /// What the kernel offers the data plane.
    pub(super) ring: String,
    /// What is not as the configuration wishes, though the node goes on.
    pub(super) remarks: Vec<String>,
}

/// What a core's thread begins with.
struct Awake {
    index: usize,
    doorbell: Arc<dyn Doorbell>,
    ring: String,
    /// Whether it runs on the core that it was to run on.
    is_placed: bool,
}

impl Threads {
    /// Starts them. Each core's makes its driver and waits for its agents; the other one begins to read.
    pub(super) fn start(config: &Resolved, placement: &Placement) -> Result<Threads, RunError> {
        let (tell, words) = unbounded();
        let (tell_bell, bells) = unbounded();
        let allowed = affinity::cores();
        let count = placement.cores.len();
        let first = config.placement.first_core;
        let pins = config.placement.pin.then(|| affinity::plan(&allowed, first, count));
        let mut threads = Threads {
            doorbells: Vec::new(),
            aheads: Vec::new(),
            cores: Vec::new(),
            words,
            handles: Vec::new(),
            stop: Number::default(),
            ring: String::new(),
            remarks: remarks(config, &allowed, count),
        };
        let reading = {
            let (config, tell) = (config.clone(), tell.clone());
            move || {
                if let Err(error) = read_back(&config, &tell) {
                    // Nobody listens any more once the node has ended; so below.
                    let _ = tell.send(Word::Ended(Err(error)));
                }
            }
        };
        // Nobody waits for it: it ends when it has read, or with the process.
        spawn("reading", reading)?;
        for index in 0..count {
            let (ahead, aheads) = bounded(1);
            let (hand, whole) = bounded(1);
            let (tell, tell_bell, spin) = (tell.clone(), tell_bell.clone(), config.placement.spin);
            let pin = pins.clone().flatten().map(|cores| cores[index]);
            let body = move || {
                let is_placed = pin.is_none_or(affinity::pin);
                let bell = |doorbell, ring| Awake { index, doorbell, ring, is_placed };
                let ended = core_thread(spin, &tell, tell_bell, bell, &aheads, &whole);
                let _ = tell.send(Word::Ended(ended));
            };
            threads.handles.push(spawn(&format!("core-{index}"), body)?);
            threads.aheads.push(ahead);
            threads.cores.push(hand);
        }
        drop(tell_bell);
        let mut found: Vec<Awake> = bells.iter().take(count).collect();
        found.sort_by_key(|awake| awake.index);
        threads.ring = found.first().map(|awake| awake.ring.clone()).unwrap_or_default();
        let refused = found.iter().filter(|awake| !awake.is_placed).count();
        if 0 < refused {
            let what = format!(
                "placement.pin: the kernel did not bind {refused} of {count} threads; they run where it puts them"
            );
            threads.remarks.push(what);
        }
        threads.doorbells = found.into_iter().map(|awake| awake.doorbell).collect();
        if threads.doorbells.len() < count { Err(threads.first_error()) } else { Ok(threads) }
    }

    /// Waits until the node knows who it is, and with which members it begins. `None` when a signal comes before.
    pub(super) fn known(&self, signals: &Receiver<i32>) -> Result<Option<(Origin, Charter)>, RunError> {
        match self.word(signals)? {
            None => Ok(None),
            Some(Word::Known(origin, charter)) => Ok(Some((origin, charter))),
            Some(_) => Err(self.first_error()),
        }
    }

    /// Lets these agents run ahead of the others.
    pub(super) fn run_ahead(&mut self, agents: Vec<(Place, Box<dyn NodeAgent>)>) {
        let mut by_core: Vec<Vec<Ahead>> = self.cores.iter().map(|_| Vec::new()).collect();
        agents.into_iter().for_each(|((core, slot), agent)| by_core[core].push((slot, agent)));
        for (hand, agents) in self.aheads.drain(..).zip(by_core) {
            // A thread that is gone has said why.
            let _ = hand.send(agents);
        }
    }

    /// Waits for what was stored. `None` when a signal comes before.
    pub(super) fn booted(&self, signals: &Receiver<i32>) -> Result<Option<Booted>, RunError> {
        match self.word(signals)? {
            None => Ok(None),
            Some(Word::Booted(booted)) => Ok(Some(*booted)),
            Some(_) => Err(self.first_error()),
        }
    }

    /// The next word of a thread; an error when it is that one has failed, `None` when a signal comes before.
    fn word(&self, signals: &Receiver<i32>) -> Result<Option<Word>, RunError> {
        select! {
            recv(signals) -> _ => Ok(None),
            recv(self.words) -> word => match word {
                Ok(Word::Ended(Err(error))) => Err(error),
                Ok(word) => Ok(Some(word)),
                Err(_) => Err(self.first_error()),
            },
        }
    }

    /// Gives each core its agents and waits until all have begun.
    pub(super) fn hand_out(&mut self, cores: Vec<Core>) -> Result<(), RunError> {
        for (hand, core) in self.cores.iter().zip(cores) {
            let _ = hand.send(core);
        }
        self.doorbells.iter().for_each(|doorbell| doorbell.ring());
        for _ in 0..self.handles.len() {
            match self.words.recv() {
                Ok(Word::Started) => (),
                Ok(Word::Ended(Err(error))) => return Err(error),
                _ => return Err(self.first_error()),
            }
        }
        Ok(())
    }

    /// Until a signal comes, or a core ends.
    pub(super) fn wait(&self, signals: &Receiver<i32>) -> Option<RunError> {
        match self.word(signals) {
            Ok(None) => None,
            Ok(Some(_)) => Some(self.first_error()),
            Err(error) => Some(error),
        }
    }

    /// Lets the node finish what it has begun, for so long at most.
    pub(super) fn drain(&self, ending: &Ending, within: Duration) {
        ending.drain.set(1);
        let until = crate::io::clock::monotonic().after(within);
        while (ending.replica.get() == 0 || ending.clients.get() == 0)
            && crate::io::clock::monotonic() < until
        {
            self.doorbells.iter().for_each(|doorbell| doorbell.ring());
            std::thread::sleep(DRAIN_PAUSE);
        }
    }

    /// Ends all cores.
    pub(super) fn stop(self) {
        self.stop.set(1);
        drop((self.aheads, self.cores));
        self.doorbells.iter().for_each(|doorbell| doorbell.ring());
        for handle in self.handles {
            // A thread that panicked has said so, and the process ends anyway.
            let _ = handle.join();
        }
    }

    /// What wakes the other cores.
    pub(super) fn others(&self, index: usize) -> Vec<Arc<dyn Doorbell>> {
        let others = self.doorbells.iter().enumerate().filter(|(i, _)| *i != index);
        others.map(|(_, doorbell)| doorbell.clone()).collect()
    }

    /// Why a thread ended, if one has said so.
    fn first_error(&self) -> RunError {
        let errors = self.words.try_iter().find_map(|word| match word {
            Word::Ended(Err(error)) => Some(error),
            _ => None,
        });
        let silent = || machine("a core", "see the lines above")(std::io::ErrorKind::Other.into());
        errors.unwrap_or_else(silent)
    }
}

/// What the machine or this version does not grant.
fn remarks(config: &Resolved, allowed: &[usize], count: usize) -> Vec<String> {
    let (wanted, first) = (config.placement.cores, config.placement.first_core);
    let mut remarks = Vec::new();
    if count < wanted {
        remarks.push(format!(
            "placement.cores is {wanted}, but one shard uses at most {count} threads; {count} are started"
        ));
    }
    if config.placement.pin && affinity::plan(allowed, first, count).is_none() {
        remarks.push(format!(
            "placement.pin: no thread is bound to a core, since {count} from core {first} on are more than the {} that this process may \
             run on; lower placement.cores or placement.first_core, or set placement.pin = false",
            allowed.len()
        ));
    }
    remarks
}

fn spawn(name: &str, body: impl FnOnce() + Send + 'static) -> Result<std::thread::JoinHandle<()>, RunError> {
    let thread = std::thread::Builder::new().name(name.into()).spawn(body);
    thread.map_err(machine(format!("the thread {name}"), MORE_PROCESSES))
}

/// Reads back what was stored, with a ring of its own.
fn read_back(config: &Resolved, tell: &Sender<Word>) -> Result<(), RunError> {
    let mut driver = Uring::new(READING)?;
    let known = boot::identify(config, &mut driver)?;
    let _ = tell.send(Word::Known(known.origin, known.charter().clone()));
    let (secrets, entropy) = (Secrets::read(config)?, &mut SystemEntropy);
    let files = &mut SnapshotFiles::of(&config.node.dir);
    let booted = boot::boot(known, config, &Sizes::NODE, &secrets, &mut driver, entropy, files)?;
    let _ = tell.send(Word::Booted(Box::new(booted)));
    Ok(())
}

/// One core's thread: its driver, the agents that run ahead, and then its loop.
fn core_thread(
    spin: bool,
    tell: &Sender<Word>,
    tell_bell: Sender<Awake>,
    bell: impl FnOnce(Arc<dyn Doorbell>, String) -> Awake,
    aheads: &Receiver<Vec<Ahead>>,
    whole: &Receiver<Core>,
) -> Result<(), RunError> {
    let mut driver = Uring::new(UringOptions { spin, ..UringOptions::NODE })?;
    // The main thread holds the other ends as long as it needs what is sent.
    let _ = tell_bell.send(bell(driver.doorbell(), driver.capabilities().to_string()));
    drop(tell_bell);
    let Ok(agents) = aheads.recv() else { return Ok(()) };
    let Some(core) = ahead::run(agents, whole, &mut driver)? else { return Ok(()) };
    run::run(core, &mut driver, || drop(tell.send(Word::Started)))?;
    Ok(())
}
