//! What an agent keeps beside the dataset; values only.

use mainstay_shared::election::member::{Ballot, Position};
use serde::{Deserialize, Serialize};

/// How far the dataset went when the engine that had it was stopped in order, and wrote it all.
///
/// It is on the volume only while no engine runs: whatever is written afterwards makes it untrue.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Orderly {
    /// End of its history.
    pub position: Position,
}

/// For which ballot the engine's start of that number was elected. In memory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Elected {
    /// The ballot.
    pub ballot: Ballot,
    /// The start; none: no engine ran then.
    pub start: Option<u64>,
}
