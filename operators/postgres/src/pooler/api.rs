//! What agents ask of poolers, over the same HTTPS as among themselves.

use serde::{Deserialize, Serialize};

/// POST [`Pause`]: hold new transactions back, and answer [`Paused`] when those that run have ended or
/// the limit is over. Clients stay held back after that, for a bounded time.
pub const PAUSE: &str = "/v1/pause";
/// POST `null`: somebody leads and lets clients in. Clients go on as soon as they can.
pub const RESUME: &str = "/v1/resume";

/// Body of a [`PAUSE`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Pause {
    /// For how long transactions that run are waited for, in milliseconds.
    pub limit_ms: u64,
}

/// Answer to a [`PAUSE`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Paused {
    /// Whether no transaction runs any more.
    pub quiet: bool,
}
