//! The HTTP server: connections on glommio, a bounded number of them, each with bounded memory and bounded patience.

use super::context::Context;
use super::http::{self, BODY_BYTES_MAX, HEAD_BYTES_MAX, Malformed, Method, Request, Response};
use super::routes::answer;
use crate::meter::{Metered, Report};
use futures_lite::{AsyncReadExt, AsyncWriteExt};
use glommio::GlommioError;
use glommio::net::{TcpListener, TcpStream};
use glommio::timer::{sleep, timeout};
use std::cell::Cell;
use std::io;
use std::net::Shutdown;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// The server's limits.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Most connections at once; each may hold `HEAD_BYTES_MAX + BODY_BYTES_MAX` bytes and one response.
    pub connections_max: usize,
    /// How long a connection may be silent between requests.
    pub idle_wait: Duration,
    /// How long a request may take to arrive, and a response to leave.
    pub transfer_wait: Duration,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            connections_max: 64,
            idle_wait: Duration::from_secs(60),
            transfer_wait: Duration::from_secs(10),
        }
    }
}

/// What the server counts. Touched by the service thread alone; atomic, so that it can be handed around.
#[derive(Default)]
pub struct Counts {
    requests: AtomicU64,
    malformed: AtomicU64,
    turned_away: AtomicU64,
    connections: AtomicU64,
}

impl Metered for Counts {
    fn report(&self, to: &mut dyn Report) {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        to.counter("quorate_admin_requests_total", "Requests answered.", &[], read(&self.requests));
        let help = "Connections closed because of bytes that were no request.";
        to.counter("quorate_admin_malformed_total", help, &[], read(&self.malformed));
        let help = "Connections turned away over the limit.";
        to.counter("quorate_admin_turned_away_total", help, &[], read(&self.turned_away));
        let open = read(&self.connections) as f64;
        to.gauge("quorate_admin_connections", "Connections of the service plane.", &[], open);
    }
}

