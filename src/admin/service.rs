//! The service thread: starts glommio, listens, runs the keeper, looks after heartbeats, and ends when told.

use super::bell::Bell;
use super::context::Context;
use super::events::{Event, EventSink};
use super::keeper::{Keeper, KeeperBell};
use super::server::{Counts, Limits, serve};
use crate::io::driver::Doorbell;
use crate::io::listener::listen;
use crate::io::uring::{DriverError, Uring, UringOptions};
use crate::meter::{Metered, Report};
use glommio::{GlommioError, LocalExecutorBuilder, Placement, PoolPlacement};
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::Duration;

/// Entries of each of glommio's three rings. The plane has few operations under way; the kernel charges rings to the locked memory.
const RING_ENTRIES: usize = 16;
/// Memory that glommio registers, in each of its rings. It takes at least this; 0 says that no more is wanted.
const REGISTERED_BYTES: usize = 0;
/// How often heartbeats are looked at and the keeper is woken for good measure.
const WATCH_PAUSE: Duration = Duration::from_secs(1);

/// How the service plane listens.
#[derive(Clone, Debug)]
pub struct ServiceOptions {
    /// Where HTTP is served. Loopback, unless the operator wants otherwise.
    pub address: SocketAddr,
    /// Of the HTTP server.
    pub limits: Limits,
}

/// Why the service plane does not start.
#[derive(thiserror::Error, Debug)]
pub enum ServiceError {
    /// Another process has the address, or the machine does not.
    #[error("the admin address {address}: {error}; set another one as [admin] listen")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// Why not.
        error: io::Error,
    },
    /// Too little memory may be locked.
    #[error(
        "the service plane needs a memlock limit of {needed} bytes, it is {limit}; raise it: `ulimit -l {}`, \
         LimitMEMLOCK= in the systemd unit, or --ulimit memlock= of the container", needed.div_ceil(1024)
    )]
    Memlock {
        /// What is allowed.
        limit: u64,
        /// What is needed.
        needed: u64,
    },
    /// What may be locked is used up.
    #[error(
        "the service plane may lock no more memory: all processes of this user together have used up {limit} bytes; \
         raise the limit (`ulimit -l`, LimitMEMLOCK=) or run fewer nodes as one user"
    )]
    Locked {
        /// What is allowed.
        limit: u64,
    },
    /// io_uring is not to be had.
    #[error(transparent)]
    Uring(#[from] DriverError),
    /// Something else.
    #[error("the service plane does not start: {0}")]
    Other(String),
}

/// glommio starts with no less, though it uses a third of it.
const MEMLOCK_BYTES_MIN: u64 = 512 * 1024;

/// Looks whether glommio can start. It panics where the kernel refuses a ring, so one is made beforehand: the smallest of our own,
/// whose error names the switch, the filter or the limit.
fn look_ahead() -> Result<(), ServiceError> {
    if let Some(limit) = memlock().filter(|limit| *limit < MEMLOCK_BYTES_MIN) {
        return Err(ServiceError::Memlock { limit, needed: MEMLOCK_BYTES_MIN });
    }
    let smallest = UringOptions {
        submissions: 4,
        completions: 8,
        receive_buffers: 1,
        receive_bytes: 4096,
        write_buffers: 0,
        write_bytes: 4096,
        spin: false,
    };
    drop(Uring::new(smallest)?);
    Ok(())
}

/// The soft limit on locked memory; `None` for no limit, or when the kernel does not say.
fn memlock() -> Option<u64> {
    let limits = std::fs::read_to_string("/proc/self/limits").ok()?;
    memlock_of(&limits)
}

fn memlock_of(limits: &str) -> Option<u64> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max locked memory"))?;
    line.split_whitespace().next()?.parse().ok()
}

/// What glommio says of a start that failed.
fn explain(error: GlommioError<()>) -> ServiceError {
    match error {
        GlommioError::IoError(error) if error.raw_os_error() == Some(libc::ENOMEM) => {
            ServiceError::Locked { limit: memlock().unwrap_or_default() }
        }
        other => ServiceError::Other(other.to_string()),
    }
}

/// The running service plane.
pub struct Service {
    address: SocketAddr,
    stop: Arc<Stop>,
    thread: JoinHandle<()>,
}

#[derive(Default)]
struct Stop {
    wanted: AtomicBool,
    bell: Bell,
}

