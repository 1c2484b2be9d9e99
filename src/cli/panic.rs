//! What is said when an invariant of our own does not hold: one line that names agent, group and slot, and then the end of the
//! process. Half a node never lives on.

use crate::base::place::Place;
use std::any::Any;
use std::panic::Location;

/// Ends the process at the first panic of any thread, after one line on stderr.
pub fn install() {
    std::panic::set_hook(Box::new(|info| {
        eprintln!("{}", line(Place::here(), info.location(), info.payload()));
        std::process::abort();
    }));
}

fn line(place: Place, source: Option<&Location<'_>>, payload: &dyn Any) -> String {
    let text = payload.downcast_ref::<String>().map(String::as_str);
    let message = text.or_else(|| payload.downcast_ref::<&str>().copied()).unwrap_or("no message");
    let source = source.map_or_else(|| "an unknown place".into(), ToString::to_string);
    format!("quorate: panic in {place}, at {source}: {}", message.replace('\n', " "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{GroupId, Slot};

    #[test]
    fn the_line_names_agent_group_slot_and_source_and_is_one_line() {
        let place = Place { agent: "store", group: GroupId(1), slot: Slot(42) };
        let here = Location::caller();
        let formatted: Box<dyn Any> = Box::new("left: 1\nright: 2".to_owned());
        let line_of = |payload: &dyn Any| line(place, Some(here), payload);
        assert_eq!(
            line_of(&*formatted),
            format!("quorate: panic in agent store, group 1, slot 42, at {here}: left: 1 right: 2")
        );
        assert!(line_of(&"plain").ends_with(": plain"));
        assert!(line_of(&7_u8).ends_with(": no message"));
    }
}
