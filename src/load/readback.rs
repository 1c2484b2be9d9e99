//! After a load every key that it touched is read once more: a write that was acknowledged and lost shows here at the latest.

use super::ask;
use super::error::LoadError;
use super::plan::Plan;
use super::reply::{Answer, Errors, ReplyReader};
use super::witness::{Testimony, Witness};
use super::workload::{Asked, Workload};
use crate::io::clock;
use bytes::BytesMut;
use std::io::{Read, Write};
use std::time::Duration;

/// Reads that are sent together.
const PIPELINE: usize = 256;
/// Errors are asked again for so long: a leader may still be missing.
const WITHIN: Duration = Duration::from_secs(30);
/// Between two tries.
const PAUSE: Duration = Duration::from_millis(50);

/// Reads `keys` through each of the endpoints in turn, passing over those that nobody serves, and tells the witness. Keys whose read
/// gets no answer in time are an error: nothing would be known of them.
pub fn read_back(
    plan: &Plan,
    endpoints: &[String],
    keys: &[u64],
    witness: &mut dyn Witness,
) -> Result<(), LoadError> {
    let mut reader = Reader {
        workload: Workload::new(plan, 0),
        // A client of its own: none of the load's connections.
        testimony: Testimony::new(witness, plan.connections + 1),
        client: plan.connections,
    };
    let limit = clock::monotonic().after(WITHIN);
    let mut endpoint = 0;
    for chunk in keys.chunks(PIPELINE) {
        let mut left = chunk.to_vec();
        let mut last = String::new();
        while !left.is_empty() {
            let address = &endpoints[endpoint % endpoints.len()];
            endpoint += 1;
            match reader.read(address, plan.password.as_deref(), &left) {
                Ok(again) => left = again,
                Err(error) => last = format!("{address}: {error}"),
            }
            if !left.is_empty() {
                if limit <= clock::monotonic() {
                    let what = format!("{} keys could not be read back within {WITHIN:?}", left.len());
                    return Err(LoadError::Child { what, cure: format!("the last answer: {last}") });
                }
                std::thread::sleep(PAUSE);
            }
        }
    }
    Ok(())
}

struct Reader<'a> {
    workload: Workload,
    testimony: Testimony<'a>,
    client: usize,
}

impl Reader<'_> {
    /// Reads these keys; those that were refused.
    fn read(&mut self, endpoint: &str, password: Option<&str>, keys: &[u64]) -> std::io::Result<Vec<u64>> {
        let mut stream = ask::connect(endpoint)?;
        let mut out = BytesMut::new();
        if let Some(password) = password {
            out.extend_from_slice(
                format!("*2\r\n$4\r\nAUTH\r\n${}\r\n{password}\r\n", password.len()).as_bytes(),
            );
        }
        keys.iter().for_each(|key| self.workload.read(*key, &mut out));
        let start = clock::monotonic();
        stream.write_all(&out)?;
        let expected = keys.len() + usize::from(password.is_some());
        let mut replies = ReplyReader::keeping();
        let (mut answers, mut buffer) = (Vec::new(), vec![0; 64 << 10]);
        while answers.len() < expected {
            let count = stream.read(&mut buffer)?;
            if count == 0 {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
            replies.take(&buffer[..count], &mut Errors::new()).map_err(std::io::Error::other)?;
            answers.extend(replies.answers());
        }
        let now = clock::monotonic();
        let mut again = Vec::new();
        for (key, answer) in keys.iter().zip(&answers[expected - keys.len()..]) {
            if matches!(answer, Answer::Refused | Answer::Unknown) {
                again.push(*key);
                continue;
            }
            self.testimony.asks(self.client, start, Asked { key: *key, write: None });
            self.testimony.answered(&self.workload, self.client, now, answer);
        }
        Ok(again)
    }
}
