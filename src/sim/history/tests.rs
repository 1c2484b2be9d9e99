//! The search against a dumb second implementation: all orders of a small history, each run on plain values.

use super::event::{Builder, Invocation};
use super::search::{Found, Item, Unlimited, find_order};
use super::states::State;
use super::{
    History, Literal, Model, Offence, Operation, Outcome, Verb, Verdict, check, judge, models::Machine,
};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use std::collections::BTreeMap;

/// A value as the dumb implementation keeps it.
#[derive(Clone, PartialEq, Debug, Default)]
enum Plain {
    #[default]
    Nothing,
    Word(String),
    Hash(BTreeMap<String, String>),
}

fn word(literal: &Literal) -> String {
    match literal {
        Literal::Integer(number) => number.to_string(),
        Literal::Text(text) => text.to_string(),
        other => panic!("{other} is no word"),
    }
}

fn plain(literal: &Literal) -> Plain {
    match literal {
        Literal::Nil => Plain::Nothing,
        Literal::Fields(fields) if fields.is_empty() => Plain::Nothing,
        Literal::Fields(fields) => {
            Plain::Hash(fields.iter().map(|(name, value)| (name.to_string(), word(value))).collect())
        }
        scalar => Plain::Word(word(scalar)),
    }
}

/// The value after the operation and its answer; none where Redis would answer an error. Model: any.
fn apply(value: &Plain, operation: &Operation) -> Option<(Plain, Plain)> {
    let arg = |place: usize| word(&operation.args[place]);
    let number = |n: i64| Plain::Word(n.to_string());
    let text = || match value {
        Plain::Nothing => Some(String::new()),
        Plain::Word(text) => Some(text.clone()),
        Plain::Hash(_) => None,
    };
    let hash = || match value {
        Plain::Nothing => Some(BTreeMap::new()),
        Plain::Hash(fields) => Some(fields.clone()),
        Plain::Word(_) => None,
    };
    let wrap = |fields: BTreeMap<_, _>| if fields.is_empty() { Plain::Nothing } else { Plain::Hash(fields) };
    let sum = |text: &str, by: String| -> Option<i64> {
        let text = if text.is_empty() { "0" } else { text };
        text.parse::<i64>().ok()?.checked_add(by.parse().unwrap())
    };
    Some(match operation.verb {
        Verb::Read => (value.clone(), value.clone()),
        Verb::Write => (Plain::Word(arg(0)), Plain::Nothing),
        Verb::CompareAndSet if *value == plain(&operation.args[0]) => (Plain::Word(arg(1)), number(1)),
        Verb::CompareAndSet => (value.clone(), number(0)),
        Verb::Append => {
            let grown = text()? + &arg(0);
            (Plain::Word(grown.clone()), number(grown.len() as i64))
        }
        Verb::Add => {
            let sum = sum(&text()?, arg(0))?;
            (number(sum), number(sum))
        }
        Verb::Delete => (Plain::Nothing, number(i64::from(*value != Plain::Nothing))),
        Verb::FieldRead => {
            (value.clone(), hash()?.get(&arg(0)).map_or(Plain::Nothing, |v| Plain::Word(v.clone())))
        }
        Verb::FieldWrite => {
            let mut fields = hash()?;
            let new = fields.insert(arg(0), arg(1)).is_none();
            (wrap(fields), number(i64::from(new)))
        }
        Verb::FieldDelete => {
            let mut fields = hash()?;
            let existed = fields.remove(&arg(0)).is_some();
            (wrap(fields), number(i64::from(existed)))
        }
        Verb::FieldAdd => {
            let mut fields = hash()?;
            let sum = sum(fields.get(&arg(0)).map_or("", |v| v), arg(1))?;
            fields.insert(arg(0), sum.to_string());
            (wrap(fields), number(sum))
        }
        Verb::FieldsRead => (value.clone(), wrap(hash()?)),
    })
}

