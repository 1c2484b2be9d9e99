//! Jepsen's histories in EDN: maps with `:process`, `:type`, `:f`, `:value`, and perhaps `:key`, `:time`, `:error`; one a line, or in
//! one list. A `:value` may be the pair `[key value]` of an independent key.
//!
//! Only what histories are made of is read: nil, booleans, integers, texts, keywords, symbols, vectors, lists, sets, maps; tags are
//! passed over. The parser has a stack of its own with a limit.

use super::super::event::{Builder, Invocation, Literal, Outcome, Verb};
use super::{FormatError, LINE_BYTES_MAX};

/// Forms inside forms.
const DEPTH_MAX: usize = 16;

/// A piece of EDN.
#[derive(Clone, PartialEq, Debug)]
pub enum Form {
    /// nil
    Nil,
    /// true, false
    Boolean(bool),
    /// 12
    Integer(i64),
    /// "text"
    Text(String),
    /// :word, a symbol, or a number that is no integer
    Word(String),
    /// [a b], (a b), #{a b}
    Sequence(Vec<Form>),
    /// {a b}
    Map(Vec<(Form, Form)>),
}

/// One event of a history.
#[derive(Debug)]
pub struct Event<'a> {
    /// Jepsen's client; it has at most one operation under way.
    pub process: u64,
    /// invoke, ok, fail or info.
    pub kind: &'a str,
    /// What is asked.
    pub function: &'a str,
    /// Of what.
    pub key: Option<String>,
    /// Arguments or answer.
    pub value: &'a Form,
    /// A failure that says why, which is not that a comparison failed.
    pub is_error: bool,
    /// In nanoseconds.
    pub time: Option<u64>,
    /// Where in the file.
    pub line: u64,
}

impl Event<'_> {
    /// Tells it to the builder.
    pub fn tell(self, builder: &mut Builder) -> Result<(), FormatError> {
        let line = self.line;
        let at = |problem: String| FormatError::at(line, problem);
        let verb = Verb::parse(self.function)
            .ok_or_else(|| at(format!("no operation is called {:?}", self.function)))?;
        if matches!(self.function, "get" | "put") {
            builder.suggest(super::super::models::Model::Text);
        }
        let (inner_key, value) = independent(verb, self.value);
        let key = self.key.or(inner_key).unwrap_or_default();
        if self.kind == "invoke" {
            let args = arguments(verb, value).map_err(at)?;
            let invocation =
                Invocation { client: self.process, key: &key, verb, args, time: self.time, line };
            return builder.invoke(invocation).map_err(FormatError::misfit(line));
        }
        let is_cas = verb == Verb::CompareAndSet;
        let (outcome, result) = match self.kind {
            "ok" if is_cas => (Outcome::Ok, Some(Literal::Integer(1))),
            "fail" if is_cas && !self.is_error => (Outcome::Ok, Some(Literal::Integer(0))),
            "ok" if matches!(verb, Verb::Read | Verb::FieldsRead) => {
                (Outcome::Ok, Some(literal(value).map_err(at)?))
            }
            // Other answers echo what was asked.
            "ok" => (Outcome::Ok, None),
            "fail" => (Outcome::Fail, None),
            "info" => (Outcome::Unknown, None),
            other => {
                return Err(at(format!("no type is called {other:?}; there are invoke, ok, fail, info")));
            }
        };
        if let Some(asked) = builder.asked(self.process).filter(|asked| asked.verb != verb) {
            let asked = asked.verb.name();
            return Err(at(format!("{} is answered where {asked} was asked", verb.name())));
        }
        builder.complete(self.process, outcome, result, self.time).map_err(FormatError::misfit(line))
    }
}

/// Takes the pair `[key value]` apart: a read's or write's value is no vector of its own, a compare-and-set's is one of two scalars.
fn independent(verb: Verb, value: &Form) -> (Option<String>, &Form) {
    let Form::Sequence(pair) = value else { return (None, value) };
    let [key, inner] = &pair[..] else { return (None, value) };
    let is_pair = match verb {
        Verb::CompareAndSet => matches!(inner, Form::Sequence(_)),
        Verb::FieldWrite | Verb::FieldAdd => matches!(inner, Form::Sequence(_)),
        _ => true,
    };
    if is_pair { (Some(name(key)), inner) } else { (None, value) }
}

