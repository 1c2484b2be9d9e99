//! A failing run made smaller: the same seed violates the same property with fewer events, fewer faults, fewer nodes (delta debugging,
//! Zeller and Hildebrandt 2002, over the three things that a command line can say).

use super::options::Options;
use super::sweep::{Finding, Run};

/// Runs that are tried at most.
pub const TRIES_MAX: usize = 400;

/// Looks for the smallest run that still fails. `tried` is told after each try how small the run is by now.
pub fn shrink(finding: &Finding, run: Run<'_>, mut tried: impl FnMut(&Finding)) -> Finding {
    let mut search = Search { best: finding.clone(), left: TRIES_MAX, run, tried: &mut tried };
    search.cut_events();
    loop {
        let before = search.best.options;
        search.drop_faults();
        search.drop_nodes();
        search.cut_events();
        if search.best.options == before || search.left == 0 {
            return search.best;
        }
    }
}

struct Search<'a> {
    best: Finding,
    left: usize,
    run: Run<'a>,
    tried: &'a mut dyn FnMut(&Finding),
}

impl Search<'_> {
    /// Whether the run of `options` violates the same property; then it is the best so far.
    fn fails(&mut self, options: Options) -> bool {
        if self.left == 0 {
            return false;
        }
        self.left -= 1;
        let found = (self.run)(self.best.seed, &options).err();
        let same = found.filter(|violation| violation.property == self.best.violation.property);
        let fails = same.is_some();
        if let Some(violation) = same {
            // What comes after the violation does not matter.
            let options = Options { events: options.events.min(violation.events), ..options };
            self.best = Finding { seed: self.best.seed, options, violation };
        }
        (self.tried)(&self.best);
        fails
    }

    /// Fewer events under faults. A run that fails while it is healed may need only the first of them.
    fn cut_events(&mut self) {
        let events = self.best.options.events.min(self.best.violation.events);
        if events < self.best.options.events && !self.fails(Options { events, ..self.best.options }) {
            return;
        }
        let mut step = self.best.options.events / 2;
        while 0 < step {
            let events = self.best.options.events.saturating_sub(step);
            if events == self.best.options.events || !self.fails(Options { events, ..self.best.options }) {
                step /= 2;
            }
        }
    }

    fn drop_faults(&mut self) {
        for fault in self.best.options.faults.iter().collect::<Vec<_>>() {
            let faults = self.best.options.faults.without(fault);
            self.fails(Options { faults, ..self.best.options });
        }
    }

    fn drop_nodes(&mut self) {
        let most = self.best.options.nodes.unwrap_or(8);
        for nodes in 1..most {
            if self.fails(Options { nodes: Some(nodes), ..self.best.options }) {
                return;
            }
        }
    }
}
