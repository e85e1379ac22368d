//! What an acknowledged write survives.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// When a write is acknowledged to the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Durability {
    /// After at least one replica has it on disk as well. Needs three instances. Default from three.
    Quorum,
    /// After the primary has it on disk. Default below three instances.
    Async,
}

impl Durability {
    /// What holds for a set of `instances` when the user asked for `asked`.
    pub fn effective(asked: Option<Self>, instances: i32) -> Self {
        match asked {
            Some(d) => d,
            None if instances >= 3 => Self::Quorum,
            None => Self::Async,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Durability::{self, Async, Quorum};

    #[test]
    fn three_instances_make_a_quorum_by_default() {
        assert_eq!(Durability::effective(None, 3), Quorum);
        assert_eq!(Durability::effective(None, 2), Async);
        assert_eq!(Durability::effective(Some(Async), 5), Async);
    }
}
