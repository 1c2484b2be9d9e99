//! The service thread: starts glommio, listens, runs the keeper, looks after heartbeats, and ends when told.

use super::bell::Bell;
use super::events::{Event, EventSink};
use super::keeper::{Keeper, KeeperBell};
use super::routes::Context;
use super::server::{Counts, Limits, listen, serve};
use crate::io::driver::Doorbell;
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
    /// io_uring is not to be had.
    #[error("the service plane cannot use io_uring: {error}; {cure}")]
    Uring {
        /// What the kernel says.
        error: io::Error,
        /// What helps.
        cure: &'static str,
    },
    /// Something else.
    #[error("the service plane does not start: {0}")]
    Other(String),
}

impl ServiceError {
    fn of(error: GlommioError<()>) -> ServiceError {
        use glommio::{GlommioError::ReactorError, ReactorErrorKind};
        match error {
            ReactorError(ReactorErrorKind::MemLockLimit(limit, needed)) => {
                ServiceError::Memlock { limit, needed }
            }
            GlommioError::IoError(error) => ServiceError::of_io(error),
            other => ServiceError::Other(other.to_string()),
        }
    }

    fn of_io(error: io::Error) -> ServiceError {
        let cure = match error.raw_os_error() {
            Some(libc::ENOSYS) => {
                "the kernel has none (5.8 or later is needed) or a seccomp profile hides it: allow io_uring_setup, io_uring_enter and io_uring_register"
            }
            Some(libc::EPERM) | Some(libc::EACCES) => {
                "set kernel.io_uring_disabled=0, or allow io_uring_setup, io_uring_enter and io_uring_register in the container's seccomp profile"
            }
            Some(libc::ENOMEM) => {
                "the memlock limit of this user is used up by all its processes together: raise it (`ulimit -l`, LimitMEMLOCK=)"
            }
            Some(libc::EMFILE) | Some(libc::ENFILE) => "too many files are open: raise `ulimit -n`",
            _ => "see tuning/ for what a node asks of its host",
        };
        ServiceError::Uring { error, cure }
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
    let executor = match builder.make() {
        Ok(executor) => executor,
        Err(error) => return drop(started.send(Err(ServiceError::of(error)))),
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
