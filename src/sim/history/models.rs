//! What an operation does to a key, and which answer it must give: the sequential specification that a history is held against.
//!
//! One machine knows all verbs, with the semantics of Redis; a [`Model`] says which verbs belong together and how an absent key
//! reads. [`Machine::compile`] turns operations into [`Step`]s once, [`Machine::step`] is what the search calls millions of times.

use super::event::{Literal, Operation, Verb};
use super::states::{Field, State, States};
use std::sync::Arc;

/// Which verbs belong together.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub enum Model {
    /// read, write, cas, delete; an absent key reads as nil
    Register,
    /// read, write, cas, delete, add; an absent key reads as nil or 0
    Counter,
    /// read, write, cas, delete, append; an absent key reads as nil or the empty text
    Text,
    /// hget, hset, hdel, hincrby, hgetall, delete
    Hash,
    /// all verbs on any key, as in Redis; an absent key reads as nil
    Any,
}

impl Model {
    const NARROW: [Model; 4] = [Model::Register, Model::Counter, Model::Text, Model::Hash];

    /// The narrowest model that has all these verbs.
    pub fn guess(operations: &[Operation]) -> Model {
        let all = |model: &Model| operations.iter().all(|o| model.has(o.verb));
        Model::NARROW.into_iter().find(all).unwrap_or(Model::Any)
    }
    /// True if the verb belongs to it.
    pub fn has(self, verb: Verb) -> bool {
        match verb {
            Verb::Delete => true,
            Verb::Read | Verb::Write | Verb::CompareAndSet => self != Model::Hash,
            Verb::Append => matches!(self, Model::Text | Model::Any),
            Verb::Add => matches!(self, Model::Counter | Model::Any),
            Verb::FieldRead | Verb::FieldWrite | Verb::FieldDelete | Verb::FieldAdd | Verb::FieldsRead => {
                matches!(self, Model::Hash | Model::Any)
            }
        }
    }
    /// Its name on the command line and in files.
    pub fn name(self) -> &'static str {
        match self {
            Model::Register => "register",
            Model::Counter => "counter",
            Model::Text => "text",
            Model::Hash => "hash",
            Model::Any => "any",
        }
    }
    /// The model of that name.
    pub fn parse(name: &str) -> Option<Model> {
        Model::NARROW.into_iter().chain([Model::Any]).find(|model| model.name() == name)
    }
}

/// Why an operation cannot be held against the specification.
#[derive(thiserror::Error, PartialEq, Eq, Debug)]
pub enum Nonsense {
    /// The model has no such verb.
    #[error("line {line}: the model {model} has no {verb}; use another --model, or none", model = model.name(), verb = verb.name())]
    Verb {
        /// Where.
        line: u64,
        /// The model.
        model: Model,
        /// The verb.
        verb: Verb,
    },
    /// An argument or a result of the wrong type.
    #[error("line {line}: {what} of {verb} must be {must}, not {has}", verb = verb.name())]
    Type {
        /// Where.
        line: u64,
        /// Argument or result.
        what: &'static str,
        /// The verb.
        verb: Verb,
        /// What it must be.
        must: &'static str,
        /// What it is.
        has: String,
    },
}

/// An operation as the machine takes it: arguments and answer as numbers. Equal steps have equal effects.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Step {
    /// Answers this.
    Read(State),
    /// Leaves this.
    Write(State),
    /// Leaves `to` where `from` was; answers whether.
    CompareAndSet {
        /// What must be there.
        from: State,
        /// What is there then.
        to: State,
        /// The answer, if known.
        done: Option<bool>,
    },
    /// Grows by the text; answers the length.
    Append(Arc<str>, Option<u64>),
    /// Grows by the number; answers the sum.
    Add(i64, Option<i64>),
    /// Leaves nothing; answers whether there was anything.
    Delete(Option<bool>),
    /// Answers what the field holds.
    FieldRead(Field, State),
    /// Leaves the value in the field; answers whether the field is new.
    FieldWrite(Field, State, Option<bool>),
    /// Leaves no such field; answers whether there was one.
    FieldDelete(Field, Option<bool>),
    /// The field grows by the number; answers the sum.
    FieldAdd(Field, i64, Option<i64>),
    /// Answers all fields.
    FieldsRead(State),
}

