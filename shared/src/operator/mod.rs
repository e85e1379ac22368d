//! The operator of any add-on that is a set: one primary, replicas that follow it, an agent in each pod.

pub mod desired;
pub mod material;
pub mod observe;
pub mod plan;
