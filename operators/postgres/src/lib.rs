//! PostgreSQL: the operator, and the agent in its pods. A library for its own binary and tests;
//! nothing else imports it.

pub mod agent;
pub mod backup;
pub mod desired;
pub mod engine;
pub mod parameters;
pub mod pooler;
pub mod room;
pub mod settings;
pub mod validate;

pub use engine::{operator, status};
