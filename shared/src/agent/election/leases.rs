//! Reads and writes of the set's Lease, each bounded. I/O.

use std::time::Duration;

use k8s_openapi::api::coordination::v1::Lease;
use kube::Api;
use kube::api::PostParams;
use tokio::time::timeout;

use super::lease::{read, shows};
use crate::agent::lease::point::said;
use crate::election::message::{Precondition, Write};

/// What came of a write.
pub(super) enum Outcome {
    /// It had effect, and this is what it made.
    Done(Box<Lease>),
    /// It had none: the Lease is this one now, or there is none.
    Conflict(Option<Box<Lease>>),
    /// It was not sent, for a reason that waiting may end.
    Refused(String),
    /// It may have had effect.
    Unanswered(String),
}

const SILENT: &str = "the API server does not answer";

/// Write the Lease.
///
/// A client that sends a request again after a failure sees a conflict with itself: so the Lease is
/// looked at after one.
pub(super) async fn write(
    api: Api<Lease>,
    name: &str,
    write: &Write,
    lease: &Lease,
    bound: Duration,
) -> Outcome {
    let params = PostParams::default();
    let sent = async {
        match &write.precondition {
            Precondition::Version(_) => api.replace(name, &params, lease).await,
            Precondition::Missing => api.create(&params, lease).await,
        }
    };
    let attempt = async {
        match sent.await {
            Ok(written) => Outcome::Done(Box::new(written)),
            Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => {
                match api.get_opt(name).await {
                    Ok(Some(now)) if read(&now).is_ok_and(|look| shows(&look, write)) => {
                        Outcome::Done(Box::new(now))
                    }
                    Ok(now) => Outcome::Conflict(now.map(Box::new)),
                    Err(error) => Outcome::Unanswered(said(&error)),
                }
            }
            Err(error) => Outcome::Unanswered(said(&error)),
        }
    };
    timeout(bound, attempt)
        .await
        .unwrap_or_else(|_| Outcome::Unanswered(SILENT.to_owned()))
}

/// Read the Lease past any cache.
pub(super) async fn look(
    api: Api<Lease>,
    name: &str,
    bound: Duration,
) -> Result<Option<Lease>, String> {
    match timeout(bound, api.get_opt(name)).await {
        Ok(read) => read.map_err(|e| said(&e)),
        Err(_) => Err(SILENT.to_owned()),
    }
}

/// Replace the Lease with one that only says more. Whether it had effect is seen by watching it.
pub(super) async fn say(api: Api<Lease>, name: &str, lease: &Lease, bound: Duration) {
    let params = PostParams::default();
    match timeout(bound, api.replace(name, &params, lease)).await {
        Ok(Ok(_)) => tracing::info!("the Lease says that its holder is not reached from here"),
        Ok(Err(error)) => tracing::debug!(why = said(&error), "the Lease was not written"),
        Err(_) => {}
    }
}
