//! Credentials: what an engine makes its Secrets from.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;

use crate::access::Password;
use crate::agent::config::Role;
use crate::apply::Object;
use crate::operator::logins::Login;

/// From what the Secrets with credentials are made.
#[derive(Debug)]
pub struct Given<'a> {
    /// The application's password.
    pub password: &'a Password,
    /// Certificate of the set's authority.
    pub ca: &'a str,
    /// What the agents know already, by the names of roles: a verifier that still checks the password is kept.
    pub roles: &'a BTreeMap<String, Role>,
    /// The Secret with passwords of the set's own users ([`crate::names::internal_secret`]), if it is there.
    pub internal: Option<&'a BTreeMap<String, ByteString>>,
    /// Logins of applications besides the set's own.
    pub logins: &'a [Login],
    /// The password that one of them gets next.
    pub coming: Option<Coming<'a>>,
    /// Now.
    pub now: Timestamp,
}

/// A password that a login gets next.
#[derive(Clone, Copy, Debug)]
pub struct Coming<'a> {
    /// Name of the `Access` whose login it is; none: that of the set's own application.
    pub access: Option<&'a str>,
    /// The password.
    pub password: &'a Password,
    /// Whether every instance knows it, so that the Secret which applications read gets it now.
    pub publish: bool,
}

impl<'a> Given<'a> {
    /// The password that this login gets next: instances take it besides the present one.
    pub fn coming_of(&self, access: Option<&str>) -> Option<&'a Password> {
        let coming = self.coming.filter(|c| c.access == access)?;
        Some(coming.password)
    }

    /// The password that stands in the Secret of this login from now on; `present` does now.
    ///
    /// What checks passwords is made of `present` all the same, until the other one is seen to stand there.
    pub fn shown<'b>(&self, access: Option<&str>, present: &'b Password) -> &'b Password
    where
        'a: 'b,
    {
        let coming = self.coming.filter(|c| c.access == access && c.publish);
        coming.map_or(present, |c| c.password)
    }
}

/// For how long the password before the last one is taken: applications read their Secret again meanwhile.
pub const OVERLAP: SignedDuration = SignedDuration::from_hours(1);

/// Secrets with credentials.
#[derive(Debug, Default)]
pub struct Credentials {
    /// The Secrets, whole.
    pub secrets: Vec<Secret>,
    /// When they have to be made again, if ever: something in them ends then.
    pub due: Option<Timestamp>,
    /// Whether agents are told of the password that a login gets next.
    pub announced: bool,
}

/// They cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum CredentialsError {
    /// The system gives no random numbers.
    #[error("the system gives no random numbers: {0}")]
    Entropy(#[from] getrandom::Error),
    /// One cannot be written as JSON.
    #[error("an object cannot be written as JSON: {0}")]
    Json(#[from] serde_json::Error),
}

/// Those of the keys `passing`, which stand in it at times only, that are in a live Secret and not wanted any more. What
/// the Secret was made with is nobody's to take back by applying it without; keys of others are left alone.
pub fn stale_keys(
    wanted: &Object,
    live: &BTreeMap<String, ByteString>,
    passing: &[&'static str],
) -> Vec<&'static str> {
    let stays = |key: &str| wanted.value["data"].get(key).is_some();
    let stale = passing.iter().copied();
    stale
        .filter(|key| live.contains_key(*key) && !stays(key))
        .collect()
}

/// Keys of the agents' Secret that stand for logins which nobody wants any more: what it was made with is nobody's to take back
/// by applying it without, and all of it is the operator's.
pub fn gone_logins(wanted: &Object, live: &BTreeMap<String, ByteString>) -> Vec<String> {
    let stays = |key: &str| wanted.value["data"].get(key).is_some();
    live.keys().filter(|key| !stays(key)).cloned().collect()
}
