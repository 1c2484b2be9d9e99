//! What each path answers. Facts come from the status, the board and the probe; nothing here knows of sockets.

use super::context::Context;
use super::http::{Method, Request, Response};
use super::members;
use super::probe::Ask;
use super::status::{Convicted, Facts, Status};
use crate::base::NodeId;
use crate::base::hex::to_hex;
use crate::meter::Figures;
use bytes::Bytes;
use serde_json::{Value, json};
use std::fmt::Write;

const INDEX: &str = "\
GET  /metrics               Prometheus text
GET  /metrics.json          the same with quantiles
GET  /livez                 do the event loops turn
GET  /readyz                can clients be served (?verbose: each check)
GET  /statusz               where this node stands
GET  /evidence              proof that replicas lie, whole
GET  /members               who is in the group, and since which slot
GET  /charters              how the members came about, signed
POST /leader/transfer?to=N  hand leadership over (bearer token)
POST /members               an operator's amendment (bearer token)
POST /keys/next             make this node's next keys (bearer token)
";

/// Answers a request.
pub async fn answer(context: &Context, request: &Request) -> Response {
    let post = request.method == Method::Post;
    match (request.path.as_str(), post) {
        ("/", false) => Response::text(200, INDEX),
        ("/metrics", false) => metrics(context),
        ("/metrics.json", false) => Response::json(200, &figures(context).to_json()),
        ("/livez", false) => live(&context.status),
        ("/readyz", false) => ready(context, request.parameter("verbose").is_some()).await,
        ("/statusz", false) => Response::json(200, &standing(&context.status)),
        ("/evidence", false) => Response::json(200, &evidence(&context.status)),
        ("/members", false) => members::show(context),
        ("/charters", false) => members::charters(context),
        ("/leader/transfer" | "/members" | "/keys/next", true) => match allowed(context, request) {
            Ok(()) => change(context, request).await,
            Err(refusal) => refusal,
        },
        ("/leader/transfer" | "/keys/next", false) => Response::text(405, "use POST\n"),
        (
            "/" | "/metrics" | "/metrics.json" | "/livez" | "/readyz" | "/statusz" | "/evidence"
            | "/charters",
            true,
        ) => Response::text(405, "use GET\n"),
        _ => Response::text(404, format!("there is no such path; these are:\n{INDEX}")),
    }
}

/// What changes something. Whoever asks may.
async fn change(context: &Context, request: &Request) -> Response {
    match request.path.as_str() {
        "/members" => members::amend(context, request).await,
        "/keys/next" => members::make_keys(context),
        _ => transfer(context, request).await,
    }
}

fn figures(context: &Context) -> Figures {
    let mut figures = context.board.figures();
    let node = context.status.facts().node.to_string();
    let mut own = Figures::new(&[("node", &node)]);
    context.own.iter().for_each(|source| source.report(&mut own));
    figures.merge(&own);
    figures
}

fn metrics(context: &Context) -> Response {
    let body = figures(context).to_prometheus();
    Response { status: 200, content_type: "text/plain; version=0.0.4; charset=utf-8", body }
}

/// Only whether the event loops turn: a supervisor restarts by this answer, and a restart cures neither a lost quorum nor a lag.
fn live(status: &Status) -> Response {
    let stalled = status.stalled();
    if stalled.is_empty() {
        return Response::text(200, "ok\n");
    }
    let mut body = String::new();
    for (core, still) in stalled {
        let _ = writeln!(body, "core {core} has not turned for {:.1} s", still.as_secs_f64());
    }
    Response::text(503, body)
}

async fn ready(context: &Context, verbose: bool) -> Response {
    let facts = context.status.facts();
    let mut checks = vec![leader_known(&facts), applied(&facts, context.applied_lag_max), disk(&facts)];
    let read = match checks[0].1 {
        // Without a leader the read would only wait for its time-out.
        Err(_) => Err("not tried without a leader".to_string()),
        Ok(_) => context.ask(Ask::LinearizableRead).await,
    };
    checks.push(("read", read));
    let ready = checks.iter().all(|(_, outcome)| outcome.is_ok());
    let mut body = String::new();
    for (name, outcome) in &checks {
        match outcome {
            Ok(fact) if verbose => drop(writeln!(body, "[+] {name}: {fact}")),
            Ok(_) => {}
            Err(why) => drop(writeln!(body, "[-] {name}: {why}")),
        }
    }
    body.push_str(if ready { "ready\n" } else { "not ready\n" });
    Response::text(if ready { 200 } else { 503 }, body)
}

type Check = (&'static str, Result<String, String>);

fn leader_known(facts: &Facts) -> Check {
    let outcome = match facts.leader {
        Some(leader) => Ok(format!("node {leader} leads {}", facts.reign())),
        None if facts.role.is_empty() => Err("the log is being read back".to_string()),
        None => Err(format!("no leader is known in {}", facts.reign())),
    };
    ("leader", outcome)
}

fn applied(facts: &Facts, lag_max: u64) -> Check {
    let lag = facts.commit.saturating_sub(facts.applied);
    let fact = format!("applied {} of {} committed slots", facts.applied, facts.commit);
    ("applied", if lag <= lag_max { Ok(fact) } else { Err(format!("{fact}, allowed lag {lag_max}")) })
}

fn disk(facts: &Facts) -> Check {
    ("disk", facts.disk_error.clone().map_or(Ok("no error".to_string()), Err))
}

/// What `/statusz` prints: the facts, and what only this plane knows.
fn standing(status: &Status) -> Value {
    let mut value = json!(status.facts());
    value["uptime_seconds"] = json!(status.uptime().as_secs());
    let stalled = status.stalled();
    let cores = stalled.iter().map(|(core, still)| json!({ "core": core, "seconds": still.as_secs() }));
    value["stalled_cores"] = cores.collect();
    value
}

/// What `quorate ctl evidence` reads: each proof as hexadecimal digits, so that it can be kept and checked elsewhere.
fn evidence(status: &Status) -> Value {
    let one = |(convicted, proof): (Convicted, Bytes)| json!({ "node": convicted.node, "kind": convicted.kind, "proof": to_hex(&proof) });
    json!({ "node": status.facts().node, "evidence": status.proofs().into_iter().map(one).collect::<Vec<_>>() })
}

fn allowed(context: &Context, request: &Request) -> Result<(), Response> {
    let Some(token) = &context.token else {
        return Err(Response::text(401, "this node has no admin token, so nothing can be changed here\n"));
    };
    match &request.bearer {
        Some(shown) if token.matches(shown) => Ok(()),
        Some(_) => Err(Response::text(401, "wrong token\n")),
        None => {
            Err(Response::text(401, "send the token that `quorate init` wrote as: Authorization: Bearer\n"))
        }
    }
}

async fn transfer(context: &Context, request: &Request) -> Response {
    let to = match request.parameter("to").map(str::parse::<u8>) {
        None => None,
        Some(Ok(node)) if 0 < node => Some(NodeId(node)),
        Some(_) => return Response::text(400, "`to` is the number of a node\n"),
    };
    match context.ask(Ask::TransferLeader { to }).await {
        Ok(fact) => Response::json(202, &json!({ "outcome": fact })),
        Err(why) => Response::json(409, &json!({ "error": why })),
    }
}