/// Tries every order, by the definition: an operation may be next if no other one left over ended before it started.
fn has_order_by_force(value: &Plain, left: &[&Operation]) -> bool {
    if left.iter().all(|o| o.end.is_none()) {
        return true;
    }
    (0..left.len()).any(|next| {
        let mut others = left.to_vec();
        let operation = others.remove(next);
        let is_late = others.iter().any(|o| o.end.is_some_and(|end| end < operation.start));
        if is_late {
            return false;
        }
        let Some((after, answer)) = apply(value, operation) else { return false };
        let told = operation.end.is_none()
            || operation.verb == Verb::Write
            || operation.result.as_ref().is_none_or(|result| plain(result) == answer);
        told && has_order_by_force(&after, &others)
    })
}

/// Chosen by proptest: who asks what and when, and how the answer is found.
#[derive(Clone, Debug)]
struct Draft {
    verb: usize,
    args: (u8, u8),
    start: u64,
    length: u64,
    /// The operation takes effect so long after its start.
    effect: u64,
    fate: u8,
    lie: u8,
}

fn draft() -> impl Strategy<Value = Draft> {
    let what = (any::<usize>(), (0..3u8, 0..3u8), 0..12u64, 0..9u64, 0..9u64, 0..10u8, 0..6u8);
    what.prop_map(|(verb, args, start, length, effect, fate, lie)| Draft {
        verb,
        args,
        start,
        length,
        effect: effect % (length + 1),
        fate,
        lie,
    })
}

const FAMILIES: [&[Verb]; 4] = [
    &[Verb::Read, Verb::Read, Verb::Write, Verb::CompareAndSet, Verb::Delete],
    &[Verb::Read, Verb::Add, Verb::Add, Verb::Write],
    &[Verb::Read, Verb::Read, Verb::Append, Verb::Append, Verb::Write],
    &[Verb::FieldRead, Verb::FieldsRead, Verb::FieldWrite, Verb::FieldAdd, Verb::FieldDelete, Verb::Delete],
];

fn arguments(verb: Verb, (one, two): (u8, u8)) -> Vec<Literal> {
    let number = |n: u8| Literal::Integer(i64::from(n) + 1);
    let from = if one == 0 { Literal::Nil } else { number(one) };
    let field = Literal::text(["a", "b", "c"][one as usize]);
    match verb {
        Verb::Read | Verb::Delete | Verb::FieldsRead => vec![],
        Verb::Write | Verb::Append | Verb::Add => vec![number(one)],
        Verb::CompareAndSet => vec![from, number(two)],
        Verb::FieldRead | Verb::FieldDelete => vec![field],
        Verb::FieldWrite | Verb::FieldAdd => vec![field, number(two)],
    }
}

fn literal(value: &Plain) -> Literal {
    match value {
        Plain::Nothing => Literal::Nil,
        Plain::Word(text) => Literal::text(text),
        Plain::Hash(fields) => {
            Literal::fields(fields.iter().map(|(n, v)| (n.as_str().into(), Literal::text(v))))
        }
    }
}

/// Runs the drafts in the order of their effects, so that answers are plausible; then some lie, and some are never heard of.
fn history(drafts: &[Draft], family: &[Verb]) -> History {
    let mut drafts = drafts.to_vec();
    drafts.sort_by_key(|d| d.start + d.effect);
    let (mut value, mut builder) = (Plain::default(), Builder::default());
    for (client, draft) in (0..).zip(&drafts) {
        let verb = family[draft.verb % family.len()];
        let args = arguments(verb, draft.args);
        let end = draft.start + draft.length;
        let mut operation = Operation {
            client,
            key: 0,
            verb,
            args,
            result: None,
            start: draft.start,
            end: Some(end),
            line: client,
        };
        // Lost before it took effect, or after, or answered.
        if draft.fate > 0 {
            let Some((after, answer)) = apply(&value, &operation) else { continue };
            value = after;
            operation.result = Some(literal(&answer));
        }
        if draft.lie == 0 {
            operation.result = operation.result.map(|_| match verb {
                Verb::FieldsRead => Literal::fields([("a".into(), Literal::Integer(1))]),
                _ => Literal::Integer(i64::from(draft.args.1)),
            });
            let is_flag =
                matches!(verb, Verb::CompareAndSet | Verb::Delete | Verb::FieldWrite | Verb::FieldDelete);
            if is_flag {
                operation.result = Some(Literal::Integer(i64::from(draft.args.1 % 2)));
            }
        }
        let Operation { args, result, .. } = operation;
        let outcome = if draft.fate < 2 { Outcome::Unknown } else { Outcome::Ok };
        let time = Some(draft.start);
        let invocation = Invocation { client, key: "k", verb, args, time, line: client };
        builder.whole(invocation, outcome, result, end).unwrap();
    }
    builder.finish()
}

