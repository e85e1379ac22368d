//! Changes that are refused.

use mainstay_crds::postgres::rules;
use serde_json::json;

use super::By::Change;
use super::{Case, spec};

/// What stays as it is.
pub fn cases() -> Vec<Case> {
    vec![
        spec(
            "a newer major version",
            Change,
            "spec.version",
            rules::UPGRADE,
            json!({ "version": "18" }),
        ),
        spec(
            "an older major version",
            Change,
            "spec.version",
            rules::DOWNGRADE,
            json!({ "version": "16" }),
        ),
        spec(
            "another database",
            Change,
            "spec.application",
            rules::APPLICATION_CHANGES,
            json!({ "application": { "database": "other" } }),
        ),
        spec(
            "another owner",
            Change,
            "spec.application",
            rules::APPLICATION_CHANGES,
            json!({ "application": { "owner": "other" } }),
        ),
        spec(
            "application left out",
            Change,
            "spec.application",
            rules::APPLICATION_CHANGES,
            json!({ "application": null }),
        ),
    ]
}
