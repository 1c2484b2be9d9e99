//! Tests of the store as a whole.

mod agent;
mod conversations;
mod properties;
mod ranges;
mod replies;
mod support;
