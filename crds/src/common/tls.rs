//! Certificates.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Certificates. Every connection is TLS; the built-in authority of each resource issues them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Tls {
    /// How long a certificate of an instance is valid, in hours. Default: 2160 (90 days).
    /// It is renewed when a third of that is left, without a restart.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 8760))]
    pub certificate_hours: Option<i32>,
}
