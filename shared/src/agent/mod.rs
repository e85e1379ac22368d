//! The kit of the process in data pods, engine-neutral: contract, PID 1, server and client.

pub mod api;
pub mod client;
pub mod clock;
pub mod cluster;
pub mod commands;
pub mod config;
pub mod election;
pub mod gauges;
pub mod hand_over;
pub mod init;
pub mod install;
pub mod lease;
pub mod listen;
pub mod mounts;
pub mod open;
pub mod past;
pub mod paths;
pub mod pauses;
pub mod place;
pub mod program;
pub mod pulse;
pub mod server;
pub mod state;
pub mod task;
pub mod tell;
pub mod upgrade;