impl Step {
    /// True if no state in which it is possible is changed by it.
    pub fn is_pure(&self) -> bool {
        match self {
            Step::Read(_) | Step::FieldRead(..) | Step::FieldsRead(_) => true,
            Step::CompareAndSet { done, .. } => *done == Some(false),
            Step::Delete(existed) | Step::FieldDelete(_, existed) => *existed == Some(false),
            _ => false,
        }
    }
}

/// The specification of one key, with the states met so far.
#[derive(Debug)]
pub struct Machine {
    /// The states.
    pub states: States,
    /// What else an absent key reads as.
    also_absent: Option<State>,
}

impl Machine {
    /// A machine for a key of that model.
    pub fn new(model: Model) -> Machine {
        let mut states = States::default();
        let also_absent = match model {
            Model::Counter => Some(states.integer(0)),
            Model::Text => Some(states.text("")),
            Model::Register | Model::Hash | Model::Any => None,
        };
        Machine { states, also_absent }
    }

    /// The operation as a step; none if it says nothing (a read whose answer nobody knows).
    pub fn compile(&mut self, operation: &Operation) -> Result<Option<Step>, Nonsense> {
        let arg = |place: usize| &operation.args[place];
        // The answer of an operation without an end was never given, whatever the file says.
        let result = operation.result.as_ref().filter(|_| operation.end.is_some());
        let flag = || result.map(|r| flag(operation, r)).transpose();
        let number = || result.map(|r| integer(operation, "the result", r)).transpose();
        Ok(Some(match operation.verb {
            Verb::Read => match result {
                Some(result) => Step::Read(self.states.literal(result)),
                None => return Ok(None),
            },
            Verb::Write => Step::Write(self.states.literal(arg(0))),
            Verb::CompareAndSet => {
                let (from, to) = (self.states.literal(arg(0)), self.states.literal(arg(1)));
                Step::CompareAndSet { from, to, done: flag()? }
            }
            Verb::Append => {
                let length = number()?.map(|length| u64::try_from(length).unwrap_or(u64::MAX));
                Step::Append(text(operation, arg(0))?, length)
            }
            Verb::Add => Step::Add(integer(operation, "the argument", arg(0))?, number()?),
            Verb::Delete => Step::Delete(flag()?),
            Verb::FieldRead => {
                let field = self.field(operation)?;
                match result {
                    Some(result) => Step::FieldRead(field, self.states.literal(result)),
                    None => return Ok(None),
                }
            }
            Verb::FieldWrite => {
                Step::FieldWrite(self.field(operation)?, self.states.literal(arg(1)), flag()?)
            }
            Verb::FieldDelete => Step::FieldDelete(self.field(operation)?, flag()?),
            Verb::FieldAdd => {
                let by = integer(operation, "the second argument", arg(1))?;
                Step::FieldAdd(self.field(operation)?, by, number()?)
            }
            Verb::FieldsRead => match result {
                Some(result) => Step::FieldsRead(self.states.literal(result)),
                None => return Ok(None),
            },
        }))
    }

    fn field(&mut self, operation: &Operation) -> Result<Field, Nonsense> {
        let name = text(operation, &operation.args[0])?;
        Ok(self.states.field(&name))
    }

