//! What an acknowledged write survives.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::rules;

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
#[serde(rename_all = "camelCase")]
pub struct Quorum {
    /// What happens while too few replicas can acknowledge. Default: `required`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enforcement: Option<Enforcement>,
    /// Where instances are in two zones or more: only replicas in another zone than the primary's
    /// acknowledge, so that no acknowledged write is lost with a zone. With `false` any replica does:
    /// with two zones more can be away before writes wait, and the loss of a zone may lose writes.
    /// Default: true.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub across_zones: Option<bool>,
}

impl Quorum {
    /// Whether a resource that may not say wants acknowledgements from other zones.
    pub fn across_zones(quorum: Option<&Self>) -> bool {
        quorum.and_then(|q| q.across_zones).unwrap_or(true)
    }

    /// Whether it says anything.
    pub fn says(quorum: Option<&Self>) -> bool {
        quorum.is_some_and(|q| *q != Self::default())
    }
}

/// How `durability: async` is kept.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Asynchronous {
    /// Bytes of the log that the replica which has most may lack: from there on commits wait for it,
    /// also while no replica is there, and no replica that lacks more takes over. Needs two instances.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = rules::max_lag())]
    pub max_lag_bytes: Option<i64>,
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
