//! The offending part of a history as one HTML page that needs nothing else: a lane a client, a bar an operation.
//!
//! Events are drawn at equal distances in their order, for order is what linearizability is about; the times stand in the bars' titles.

use super::event::{History, Operation};
use super::judge::Report;
use super::shrink::Offence;
use std::collections::BTreeMap;
use std::fmt::Write;

/// Neighbours drawn beside a core.
const NEIGHBOURS_MAX: usize = 60;
/// Characters of an operation shown in its bar; all of it is in the bar's title, up to `TITLE_MAX`.
const LABEL_MAX: usize = 40;
const TITLE_MAX: usize = 2_000;
/// Pixels: between two events, of a lane, and left of all.
const EVENT_WIDTH: usize = 56;
const LANE_HEIGHT: usize = 34;
const MARGIN: usize = 96;

const STYLE: &str = "
:root { color-scheme: light dark; --ink: #1c2128; --dim: #768390; --paper: #fff; --lane: #e4e8ec; --bad: #c62828; --calm: #90a4ae; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6edf3; --dim: #8b949e; --paper: #14181d; --lane: #2b323b; --bad: #ff6b62; --calm: #546e7a; } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); margin: 2rem auto; max-width: 75rem; padding: 0 1rem; }
.scroll { overflow-x: auto; } svg text { font: 12px ui-monospace, monospace; fill: var(--ink); }
svg .client { fill: var(--dim); } svg line { stroke: var(--lane); } svg .calm { fill: var(--calm); fill-opacity: .35; }
svg .bad { fill: var(--bad); fill-opacity: .3; stroke: var(--bad); stroke-width: 2; } svg .open { stroke-dasharray: 5 4; }
svg .window { stroke: var(--dim); stroke-dasharray: 2 4; } table { border-collapse: collapse; } td, th { text-align: left; padding: .15rem 1rem .15rem 0; }
code, td { font-family: ui-monospace, monospace; font-size: 13px; overflow-wrap: anywhere; } .note { color: var(--dim); }
";

/// The page for all offences of a report.
pub fn page(name: &str, history: &History, report: &Report) -> String {
    let mut html = String::from("<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">");
    let title = format!("{}: {}", escape(name), report.verdict.name());
    let (keys, operations) = (history.keys.len(), history.operations.len());
    put(&mut html, format_args!("<title>{title}</title><style>{STYLE}</style></head><body><h1>{title}</h1>"));
    put(
        &mut html,
        format_args!(
            "<p>{operations} operations on {keys} keys, held against the model {}; {} keys have no order{}.</p>",
            report.model.name(),
            report.failed.len(),
            if report.offences.len() < report.failed.len() { ", the smallest ones are drawn" } else { "" },
        ),
    );
    for offence in &report.offences {
        section(&mut html, history, offence);
    }
    html + "</body></html>\n"
}

fn section(html: &mut String, history: &History, offence: &Offence) {
    let key = &history.keys[offence.key as usize];
    let named =
        if key.is_empty() { "The register".into() } else { format!("Key <code>{}</code>", escape(key)) };
    let before = offence.before.iter().map(|b| escape(b)).collect::<Vec<_>>().join("</code> or <code>");
    put(html, format_args!("<h2>{named}</h2><p>Before, it holds <code>{before}</code>. "));
    put(html, format_args!("No order of the framed operations explains all their answers"));
    if !offence.freed.is_empty() {
        let count = offence.freed.len();
        put(html, format_args!(", even if {count} other changes may take effect at any time or never"));
    }
    put(html, format_args!("."));
    if !offence.minimal {
        put(
            html,
            format_args!(" <span class=\"note\">An attempt to leave out more ended at its limit.</span>"),
        );
    }
    put(html, format_args!("</p><div class=\"scroll\">"));
    draw(html, history, offence);
    put(
        html,
        format_args!(
            "</div><table><tr><th>line</th><th>client</th><th>operation</th><th>from, to (ns)</th></tr>"
        ),
    );
    for place in &offence.core {
        let operation = &history.operations[*place as usize];
        let Operation { line, client, start, end, .. } = operation;
        let end = end.map_or("never answered".into(), |end| end.to_string());
        let text = escape(&cut(&operation.to_string(), TITLE_MAX));
        put(
            html,
            format_args!("<tr><td>{line}</td><td>{client}</td><td>{text}</td><td>{start}, {end}</td></tr>"),
        );
    }
    put(html, format_args!("</table>"));
}

/// The core and what was under way around it, by start.
fn drawn(history: &History, offence: &Offence) -> Vec<u32> {
    let core = || offence.core.iter().map(|place| &history.operations[*place as usize]);
    let from = core().map(|o| o.start).min().unwrap_or(0);
    let until = core().map(|o| o.end.unwrap_or(o.start)).max().unwrap_or(u64::MAX);
    let is_core = |place: u32| offence.core.contains(&place);
    let of_key = history.operations.iter().enumerate().filter(|(_, o)| o.key == offence.key);
    let others = of_key.filter(|(place, o)| !is_core(*place as u32) && o.start <= until);
    // The nearest first: those that overlap, then those that ended last.
    let mut near: Vec<_> = others
        .map(|(place, o)| (from.saturating_sub(o.end.unwrap_or(from)), o.start, place as u32))
        .collect();
    near.sort_unstable_by_key(|(gap, start, _)| (*gap, std::cmp::Reverse(*start)));
    near.truncate(NEIGHBOURS_MAX);
    let mut all: Vec<u32> =
        near.into_iter().map(|(_, _, place)| place).chain(offence.core.iter().copied()).collect();
    all.sort_by_key(|place| (history.operations[*place as usize].start, *place));
    all
}

fn draw(html: &mut String, history: &History, offence: &Offence) {
    let places = drawn(history, offence);
    let operations: Vec<&Operation> =
        places.iter().map(|place| &history.operations[*place as usize]).collect();
    let times = operations.iter().flat_map(|o| [Some((o.start, false)), o.end.map(|end| (end, true))]);
    let mut columns: BTreeMap<(u64, bool), usize> = times.flatten().map(|time| (time, 0)).collect();
    for (column, place) in columns.values_mut().enumerate() {
        *place = MARGIN + column * EVENT_WIDTH;
    }
    let width = MARGIN + columns.len() * EVENT_WIDTH + EVENT_WIDTH;
    let lanes = lanes(&operations);
    let height = lanes.iter().max().map_or(1, |lane| lane + 1) * LANE_HEIGHT;
    put(html, format_args!("<svg width=\"{width}\" height=\"{height}\" role=\"img\">"));
    if let Some(begins) = offence.begins {
        let x = columns.range(..=(begins, true)).next_back().map_or(MARGIN, |(_, x)| *x) + EVENT_WIDTH / 2;
        put(html, format_args!("<line class=\"window\" x1=\"{x}\" x2=\"{x}\" y1=\"0\" y2=\"{height}\"/>"));
    }
    for ((operation, lane), place) in operations.iter().zip(&lanes).zip(&places) {
        let left = columns[&(operation.start, false)];
        let right = operation.end.map_or(width - 4, |end| columns[&(end, true)]);
        let y = lane * LANE_HEIGHT;
        let mut class = String::from(if offence.core.contains(place) { "bad" } else { "calm" });
        class += if operation.end.is_none() { " open" } else { "" };
        let end = operation.end.map_or("never answered".into(), |end| end.to_string());
        let text = operation.to_string();
        let title =
            format!("line {}: {} from {} to {end}", operation.line, cut(&text, TITLE_MAX), operation.start);
        let room = ((right - left) / 7).min(LABEL_MAX);
        put(
            html,
            format_args!(
                "<text class=\"client\" x=\"4\" y=\"{0}\">client {client}</text><line x1=\"{MARGIN}\" x2=\"{width}\" y1=\"{1}\" y2=\"{1}\"/>\
                 <g><title>{title}</title><rect class=\"{class}\" x=\"{left}\" y=\"{2}\" width=\"{3}\" height=\"22\" rx=\"4\"/>\
                 <text x=\"{4}\" y=\"{0}\">{label}</text></g>",
                y + 20,
                y + LANE_HEIGHT - 1,
                y + 5,
                right - left,
                left + 5,
                client = operation.client,
                title = escape(&title),
                label = escape(&cut(&text, room)),
            ),
        );
    }
    put(html, format_args!("</svg>"));
}

/// A lane for each client, and more where its operations overlap (a pipeline, or an operation never answered).
fn lanes(operations: &[&Operation]) -> Vec<usize> {
    let mut of_client: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
    let mut within = Vec::new();
    for operation in operations {
        let ends = of_client.entry(operation.client).or_default();
        let end = operation.end.unwrap_or(u64::MAX);
        let free = ends.iter().position(|last| *last < operation.start);
        let lane = free.unwrap_or(ends.len());
        match free {
            Some(lane) => ends[lane] = end,
            None => ends.push(end),
        }
        within.push(lane);
    }
    let mut first = BTreeMap::new();
    let mut sum = 0;
    for (client, ends) in &of_client {
        first.insert(*client, sum);
        sum += ends.len();
    }
    operations.iter().zip(within).map(|(operation, lane)| first[&operation.client] + lane).collect()
}

/// The beginning and the end of a text that is too long: values that grow differ at their ends.
pub fn cut(text: &str, most: usize) -> String {
    let count = text.chars().count();
    if count <= most {
        return text.to_owned();
    }
    let (head, tail) = (most / 2, most.saturating_sub(1) / 2);
    text.chars().take(head).chain(['\u{2026}']).chain(text.chars().skip(count - tail)).collect()
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

fn put(html: &mut String, text: std::fmt::Arguments<'_>) {
    html.write_fmt(text).expect("a text takes what is written to it");
}

#[cfg(test)]
mod tests {
    use super::super::search::Unlimited;
    use super::super::{check, formats};
    use super::*;

    #[test]
    fn a_page_frames_the_core_escapes_names_and_needs_nothing_else() {
        let text = r#"{"client":1,"key":"<k>","op":"write","args":["<b>"],"start":1,"end":2}
            {"client":1,"key":"<k>","op":"write","args":["c"],"start":3}
            {"client":2,"key":"<k>","op":"read","result":"<i>","start":1,"end":9}"#;
        let (history, _) = formats::from_text(text).unwrap();
        let report = check(&history, None, &mut Unlimited).unwrap();
        let html = page("<file>", &history, &report);
        assert_eq!(html.matches("class=\"bad\"").count(), report.offences[0].core.len());
        assert_eq!(html.matches("class=\"calm open\"").count(), 1);
        assert!(html.contains("&lt;k&gt;") && html.contains("&lt;i&gt;"));
        for outside in ["<k>", "<b>", "<i>", "<file>", "http", "<script", "@import", "url("] {
            assert!(!html.contains(outside), "{outside}");
        }
        assert_eq!(html.matches("<g>").count(), html.matches("</g>").count());
    }

    #[test]
    fn operations_of_one_client_that_overlap_get_lanes_of_their_own() {
        let text = r#"{"client":7,"op":"read","start":1}
            {"client":7,"op":"read","start":2,"end":3}
            {"client":7,"op":"read","start":4,"end":5}
            {"client":1,"op":"read","start":4,"end":5}"#;
        let (history, _) = formats::from_text(text).unwrap();
        assert_eq!(lanes(&history.operations.iter().collect::<Vec<_>>()), [1, 2, 2, 0]);
    }
}