    /// The state after the step, or none where the step could not have been answered so.
    pub fn step(&mut self, state: State, step: &Step) -> Option<State> {
        match step {
            Step::Read(value) => self.reads_as(state, *value).then_some(state),
            Step::Write(value) => Some(*value),
            Step::CompareAndSet { from, to, done } => {
                let fits = self.reads_as(state, *from);
                let told = done.is_none_or(|done| done == fits);
                told.then_some(if fits { *to } else { state })
            }
            Step::Append(piece, length) => {
                // Before the state is made: most wrong orders fail here.
                let grown = self.states.length(state)? + piece.len() as u64;
                let told = length.is_none_or(|length| length == grown);
                if told { self.states.append(state, piece) } else { None }
            }
            Step::Add(by, sum) => self.add(state, *by, *sum),
            Step::Delete(existed) => {
                let told = existed.is_none_or(|existed| existed == (state != State::ABSENT));
                told.then_some(State::ABSENT)
            }
            Step::FieldRead(field, value) => {
                (self.states.field_of(state, *field)? == *value).then_some(state)
            }
            Step::FieldWrite(field, value, new) => {
                let is_new = self.states.field_of(state, *field)? == State::ABSENT;
                let told = new.is_none_or(|new| new == is_new);
                if told { self.states.with_field(state, *field, *value) } else { None }
            }
            Step::FieldDelete(field, existed) => {
                let there = self.states.field_of(state, *field)? != State::ABSENT;
                let told = existed.is_none_or(|existed| existed == there);
                if told { self.states.with_field(state, *field, State::ABSENT) } else { None }
            }
            Step::FieldAdd(field, by, sum) => {
                let before = self.states.field_of(state, *field)?;
                let after = self.add(before, *by, *sum)?;
                self.states.with_field(state, *field, after)
            }
            Step::FieldsRead(value) => (self.states.is_hash(state) && state == *value).then_some(state),
        }
    }

    fn add(&mut self, state: State, by: i64, sum: Option<i64>) -> Option<State> {
        let after = self.states.as_integer(state)?.checked_add(by)?;
        let told = sum.is_none_or(|sum| sum == after);
        told.then(|| self.states.integer(after))
    }

    fn reads_as(&self, state: State, value: State) -> bool {
        // A hash is read by its fields only; a value is never a hash, so the comparison alone says no.
        state == value || (state == State::ABSENT && Some(value) == self.also_absent)
    }
}

fn mistyped(operation: &Operation, what: &'static str, must: &'static str, has: &Literal) -> Nonsense {
    Nonsense::Type { line: operation.line, what, verb: operation.verb, must, has: has.to_string() }
}

fn integer(operation: &Operation, what: &'static str, literal: &Literal) -> Result<i64, Nonsense> {
    match literal {
        Literal::Integer(number) => Ok(*number),
        other => Err(mistyped(operation, what, "an integer", other)),
    }
}

fn flag(operation: &Operation, literal: &Literal) -> Result<bool, Nonsense> {
    match literal {
        Literal::Integer(0) => Ok(false),
        Literal::Integer(1) => Ok(true),
        other => Err(mistyped(operation, "the result", "true or false (1 or 0)", other)),
    }
}

