//! Sentences of the papers, each quoted at the test that proves it.

mod raft;
