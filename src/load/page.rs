//! The result as a page that needs nothing else: the percentile curve and the timeline as drawings inside it.

use super::record::Recorder;
use super::report::{Report, per_second};
use super::words::{duration, grouped};
use std::fmt::Write;

/// Of a drawing.
const WIDTH: f64 = 860.0;
const HEIGHT: f64 = 300.0;
/// Left of and below the axes.
const MARGIN: f64 = 70.0;

/// The page.
pub fn page(report: &Report, recorder: &Recorder) -> String {
    let mut page = String::from(HEAD);
    let title = format!("{} writes and reads a second", grouped(report.achieved_per_s));
    write_all(&mut page, format_args!("<h1>quorate bench</h1><p>{}</p>", escape(&title)));
    write_all(&mut page, format_args!("<pre>{}</pre>", escape(&report.to_text())));
    write_all(&mut page, format_args!("<h2>Latency by percentile</h2>{}", curve(recorder)));
    write_all(&mut page, format_args!("<h2>Throughput over time</h2>{}", throughput(recorder)));
    write_all(&mut page, format_args!("<h2>Latency over time</h2>{}", latency(recorder)));
    write_all(&mut page, format_args!("<p class=small>{}</p></body></html>\n", escape(&report.command)));
    page
}

const HEAD: &str = "<!doctype html><html lang=en><head><meta charset=utf-8><title>quorate bench</title><style>\
body{font:15px/1.5 system-ui,sans-serif;max-width:900px;margin:2em auto;padding:0 1em;color:#222;background:#fff}\
pre{background:#f4f4f4;padding:1em;overflow:auto}svg{width:100%;height:auto}.small{color:#777;font-size:12px}\
text{font:12px system-ui,sans-serif;fill:#555}.grid{stroke:#ddd}.a{stroke:#1667b7}.b{stroke:#b7410e}.c{stroke:#888}\
path{fill:none;stroke-width:1.5}@media(prefers-color-scheme:dark){body{background:#181818;color:#ddd}pre{background:#222}\
.grid{stroke:#333}text{fill:#aaa}}</style></head><body>";