fn arguments(verb: Verb, value: &Form) -> Result<Vec<Literal>, String> {
    match (verb.arity(), value) {
        (0, _) => Ok(Vec::new()),
        (1, value) => Ok(vec![literal(value)?]),
        (_, Form::Sequence(values)) => values.iter().map(literal).collect(),
        (count, other) => Err(format!("{} takes {count} values in a vector, not {other:?}", verb.name())),
    }
}

fn literal(form: &Form) -> Result<Literal, String> {
    match form {
        Form::Nil => Ok(Literal::Nil),
        Form::Boolean(flag) => Ok(Literal::Integer(i64::from(*flag))),
        Form::Integer(number) => Ok(Literal::Integer(*number)),
        Form::Text(text) | Form::Word(text) => Ok(Literal::text(text)),
        Form::Map(pairs) => {
            let fields = pairs.iter().map(|(field, value)| Ok((name(field).into(), literal(value)?)));
            Ok(Literal::fields(fields.collect::<Result<Vec<_>, String>>()?))
        }
        Form::Sequence(_) => Err("a list is no value".into()),
    }
}

fn name(form: &Form) -> String {
    match form {
        Form::Text(text) | Form::Word(text) => text.clone(),
        Form::Integer(number) => number.to_string(),
        other => format!("{other:?}"),
    }
}

/// Collects lines until a form is whole, for lists go over many lines.
#[derive(Default)]
pub struct Reader {
    parser: Parser,
}

impl Reader {
    /// Reads one line.
    pub fn line(&mut self, builder: &mut Builder, text: &str, line: u64) -> Result<(), FormatError> {
        let mut rest = text;
        while let Some(token) = next_token(&mut rest).map_err(|problem| FormatError::at(line, problem))? {
            if let Some(form) = self.parser.push(token).map_err(|problem| FormatError::at(line, problem))? {
                event(builder, &form, line)?;
            }
        }
        Ok(())
    }
    /// The file ends.
    pub fn finish(&self) -> Result<(), FormatError> {
        let open = self.parser.stack.len();
        let whole = open == 0;
        if whole {
            Ok(())
        } else {
            Err(FormatError::at(0, format!("the file ends inside {open} open forms")))
        }
    }
}

fn event(builder: &mut Builder, form: &Form, line: u64) -> Result<(), FormatError> {
    let Form::Map(pairs) = form else {
        return Err(FormatError::at(line, "an event is a map: {:process 0, :type :invoke, :f :read}"));
    };
    let get = |name: &str| pairs.iter().find(|(key, _)| *key == Form::Word(name.into())).map(|p| &p.1);
    let word = |name: &str| match get(name) {
        Some(Form::Word(word)) => Ok(word.as_str()),
        _ => Err(FormatError::at(line, format!("there is no :{name}"))),
    };
    // The nemesis is a process too, but no client.
    let Some(Form::Integer(process)) = get("process") else { return Ok(()) };
    let event = Event {
        process: u64::try_from(*process).map_err(|error| FormatError::at(line, error))?,
        kind: word("type")?,
        function: word("f")?,
        key: get("key").map(name),
        value: get("value").unwrap_or(&Form::Nil),
        is_error: get("error").is_some_and(|error| *error != Form::Nil),
        time: match get("time") {
            Some(Form::Integer(time)) => u64::try_from(*time).ok(),
            _ => None,
        },
        line,
    };
    event.tell(builder)
}

/// Reads the one form that `text` is.
pub fn parse_one(mut text: &str) -> Result<Form, String> {
    // A list of events would be taken apart; a value is never one.
    let mut parser = Parser { is_value: true, ..Parser::default() };
    let mut found = None;
    while let Some(token) = next_token(&mut text)? {
        let form = parser.push(token)?;
        if found.is_some() {
            return Err("one value was expected, there are more".into());
        }
        found = form;
    }
    found.ok_or_else(|| "a value was expected".into())
}

/// What EDN is written with.
#[derive(PartialEq, Debug)]
enum Token {
    Open(char),
    Close(char),
    Atom(Form),
}

