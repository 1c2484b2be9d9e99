//! Cores explored exhaustively at small bounds: the very types that nodes run, and everything that can happen around them.

mod explore;
mod pbft;
mod raft;
