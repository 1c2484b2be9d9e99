//! Comparing on a machine whose mood changes: contestants take turns, round after round, and medians and ratios are what counts.

use super::error::LoadError;
use super::report::Report;
use super::words::{duration, grouped};

/// How a contestant did.
#[derive(Clone, Debug)]
pub struct Standing {
    /// Who.
    pub name: String,
    /// One a round.
    pub reports: Vec<Report>,
}

/// Runs each contestant once a round. Every other round goes backwards, so that what drifts slowly hits all alike.
pub fn interleave(
    names: &[&str],
    rounds: usize,
    mut bench: impl FnMut(usize) -> Result<Report, LoadError>,
) -> Result<Vec<Standing>, LoadError> {
    let mut standings: Vec<Standing> =
        names.iter().map(|name| Standing { name: name.to_string(), reports: Vec::new() }).collect();
    for round in 0..rounds {
        for place in 0..names.len() {
            let index = if round.is_multiple_of(2) { place } else { names.len() - 1 - place };
            standings[index].reports.push(bench(index)?);
        }
    }
    Ok(standings)
}

impl Standing {
    /// The median of a figure; of an even number the lower of the two in the middle. `None` when no report has it.
    pub fn median(&self, figure: impl Fn(&Report) -> Option<f64>) -> Option<f64> {
        let mut values: Vec<f64> = self.reports.iter().filter_map(figure).collect();
        values.sort_by(f64::total_cmp);
        values.get(values.len().checked_sub(1)? / 2).copied()
    }
}

/// A table of medians, with each throughput as a multiple of the last contestant's.
pub fn table(standings: &[Standing]) -> String {
    let rate = |standing: &Standing| standing.median(|report| Some(report.achieved_per_s)).unwrap_or(0.0);
    let base = standings.last().map_or(1.0, rate).max(1e-9);
    let mut text = format!(
        "{:<16}{:>12}{:>8}{:>11}{:>11}{:>11}{:>9}\n",
        "", "per second", "times", "p50", "p99", "p99.9", "CPU us"
    );
    for standing in standings {
        let time = |figure: fn(&Report) -> f64| {
            duration(standing.median(|report| Some(figure(report))).unwrap_or(0.0))
        };
        let cpu = standing.median(|report| report.cpu_us_per_op.nodes);
        let cpu = cpu.map_or("-".to_string(), |cpu| format!("{cpu:.2}"));
        text += &format!(
            "{:<16}{:>12}{:>8.2}{:>11}{:>11}{:>11}{cpu:>9}\n",
            standing.name,
            grouped(rate(standing)),
            rate(standing) / base,
            time(|report| report.latency_us.p50),
            time(|report| report.latency_us.p99),
            time(|report| report.latency_us.p999),
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::report::sample;

    #[test]
    fn contestants_take_turns_there_and_back_and_medians_count() {
        let mut order = Vec::new();
        let standings = interleave(&["ours", "theirs"], 3, |index| {
            order.push(index);
            let per_s = [100.0, 10.0][index] * order.len() as f64;
            Ok(Report { achieved_per_s: per_s, ..sample() })
        });
        let standings = standings.unwrap();
        assert_eq!(order, [0, 1, 1, 0, 0, 1]);
        let median = |index: usize| standings[index].median(|report| Some(report.achieved_per_s));
        assert_eq!((median(0), median(1)), (Some(400.0), Some(30.0)));
        assert_eq!(standings[0].median(|_| None), None);
        let table = table(&standings);
        assert!(table.contains("13.33") && table.lines().count() == 3, "{table}");
    }

    #[test]
    fn one_failure_ends_it() {
        let failed = interleave(&["a"], 2, |_| Err(LoadError::Usage("no".into())));
        assert_eq!(failed.err().unwrap().exit_code(), 2);
    }
}
