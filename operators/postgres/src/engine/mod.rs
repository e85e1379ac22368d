//! PostgreSQL as the operator meets it from outside: over SQL, through the Service (I/O).

pub mod probe;

pub use probe::{Answer, ProbeError, Target, round_trip};
