//! What is made of random numbers and kept in Secrets: authority, certificates, passwords.
//!
//! Existing material is read, judged and kept; what is missing or due is made. The clock comes in
//! as a value, random numbers come from the system.

use std::collections::BTreeMap;

use jiff::Timestamp;
use mainstay_backup::crypto::Keyring;

use crate::access::{ENTROPY_BYTES, Password, entropy, existing_password};
use crate::names;
use crate::operator::observe::Data;
use crate::pki::{
    LeafSpec, Pair, PkiError, Verdict, authority_from_secret, authority_verdict, facts,
    from_secret, issue_authority, issue_leaf, leaf_verdict, renewal_due,
};
use crate::watch::SetKey;

/// Material could not be made or used.
#[derive(Debug, thiserror::Error)]
pub enum MaterialError {
    /// A certificate or the authority.
    #[error(transparent)]
    Pki(#[from] PkiError),
    /// The system gives no random numbers.
    #[error("the system gives no random numbers: {0}")]
    Entropy(#[from] getrandom::Error),
}

/// The authority, and whether it was just made: then it must be stored before anything uses it.
#[derive(Debug)]
pub struct Authority {
    /// Certificate and key.
    pub pair: Pair,
    /// Whether it is not stored yet.
    pub is_new: bool,
}

/// The authority of a set of the add-on `app`: the stored one, or a new one when there is none.
///
/// # Errors
/// When one is stored that cannot be used: it is never replaced, since everyone trusts it.
pub fn authority(
    app: &str,
    set: &SetKey,
    secrets: &BTreeMap<String, Data>,
    now: Timestamp,
) -> Result<Authority, MaterialError> {
    let name = names::authority_secret(app, &set.namespace, &set.name);
    let stored = match secrets.get(&name) {
        Some(data) => Some(authority_from_secret(&name, data)?),
        None => None,
    };
    match (authority_verdict(stored.as_ref(), &name, now)?, stored) {
        (Verdict::Keep, Some(pair)) => Ok(Authority {
            pair,
            is_new: false,
        }),
        _ => Ok(Authority {
            pair: issue_authority(&set.namespace, &set.name, now)?,
            is_new: true,
        }),
    }
}

/// Certificates of the members by instance name, and when the first of them is due.
#[derive(Debug, Default)]
pub struct Leaves {
    /// By instance name.
    pub pairs: BTreeMap<String, Pair>,
    /// When to look again.
    pub due: Option<Timestamp>,
}

/// Certificates of these members: kept as long as every check agrees, else made anew.
///
/// # Errors
/// When one cannot be issued.
pub fn leaves(
    specs: &BTreeMap<String, LeafSpec>,
    authority: &Pair,
    secrets: &BTreeMap<String, Data>,
    now: Timestamp,
) -> Result<Leaves, MaterialError> {
    let mut leaves = Leaves::default();
    for (instance, spec) in specs {
        let stored = secrets
            .get(&names::certificate(instance))
            .and_then(from_secret);
        let verdict = leaf_verdict(stored.as_ref(), &authority.certificate, spec, now);
        let pair = match (verdict, stored) {
            (Verdict::Keep, Some(pair)) => pair,
            (Verdict::Issue(reason), _) => {
                tracing::info!(instance, %reason, "issuing a certificate");
                issue_leaf(authority, spec, now)?
            }
            (Verdict::Keep, None) => issue_leaf(authority, spec, now)?,
        };
        let due = renewal_due(&facts(&pair.certificate)?);
        leaves.due = Some(leaves.due.map_or(due, |d| d.min(due)));
        leaves.pairs.insert(instance.clone(), pair);
    }
    Ok(leaves)
}

/// New keys of a set's backups.
///
/// # Errors
/// When the system gives no random numbers.
pub fn backup_keys() -> Result<Keyring, MaterialError> {
    Ok(Keyring::generate(entropy::<32>()?))
}

/// The application's password: the one in its Secret, which the user may have changed, or a new one.
///
/// # Errors
/// When the system gives no random numbers.
pub fn password(secret: Option<&Data>) -> Result<Password, MaterialError> {
    match secret.and_then(existing_password) {
        Some(password) => Ok(password),
        None => Ok(Password::from_entropy(&entropy::<ENTROPY_BYTES>()?)),
    }
}
