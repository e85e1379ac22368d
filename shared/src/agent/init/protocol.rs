//! What agent and PID 1 say to each other: one JSON value per line on a Unix socket.
//!
//! The agent sends [`Command`]s; PID 1 answers each heartbeat and each change with its whole
//! [`State`], so a message that is lost or an agent that starts anew misses nothing.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// From the agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Command {
    /// The agent is alive; due well within the watchdog's time.
    Heartbeat,
    /// Start the engine. Without effect while one runs or a hard stop goes on.
    Start(Start),
    /// Send the engine a signal. Without effect while none runs.
    Signal(EngineSignal),
    /// Kill every process of the container but PID 1 and the agent, until none is left.
    HardStop,
    /// The agent works: its server listens, and it has looked at the engine. Said once by each.
    Works,
    /// Go on with the agent that this program is, beside the engine. The one that says so is ended;
    /// a new one that does not work is given up, and this one started again.
    TryOut {
        /// Path of the program.
        program: String,
    },
}

/// How to start the engine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Start {
    /// Program and arguments. No secret belongs here: everyone in the container can read it.
    pub argv: Vec<String>,
    /// Its whole environment: nothing is inherited. No secret belongs here either.
    pub env: BTreeMap<String, String>,
    /// Its working directory.
    pub cwd: String,
    /// Signal by which it stops in order, for when PID 1 must stop it without an agent.
    pub stop: EngineSignal,
}

/// Signals that an engine understands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum EngineSignal {
    /// `SIGHUP`.
    Hangup,
    /// `SIGINT`.
    Interrupt,
    /// `SIGQUIT`.
    Quit,
    /// `SIGTERM`.
    Terminate,
}

/// From PID 1: everything it knows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct State {
    /// The engine's process.
    pub engine: Engine,
    /// How often an engine was started since the container began.
    pub starts: u64,
    /// A hard stop goes on.
    pub hard_stopping: bool,
    /// How many hard stops are over: after one that began later than a start, no process of the
    /// engine is left.
    pub hard_stops: u64,
    /// The agent's program that was given up last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub given_up: Option<GivenUp>,
    /// The container is being stopped: milliseconds that are left for an orderly end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stop_within: Option<u64>,
}

/// A program of the agent that did not work.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GivenUp {
    /// Path of the program.
    pub program: String,
    /// Why, in words.
    pub why: String,
}

/// The engine's process.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Engine {
    /// None was started since the container began.
    #[default]
    Absent,
    /// It runs.
    Running {
        /// Process identifier of its first process.
        pid: i32,
    },
    /// Its first process has ended; others of it may still be there until a hard stop.
    Exited {
        /// How, in words: an exit code or a signal.
        how: String,
        /// Whether it was an orderly end (exit code 0).
        clean: bool,
    },
}
