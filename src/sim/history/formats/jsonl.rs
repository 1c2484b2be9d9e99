//! Our own format, one JSON object a line; `docs/HISTORIES.md` is its description, [`super::super::recorder`] writes it.

use super::super::event::{Builder, Invocation, Literal, Misfit, Outcome, Verb};
use super::super::models::Model;
use super::FormatError;
use serde::Deserialize;
use serde_json::Value;
use std::borrow::Cow;

/// What the first line calls the format.
pub const NAME: &str = "quorate history 1";

/// All that a line may have.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line<'a> {
    format: Option<&'a str>,
    model: Option<&'a str>,
    event: Option<&'a str>,
    client: Option<u64>,
    #[serde(borrow)]
    key: Option<Cow<'a, str>>,
    op: Option<&'a str>,
    #[serde(default)]
    args: Vec<Value>,
    /// Told apart: not there, and null.
    #[serde(default, deserialize_with = "present")]
    result: Option<Value>,
    outcome: Option<&'a str>,
    start: Option<u64>,
    end: Option<u64>,
    time: Option<u64>,
}

fn present<'de, D: serde::Deserializer<'de>>(input: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(input).map(Some)
}

/// Reads one line.
pub fn line(builder: &mut Builder, text: &str, number: u64) -> Result<(), FormatError> {
    if text.is_empty() {
        return Ok(());
    }
    let at = |problem: String| FormatError::at(number, problem);
    let line: Line<'_> = serde_json::from_str(text).map_err(|error| at(error.to_string()))?;
    if let Some(format) = line.format {
        if format != NAME {
            return Err(at(format!("the format is {format:?}; this program reads {NAME:?}")));
        }
        if let Some(name) = line.model {
            let model = Model::parse(name).ok_or_else(|| {
                at(format!("no model is called {name:?}; there are register, counter, text, hash, any"))
            })?;
            builder.suggest(model);
        }
        return Ok(());
    }
    match line.event {
        None => whole(builder, line, number),
        Some("invoke") => {
            let time = line.time;
            builder.invoke(invocation(&line, time, number)?).map_err(FormatError::misfit(number))
        }
        Some(name) => {
            let outcome = outcome(name).ok_or_else(|| {
                at(format!("no event is called {name:?}; there are invoke, ok, fail, unknown"))
            })?;
            let client = line.client.ok_or_else(|| lacks(number, "client"))?;
            let result = line.result.as_ref().map(|value| literal(value, number)).transpose()?;
            builder.complete(client, outcome, result, line.time).map_err(FormatError::misfit(number))
        }
    }
}

fn whole(builder: &mut Builder, line: Line<'_>, number: u64) -> Result<(), FormatError> {
    let start = line.start.ok_or_else(|| lacks(number, "start"))?;
    let outcome = match line.outcome {
        Some(name) => outcome(name).ok_or_else(|| {
            FormatError::at(number, format!("no outcome is called {name:?}; there are ok, fail, unknown"))
        })?,
        None if line.end.is_some() => Outcome::Ok,
        None => Outcome::Unknown,
    };
    let end = match (outcome, line.end) {
        (_, Some(end)) if end < start => {
            return Err(FormatError::at(number, Misfit::Backwards { start, end }));
        }
        (_, Some(end)) => end,
        (Outcome::Ok, None) => return Err(lacks(number, "end")),
        (_, None) => start,
    };
    let result = line.result.as_ref().map(|value| literal(value, number)).transpose()?;
    let invocation = invocation(&line, Some(start), number)?;
    builder.whole(invocation, outcome, result, end).map_err(FormatError::misfit(number))
}

fn invocation<'a>(line: &'a Line<'_>, time: Option<u64>, number: u64) -> Result<Invocation<'a>, FormatError> {
    let name = line.op.ok_or_else(|| lacks(number, "op"))?;
    let verb = Verb::parse(name)
        .ok_or_else(|| FormatError::at(number, format!("no operation is called {name:?}")))?;
    let key = line.key.as_deref().unwrap_or_default();
    let client = line.client.ok_or_else(|| lacks(number, "client"))?;
    let args = line.args.iter().map(|arg| literal(arg, number)).collect::<Result<_, _>>()?;
    Ok(Invocation { client, key, verb, args, time, line: number })
}

fn outcome(name: &str) -> Option<Outcome> {
    match name {
        "ok" => Some(Outcome::Ok),
        "fail" => Some(Outcome::Fail),
        "unknown" => Some(Outcome::Unknown),
        _ => None,
    }
}

