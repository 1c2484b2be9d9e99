//! Composition: placement, wiring, boot, run.
