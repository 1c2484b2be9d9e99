use super::session::{Args, Desk, Session};
pub(super) fn answer<T: std::fmt::Debug>(what: T, s: &mut Session, desk: &mut Desk, _args: Args) {
    let name = format!("{what:?}");
    match name.as_str() {
        "Ping" => s.reply(desk, |o| o.simple("PONG")),
        "Role" => {
            let leads = desk.view.leads();
            s.reply(desk, |o| {
                o.array(3);
                o.bulk(if leads { b"master" } else { b"slave" });
                o.integer(0);
                o.array(0);
            })
        }
        "Command" | "Config" => s.reply(desk, |o| {
            o.array(0);
        }),
        _ => s.reply(desk, |o| o.simple("OK")),
    }
}