fn text(operation: &Operation, literal: &Literal) -> Result<Arc<str>, Nonsense> {
    match literal {
        Literal::Text(text) => Ok(Arc::from(&**text)),
        Literal::Integer(number) => Ok(Arc::from(number.to_string())),
        other => Err(mistyped(operation, "the argument", "a text", other)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn operation(verb: Verb, args: &[&str], result: Option<Literal>) -> Operation {
        let args = args.iter().map(|text| Literal::text(text)).collect();
        Operation { client: 0, key: 0, verb, args, result, start: 0, end: Some(1), line: 7 }
    }

    /// Runs operations one after another; says at which the specification disagrees with the answer.
    fn disagrees_at(model: Model, operations: &[Operation]) -> Option<usize> {
        let mut machine = Machine::new(model);
        let mut state = State::ABSENT;
        for (place, operation) in operations.iter().enumerate() {
            let step = machine.compile(operation).unwrap().expect("all have answers");
            match machine.step(state, &step) {
                Some(next) => state = next,
                None => return Some(place),
            }
        }
        None
    }

    #[test]
    fn each_verb_answers_as_redis_does() {
        let number = |n| Some(Literal::Integer(n));
        let fields = [("a".into(), Literal::Integer(7))];
        let story = [
            operation(Verb::Read, &[], Some(Literal::Nil)),
            operation(Verb::Add, &["5"], number(5)),
            operation(Verb::Append, &["0x"], number(3)),
            operation(Verb::Read, &[], Some(Literal::text("50x"))),
            operation(Verb::CompareAndSet, &["50", "y"], number(0)),
            operation(Verb::CompareAndSet, &["50x", "y"], number(1)),
            operation(Verb::Delete, &[], number(1)),
            operation(Verb::Delete, &[], number(0)),
            operation(Verb::FieldWrite, &["a", "2"], number(1)),
            operation(Verb::FieldWrite, &["a", "3"], number(0)),
            operation(Verb::FieldAdd, &["a", "4"], number(7)),
            operation(Verb::FieldRead, &["b"], Some(Literal::Nil)),
            operation(Verb::FieldsRead, &[], Some(Literal::fields(fields))),
            operation(Verb::FieldDelete, &["b"], number(0)),
            operation(Verb::FieldDelete, &["a"], number(1)),
            operation(Verb::Write, &["z"], None),
        ];
        assert_eq!(disagrees_at(Model::Any, &story), None);
        // Each answer counts: falsified, the specification says so at that very operation.
        for place in 0..story.len() - 1 {
            let mut lie = story.to_vec();
            lie[place].result = match &lie[place].result {
                Some(Literal::Integer(flag @ (0 | 1))) => Some(Literal::Integer(1 - flag)),
                Some(Literal::Integer(n)) => Some(Literal::Integer(n + 1)),
                Some(Literal::Fields(_)) => Some(Literal::Nil),
                _ => Some(Literal::text("never written")),
            };
            assert_eq!(disagrees_at(Model::Any, &lie), Some(place));
        }
    }

    #[test]
    fn an_operation_on_the_wrong_type_cannot_have_been_answered() {
        let hash = operation(Verb::FieldWrite, &["a", "1"], None);
        for verb in [Verb::Append, Verb::Add] {
            assert_eq!(disagrees_at(Model::Any, &[hash.clone(), operation(verb, &["1"], None)]), Some(1));
        }
        let word = operation(Verb::Write, &["word"], None);
        let add = operation(Verb::Add, &["1"], None);
        assert_eq!(disagrees_at(Model::Any, &[word.clone(), add]), Some(1));
        assert_eq!(disagrees_at(Model::Any, &[word, hash]), Some(1));
        let most = operation(Verb::Write, &["9223372036854775807"], None);
        assert_eq!(disagrees_at(Model::Any, &[most, operation(Verb::Add, &["1"], None)]), Some(1));
    }

    #[test]
    fn what_an_absent_key_reads_as_is_the_model() {
        let read = |result| operation(Verb::Read, &[], Some(result));
        for (model, literal, fits) in [
            (Model::Counter, Literal::Integer(0), true),
            (Model::Text, Literal::text(""), true),
            (Model::Register, Literal::Integer(0), false),
            (Model::Any, Literal::text(""), false),
        ] {
            assert_eq!(disagrees_at(model, &[read(literal)]).is_none(), fits, "{model:?}");
            assert_eq!(disagrees_at(model, &[read(Literal::Nil)]), None, "{model:?}");
        }
    }

    #[test]
    fn types_are_checked_and_the_narrowest_model_is_guessed() {
        let mut machine = Machine::new(Model::Any);
        let wrong = operation(Verb::Add, &["one"], None);
        let error = machine.compile(&wrong).unwrap_err().to_string();
        assert_eq!(error, "line 7: the argument of add must be an integer, not \"one\"");
        assert_eq!(Model::guess(&[operation(Verb::Read, &[], None)]), Model::Register);
        assert_eq!(Model::guess(&[operation(Verb::Append, &["1"], None)]), Model::Text);
        assert_eq!(Model::guess(&[operation(Verb::FieldsRead, &[], None)]), Model::Hash);
        assert_eq!(Model::guess(&[wrong, operation(Verb::FieldsRead, &[], None)]), Model::Any);
    }
}