impl Service {
    /// Starts the thread, and returns when it listens.
    pub fn start(
        options: ServiceOptions,
        context: Context,
        keeper: Option<Keeper>,
        events: EventSink,
    ) -> Result<Service, ServiceError> {
        let stop = Arc::new(Stop::default());
        let (started, listening) = mpsc::channel();
        let of_thread = stop.clone();
        let thread = std::thread::Builder::new()
            .name("service".into())
            .spawn(move || run(options, context, keeper, events, &of_thread, &started))
            .map_err(|error| ServiceError::Other(error.to_string()))?;
        match listening.recv() {
            Ok(Ok(address)) => Ok(Service { address, stop, thread }),
            Ok(Err(error)) => Err(error),
            Err(_) => Err(ServiceError::Other("its thread has died".to_string())),
        }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Ends it. What the keeper was writing is swept at the next start.
    pub fn stop(self) {
        self.stop.wanted.store(true, Ordering::SeqCst);
        self.stop.bell.ring();
        // The node goes down anyway; a panic of the thread has been told by the panic hook.
        let _ = self.thread.join();
    }
}

fn run(
    options: ServiceOptions,
    mut context: Context,
    keeper: Option<Keeper>,
    events: EventSink,
    stop: &Stop,
    started: &mpsc::Sender<Result<SocketAddr, ServiceError>>,
) {
    let builder = LocalExecutorBuilder::new(Placement::Unbound)
        .name("service")
        .io_memory(REGISTERED_BYTES)
        .ring_depth(RING_ENTRIES)
        .blocking_thread_pool_placement(PoolPlacement::Unbound(1));
    let executor = match look_ahead().and_then(|()| builder.make().map_err(explain)) {
        Ok(executor) => executor,
        Err(error) => return drop(started.send(Err(error))),
    };
    executor.run(async move {
        let bound = listen(options.address).and_then(|listener| Ok((listener.local_addr()?, listener)));
        let (address, listener) = match bound {
            Ok(bound) => bound,
            Err(error) => {
                let error = ServiceError::Bind { address: options.address, error };
                return drop(started.send(Err(error)));
            }
        };
        let counts = Arc::new(Counts::default());
        context.own.push(counts.clone());
        context.own.push(Arc::new(EventCounts(events.clone())));
        let bell = keeper.as_ref().map(Keeper::bell);
        if let Some(keeper) = keeper {
            context.own.push(keeper.counts());
            glommio::spawn_local(keeper.run()).detach();
        }
        let context = Rc::new(context);
        glommio::spawn_local(watch(context.clone(), bell, events)).detach();
        glommio::spawn_local(serve(listener, context, counts, options.limits)).detach();
        // Whoever waits for the start may be gone; then so is the wish for a service.
        if started.send(Ok(address)).is_err() {
            return;
        }
        while !stop.wanted.load(Ordering::SeqCst) {
            stop.bell.rung().await;
        }
    });
}

/// Once a second: notes heartbeats, so that `/livez` judges by what was seen, and tells of cores that have become still.
async fn watch(context: Rc<Context>, keeper: Option<KeeperBell>, events: EventSink) {
    let mut known = Vec::new();
    loop {
        glommio::timer::sleep(WATCH_PAUSE).await;
        let stalled = context.status.stalled();
        for (core, still) in &stalled {
            if !known.contains(core) {
                events.emit(Event::Stall { agent: format!("core {core}").into(), took: *still });
            }
        }
        known = stalled.into_iter().map(|(core, _)| core).collect();
        // A ring that got lost on the way would otherwise leave a snapshot lying for ever.
        if let Some(bell) = &keeper {
            bell.ring();
        }
    }
}

/// The event log's figures.
struct EventCounts(EventSink);

impl Metered for EventCounts {
    fn report(&self, to: &mut dyn Report) {
        let help = "Events that were not written because too many waited.";
        to.counter("quorate_events_dropped_total", help, &[], self.0.dropped());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_on_locked_memory_is_read_as_the_kernel_writes_it() {
        let with = |value| {
            format!("Limit   Soft Limit   Hard Limit   Units\nMax locked memory         {value} bytes\n")
        };
        assert_eq!(memlock_of(&with("8388608              16777216")), Some(8 << 20));
        assert_eq!(memlock_of(&with("unlimited            unlimited")), None);
        assert_eq!(memlock_of(""), None);
        let error = ServiceError::Memlock { limit: 65_536, needed: MEMLOCK_BYTES_MIN };
        assert!(error.to_string().contains("ulimit -l 512"), "{error}");
    }
}
