//! Redis and Valkey: the operator, and the agent in their pods. A library for its own binary and tests;
//! nothing else imports it.

pub mod agent;
pub mod backup;
pub mod desired;
pub mod engine;
pub mod resp;
pub mod settings;
pub mod shards;
pub mod validate;
pub mod version;