fn lacks(line: u64, what: &str) -> FormatError {
    FormatError::at(line, format!("there is no {what:?}"))
}

fn literal(value: &Value, line: u64) -> Result<Literal, FormatError> {
    match value {
        Value::Null => Ok(Literal::Nil),
        Value::Bool(flag) => Ok(Literal::Integer(i64::from(*flag))),
        Value::String(text) => Ok(Literal::text(text)),
        Value::Number(number) => {
            Ok(number.as_i64().map_or_else(|| Literal::text(&number.to_string()), Literal::Integer))
        }
        Value::Object(fields) => {
            let fields = fields.iter().map(|(name, value)| Ok((name.as_str().into(), literal(value, line)?)));
            Ok(Literal::fields(fields.collect::<Result<Vec<_>, FormatError>>()?))
        }
        Value::Array(_) => Err(FormatError::at(line, "a list is no value")),
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Format, from_text};
    use super::*;

    #[test]
    fn operations_and_events_say_the_same() {
        let whole = r#"{"format":"quorate history 1","model":"text"}
            {"client":1,"key":"a","op":"append","args":["x"],"result":1,"start":10,"end":20}
            {"client":2,"key":"a","op":"read","result":null,"outcome":"ok","start":15,"end":25}
            {"client":3,"key":"b","op":"cas","args":["1",2],"outcome":"unknown","start":16,"end":30}
            {"client":3,"key":"b","op":"write","args":["1"],"outcome":"fail","start":31,"end":32}"#;
        let events = r#"{"format":"quorate history 1","model":"text"}
            {"event":"invoke","client":1,"key":"a","op":"append","args":["x"],"time":10}
            {"event":"invoke","client":2,"key":"a","op":"get","time":15}
            {"event":"invoke","client":3,"key":"b","op":"cas","args":[1,"2"],"time":16}
            {"event":"ok","client":1,"result":1,"time":20}
            {"event":"ok","client":2,"result":null,"time":25}
            {"event":"unknown","client":3,"time":30}
            {"event":"invoke","client":3,"key":"b","op":"set","args":["1"],"time":31}
            {"event":"fail","client":3,"time":32}"#;
        let (whole, format) = from_text(whole).unwrap();
        let (events, _) = from_text(events).unwrap();
        assert_eq!((format, whole.model, whole.refused), (Format::Jsonl, Some(Model::Text), 1));
        assert_eq!((events.model, events.refused, &events.keys), (whole.model, 1, &whole.keys));
        assert_eq!(whole.operations.len(), 3);
        for (one, mut other) in whole.operations.into_iter().zip(events.operations) {
            other.line = one.line;
            assert_eq!(one, other);
        }
    }

    #[test]
    fn every_mistake_is_told_with_its_line() {
        for (line, says) in [
            (r#"{"client":1,"op":"read","start":1"#, "EOF"),
            (r#"{"client":1,"op":"read","end":1}"#, "there is no \"start\""),
            (r#"{"client":1,"op":"read","start":1,"outcome":"ok"}"#, "there is no \"end\""),
            (r#"{"client":1,"op":"fly","start":1,"end":2}"#, "no operation is called \"fly\""),
            (r#"{"client":1,"op":"cas","args":[1],"start":1,"end":2}"#, "cas takes 2 arguments, not 1"),
            (r#"{"client":1,"op":"read","start":3,"end":2}"#, "ends at 2, before its start at 3"),
            (r#"{"op":"read","start":1,"end":2}"#, "there is no \"client\""),
            (r#"{"client":1,"op":"write","args":[[]],"start":1,"end":2}"#, "a list is no value"),
            (r#"{"client":1,"op":"read","start":1,"end":2,"colour":3}"#, "unknown field `colour`"),
            (r#"{"event":"ok","client":4}"#, "client 4 is answered but has asked nothing"),
            (r#"{"event":"begin","client":4}"#, "no event is called \"begin\""),
            (r#"{"format":"quorate history 2"}"#, "this program reads"),
            (r#"{"format":"quorate history 1","model":"queue"}"#, "no model is called \"queue\""),
        ] {
            let error = from_text(&format!("\n{line}")).unwrap_err().to_string();
            assert!(error.starts_with("line 2: ") && error.contains(says), "{line}: {error}");
        }
    }
}
