//! When the Lease is acquired, renewed or left alone, and what is written; values only.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;

use crate::election::record::{Record, RecordError};

/// How long a Lease is good for after its last renewal.
pub const DURATION: Duration = Duration::from_secs(6);
/// How often it is renewed.
pub const RENEW: Duration = Duration::from_secs(2);
/// A local health check older than this renews nothing.
pub const HEALTH: Duration = Duration::from_secs(4);

/// Who this agent is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Me {
    /// Name of the instance.
    pub instance: String,
    /// Uid of the pod.
    pub pod_uid: String,
    /// Start nonce of the agent.
    pub nonce: String,
    /// Address of the pod.
    pub address: String,
}

impl Me {
    /// As it stands in the Lease.
    pub fn holder(&self) -> String {
        format!("{}/{}/{}", self.instance, self.pod_uid, self.nonce)
    }

    fn same_pod(&self, holder: &str) -> bool {
        holder
            .strip_prefix(&self.instance)
            .and_then(|rest| rest.strip_prefix('/'))
            .and_then(|rest| rest.split('/').next())
            == Some(&self.pod_uid)
    }
}

/// What the agent says when its engine may be primary.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// Identifier of the data.
    pub system_identifier: String,
    /// Time since boot of the last local health check that passed, taken before it began.
    pub healthy_at: Duration,
    /// Highest epoch on the volume.
    pub epoch: u64,
    /// Whether clients may come: the endpoints are written only then.
    pub open: bool,
}

/// What to do with the Lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Write that record as its new holder.
    Acquire(Record),
    /// Write that record again, as its holder.
    Renew(Record),
    /// Not now, for this reason.
    Wait(String),
}

/// What to do, given the Lease as seen, since when it has looked so, the epoch under which this
/// process holds it, and the claim.
///
/// Guarantees: no acquisition unless the record gives the seat to this instance; none before a
/// holder of another pod was silent for a full duration on the own clock, or has let go; a new
/// epoch, higher than any seen, at every acquisition; the set's identifier is never changed.
///
/// # Errors
/// When the Lease's annotations are no record.
pub fn next(
    now: Duration,
    me: &Me,
    lease: &Lease,
    since: Duration,
    held: Option<u64>,
    claim: &Claim,
) -> Result<Step, RecordError> {
    let annotations = lease.metadata.annotations.clone().unwrap_or_default();
    let mut record = Record::from_annotations(&annotations)?;
    if record.seat != me.instance {
        return Ok(Step::Wait(format!("the seat is given to {}", record.seat)));
    }
    if let Some(set) = &record.system_identifier
        && *set != claim.system_identifier
    {
        return Ok(Step::Wait(format!(
            "the set's data is {set}, not {}",
            claim.system_identifier
        )));
    }
    if now.saturating_sub(claim.healthy_at) > HEALTH {
        return Ok(Step::Wait("the engine is not healthy".to_owned()));
    }
    let holder = lease
        .spec
        .as_ref()
        .and_then(|s| s.holder_identity.as_deref())
        .filter(|h| !h.is_empty());
    record.system_identifier = Some(claim.system_identifier.clone());
    record.address = Some(me.address.clone());
    if holder == Some(&me.holder()) && held == Some(record.epoch) {
        return Ok(Step::Renew(record));
    }
    let free = match holder {
        None => true,
        Some(other) => me.same_pod(other) || now.saturating_sub(since) > DURATION,
    };
    if !free {
        return Ok(Step::Wait("the holder before may still live".to_owned()));
    }
    record.epoch = record.epoch.max(claim.epoch) + 1;
    Ok(Step::Acquire(record))
}

/// The Lease with a record and its holder written into it.
pub fn written(lease: &Lease, me: &Me, record: &Record, acquired: bool, now: Timestamp) -> Lease {
    let mut lease = lease.clone();
    lease
        .metadata
        .annotations
        .get_or_insert_default()
        .extend(record.to_annotations());
    lease.metadata.managed_fields = None;
    let spec = lease.spec.get_or_insert_with(LeaseSpec::default);
    if acquired {
        spec.acquire_time = Some(MicroTime(now));
        spec.lease_transitions = Some(spec.lease_transitions.unwrap_or(0).saturating_add(1));
    }
    spec.holder_identity = Some(me.holder());
    spec.lease_duration_seconds = i32::try_from(DURATION.as_secs()).ok();
    spec.renew_time = Some(MicroTime(now));
    lease
}

/// The Lease after its holder has let go in order.
pub fn released(lease: &Lease) -> Lease {
    let mut lease = lease.clone();
    lease.metadata.managed_fields = None;
    if let Some(spec) = &mut lease.spec {
        spec.holder_identity = None;
    }
    lease
}

#[cfg(test)]
#[path = "rule_tests.rs"]
mod tests;
