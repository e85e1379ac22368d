//! The set's Lease as the election's values, and back. Values only.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use serde::de::DeserializeOwned;

use crate::election::charter::Charter;
use crate::election::member::{Epoch, Holder, Member, Position, Text};
use crate::election::message::{Precondition, Seen, Write};

/// Annotation: what the set has agreed on, as JSON of a [`Charter`].
pub const CHARTER: &str = "mainstay.dev/charter";
/// Annotation: the primary's position at the last renewal, as JSON of a [`Position`].
pub const PUBLISHED: &str = "mainstay.dev/published";
/// Annotation: count of the holder's writes.
pub const MARK: &str = "mainstay.dev/mark";
/// Annotation: address of the holder's pod.
pub const ADDRESS: &str = "mainstay.dev/address";
/// Annotation: instance that may make the set's first data. Written once, by whoever makes the
/// Lease.
pub const SEAT: &str = "mainstay.dev/seat";
/// Annotation: the charter's epoch again, for people and for the operator.
pub const EPOCH: &str = "mainstay.dev/epoch";
/// Annotation: identifier of the set's data. Once there it is never changed.
pub const SYSTEM_IDENTIFIER: &str = "mainstay.dev/system-identifier";

/// Annotation, with an instance's name after it: the epoch whose holder that instance does not reach,
/// while it reaches enough others for an election, and a number that changes as long as that is so.
/// It writes that itself: only through the Lease can the holder learn it.
const STRANDED: &str = "mainstay.dev/stranded.";

/// The Lease cannot be read or written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LeaseError {
    /// An annotation is not what it should be. Taking it for missing could found a set twice.
    #[error(
        "annotation {key} of the Lease cannot be read ({why}): restore it, or delete the Lease while the primary runs, and it is made anew"
    )]
    Annotation {
        /// Which one.
        key: &'static str,
        /// What is wrong.
        why: String,
    },
    /// It does not come from an API server.
    #[error("the Lease has no uid or no resource version")]
    NoVersion,
    /// A write that replaces another version than the last one seen.
    #[error("the Lease has changed since")]
    Outdated,
    /// JSON, which these plain values can always be written as.
    #[error("the charter cannot be written: {0}")]
    Unwritable(String),
}

/// A Lease as seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Look {
    /// What concerns the election.
    pub seen: Seen,
    /// Address of the holder's pod, or of the one before.
    pub address: Option<IpAddr>,
    /// Who may make the set's first data.
    pub seat: Option<String>,
    /// Identifier of the set's data.
    pub identifier: Option<String>,
    /// Instances that did not reach the present holder when they said so, and could have elected another
    /// one; each with a number. Only one that changes says anything of now.
    pub stranded: BTreeMap<String, u64>,
}

impl Look {
    /// Whether that instance may make the set's first data.
    pub fn may_found(&self, instance: &str) -> bool {
        self.seat.as_deref() == Some(instance)
            && self.seen.charter.is_none()
            && self.identifier.is_none()
    }
}

/// Read a Lease.
///
/// A holder that is none of ours is somebody whose silence must be waited for all the same.
///
/// # Errors
/// When an annotation is there and cannot be read.
pub fn read(lease: &Lease) -> Result<Look, LeaseError> {
    let none = BTreeMap::new();
    let annotations = lease.metadata.annotations.as_ref().unwrap_or(&none);
    let charter: Option<Charter> = json(annotations, CHARTER)?;
    let spec = lease.spec.as_ref();
    let identity = spec.and_then(|s| s.holder_identity.as_deref());
    let transitions = spec.and_then(|s| s.lease_transitions).unwrap_or(0);
    let identifier = charter.as_ref().and_then(|c| c.identifier.clone());
    let epoch = charter.as_ref().map(|c| c.ballot.epoch.to_string());
    let of_now = |(key, value): (&String, &String)| {
        let name = key.strip_prefix(STRANDED)?;
        let (of, count) = value.split_once(' ')?;
        let count = count.parse().ok()?;
        (epoch.as_deref() == Some(of)).then(|| (name.to_owned(), count))
    };
    Ok(Look {
        stranded: annotations.iter().filter_map(of_now).collect(),
        address: annotations.get(ADDRESS).and_then(|a| a.parse().ok()),
        seat: annotations.get(SEAT).cloned(),
        identifier: identifier
            .map(String::from)
            .or_else(|| annotations.get(SYSTEM_IDENTIFIER).cloned()),
        seen: Seen {
            version: version(lease)?,
            holder: identity.filter(|i| !i.is_empty()).map(holder),
            charter,
            published: json(annotations, PUBLISHED)?.unwrap_or_default(),
            mark: json(annotations, MARK)?.unwrap_or_default(),
            transitions: u64::try_from(transitions).unwrap_or(0),
        },
    })
}

fn json<T: DeserializeOwned>(
    annotations: &BTreeMap<String, String>,
    key: &'static str,
) -> Result<Option<T>, LeaseError> {
    let read = |text: &String| serde_json::from_str(text);
    let value = annotations.get(key).map(read).transpose();
    value.map_err(|e| LeaseError::Annotation {
        key,
        why: e.to_string(),
    })
}

/// A holder by how it is displayed.
fn holder(identity: &str) -> Holder {
    let parts: Vec<&str> = identity.split('/').collect();
    match parts.as_slice() {
        [name, generation, pod, nonce] => Holder {
            member: Member::new(*name, *generation),
            pod: (*pod).into(),
            nonce: (*nonce).into(),
        },
        // Equal to nobody's: no pod has an empty uid.
        _ => Holder {
            member: Member::new(identity, ""),
            pod: "".into(),
            nonce: "".into(),
        },
    }
}

