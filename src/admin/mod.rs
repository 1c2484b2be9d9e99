//! The service plane on glommio: HTTP and the keeper of snapshots.
