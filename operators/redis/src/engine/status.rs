//! The status of a `Redis`: what every add-on says, and the bound on what can be lost.

use mainstay_crds::redis::{Bound, RedisStatus};
use mainstay_shared::operator::status::SetStatus;

use crate::settings::ReplicasToWrite;

/// What every add-on says, of this status. Nobody acknowledges a write of Redis: of that it says nothing.
pub fn common(status: &RedisStatus) -> SetStatus {
    let RedisStatus {
        bound: _,
        cluster: _,
        observed_generation,
        conditions,
        endpoints,
        secret_ref,
        version,
        image,
        primary,
        ready,
        system_identifier,
        instances,
        survives,
        recovery,
        certificates,
        pending_changes,
        waiting_for,
        waiting,
    } = status.clone();
    SetStatus {
        observed_generation,
        conditions,
        endpoints,
        secret_ref,
        version,
        image,
        primary,
        ready,
        system_identifier,
        durability: None,
        acknowledged: None,
        weakened: Vec::new(),
        instances,
        survives,
        recovery,
        certificates,
        pending_changes,
        waiting_for,
        waiting,
    }
}

/// The status with both.
pub fn whole(common: SetStatus, replicas: Option<ReplicasToWrite>) -> RedisStatus {
    let SetStatus {
        observed_generation,
        conditions,
        endpoints,
        secret_ref,
        version,
        image,
        primary,
        ready,
        system_identifier,
        durability: _,
        acknowledged: _,
        weakened: _,
        instances,
        survives,
        recovery,
        certificates,
        pending_changes,
        waiting_for,
        waiting,
    } = common;
    let number = |n: u32| i32::try_from(n).unwrap_or(i32::MAX);
    RedisStatus {
        bound: replicas.map(|r| Bound {
            replicas: number(r.count),
            seconds: number(r.max_lag_seconds),
        }),
        // It is the engine's to say: see [`super::steer`].
        cluster: None,
        observed_generation,
        conditions,
        endpoints,
        secret_ref,
        version,
        image,
        primary,
        ready,
        system_identifier,
        instances,
        survives,
        recovery,
        certificates,
        pending_changes,
        waiting_for,
        waiting,
    }
}
