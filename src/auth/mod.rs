//! The authentication role: opens what came in, seals what goes out.
