//! `quorate demo`: a whole cluster on this machine, to be tried and thrown away.

use super::cluster::Children;
use super::exit::{Exit, Failure};
use super::init::{self, InitArgs, Layout};
use super::output::Output;
use super::scratch::Scratch;
use crate::config::Layers;
use clap::Args;
use serde_json::json;
use signal_hook::consts::{SIGINT, SIGTERM};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// How large, and where.
#[derive(Args, Debug)]
pub struct DemoArgs {
    /// How many nodes [default: 5]
    #[arg(long)]
    nodes: Option<usize>,
    /// Where to keep it; a cluster that is there already is started again. Without it a temporary directory is removed at the end
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Ports count from here [default: 7000]
    #[arg(long, value_name = "P")]
    base_port: Option<u16>,
    /// Which rules the group obeys: raft or pbft [default: raft]
    #[arg(long, value_name = "NAME", value_parser = ["raft", "pbft"])]
    protocol: Option<String>,
    /// How many nodes of a pbft group may lie [default: as many as it bears]
    #[arg(long = "f", value_name = "F")]
    faulty: Option<usize>,
    /// When a write counts as stored: quorum-sync or none
    #[arg(long, value_name = "WHEN")]
    durability: Option<String>,
}

/// How often it looks whether it should end.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Runs the command.
pub fn run(args: &DemoArgs, output: Output) -> Result<(), Failure> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        let registered = signal_hook::flag::register(signal, stop.clone());
        registered.map_err(|e| Failure::new(Exit::Io, format!("signal {signal} cannot be handled ({e})")))?;
    }
    let scratch = args.dir.is_none().then(|| Scratch::new("demo"));
    let dir = args.dir.clone().or_else(|| scratch.as_ref().map(|s| s.path().to_owned()));
    let layout = layout(args, dir.expect("one of the two is there"))?;
    let program = std::env::current_exe()
        .map_err(|e| Failure::new(Exit::Io, format!("own program not found ({e})")))?;
    let flags: Vec<String> =
        args.durability.iter().flat_map(|when| ["--durability".into(), when.clone()]).collect();
    let mut children = Children::start(&program, &layout, &flags)?;
    output.print(|| welcome(&layout), || layout.to_json());
    let died = watch(&mut children, &stop, output);
    for (id, status) in children.stop() {
        tell(
            output,
            &format!("node {id} ended ({status})"),
            json!({"ended": id.0, "success": status.success()}),
        );
    }
    match died {
        0 => Ok(()),
        count => Err(Failure::new(
            Exit::Unhealthy,
            format!("{count} of {} nodes died; their last lines say why", layout.nodes.len()),
        )),
    }
}

/// Makes a new cluster, or finds the one that an earlier demonstration left in `dir`.
fn layout(args: &DemoArgs, dir: PathBuf) -> Result<Layout, Failure> {
    let wanted = InitArgs {
        dir,
        nodes: args.nodes.unwrap_or(5),
        base_port: args.base_port.unwrap_or(7000),
        hosts: Vec::new(),
        protocol: args.protocol.clone().unwrap_or_else(|| "raft".into()),
        faulty: args.faulty,
        clients: 0,
        join: None,
        id: None,
        segment_bytes: "4MiB".into(),
    };
    match wanted.dir.join("node-1.toml").exists() {
        true => init::open(&wanted.dir).and_then(|found| same(args, found)),
        false => init::create(&wanted),
    }
}

/// A cluster stays what it was made as: what was typed and differs is refused, not left out.
fn same(args: &DemoArgs, found: Layout) -> Result<Layout, Failure> {
    let first = &found.nodes[0];
    let config = Layers::from_file(&first.config)?.resolve()?;
    let port = first.client.rsplit(':').next().and_then(|port| port.parse::<u16>().ok());
    let base_port = port.map(|port| port.saturating_sub(first.id.0.into()));
    let rows = [
        ("--nodes", args.nodes.map(|n| n.to_string()), Some(found.nodes.len().to_string())),
        ("--base-port", args.base_port.map(|p| p.to_string()), base_port.map(|p| p.to_string())),
        ("--protocol", args.protocol.clone(), Some(config.group.protocol.name().into())),
        ("--f", args.faulty.map(|f| f.to_string()), Some(config.group.faulty.to_string())),
    ];
    for (flag, typed, is) in rows {
        if let (Some(typed), Some(is)) = (typed, is)
            && typed != is
        {
            let dir = found.dir.display();
            let message = format!(
                "{flag} is {typed}, but the cluster in {dir} was made with {is}; leave {flag} out, or name another --dir"
            );
            return Err(Failure::new(Exit::Usage, message));
        }
    }
    Ok(found)
}

/// Waits for a signal, telling of each node that dies meanwhile; returns how many did.
fn watch(children: &mut Children, stop: &AtomicBool, output: Output) -> usize {
    let mut died = 0;
    while !stop.load(Ordering::Relaxed) && !children.is_empty() {
        if let Some((id, status)) = children.ended(LOOK_EVERY) {
            died += 1;
            let text = format!("node {id} died ({status}); {} left, nothing is restarted", children.len());
            tell(output, &text, json!({"died": id.0, "left": children.len()}));
        }
    }
    died
}

fn tell(output: Output, text: &str, json: serde_json::Value) {
    output.print(|| text.to_owned(), || json);
}

fn welcome(layout: &Layout) -> String {
    let first = &layout.nodes[0];
    let port = first.client.rsplit(':').next().unwrap_or_default();
    let mut text = layout.table();
    text += &format!("\nFiles: {}\n\nTry this:\n", layout.dir.display());
    for line in [
        format!("  redis-cli -p {port} SET greeting hello"),
        format!(
            "  redis-cli -p {} GET greeting",
            layout.nodes.last().map_or(port, |n| n.client.rsplit(':').next().unwrap_or(port))
        ),
        format!("  redis-benchmark -p {port} -t set -n 100000 -c 64 -P 16 -d 256"),
        format!("  curl -s http://{}/readyz?verbose", first.admin),
        format!("  quorate ctl status --endpoints {}", first.admin),
    ] {
        text += &(line + "\n");
    }
    text + "\nCtrl-C ends it."
}
