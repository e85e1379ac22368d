//! The keys that open a set's backups.

use std::collections::BTreeMap;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use mainstay_backup::crypto::{ExposeSecret as _, Keyring};
use mainstay_backup::spec::INSTANCE_KEYS;

use crate::metadata::SetId;
use crate::names;

/// The Secret with them. It outlives the resource whatever `deletion` says, as the repository does.
pub fn secret(set: &SetId, keys: &Keyring) -> Secret {
    Secret {
        metadata: set.kept(names::backup_keys(&set.name), "keys"),
        type_: Some("Opaque".into()),
        data: Some(BTreeMap::from([(
            INSTANCE_KEYS.to_owned(),
            ByteString(keys.to_text().expose_secret().as_bytes().to_vec()),
        )])),
        ..Secret::default()
    }
}