fn write_all(page: &mut String, text: std::fmt::Arguments<'_>) {
    page.write_fmt(text).expect("strings take everything");
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// A drawing's axes: both from 0 to 1.
struct Chart {
    body: String,
}

impl Chart {
    fn new() -> Chart {
        Chart { body: String::new() }
    }

    fn x(&self, part: f64) -> f64 {
        MARGIN + part.clamp(0.0, 1.0) * (WIDTH - MARGIN - 20.0)
    }

    fn y(&self, part: f64) -> f64 {
        HEIGHT - 40.0 - part.clamp(0.0, 1.0) * (HEIGHT - 60.0)
    }

    /// A vertical line with a word below it.
    fn at_x(&mut self, part: f64, label: &str) {
        let (x, top, bottom) = (self.x(part), self.y(1.0), self.y(0.0));
        let below = bottom + 18.0;
        let line = format_args!("<line class=grid x1={x:.1} x2={x:.1} y1={top:.1} y2={bottom:.1} />");
        write_all(&mut self.body, line);
        write_all(
            &mut self.body,
            format_args!("<text x={x:.1} y={below:.1} text-anchor=middle>{label}</text>"),
        );
    }

    /// A horizontal line with a word left of it.
    fn at_y(&mut self, part: f64, label: &str) {
        let (y, left, right) = (self.y(part), self.x(0.0), self.x(1.0));
        let before = left - 6.0;
        let line = format_args!("<line class=grid x1={left:.1} x2={right:.1} y1={y:.1} y2={y:.1} />");
        write_all(&mut self.body, line);
        write_all(
            &mut self.body,
            format_args!("<text x={before:.1} y={y:.1} dy=4 text-anchor=end>{label}</text>"),
        );
    }

    fn line(&mut self, class: &str, points: impl Iterator<Item = (f64, f64)>) {
        write_all(&mut self.body, format_args!("<path class={class} d=\""));
        for (index, (x, y)) in points.enumerate() {
            let (x, y, step) = (self.x(x), self.y(y), if index == 0 { 'M' } else { 'L' });
            write_all(&mut self.body, format_args!("{step}{x:.1} {y:.1}"));
        }
        write_all(&mut self.body, format_args!("\" />"));
    }

    fn legend(&mut self, names: &[(&str, &str)]) {
        for (index, (class, name)) in names.iter().enumerate() {
            let x = self.x(0.02) + index as f64 * 90.0;
            write_all(
                &mut self.body,
                format_args!(
                    "<path class={class} d=\"M{x:.0} 12h18\" /><text x={} y=16>{name}</text>",
                    x + 24.0
                ),
            );
        }
    }

    fn finish(self) -> String {
        format!(
            "<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" xmlns=\"http://www.w3.org/2000/svg\">{}</svg>",
            self.body
        )
    }
}

/// A logarithmic axis of nanoseconds, by whole decades.
struct Decades {
    low: f64,
    high: f64,
}

impl Decades {
    fn of(least: u64, most: u64) -> Decades {
        let low = (least.max(1) as f64).log10().floor();
        Decades { low, high: (most.max(1) as f64).log10().ceil().max(low + 1.0) }
    }

    fn part(&self, nanos: u64) -> f64 {
        ((nanos.max(1) as f64).log10() - self.low) / (self.high - self.low)
    }

    fn draw(&self, chart: &mut Chart) {
        for decade in self.low as i32..=self.high as i32 {
            let nanos = 10f64.powi(decade);
            chart.at_y(self.part(nanos as u64), &duration_of_nanos(nanos));
        }
    }
}

fn duration_of_nanos(nanos: f64) -> String {
    if nanos < 1000.0 { format!("{nanos:.0} ns") } else { duration(nanos / 1000.0) }
}

fn curve(recorder: &Recorder) -> String {
    let mut chart = Chart::new();
    let points = recorder.curve();
    let decades = Decades::of(recorder.total().min(), recorder.total().max());
    decades.draw(&mut chart);
    // As many nines as there are commands to tell them apart.
    let nines = (recorder.total().len().max(10) as f64).log10();
    let names = ["0 %", "90 %", "99 %", "99.9 %", "99.99 %", "99.999 %", "99.9999 %"];
    for (nine, name) in names.iter().enumerate().take_while(|(nine, _)| *nine as f64 <= nines) {
        chart.at_x(nine as f64 / nines, name);
    }
    let place = |rest: f64| if rest <= 0.0 { 1.0 } else { -rest.log10() / nines };
    chart.line("a", points.iter().map(|(rest, nanos)| (place(*rest), decades.part(*nanos))));
    chart.finish()
}

/// Marks of the time axis.
fn seconds(chart: &mut Chart, recorder: &Recorder) -> f64 {
    let total = (super::record::TICK * recorder.ticks().len() as u32).as_secs_f64().max(0.1);
    for mark in 0..=5 {
        let part = f64::from(mark) / 5.0;
        chart.at_x(part, &format!("{:.1} s", part * total));
    }
    total
}

fn throughput(recorder: &Recorder) -> String {
    let mut chart = Chart::new();
    let total = seconds(&mut chart, recorder);
    let most = recorder.ticks().iter().map(per_second).fold(1.0, f64::max) * 1.05;
    for mark in 0..=4 {
        let part = f64::from(mark) / 4.0;
        chart.at_y(part, &grouped(part * most));
    }
    let point = |at: f64, rate: f64| (at / total, rate / most);
    chart.line("a", recorder.ticks().iter().map(|tick| point(tick.at.as_secs_f64(), per_second(tick))));
    let bad = |count: u64| count as f64 / super::record::TICK.as_secs_f64();
    chart.line("b", recorder.ticks().iter().map(|tick| point(tick.at.as_secs_f64(), bad(tick.bad))));
    chart.legend(&[("a", "done"), ("b", "failed")]);
    chart.finish()
}

fn latency(recorder: &Recorder) -> String {
    let mut chart = Chart::new();
    let total = seconds(&mut chart, recorder);
    let decades = Decades::of(recorder.total().min(), recorder.total().max());
    decades.draw(&mut chart);
    type Value = fn(&super::record::Tick) -> u64;
    let p50: Value = |tick| tick.p50;
    let p99: Value = |tick| tick.p99;
    let max: Value = |tick| tick.max;
    for (class, value) in [("a", p50), ("b", p99), ("c", max)] {
        let answered = recorder.ticks().iter().filter(|tick| 0 < tick.max);
        chart.line(class, answered.map(|tick| (tick.at.as_secs_f64() / total, decades.part(value(tick)))));
    }
    chart.legend(&[("a", "p50"), ("b", "p99"), ("c", "max")]);
    chart.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::report::sample;

    fn made(commands: u64) -> String {
        let mut recorder = Recorder::default();
        for tick in 0..20 {
            (0..commands).for_each(|i| recorder.latency(100_000 + i * 7_919 * (tick + 1), 1));
            recorder.answered(commands, tick % 3);
            recorder.end_tick();
        }
        recorder.finish();
        page(&sample(), &recorder)
    }

    #[test]
    fn the_page_needs_nothing_from_elsewhere() {
        let page = made(1000);
        for outside in ["src=", "href=", "url(", "@import", "<script"] {
            assert!(!page.contains(outside), "{outside}");
        }
        assert_eq!(page.matches("<svg").count(), 3);
        assert!(!page.contains("NaN") && !page.contains("inf"));
        assert!(page.contains("ERR no &amp; &lt;why&gt;"), "texts of servers are no markup");
    }

    #[test]
    fn a_page_of_nothing_is_drawn_too() {
        let page = made(0);
        assert!(!page.contains("NaN") && !page.contains("inf"));
    }
}
