//! `quorate proxy`: a network that behaves badly on purpose, between real processes.

use super::exit::{Exit, Failure};
use super::output::{Output, columns};
use super::start::stop_with_stdin;
use crate::io::driver::Driver;
use crate::io::entropy::{Entropy, SystemEntropy};
use crate::io::{Uring, UringOptions};
use crate::load::proxy::control::{LINE_MAX, ask};
use crate::load::proxy::{Detour, Pattern, Relay, RelayOptions, Shape};
use clap::{Args, Subcommand};
use serde_json::{Value, json};
use signal_hook::consts::{SIGINT, SIGTERM};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// What to do with a proxy.
#[derive(Subcommand, Debug)]
pub enum ProxyCommand {
    /// Stand between nodes until Ctrl-C
    Run(RunArgs),
    /// Change how links of a running proxy behave
    Set(SetArgs),
    /// Show how its links behave
    Show(ShowArgs),
}

/// Which links, and how they behave.
#[derive(Args, Debug)]
pub struct RunArgs {
    /// A port for FROM to dial instead of TO's (repeatable); what goes back on it is the link TO>FROM
    #[arg(long = "detour", required = true, value_parser = Detour::parse, value_name = "FROM,TO=LISTEN,TARGET")]
    detours: Vec<Detour>,
    /// How links behave at first (repeatable, later ones win): such as '1>* latency=50ms,jitter=50ms', '* stall'
    #[arg(long = "shape", value_parser = parse_shape, value_name = "LINKS SHAPE")]
    shapes: Vec<(Pattern, Shape)>,
    /// Where it takes `set` and `show`: host:port, or the path of a Unix socket
    #[arg(long, value_name = "ADDRESS")]
    control: Option<String>,
    /// Draws latencies; another one each time unless it is given
    #[arg(long)]
    seed: Option<u64>,
    /// End when standard input closes
    #[arg(long, hide_short_help = true)]
    stop_with_stdin: bool,
}

/// A change.
#[derive(Args, Debug)]
pub struct SetArgs {
    /// The proxy's control address
    #[arg(long, value_name = "ADDRESS")]
    control: String,
    /// Which directed links: 1>2, 1>*, *>2 or *
    links: String,
    /// latency=50ms, jitter=50ms, bandwidth=1MiB, flips=10 (bits in a million bytes), stall, cut, clear; commas between them
    shape: String,
}

/// A look.
#[derive(Args, Debug)]
pub struct ShowArgs {
    /// The proxy's control address
    #[arg(long, value_name = "ADDRESS")]
    control: String,
}

fn parse_shape(text: &str) -> Result<(Pattern, Shape), String> {
    let (links, shape) =
        text.split_once(' ').ok_or_else(|| format!("{text:?} is not LINKS SHAPE, such as '1>2 stall'"))?;
    Ok((Pattern::parse(links)?, Shape::parse(shape)?))
}

/// Runs the command.
pub fn run(command: &ProxyCommand, output: Output) -> Result<(), Failure> {
    match command {
        ProxyCommand::Run(args) => stand_between(args, output),
        ProxyCommand::Set(args) => {
            let answer = answer_of(&args.control, &format!("set {} {}", args.links, args.shape))?;
            if answer["changed"] == json!(0) {
                return Err(Failure::new(
                    Exit::Usage,
                    format!("the proxy has no link {}; see `proxy show`", args.links),
                ));
            }
            output.print(|| format!("{} links are {} now", answer["changed"], args.shape), || answer.clone());
            Ok(())
        }
        ProxyCommand::Show(args) => {
            let answer = answer_of(&args.control, "show")?;
            output.print(|| table(&answer), || answer.clone());
            Ok(())
        }
    }
}

/// The links as columns.
fn table(answer: &Value) -> String {
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_string);
    let names = ["link", "shape", "connections", "bytes"];
    let links = answer["links"].as_array().into_iter().flatten();
    let rows = links.map(|link| names.iter().map(|name| text(&link[*name])).collect());
    columns(&std::iter::once(names.map(String::from).to_vec()).chain(rows).collect::<Vec<_>>())
}

