//! Client connections: take (parse, route, flow control) and reply (order, write).
pub mod plan;
mod view;
pub use view::{Facts, Member, View};