/// The next token, and `text` shortened by it; none at the end of the line or at a comment.
fn next_token(text: &mut &str) -> Result<Option<Token>, String> {
    loop {
        *text = text.trim_start_matches(|c: char| c.is_whitespace() || c == ',');
        let Some(first) = text.chars().next() else { return Ok(None) };
        match first {
            ';' => return Ok(None),
            '{' | '[' | '(' => {
                *text = &text[1..];
                return Ok(Some(Token::Open(first)));
            }
            '}' | ']' | ')' => {
                *text = &text[1..];
                return Ok(Some(Token::Close(first)));
            }
            '"' => return quoted(text).map(|t| Some(Token::Atom(Form::Text(t)))),
            '#' if text.starts_with("#{") => {
                *text = &text[2..];
                return Ok(Some(Token::Open('#')));
            }
            // A tag: what follows is read without it.
            '#' => {
                word(text);
            }
            _ => return Ok(Some(Token::Atom(atom(word(text))))),
        }
    }
}

fn word<'a>(text: &mut &'a str) -> &'a str {
    let ends = |c: char| c.is_whitespace() || ",;\"{}[]()".contains(c);
    let (word, rest) = text.split_at(text.find(ends).unwrap_or(text.len()));
    *text = rest;
    word
}

fn atom(word: &str) -> Form {
    match word {
        "nil" => Form::Nil,
        "true" => Form::Boolean(true),
        "false" => Form::Boolean(false),
        _ => match word.trim_end_matches('N').parse() {
            Ok(number) => Form::Integer(number),
            Err(_) => Form::Word(word.strip_prefix(':').unwrap_or(word).to_owned()),
        },
    }
}

fn quoted(text: &mut &str) -> Result<String, String> {
    let mut value = String::new();
    let mut chars = text.char_indices().skip(1);
    while let Some((at, char)) = chars.next() {
        match char {
            '"' => {
                *text = &text[at + 1..];
                return Ok(value);
            }
            '\\' => match chars.next() {
                Some((_, 'n')) => value.push('\n'),
                Some((_, 't')) => value.push('\t'),
                Some((_, 'r')) => value.push('\r'),
                Some((_, char @ ('"' | '\\'))) => value.push(char),
                Some((_, 'u')) => value.push(code_point(&mut chars)?),
                other => return Err(format!("no text has the escape {other:?}")),
            },
            char => value.push(char),
        }
    }
    Err("a text does not end on its line".into())
}

fn code_point(chars: &mut impl Iterator<Item = (usize, char)>) -> Result<char, String> {
    let digits: String = chars.take(4).map(|(_, digit)| digit).collect();
    let point = u32::from_str_radix(&digits, 16).ok().and_then(char::from_u32);
    point.ok_or_else(|| format!("\\u{digits} is no character"))
}

/// Puts tokens together. A list around everything is taken apart, so that memory is bounded by one event.
#[derive(Default)]
struct Parser {
    stack: Vec<(char, Vec<Form>)>,
    is_value: bool,
    bytes: usize,
}

impl Parser {
    fn push(&mut self, token: Token) -> Result<Option<Form>, String> {
        let form = match token {
            Token::Open(bracket) => {
                if self.stack.len() >= DEPTH_MAX {
                    return Err(format!("forms are nested more than {DEPTH_MAX} deep"));
                }
                self.stack.push((bracket, Vec::new()));
                return Ok(None);
            }
            Token::Close(bracket) => {
                let whole = self.stack.pop().filter(|(open, _)| closes(*open) == bracket);
                let (open, forms) = whole.ok_or_else(|| format!("{bracket:?} closes nothing"))?;
                if self.stack.is_empty() && !self.is_value && open != '{' {
                    return Ok(None);
                }
                compose(open, forms)?
            }
            Token::Atom(form) => form,
        };
        self.place(form)
    }

    fn place(&mut self, form: Form) -> Result<Option<Form>, String> {
        let depth = self.stack.len();
        let in_list = !self.is_value && depth == 1 && self.stack[0].0 != '{';
        if depth == 0 || in_list {
            self.bytes = 0;
            return Ok(Some(form));
        }
        self.bytes += size_of::<Form>();
        if let Form::Text(text) | Form::Word(text) = &form {
            self.bytes += text.len();
        }
        if self.bytes > LINE_BYTES_MAX {
            return Err(format!("an event is larger than {LINE_BYTES_MAX} bytes"));
        }
        self.stack[depth - 1].1.push(form);
        Ok(None)
    }
}