/// Accepts for ever.
pub async fn serve(listener: TcpListener, context: Rc<Context>, counts: Arc<Counts>, limits: Limits) {
    let open = Rc::new(Cell::new(0usize));
    loop {
        let stream = match listener.accept().await {
            Ok(stream) => stream,
            Err(_) => {
                // Out of descriptors or a connection that was gone again: a pause lets others finish.
                sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        if limits.connections_max <= open.get() {
            counts.turned_away.fetch_add(1, Ordering::Relaxed);
            // The answer fits the socket's buffer; one that does not take it at once gets none.
            let body = format!("{} connections are open, the limit\n", limits.connections_max);
            let refusal = Response::text(503, body).to_bytes(false, true);
            glommio::spawn_local(async move {
                let mut stream = stream;
                let _ = send(&mut stream, &refusal, Duration::from_millis(100)).await;
            })
            .detach();
            continue;
        }
        let place = Place::take(&open, &counts);
        let (context, counts) = (context.clone(), counts.clone());
        glommio::spawn_local(async move {
            let _place = place;
            // An error is the client's connection breaking, which is no news.
            let _ = converse(stream, &context, &counts, limits).await;
        })
        .detach();
    }
}

/// A connection's place among the allowed ones; given back when dropped.
struct Place {
    open: Rc<Cell<usize>>,
    counts: Arc<Counts>,
}
impl Place {
    fn take(open: &Rc<Cell<usize>>, counts: &Arc<Counts>) -> Place {
        open.set(open.get() + 1);
        counts.connections.store(open.get() as u64, Ordering::Relaxed);
        Place { open: open.clone(), counts: counts.clone() }
    }
}
impl Drop for Place {
    fn drop(&mut self) {
        self.open.set(self.open.get() - 1);
        self.counts.connections.store(self.open.get() as u64, Ordering::Relaxed);
    }
}

/// Answers one connection's requests, one after another.
async fn converse(
    mut stream: TcpStream,
    context: &Context,
    counts: &Counts,
    limits: Limits,
) -> io::Result<()> {
    let _ = stream.set_nodelay(true);
    let mut bytes = Vec::new();
    loop {
        let request = match take_request(&mut stream, &mut bytes, limits).await? {
            Taken::Request(request) => request,
            Taken::End => return Ok(()),
            Taken::Late => {
                let late = Response::text(408, "the request did not arrive in time\n");
                return refuse(&mut stream, &late, limits).await;
            }
            Taken::Malformed(why) => {
                counts.malformed.fetch_add(1, Ordering::Relaxed);
                return refuse(&mut stream, &Response::text(why.status(), format!("{why}\n")), limits).await;
            }
        };
        let response = answer(context, &request).await;
        counts.requests.fetch_add(1, Ordering::Relaxed);
        let out = response.to_bytes(request.keep_alive, request.method != Method::Head);
        send(&mut stream, &out, limits.transfer_wait).await?;
        if !request.keep_alive {
            return Ok(());
        }
    }
}

/// What came of waiting for a request.
enum Taken {
    /// It is whole, with its body.
    Request(Request),
    /// The client is done.
    End,
    /// It began and did not end in time.
    Late,
    /// It is none.
    Malformed(Malformed),
}

/// Takes the next request off the connection. What follows it stays in `bytes`.
async fn take_request(stream: &mut TcpStream, bytes: &mut Vec<u8>, limits: Limits) -> io::Result<Taken> {
    if bytes.is_empty() && read_some(stream, bytes, limits.idle_wait).await? == Some(0) {
        return Ok(Taken::End);
    }
    if bytes.is_empty() {
        return Ok(Taken::End);
    }
    // One deadline for the whole request: bytes that trickle do not prolong it.
    let whole = async { Ok::<_, GlommioError<()>>(read_whole(stream, bytes).await) };
    match timeout(limits.transfer_wait, whole).await {
        Ok(taken) => taken,
        Err(_) => Ok(Taken::Late),
    }
}

async fn read_whole(stream: &mut TcpStream, bytes: &mut Vec<u8>) -> io::Result<Taken> {
    loop {
        match http::parse(bytes) {
            Err(why) => return Ok(Taken::Malformed(why)),
            Ok(Some((mut request, head_bytes))) => {
                let whole = head_bytes + request.body_bytes;
                while bytes.len() < whole {
                    if read_more(stream, bytes).await? == 0 {
                        return Ok(Taken::End);
                    }
                }
                request.body = bytes.drain(..whole).skip(head_bytes).collect();
                return Ok(Taken::Request(request));
            }
            Ok(None) => {
                if read_more(stream, bytes).await? == 0 {
                    return Ok(Taken::End);
                }
            }
        }
    }
}

/// Reads what is there, at most a chunk. `bytes` stays bounded: it grows only while a request is not whole.
async fn read_more(stream: &mut TcpStream, bytes: &mut Vec<u8>) -> io::Result<usize> {
    let mut chunk = [0; 4096];
    let room = (HEAD_BYTES_MAX + BODY_BYTES_MAX).saturating_sub(bytes.len());
    let want = chunk.len().min(room);
    let count = stream.read(&mut chunk[..want]).await?;
    bytes.extend_from_slice(&chunk[..count]);
    Ok(count)
}

/// As `read_more`, with a time limit; `None` when it has passed.
async fn read_some(stream: &mut TcpStream, bytes: &mut Vec<u8>, wait: Duration) -> io::Result<Option<usize>> {
    let read = async { Ok::<_, GlommioError<()>>(read_more(stream, bytes).await) };
    match timeout(wait, read).await {
        Ok(outcome) => outcome.map(Some),
        Err(_) => Ok(None),
    }
}

async fn send(stream: &mut TcpStream, bytes: &[u8], wait: Duration) -> io::Result<()> {
    let write = async { Ok::<_, GlommioError<()>>(stream.write_all(bytes).await) };
    match timeout(wait, write).await {
        Ok(outcome) => outcome,
        Err(_) => Err(io::ErrorKind::TimedOut.into()),
    }
}

/// Sends a last response, then reads what is still under way for a moment: closing on unread bytes resets the connection, and the
/// client would never see why.
async fn refuse(stream: &mut TcpStream, response: &Response, limits: Limits) -> io::Result<()> {
    send(stream, &response.to_bytes(false, true), limits.transfer_wait).await?;
    stream.shutdown(Shutdown::Write).await?;
    let mut left = BODY_BYTES_MAX;
    let mut rest = Vec::new();
    while let Some(count) = read_some(stream, &mut rest, Duration::from_millis(200)).await? {
        rest.clear();
        left = left.saturating_sub(count);
        if count == 0 || left == 0 {
            break;
        }
    }
    Ok(())
}
