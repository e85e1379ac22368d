//! The status of a `Postgres`: what every add-on says, and the poolers.

use mainstay_crds::postgres::PostgresStatus;
use mainstay_crds::postgres::pooler::PoolerStatus;
use mainstay_shared::events::Happening;
use mainstay_shared::operator::status::{self, SetStatus};

/// What every add-on says, of this status.
pub fn common(status: &PostgresStatus) -> SetStatus {
    let PostgresStatus {
        pooler: _,
        observed_generation,
        conditions,
        endpoints,
        secret_ref,
        version,
        image,
        primary,
        ready,
        system_identifier,
        durability,
        acknowledged,
        weakened,
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
        durability,
        acknowledged,
        weakened,
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
pub fn whole(common: SetStatus, pooler: Option<PoolerStatus>) -> PostgresStatus {
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
        durability,
        acknowledged,
        weakened,
        instances,
        survives,
        recovery,
        certificates,
        pending_changes,
        waiting_for,
        waiting,
    } = common;
    PostgresStatus {
        pooler,
        observed_generation,
        conditions,
        endpoints,
        secret_ref,
        version,
        image,
        primary,
        ready,
        system_identifier,
        durability,
        acknowledged,
        weakened,
        instances,
        survives,
        recovery,
        certificates,
        pending_changes,
        waiting_for,
        waiting,
    }
}

/// What is worth an event: transitions, never a state that lasts.
pub fn happenings(before: &PostgresStatus, now: &PostgresStatus) -> Vec<Happening> {
    status::happenings(&common(before), &common(now))
}
