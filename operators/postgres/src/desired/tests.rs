//! Objects as a whole: what must hold for each of them.

use std::collections::BTreeMap;

use mainstay_crds::common::{Durability, KeptVolumes};
use mainstay_shared::metadata::SetId;

use crate::validate::Validated;

/// A set called `db` in namespace `shop` with three instances and every default.
pub fn db() -> Validated {
    Validated {
        set: SetId {
            api_version: "mainstay.dev/v1alpha1".into(),
            kind: "Postgres".into(),
            namespace: "shop".into(),
            name: "db".into(),
            uid: "6c1f4a52-0d5b-4e0e-9f4e-2f6d8f1d2a11".into(),
        },
        generation: 1,
        paused: false,
        major: 17,
        image: "postgres:17.12".into(),
        image_is_named: true,
        image_pull_secrets: vec![],
        instances: 3,
        memory: 512 << 20,
        cpu_milli: 250,
        storage: 20 << 30,
        storage_class: None,
        durability: Durability::Quorum,
        parameters: BTreeMap::new(),
        placement: None,
        certificate_hours: 2160,
        clients: vec![],
        protected: true,
        volumes: KeptVolumes::Retain,
        database: "app".into(),
        owner: "app".into(),
    }
}
