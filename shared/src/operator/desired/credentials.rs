//! The application's Secret.

use std::collections::BTreeMap;

use k8s_openapi::ByteString;

use crate::apply::Object;

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
