//! What an acknowledged write survives.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// When a write is acknowledged to the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Durability {
    /// After at least one replica has it on disk as well. Needs three instances, or two with
    /// `quorum.enforcement: preferred`. Default from three.
    Quorum,
    /// After the primary has it on disk. Default below three instances.
    Async,
}

/// How `durability: quorum` is kept.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Quorum {
    /// What happens while too few replicas can acknowledge. Default: `required`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enforcement: Option<Enforcement>,
}

/// What happens while too few replicas can acknowledge.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Enforcement {
    /// Writes wait.
    #[default]
    Required,
    /// After ten seconds writes go on without them, and the status says so: what is acknowledged then
    /// is lost if the primary is lost before a replica is back.
    Preferred,
}

impl Enforcement {
    /// Whether it is the default, which is not written.
    pub fn is_default(&self) -> bool {
        *self == Self::Required
    }

    /// Of a resource that may not say.
    pub fn of(quorum: Option<&Quorum>) -> Self {
        quorum.and_then(|q| q.enforcement).unwrap_or_default()
    }

    /// Fewest instances with which `quorum` makes sense: with two of which one must acknowledge,
    /// losing one would stop writes.
    pub fn fewest_instances(self) -> i32 {
        match self {
            Self::Required => 3,
            Self::Preferred => 2,
        }
    }
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
