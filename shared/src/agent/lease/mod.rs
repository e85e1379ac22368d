//! The set's Lease, seen by every agent, and the endpoints of the primary Service, written by the
//! agent that holds it.

pub mod follow;
pub mod point;
pub mod slice;