fn answer_of(control: &str, line: &str) -> Result<Value, Failure> {
    if line.contains('\n') || LINE_MAX <= line.len() {
        return Err(Failure::new(Exit::Usage, format!("a request is one line below {LINE_MAX} bytes")));
    }
    let answer = ask(control, line).map_err(|error| {
        Failure::new(
            Exit::NoConnection,
            format!("{control}: {error}; does the proxy run with this --control?"),
        )
    })?;
    match answer["error"].as_str() {
        Some(error) => Err(Failure::new(Exit::Usage, error)),
        None => Ok(answer),
    }
}

fn stand_between(args: &RunArgs, output: Output) -> Result<(), Failure> {
    let io = |what: &str, error: &dyn std::fmt::Display| Failure::new(Exit::Io, format!("{what}: {error}"));
    let options = RelayOptions {
        detours: args.detours.clone(),
        shapes: args.shapes.clone(),
        control: args.control.clone(),
        seed: args.seed.unwrap_or_else(|| SystemEntropy.seed()),
    };
    // Many receives between two turns: what waits in the kernel would look like latency.
    let ring = UringOptions { receive_buffers: 128, write_buffers: 0, ..UringOptions::NODE };
    let mut driver = Uring::new(ring).map_err(|error| io("no proxy", &error))?;
    let stop = Arc::new(AtomicBool::new(false));
    let (seen, bell) = (stop.clone(), driver.doorbell());
    let mut signals =
        signal_hook::iterator::Signals::new([SIGINT, SIGTERM]).map_err(|error| io("signals", &error))?;
    std::thread::spawn(move || {
        if signals.forever().next().is_some() {
            seen.store(true, Ordering::SeqCst);
            bell.ring();
        }
    });
    if args.stop_with_stdin {
        stop_with_stdin()?;
    }
    let mut relay = Relay::new(&mut driver, &options).map_err(|error| {
        Failure::new(
            Exit::Io,
            format!("a port of the proxy cannot be had ({error}); choose others, or port 0"),
        )
    })?;
    announce(&relay, output);
    relay.run(&stop);
    Ok(())
}

/// One line: it listens.
fn announce(relay: &Relay<'_>, output: Output) {
    let (detours, control) = (relay.detours(), relay.control());
    let to_text = || {
        let lines =
            detours.iter().map(|r| format!("{}>{} and back: {} for {}\n", r.from, r.to, r.listen, r.target));
        let ask = control
            .as_ref()
            .map(|at| format!("change it: quorate proxy set --control {at} '*' latency=50ms\n"));
        lines.chain(ask).collect::<String>() + "ready"
    };
    let to_json = || {
        let detour = |r: &Detour| json!({"from": r.from, "to": r.to, "listen": r.listen, "target": r.target});
        json!({"control": control, "detours": detours.iter().map(detour).collect::<Vec<_>>()})
    };
    output.print(to_text, to_json);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shape_names_its_links() {
        let (pattern, shape) = parse_shape("1>* latency=5ms,jitter=5ms").unwrap();
        assert!(pattern.is("1", "2") && shape.show() == "latency=5ms,jitter=5ms");
        assert!(["stall", "1 stall", "1>2 slow"].iter().all(|text| parse_shape(text).is_err()));
    }

    #[test]
    fn links_are_shown_as_columns() {
        let answer = json!({"links": [{"link": "1>2", "shape": "clear", "connections": 1, "bytes": 20}]});
        assert_eq!(table(&answer), "link  shape  connections  bytes\n1>2   clear  1            20\n");
    }

    #[test]
    fn nobody_there_and_a_line_too_many_are_told_apart() {
        let failure = answer_of("/nonexistent/socket", "show").unwrap_err();
        assert_eq!(failure.exit, Exit::NoConnection);
        assert_eq!(answer_of("/nonexistent/socket", "set 1>2 stall\nshow").unwrap_err().exit, Exit::Usage);
    }
}
