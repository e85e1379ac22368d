//! Certificates.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use super::rules;

/// Certificates. Every connection is TLS; the built-in authority of each resource issues them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Tls {
    /// How long a certificate of an instance is valid, in hours. Default: 2160 (90 days).
    /// It is renewed when a third of that is left, without a restart.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = rules::certificate_hours())]
    pub certificate_hours: Option<i32>,
}
