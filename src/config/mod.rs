//! Configuration as written, then resolved: TOML, environment, flags, defaults; limits with their sums.
