//! Lines of Jepsen's log: `INFO  jepsen.util - PROCESS  TYPE  F  VALUE`.
//!
//! What the types mean to a register: `:ok` took effect; `:info` may have, at any time; `:fail` of a `:cas` says that the register
//! did not hold the expected value, and of anything else (a read that timed out) says nothing. A process whose operation ended with
//! `:info` is done; other lines of the log are passed over.

use super::super::event::Builder;
use super::{FormatError, edn};

/// Reads one line.
pub fn line(builder: &mut Builder, text: &str, number: u64) -> Result<(), FormatError> {
    let event = text.split_once(" - ").map_or(text, |(_, event)| event);
    // Some logs have tabs between the words and some have spaces.
    let (process, rest) = first_word(event);
    let (kind, rest) = first_word(rest);
    let (function, value) = first_word(rest);
    let known = matches!(kind, ":invoke" | ":ok" | ":fail" | ":info");
    // The nemesis is a process too, but no client.
    let (true, Ok(process)) = (known, process.parse::<u64>()) else { return Ok(()) };
    let value = match value {
        "" | ":timed-out" => edn::Form::Nil,
        text => edn::parse_one(text).map_err(|problem| FormatError::at(number, problem))?,
    };
    let said = value != edn::Form::Nil || kind == ":ok";
    let event = edn::Event {
        process,
        kind: &kind[1..],
        function: function.trim_start_matches(':'),
        key: None,
        value: &value,
        // The outcome of a compare-and-set is told by echoing its arguments.
        is_error: kind == ":fail" && !said,
        time: None,
        line: number,
    };
    event.tell(builder)
}

fn first_word(text: &str) -> (&str, &str) {
    let text = text.trim();
    let (word, rest) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
    (word, rest.trim())
}

#[cfg(test)]
mod tests {
    use super::super::super::Literal;
    use super::super::{Format, from_text};

    #[test]
    fn a_log_becomes_a_history() {
        let text = "INFO  jepsen.core - setting up\n\
            INFO  jepsen.util - 0\t:invoke\t:read\tnil\n\
            INFO  jepsen.util - 1\t:invoke\t:write\t4\n\
            INFO  jepsen.util - :nemesis\t:info\t:start\tnil\n\
            INFO  jepsen.util - 0\t:fail\t:read\t:timed-out\n\
            INFO  jepsen.util - 2   :invoke :cas    [4 2]\n\
            INFO  jepsen.util - 3\t:invoke\t:cas\t[0 2]\n\
            INFO  jepsen.util - 1\t:info\t:write\t:timed-out\n\
            INFO  jepsen.util - 2\t:ok\t:cas\t[4 2]\n\
            INFO  jepsen.util - 3\t:fail\t:cas\t[0 2]\n\
            INFO  jepsen.util - 4\t:invoke\t:read\tnil\n\
            INFO  jepsen.util - 4\t:ok\t:read\t2\n";
        let (history, format) = from_text(text).unwrap();
        assert_eq!((format, history.refused, history.unknown()), (Format::Jepsen, 1, 1));
        let shown: Vec<_> = history.operations.iter().map(|o| format!("{} {o}", o.client)).collect();
        assert_eq!(shown, ["1 write 4 -> ?", "2 cas 4 2 -> 1", "3 cas 0 2 -> 0", "4 read -> 2"]);
        assert_eq!(history.operations[3].result, Some(Literal::Integer(2)));
    }
}
