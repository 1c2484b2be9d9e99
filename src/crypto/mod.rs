//! Keys, keyed tags and their derivation.
