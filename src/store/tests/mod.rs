//! Tests of the store as a whole.

mod agent;
mod conversations;
mod properties;
mod replies;
mod support;
