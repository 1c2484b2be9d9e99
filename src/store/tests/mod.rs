//! Tests of the store as a whole.

mod conversations;
mod properties;
mod support;