fn random_histories(count: usize, sizes: std::ops::Range<usize>, mut each: impl FnMut(&History)) {
    let mut runner = TestRunner::deterministic();
    let strategy = prop::collection::vec(draft(), sizes);
    for round in 0..count {
        let drafts = strategy.new_tree(&mut runner).unwrap().current();
        each(&history(&drafts, FAMILIES[round % FAMILIES.len()]));
    }
}

#[test]
fn the_search_agrees_with_trying_every_order() {
    let (mut good, mut bad, mut unknown) = (0, 0, 0);
    random_histories(6000, 1..8, |history| {
        let all: Vec<&Operation> = history.operations.iter().collect();
        let expected = has_order_by_force(&Plain::default(), &all);
        let report = check(history, Some(Model::Any), &mut Unlimited).unwrap();
        assert_eq!(report.verdict == Verdict::Linearizable, expected, "{:#?}", history.operations);
        assert_ne!(report.verdict, Verdict::Undecided);
        good += usize::from(expected);
        bad += usize::from(!expected);
        unknown += history.unknown();
    });
    assert!(good > 1000 && bad > 1000 && unknown > 1000, "{good} good, {bad} bad, {unknown} unknown");
}

/// The core, with freed changes granted any time, has no order; weakened by one operation more, it has.
#[test]
fn a_core_fails_and_nothing_more_can_be_left_out() {
    let (mut cores, mut smaller) = (0, 0);
    random_histories(4000, 4..12, |history| {
        let report = check(history, Some(Model::Any), &mut Unlimited).unwrap();
        let Some(offence) = report.offences.first() else { return };
        assert!(offence.minimal && !offence.core.is_empty(), "{offence:?}");
        cores += 1;
        smaller += usize::from(offence.core.len() * 2 <= history.operations.len());
        // The states before a later window are the search's own word; what begins with the history is judged again from nothing.
        if offence.begins.is_none() {
            assert!(!core_has_order(history, offence, None), "{offence:?}");
            for place in &offence.core {
                assert!(core_has_order(history, offence, Some(*place)), "{offence:?} without {place}");
            }
        }
    });
    assert!(cores > 500 && smaller * 3 > cores, "{smaller} of {cores} cores are at most half");
}

fn core_has_order(history: &History, offence: &Offence, without: Option<u32>) -> bool {
    let mut machine = Machine::new(Model::Any);
    let mut items = Vec::new();
    for place in offence.core.iter().chain(&offence.freed) {
        let is_free = offence.freed.contains(place) || Some(*place) == without;
        let (_, compiled) = judge::compile(history, &[*place], &mut machine).unwrap();
        let item = compiled.into_iter().next().expect("what says nothing is in no core");
        if !is_free {
            items.push(Item { end: item.end.filter(|end| *end <= offence.until), ..item });
        } else if !item.step.is_pure() {
            items.push(Item { start: 0, end: None, ..item });
        }
    }
    find_order(&mut machine, &items, State::ABSENT, &mut Unlimited) == Found::Order
}

