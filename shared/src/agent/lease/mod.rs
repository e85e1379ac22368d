//! The set's Lease: seen by every agent, kept by the one in the seat, who also writes the
//! endpoints of the primary Service.

pub mod follow;
pub mod keep;
pub mod point;
pub mod rule;
pub mod slice;
