//! The paths of the service plane that show and change who is in a group. Nothing here judges an amendment but whether it is one: the
//! replica does, by the operator's signature. The bearer token only keeps strangers from its door.

use super::context::Context;
use super::http::{Request, Response};
use super::probe::Ask;
use crate::base::hex::to_hex;
use crate::wire::members::{Member, Signed};
use serde_json::{Value, json};

/// Who is in the group: once for people, and once as the bytes that replicas agree on.
pub(super) fn show(context: &Context) -> Response {
    let (roll, facts) = (context.roster.latest(), context.status.facts());
    let membership = &roll.membership;
    let mut bytes = Vec::new();
    membership.encode(&mut bytes);
    let member = |m: &Member| -> Value {
        json!({"id": m.id.0, "peer": m.peer, "client": m.client, "admin": m.admin,
               "key": m.key.to_string(), "signing_key": m.signing_key.to_string()})
    };
    let answer = json!({
        "node": facts.node,
        "cluster": facts.cluster,
        "protocol": facts.protocol,
        "epoch": membership.epoch,
        "f": membership.faulty,
        "members": membership.members.iter().map(member).collect::<Vec<_>>(),
        "retired": membership.retired.iter().map(|id| id.0).collect::<Vec<_>>(),
        "boundary": roll.boundary.map(|slot| slot.0),
        "base_slot": roll.base.slot.0,
        "base_digest": to_hex(&roll.base.digest.0),
        "window": roll.window,
        "checkpoint_every": roll.checkpoint_every,
        "membership": to_hex(&bytes),
    });
    Response::json(200, &answer)
}

/// How the members came about, as far as this node can show it. Whoever knows the first members need not believe it.
pub(super) fn charters(context: &Context) -> Response {
    let (roll, facts) = (context.roster.latest(), context.status.facts());
    let charters = roll.charters.iter().map(|charter| to_hex(charter.body().bytes()));
    let charters: Vec<String> = charters.collect();
    Response::json(200, &json!({ "node": facts.node, "cluster": facts.cluster, "charters": charters }))
}

/// Hands an operator's amendment to the replica.
pub(super) async fn amend(context: &Context, request: &Request) -> Response {
    let Some(batch) = Signed::decode(&request.body) else {
        return Response::json(
            400,
            &json!({ "error": "the body is no amendment as `quorate ctl members` makes them" }),
        );
    };
    match context.ask(Ask::Amend { batch }).await {
        Ok(fact) => Response::json(202, &json!({ "outcome": fact })),
        Err(why) => Response::json(409, &json!({ "error": why })),
    }
}

/// Makes this node's next keys, and tells their public halves.
pub(super) fn make_keys(context: &Context) -> Response {
    match context.keys.next() {
        Ok((key, signing)) => {
            Response::json(200, &json!({ "key": key.to_string(), "signing_key": signing.to_string() }))
        }
        Err(why) => Response::json(409, &json!({ "error": why })),
    }
}
