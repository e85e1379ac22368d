//! The operator of any add-on that is a set: one primary, replicas that follow it, an agent in each pod.
//!
//! What differs from engine to engine is [`engine::Engine`]. `observe`, `talk`, `act`, `keys`, `run` and `serve` do I/O, and so do both ends
//! of a `pass`; the rest is values.

pub mod act;
pub mod desired;
pub mod engine;
pub mod keys;
pub mod logins;
pub mod material;
pub mod observe;
mod pacing;
pub mod pass;
pub mod plan;
pub mod rotations;
pub mod run;
pub mod serve;
pub mod status;
pub mod steer;
pub mod talk;
pub mod validated;

#[cfg(test)]
mod words;
