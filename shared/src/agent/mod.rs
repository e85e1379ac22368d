//! The kit of the process in data pods, engine-neutral: contract, PID 1, server and client.

pub mod api;
pub mod config;
pub mod paths;