fn closes(bracket: char) -> char {
    match bracket {
        '{' | '#' => '}',
        '[' => ']',
        _ => ')',
    }
}

fn compose(open: char, forms: Vec<Form>) -> Result<Form, String> {
    if open != '{' {
        return Ok(Form::Sequence(forms));
    }
    if !forms.len().is_multiple_of(2) {
        return Err("a map has a key without a value".into());
    }
    let mut forms = forms.into_iter();
    let mut pairs = Vec::with_capacity(forms.len() / 2);
    while let (Some(key), Some(value)) = (forms.next(), forms.next()) {
        pairs.push((key, value));
    }
    Ok(Form::Map(pairs))
}

#[cfg(test)]
mod tests {
    use super::super::{Format, from_text};
    use super::*;

    fn shown(text: &str) -> Vec<String> {
        let (history, _) = from_text(text).unwrap();
        let show = |o: &super::super::super::Operation| format!("{} {o}", history.keys[o.key as usize]);
        history.operations.iter().map(show).collect()
    }

    #[test]
    fn maps_a_line_and_one_list_say_the_same() {
        let events = [
            "{:process 0, :type :invoke, :f :append, :key \"0\", :value \"x 0 0 y\"}",
            "{:process 1, :type :invoke, :f :get, :key \"0\", :value nil}",
            "{:process 0, :type :ok, :f :append, :key \"0\", :value \"x 0 0 y\"}",
            "{:process :nemesis, :type :info, :f :kill, :value nil}",
            "{:process 1, :type :ok, :f :get, :key \"0\", :value \"x 0 0 y\"}",
        ];
        let lines = events.join("\n");
        assert_eq!(from_text(&lines).unwrap().1, Format::Kv);
        let expected = ["0 append \"x 0 0 y\" -> ok", "0 read -> \"x 0 0 y\""];
        assert_eq!(shown(&lines), expected);
        assert_eq!(shown(&format!("; made by hand\n[{}]", events.join(" \n "))), expected);
        assert_eq!(shown(&format!("#jepsen.history.Op{}", events.join("\n#jepsen.history.Op"))), expected);
    }

    #[test]
    fn independent_keys_are_taken_apart_and_an_error_is_no_comparison() {
        let text = "{:index 0, :time 5, :process 0, :type :invoke, :f :cas, :value [7 [1 2]]}
            {:index 1, :time 6, :process 1, :type :invoke, :f :cas, :value [8 [1 2]]}
            {:index 2, :time 7, :process 2, :type :invoke, :f :read, :value [8 nil]}
            {:index 3, :time 8, :process 0, :type :fail, :f :cas, :value [7 [1 2]]}
            {:index 4, :time 9, :process 1, :type :fail, :f :cas, :value [8 [1 2]], :error :refused}
            {:index 5, :time 9, :process 2, :type :ok, :f :read, :value [8 nil]}";
        assert_eq!(shown(text), ["7 cas 1 2 -> 0", "8 read -> nil"]);
    }

    #[test]
    fn forms_are_read_and_nonsense_is_told() {
        let read = |text: &str| parse_one(text);
        assert_eq!(read("[1 -2N \"a\\\"\\u0041\\n\" :b/c #{} {} nil]").unwrap(), {
            let text = Form::Text("a\"A\n".into());
            let empty = [Form::Sequence(vec![]), Form::Map(vec![]), Form::Nil];
            let start = [Form::Integer(1), Form::Integer(-2), text, Form::Word("b/c".into())];
            Form::Sequence(start.into_iter().chain(empty).collect())
        });
        for text in ["", "1 2", "{1}", "(1]", "\"open", "\"\\q\"", "\"\\ud800\"", &"[".repeat(100)] {
            assert!(read(text).is_err(), "{text}");
        }
        let error = from_text("[{:process 0, :type :invoke, :f :read}").unwrap_err().to_string();
        assert!(error.contains("ends inside 1 open forms"), "{error}");
        let error = from_text("{:process 0, :type :go, :f :read}").unwrap_err().to_string();
        assert!(error.contains("no type is called \"go\""), "{error}");
    }
}
