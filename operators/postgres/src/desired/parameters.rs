//! PostgreSQL's parameters, from the size of an instance and the user's own.

use std::collections::BTreeMap;

use crate::settings::is_managed;
use crate::validate::Validated;

const MIB: i64 = 1 << 20;
/// Connections when the user does not say: PostgreSQL's own default.
const CONNECTIONS: i64 = 100;

/// The parameters of each instance: derived from memory and volume, then the user's over them.
///
/// Guarantee: nothing that the agents render themselves, and the user's value wherever there is one.
pub fn parameters(v: &Validated) -> BTreeMap<String, String> {
    // PostgreSQL compares names without case.
    let user = v
        .parameters
        .iter()
        .map(|(k, value)| (k.to_ascii_lowercase(), value.clone()));
    let user: BTreeMap<String, String> = user.filter(|(k, _)| !is_managed(k)).collect();
    let connections = user
        .get("max_connections")
        .and_then(|c| c.parse().ok())
        .unwrap_or(CONNECTIONS);
    let mut all = of_memory(v.common.memory, connections);
    all.extend(of_volume(v.common.storage));
    all.extend(always());
    let mut all: BTreeMap<String, String> = all
        .into_iter()
        .map(|(k, value)| (k.to_owned(), value))
        .collect();
    all.extend(user);
    all
}

/// Most log, in MiB, that the slot of an absent replica may hold back: a fifth of the volume, so
/// that a replica which never returns does not fill it.
pub fn slot_wal_mib(storage: i64) -> u32 {
    u32::try_from(mib(storage / 5).max(64)).unwrap_or(u32::MAX)
}

/// A quarter of the memory for PostgreSQL's own cache, since the kernel's serves it too; the rest is
/// for the kernel's cache, for connections and for sorting.
fn of_memory(memory: i64, connections: i64) -> Vec<(&'static str, String)> {
    let shared = mib(memory / 4).max(16);
    // A query may use several times this, and not every connection runs one.
    let work = ((memory - memory / 4) / (connections.max(1) * 3)).clamp(2 * MIB, 256 * MIB);
    let maintenance = mib(memory / 16).clamp(16, 2048);
    vec![
        ("shared_buffers", in_mib(shared)),
        ("effective_cache_size", in_mib(mib(memory / 4 * 3).max(32))),
        ("work_mem", format!("{}kB", work / 1024)),
        ("maintenance_work_mem", in_mib(maintenance)),
        ("max_connections", connections.to_string()),
    ]
}

/// Log between two checkpoints: a tenth of the volume. Together with what slots may hold back it
/// leaves two thirds of the smallest volume to data.
fn of_volume(storage: i64) -> Vec<(&'static str, String)> {
    let most = mib(storage / 10).clamp(64, 16 * 1024);
    let least = (most / 4).clamp(32, 1024);
    let kept = mib(storage / 40).clamp(16, 512);
    vec![
        ("max_wal_size", in_mib(most)),
        ("min_wal_size", in_mib(least)),
        // For a replica whose slot is made anew.
        ("wal_keep_size", in_mib(kept)),
    ]
}

fn always() -> Vec<(&'static str, String)> {
    [
        // A crash is mended in place, so replay must be short.
        ("checkpoint_timeout", "5min"),
        // A container's memory limit does not include huge pages: using one is a bus error.
        ("huge_pages", "off"),
        ("log_lock_waits", "on"),
    ]
    .map(|(name, value)| (name, value.to_owned()))
    .to_vec()
}

fn mib(bytes: i64) -> i64 {
    bytes / MIB
}

fn in_mib(mib: i64) -> String {
    format!("{mib}MB")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::desired::tests::db;

    fn of(memory_mib: i64, storage_gib: i64, user: &[(&str, &str)]) -> BTreeMap<String, String> {
        let mut v = db();
        v.common.memory = memory_mib * MIB;
        v.common.storage = storage_gib * 1024 * MIB;
        let user = user.iter().map(|(k, v)| ((*k).into(), (*v).into()));
        v.parameters = user.collect();
        parameters(&v)
    }

    #[test]
    fn sizes_follow_memory_and_volume() {
        let small = of(512, 1, &[]);
        assert_eq!(small["shared_buffers"], "128MB");
        assert_eq!(small["work_mem"], "2048kB");
        assert_eq!(small["max_wal_size"], "102MB");
        let large = of(64 * 1024, 500, &[]);
        assert_eq!(large["shared_buffers"], "16384MB");
        assert_eq!(large["maintenance_work_mem"], "2048MB");
        assert_eq!(large["max_wal_size"], "16384MB");
        assert_eq!(slot_wal_mib(1024 * MIB), 204);
    }

    #[test]
    fn the_users_value_stands_whatever_case_its_name_is_in() {
        let all = of(
            512,
            1,
            &[
                ("Work_Mem", "9MB"),
                ("max_connections", "300"),
                ("port", "1"),
            ],
        );
        assert_eq!(all["work_mem"], "9MB");
        assert_eq!(all["max_connections"], "300");
        assert!(!all.contains_key("Work_Mem") && !all.contains_key("port"));
    }

    #[test]
    fn nothing_is_derived_that_the_agents_render() {
        assert!(of(512, 1, &[]).keys().all(|k| !is_managed(k)));
    }
}
