//! The operator of any add-on that is a set: one primary, replicas that follow it, an agent in each pod.

pub mod act;
pub mod desired;
pub mod engine;
pub mod material;
pub mod observe;
pub mod plan;
pub mod status;
pub mod talk;