#[test]
fn a_stale_read_is_shrunk_to_what_contradicts_it() {
    let text = r#"{"client":1,"key":"k","op":"write","args":[1],"start":1,"end":2}
        {"client":1,"key":"k","op":"write","args":[2],"start":3,"end":14}
        {"client":2,"key":"k","op":"read","result":1,"start":4,"end":5}
        {"client":2,"key":"k","op":"read","result":2,"start":6,"end":7}
        {"client":3,"key":"k","op":"read","result":1,"start":8,"end":9}
        {"client":3,"key":"k","op":"read","result":2,"start":10,"end":11}
        {"client":4,"key":"other","op":"read","result":null,"start":10,"end":11}"#;
    let (history, _) = super::formats::from_text(text).unwrap();
    let report = check(&history, None, &mut Unlimited).unwrap();
    assert_eq!((report.verdict, report.model), (Verdict::NotLinearizable, Model::Register));
    let offence = &report.offences[0];
    assert_eq!((&*offence.core, &*offence.freed), (&[4][..], &[1][..]));
    assert_eq!((&*offence.before, offence.begins), (&["2".to_owned()][..], Some(7)));
}

#[test]
fn an_unknown_outcome_may_happen_late_or_never_but_once() {
    let lines = |reads: &str| {
        let write = r#"{"client":1,"op":"add","args":[1],"start":1}"#;
        let reads = reads.split(' ').zip((10..).step_by(10)).map(|(value, start)| {
            let end = start + 1;
            format!(r#"{{"client":2,"op":"read","result":{value},"start":{start},"end":{end}}}"#)
        });
        std::iter::once(write.to_owned()).chain(reads).collect::<Vec<_>>().join("\n")
    };
    for (reads, fits) in
        [("0 0", true), ("0 1", true), ("1 1", true), ("1 0", false), ("0 2", false), ("1 2", false)]
    {
        let (history, _) = super::formats::from_text(&lines(reads)).unwrap();
        let report = check(&history, None, &mut Unlimited).unwrap();
        assert_eq!(report.verdict == Verdict::Linearizable, fits, "{reads}");
    }
}

/// Many operations need neither a deep stack nor quadratic time.
#[test]
fn a_long_history_is_checked_on_a_small_stack() {
    let run = || {
        let mut builder = Builder::default();
        for n in 0..100_000u64 {
            // A write, then appends; four overlap at any time.
            let verb = if n % 80 == 0 { Verb::Write } else { Verb::Append };
            let args = vec![Literal::text("x")];
            let invocation = Invocation { client: n % 4, key: "", verb, args, time: Some(n), line: n };
            builder.whole(invocation, Outcome::Ok, None, n + 3).unwrap();
        }
        check(&builder.finish(), None, &mut Unlimited).unwrap().verdict
    };
    let thread = std::thread::Builder::new().stack_size(256 << 10).spawn(run).unwrap();
    assert_eq!(thread.join().unwrap(), Verdict::Linearizable);
}

#[test]
fn the_time_limit_leaves_it_undecided() {
    struct Impatient;
    impl super::Limits for Impatient {
        fn go_on(&mut self, _: u64, _: f64) -> bool {
            false
        }
        fn memory(&self) -> usize {
            1 << 20
        }
    }
    // Twenty-four overlapping additions whose sum is read as something else: every subset is tried.
    let mut builder = Builder::default();
    for n in 0..24u64 {
        let args = vec![Literal::Integer(1 << n)];
        let invocation = Invocation { client: n, key: "", verb: Verb::Add, args, time: Some(n), line: n };
        builder.whole(invocation, Outcome::Ok, None, 100).unwrap();
    }
    let invocation =
        Invocation { client: 99, key: "", verb: Verb::Read, args: vec![], time: Some(200), line: 99 };
    builder.whole(invocation, Outcome::Ok, Some(Literal::Integer(-1)), 201).unwrap();
    let report = check(&builder.finish(), None, &mut Impatient).unwrap();
    assert_eq!((report.verdict, &*report.undecided), (Verdict::Undecided, &[0][..]));
}
