//! PostgreSQL as the operator meets it from outside: over SQL, through the Service (I/O).

pub mod probe;

use k8s_openapi::api::apps::v1::Deployment;
use mainstay_shared::operator::observe::kinds;
use mainstay_shared::watch::Kind;

pub use probe::{Answer, ProbeError, Target, round_trip};

/// Kind of the resource.
pub const KIND: &str = "Postgres";
/// The add-on's name in labels and derived names.
pub const APP: &str = "postgres";
/// Name of the engine's container.
pub const CONTAINER: &str = "postgres";
/// Kind of Deployments, which poolers are.
pub const DEPLOYMENT: &str = "Deployment";

/// Every kind that a set has children of.
pub fn kinds() -> Vec<Kind> {
    kinds::all(&[Kind::of::<Deployment>(DEPLOYMENT)])
}
