//! SCAN and HSCAN: cursors that survive changes.
//!
//! Redis's promise: what is there from the first call to the last is returned at least once. A key never leaves its bucket, so a
//! bucket's number keeps it for SCAN. For HSCAN of a large hash the cursor falls from the number of fields to 0: a removal moves a
//! field downwards only, so what has not been returned stays below the cursor (`fields` says how removal moves).

use super::error::{CommandError, Outcome};
use super::fields::{Field, Fields, ORDERED_MAX};
use super::glob;
use super::keys::kind_name;
use super::numbers::{DIGITS_MAX, decimal, integer};
use super::record::Record;
use super::reply::Reply;
use super::state::State;
use super::strings::next;
use crate::resp::batch::Args;

struct Options<'a> {
    pattern: Option<&'a [u8]>,
    count: usize,
    kind: Option<&'a [u8]>,
}

impl<'a> Options<'a> {
    fn parse(mut args: Args<'a>, of_keys: bool) -> Result<Options<'a>, CommandError> {
        let mut options = Options { pattern: None, count: 10, kind: None };
        while let Some(option) = args.next() {
            let value = next(&mut args)?;
            match () {
                _ if option.eq_ignore_ascii_case(b"MATCH") => options.pattern = Some(value),
                _ if option.eq_ignore_ascii_case(b"COUNT") => match integer(value)? {
                    count if count < 1 => return Err(CommandError::Syntax),
                    count => options.count = count as usize,
                },
                _ if option.eq_ignore_ascii_case(b"TYPE") && of_keys => options.kind = Some(value),
                _ => return Err(CommandError::Syntax),
            }
        }
        options.pattern = options.pattern.filter(|p| *p != b"*");
        Ok(options)
    }
    fn matches(&self, name: &[u8]) -> bool {
        self.pattern.is_none_or(|pattern| glob::matches(pattern, name))
    }
    fn wants(&self, record: &Record) -> bool {
        let of_kind = |kind: &[u8]| kind.eq_ignore_ascii_case(kind_name(record.view()).as_bytes());
        self.matches(record.key()) && self.kind.is_none_or(of_kind)
    }
}

fn parse_cursor(text: &[u8]) -> Result<usize, CommandError> {
    let digits = std::str::from_utf8(text).ok().filter(|t| t.bytes().all(|b| b.is_ascii_digit()));
    digits.and_then(|d| d.parse::<u64>().ok()).map(|c| c as usize).ok_or(CommandError::Cursor)
}

fn head(reply: &mut Reply<'_>, cursor: usize, len: usize) {
    reply.array(2);
    reply.bulk(decimal(cursor as i64, &mut [0; DIGITS_MAX]));
    reply.array(len);
}

/// SCAN cursor [MATCH pattern] [COUNT n] [TYPE type].
pub(super) fn scan(state: &State, mut args: Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let start = parse_cursor(next(&mut args)?)?;
    let options = Options::parse(args, true)?;
    let buckets = state.table.buckets();
    let (mut visited, mut end) = (0, start.min(buckets.len()));
    while end < buckets.len() && visited < options.count {
        visited += buckets[end].len();
        end += 1;
    }
    let found = || {
        let records = buckets[start.min(end)..end].iter().flatten();
        records.filter(|r| !r.is_expired(state.now) && options.wants(r))
    };
    head(reply, if end < buckets.len() { end } else { 0 }, found().count());
    found().for_each(|record| reply.bulk(record.key()));
    Ok(())
}

/// HSCAN key cursor [MATCH pattern] [COUNT n].
pub(super) fn hscan(state: &State, mut args: Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let key = next(&mut args)?;
    let cursor = parse_cursor(next(&mut args)?)?;
    let Some(items) = state.look_fields(key)?.map(Fields::items) else {
        head(reply, 0, 0);
        return Ok(());
    };
    let options = Options::parse(args, false)?;
    let (low, high) = if items.len() <= ORDERED_MAX {
        (0, items.len())
    } else {
        let high = if cursor == 0 { items.len() } else { cursor.min(items.len()) };
        (high.saturating_sub(options.count), high)
    };
    let found = || items[low..high].iter().filter(|f| options.matches(Field::name(f)));
    head(reply, low, 2 * found().count());
    for field in found() {
        reply.bulk(field.name());
        reply.bulk(field.value());
    }
    Ok(())
}
