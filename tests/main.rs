//! One test binary: whole clusters, papers, house rules. What one room does alone is tested in that room.

mod paper;
mod scenario;
mod sweep;
#[path = "house/mod.rs"]
mod tidy;
