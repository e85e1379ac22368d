//! When instances may be disturbed.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::rules;

/// When changes that disturb an instance are made: restarts and replacements for what the resource, the
/// catalogue or the operator asks for.
///
/// Repairs, a hand-over that somebody asks for or that a drain needs, and removing an instance when
/// `instances` is lowered do not wait.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
pub struct Maintenance {
    /// Weekly windows; a change begins only within one. None: at any time.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 14))]
    pub windows: Vec<Window>,
    /// Make no such change at all, in a window or not, and upgrade no agent. Default: false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub freeze: Option<bool>,
}

/// A weekly window.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
pub struct Window {
    /// Days on which it begins. None: every day.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 7), extend("x-kubernetes-list-type" = "set"))]
    pub days: Vec<Day>,
    /// When it begins, in UTC, for example `"02:30"`.
    #[schemars(length(max = 8))]
    #[x_kube(validation = rules::window_start())]
    pub start: String,
    /// How long it is, from 1 to 24 hours.
    #[x_kube(validation = rules::window_hours())]
    pub hours: i32,
}

/// A day of the week.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[allow(missing_docs, reason = "their names say it")]
pub enum Day {
    Monday,
    Tuesday,
    Wednesday,
    Thursday,
    Friday,
    Saturday,
    Sunday,
}
