//! The operator's own client certificates of a set: made in memory, short-lived, never stored.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use jiff::{SignedDuration, Timestamp};
use rustls::ClientConfig;

use crate::names::{OPERATOR_COMMON_NAME, PROBE_COMMON_NAME};
use crate::pki::{LeafSpec, Pair, PkiError, TlsError, Usage, client_config, issue_leaf};
use crate::watch::SetKey;

/// Hours that such a certificate is valid; it is replaced when half of that is over.
const HOURS: i64 = 24;

/// How the operator shows itself to one set.
#[derive(Clone, Debug)]
pub struct Identity {
    /// To agents.
    pub agents: Arc<ClientConfig>,
    /// To the engine.
    pub probe: Arc<ClientConfig>,
    /// Changes with every certificate.
    pub token: String,
    ca: String,
    /// When it is replaced.
    pub renew: Timestamp,
}

/// No identity could be made.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The certificate could not be issued.
    #[error("the operator's certificate for the set cannot be made: {0}")]
    Issue(#[from] PkiError),
    /// TLS does not take it.
    #[error("the operator's certificate for the set cannot be used: {0}")]
    Tls(#[from] TlsError),
}

/// Identities by set.
#[derive(Debug, Default)]
pub struct Identities(Mutex<HashMap<SetKey, Identity>>);

impl Identities {
    /// The identity for a set with this authority; made anew when the authority changed or half of
    /// the certificate's time is over.
    ///
    /// # Errors
    /// When the authority cannot issue.
    pub fn of(
        &self,
        set: &SetKey,
        authority: &Pair,
        now: Timestamp,
    ) -> Result<Identity, IdentityError> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(kept) = all
            .get(set)
            .filter(|i| i.ca == authority.certificate && i.renew > now)
        {
            return Ok(kept.clone());
        }
        let config = |common_name: &str| -> Result<Arc<ClientConfig>, IdentityError> {
            let spec = LeafSpec {
                common_name: common_name.to_owned(),
                dns_names: Vec::new(),
                addresses: Vec::new(),
                usage: Usage::Client,
                hours: HOURS,
            };
            let pair = issue_leaf(authority, &spec, now)?;
            Ok(Arc::new(client_config(
                &authority.certificate,
                Some(&pair),
            )?))
        };
        let identity = Identity {
            agents: config(OPERATOR_COMMON_NAME)?,
            probe: config(PROBE_COMMON_NAME)?,
            token: now.to_string(),
            ca: authority.certificate.clone(),
            renew: now + SignedDuration::from_hours(HOURS / 2),
        };
        all.insert(set.clone(), identity.clone());
        Ok(identity)
    }

    /// Forget sets that are gone.
    pub fn retain(&self, keep: impl Fn(&SetKey) -> bool) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .retain(|set, _| keep(set));
    }
}