/// The version of a Lease: its uid and its resource version.
///
/// # Errors
/// When it has none.
pub fn version(lease: &Lease) -> Result<Text, LeaseError> {
    let meta = &lease.metadata;
    match (&meta.uid, &meta.resource_version) {
        (Some(uid), Some(version)) => Ok(format!("{uid}/{version}").into()),
        _ => Err(LeaseError::NoVersion),
    }
}

/// Whether `lease` is older than `than`, as far as both tell: of the same object, with a lower
/// resource version.
pub fn is_older(lease: &Lease, than: &Lease) -> bool {
    let number = |l: &Lease| -> Option<u64> { l.metadata.resource_version.as_ref()?.parse().ok() };
    match (number(lease), number(than)) {
        (Some(one), Some(other)) => lease.metadata.uid == than.metadata.uid && one < other,
        _ => false,
    }
}

/// Who writes a Lease.
#[derive(Clone, Debug)]
pub struct Own<'a> {
    /// Namespace of the set.
    pub namespace: &'a str,
    /// Name of the set.
    pub set: &'a str,
    /// Labels of a Lease that is made anew.
    pub labels: &'a BTreeMap<String, String>,
    /// Name of the own instance.
    pub instance: &'a str,
    /// Address of the own pod.
    pub address: IpAddr,
    /// Identifier of the own data, when it is known.
    pub identifier: Option<&'a str>,
    /// How long the Lease is good for.
    pub duration: Duration,
}

/// The Lease as a write wants it: to be created, or to replace `last`, the one seen last.
///
/// # Errors
/// When the write is meant for another version than that of `last`.
pub fn written(
    last: Option<&Lease>,
    write: &Write,
    own: &Own<'_>,
    now: Timestamp,
) -> Result<Lease, LeaseError> {
    let mut lease = match (&write.precondition, last) {
        (Precondition::Missing, last) => anew(last, own),
        (Precondition::Version(wanted), Some(last)) if version(last)? == *wanted => last.clone(),
        (Precondition::Version(_), _) => return Err(LeaseError::Outdated),
    };
    lease.metadata.managed_fields = None;
    let charter = &write.charter;
    let unwritable = |e: serde_json::Error| LeaseError::Unwritable(e.to_string());
    let annotations = lease.metadata.annotations.get_or_insert_default();
    let of_now = format!("{} ", charter.ballot.epoch);
    annotations.retain(|key, value| !key.starts_with(STRANDED) || value.starts_with(&of_now));
    let mut put = |key: &str, value: String| annotations.insert(key.to_owned(), value);
    put(CHARTER, serde_json::to_string(charter).map_err(unwritable)?);
    put(PUBLISHED, position(write.published)?);
    put(MARK, write.mark.to_string());
    put(EPOCH, charter.ballot.epoch.to_string());
    if write.holder.is_some() {
        put(ADDRESS, own.address.to_string());
    }
    let known = charter.identifier.as_ref().map(Text::as_str);
    if let Some(identifier) = known.or(own.identifier) {
        annotations
            .entry(SYSTEM_IDENTIFIER.to_owned())
            .or_insert_with(|| identifier.to_owned());
    }
    let spec = lease.spec.get_or_insert_with(LeaseSpec::default);
    let identity = write.holder.as_ref().map(Holder::to_string);
    if identity.is_some() && spec.holder_identity != identity {
        spec.acquire_time = Some(MicroTime(now));
    }
    spec.holder_identity = identity;
    spec.lease_transitions = Some(i32::try_from(write.transitions).unwrap_or(i32::MAX));
    spec.lease_duration_seconds = i32::try_from(own.duration.as_secs()).ok();
    spec.renew_time = Some(MicroTime(now));
    Ok(lease)
}

/// The Lease with the word of an instance that it does not reach the holder of that epoch.
///
/// It replaces the very version that was seen, and changes nothing that the election decides by.
pub fn stranded(seen: &Lease, instance: &str, epoch: Epoch, count: u64) -> Lease {
    let mut lease = seen.clone();
    lease.metadata.managed_fields = None;
    let annotations = lease.metadata.annotations.get_or_insert_default();
    annotations.insert(format!("{STRANDED}{instance}"), format!("{epoch} {count}"));
    lease
}

fn position(position: Position) -> Result<String, LeaseError> {
    serde_json::to_string(&position).map_err(|e| LeaseError::Unwritable(e.to_string()))
}

/// A Lease in place of one that is gone: it keeps the founder's name, so that it reads as before.
fn anew(last: Option<&Lease>, own: &Own<'_>) -> Lease {
    let annotations = last.and_then(|l| l.metadata.annotations.as_ref());
    let kept = |key: &str| annotations.and_then(|a| Some((key.to_owned(), a.get(key)?.clone())));
    let mut annotations = BTreeMap::from([(SEAT.to_owned(), own.instance.to_owned())]);
    annotations.extend([kept(SEAT), kept(SYSTEM_IDENTIFIER)].into_iter().flatten());
    Lease {
        metadata: ObjectMeta {
            name: Some(own.set.to_owned()),
            namespace: Some(own.namespace.to_owned()),
            labels: (!own.labels.is_empty()).then(|| own.labels.clone()),
            annotations: Some(annotations),
            ..ObjectMeta::default()
        },
        spec: None,
    }
}

/// Whether the Lease shows that very write.
pub fn shows(look: &Look, write: &Write) -> bool {
    look.seen.mark == write.mark
        && look.seen.holder == write.holder
        && look.seen.charter.as_ref() == Some(&write.charter)
}

#[cfg(test)]
#[path = "lease_tests.rs"]
mod tests;
