//! Writers that remember what was acknowledged, and the check that nothing of it is lost.

use super::harness::{Client, Cluster, Reply, await_some};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;

/// What one writer knows: each key is written once; a counter is incremented once a key.
#[derive(Default)]
pub struct Written {
    pub acknowledged: Vec<u64>,
    /// Sent, and no honest answer came: it may have happened or not, but once.
    pub unknown: Vec<u64>,
}

pub struct Load {
    stop: Arc<AtomicBool>,
    count: Arc<AtomicU64>,
    writers: Vec<JoinHandle<Written>>,
}

impl Load {
    /// Two writers a node, each on a connection to it; a writer whose node is down goes on with the next.
    pub fn start(cluster: &Cluster) -> Load {
        let stop = Arc::new(AtomicBool::new(false));
        let count = Arc::new(AtomicU64::new(0));
        let writers = (0..2 * cluster.clients.len())
            .map(|writer| {
                let (addresses, stop, count) = (cluster.clients.clone(), stop.clone(), count.clone());
                std::thread::spawn(move || write(writer, &addresses, &stop, &count))
            })
            .collect();
        Load { stop, count, writers }
    }
    /// Number of acknowledged writes so far.
    pub fn acknowledged(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }
    /// Waits until `more` further writes are acknowledged.
    pub fn await_more(&self, more: u64) {
        let goal = self.acknowledged() + more;
        await_some(
            || (goal <= self.acknowledged()).then_some(()),
            || format!("{goal} writes are acknowledged, so far {}", self.acknowledged()),
        );
    }
    /// Ends the load; what each writer knows.
    pub fn finish(self) -> Vec<Written> {
        self.stop.store(true, Ordering::Relaxed);
        self.writers.into_iter().map(|w| w.join().expect("a writer that ends")).collect()
    }
}

fn write(writer: usize, addresses: &[String], stop: &AtomicBool, count: &AtomicU64) -> Written {
    let mut written = Written::default();
    let mut node = writer % addresses.len();
    let mut client = None;
    let mut next = 0;
    while !stop.load(Ordering::Relaxed) {
        let Some(connected) = client.as_mut() else {
            client = Client::connect(&addresses[node]).ok();
            node = (node + 1) % addresses.len();
            continue;
        };
        let (key, counter) = (format!("w{writer}:{next}"), format!("count{writer}"));
        let connected: &mut Client = connected;
        // One pipeline: the counter's increment follows the key's write in one batch.
        let sent = connected
            .send(&["SET", &key, &value(writer, next)])
            .and_then(|()| connected.send(&["INCR", &counter]));
        let replies = sent.and_then(|()| Ok((connected.reply()?, connected.reply()?)));
        match replies {
            Ok((Reply::Simple(_), Reply::Integer(_))) => {
                written.acknowledged.push(next);
                count.fetch_add(1, Ordering::Relaxed);
                next += 1;
            }
            // Certainly not appended: the same key may be tried again.
            Ok((set, incr)) if retryable(&set) && retryable(&incr) => (),
            Ok((set, incr)) => {
                let honest =
                    |r: &Reply| retryable(r) || r.is_error("INDETERMINATE") || !matches!(r, Reply::Error(_));
                assert!(honest(&set) && honest(&incr), "unexpected replies {set:?} {incr:?}");
                written.unknown.push(next);
                next += 1;
            }
            Err(_) => {
                written.unknown.push(next);
                next += 1;
                client = None;
            }
        }
    }
    written
}

fn retryable(reply: &Reply) -> bool {
    ["CLUSTERDOWN", "LOADING", "TRYAGAIN", "OVERLOADED"].iter().any(|prefix| reply.is_error(prefix))
}

fn value(writer: usize, key: u64) -> String {
    format!("value of {writer} and {key} {}", "x".repeat((key % 300) as usize))
}

/// Reads everything back through `node`: each acknowledged write is there, each counter moved once a write.
pub fn verify(cluster: &Cluster, node: usize, written: &[Written]) {
    let mut client = cluster.client(node);
    for (writer, written) in written.iter().enumerate() {
        for chunk in written.acknowledged.chunks(200) {
            chunk
                .iter()
                .for_each(|key| client.send(&["GET", &format!("w{writer}:{key}")]).expect("the node lives"));
            for key in chunk {
                let reply = client.reply().expect("the node lives");
                assert_eq!(reply, Reply::bulk(&value(writer, *key)), "acknowledged write w{writer}:{key}");
            }
        }
        let count = match client.command(&["GET", &format!("count{writer}")]).expect("the node lives") {
            Reply::Bulk(Some(text)) => {
                String::from_utf8(text).expect("digits").parse::<u64>().expect("digits")
            }
            other => {
                assert_eq!(other, Reply::Bulk(None));
                0
            }
        };
        let (least, most) = (written.acknowledged.len(), written.acknowledged.len() + written.unknown.len());
        assert!(
            (least as u64..=most as u64).contains(&count),
            "count{writer} is {count}, not within {least}..={most}"
        );
    }
}
