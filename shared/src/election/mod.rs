//! Who may be primary. `record` is what the set's Lease says; `seat` is the rule.
//!
//! In this version the seat is fixed: the instance that made the data is the primary, and a failure
//! of it is mended by restarting it on its volume. Election replaces [`seat`] and keeps the record.

pub mod record;
pub mod seat;
