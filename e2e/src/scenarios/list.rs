//! All scenarios, in the order in which they run: first those that may share the cluster, several at a
//! time and those that take longest first; then one after the other those that need it for themselves.

use super::set::Kind;
use super::{
    Company, Scenario, backups, changes, deletion, drills, endurance, failures, last_backup,
    logins, network, operations, operators, pooler, redis_backups, redis_cluster, restores,
    sentinel, service, versions, zones,
};

/// Name a scenario function: `scenario!(module::function, "what it shows")` runs alone, for nobody has
/// thought about its company yet. `shares` in front says that it may run next to others, `alone "why"`
/// that it may not, `still "why"` that nothing may be removed meanwhile either, `quiet "why"` that the machine
/// has nothing else to do, `long` that only `--full` runs it (last). `fault`, behind these, is one of `cargo
/// xtask chaos`; `faults` are several, to one set. `of` says whose it is if it is no `Postgres`'.
macro_rules! scenario {
    (long $($rest:tt)*) => {
        Scenario {
            long: true,
            ..scenario!($($rest)*)
        }
    };
    (fault $fault:literal, $shows:literal) => {
        scenario!(faults $fault [$fault], $shows)
    };
    (faults $name:literal [$($fault:literal),+], $shows:literal) => {
        scenario!(of Postgres faults $name [$($fault),+], $shows)
    };
    (of $kind:ident faults $name:literal [$($fault:literal),+], $shows:literal) => {
        Scenario {
            name: concat!("chaos_", $name),
            shows: concat!("under load, ", $shows, ": one writer, and nothing acknowledged is lost"),
            long: false,
            company: Company::Alone("nobody has said that it may share the cluster"),
            engine: Kind::$kind,
            faults: &[$($fault),+],
            run: |sandbox| Box::pin(endurance::faults(sandbox, Kind::$kind, &[$($fault),+])),
        }
    };
    (shares $($rest:tt)*) => {
        Scenario {
            company: Company::Shares,
            ..scenario!($($rest)*)
        }
    };
    (alone $why:literal, $($rest:tt)*) => {
        Scenario {
            company: Company::Alone($why),
            ..scenario!($($rest)*)
        }
    };
    (still $why:literal, $($rest:tt)*) => {
        Scenario {
            company: Company::Still($why),
            ..scenario!($($rest)*)
        }
    };
    (quiet $why:literal, $($rest:tt)*) => {
        Scenario {
            company: Company::Quiet($why),
            ..scenario!($($rest)*)
        }
    };
    (of $kind:ident $module:ident :: $function:ident, $shows:literal) => {
        Scenario {
            engine: Kind::$kind,
            ..scenario!($module::$function, $shows)
        }
    };
    ($module:ident :: $function:ident, $shows:literal) => {
        Scenario {
            name: stringify!($function),
            shows: $shows,
            long: false,
            company: Company::Alone("nobody has said that it may share the cluster"),
            engine: Kind::Postgres,
            faults: &[],
            run: |sandbox| Box::pin($module::$function(sandbox)),
        }
    };
}

/// Every scenario for one set of installed operators.
pub const ALL: &[Scenario] = &[
    scenario!(
        shares restores::restore_in_place,
        "under load a table is dropped: the set goes back in place to a moment before, and back again to the newest data"
    ),
    scenario!(
        shares changes::credentials_and_certificates,
        "a password and a certificate are renewed without a restart"
    ),
    scenario!(
        shares restores::restore_confirmed,
        "what cannot be recovered stops nothing; in place to the latest moment, twice, and the volumes from before go"
    ),
    scenario!(
        shares drills::drill,
        "a backup is proven by a drill; damaged in the store, the next drill says so"
    ),
    scenario!(
        shares backups::backup_and_recovery,
        "under load a backup is made, the primary lost with its volume, a table dropped: a new set is as the old one was a moment before"
    ),
    scenario!(
        shares pooler::pooler_serves,
        "the pooler takes the application's logins and no others, follows its password, tells who is too long, and goes"
    ),
    scenario!(
        shares faults "volumes" ["recloned_pod_forced", "primary_volume_lost", "primary_frozen", "primary_full"],
        "a replica's volume is lost, and the primary's pod as soon as it is copied anew; the primary's is lost, hangs, and is full and grown"
    ),
    scenario!(
        shares faults "processes" ["primary_clock_jumps", "postmaster_stopped", "agent_stopped", "container_killed_repeatedly"],
        "the clocks of the primary's agent jump by an hour, its engine and its agent stand still, its container is killed three times"
    ),
    scenario!(
        shares faults "pods" ["pod_deleted", "pod_forced", "lease_deleted", "two_forced"],
        "the primary's pod is told to go and deleted by force, the set's Lease is deleted, two of three pods are deleted by force at once"
    ),
    scenario!(
        shares changes::impossible_wishes_stall,
        "what only the cluster can tell becomes Stalled with a sentence"
    ),
    scenario!(
        shares changes::resources_and_image,
        "memory and image change by replacing replicas first"
    ),
    scenario!(
        shares changes::scale,
        "1 to 3 to 2 instances"
    ),
    scenario!(
        shares changes::parameters,
        "a live parameter is reloaded, another restarts one instance at a time"
    ),
    scenario!(
        shares fault "peers_cut",
        "the primary reaches everything but its replicas"
    ),
    scenario!(
        shares fault "waits_cancelled_pod_forced",
        "sessions that wait for replicas are cancelled, and the primary's pod is deleted by force"
    ),
    scenario!(
        shares fault "async_pod_forced",
        "the primary's pod is deleted by force where commits wait for nobody"
    ),
    scenario!(
        shares operations::switchover,
        "another instance takes over on request, and nothing acknowledged is lost"
    ),
    scenario!(
        shares of Redis faults "redis_pods" ["pod_deleted", "pod_forced", "engine_killed", "all_forced"],
        "of Redis: the primary's pod is told to go and deleted by force, its process is killed, then all pods are deleted by force at once"
    ),
    scenario!(
        shares of Redis redis_cluster::redis_cluster,
        "a Redis Cluster forms, loses a primary's pod, and moves slots to a fourth shard and back, while an application writes by its own protocol"
    ),
    scenario!(
        long shares of RedisCluster faults "redis_cluster_pods" ["pod_deleted", "pod_forced", "primary_volume_lost", "all_forced"],
        "of a Redis Cluster: a primary's pod is told to go and deleted by force, its volume is lost with it, then all pods are deleted by force at once"
    ),
    scenario!(
        shares of Redis versions::redis_version,
        "Redis 7.0 becomes 8.0 under load and hands over; nothing acknowledged is lost, and it does not go back"
    ),
    scenario!(
        long shares of Redis versions::redis_cluster_version,
        "a Redis Cluster of 7.0 becomes one of 8.0 under load, member by member; nothing confirmed is lost, and it does not go back"
    ),
    scenario!(
        shares of Redis logins::redis_login,
        "an Access makes a login that may do what it says and no more; its password is changed, and it ends with the Access"
    ),
    scenario!(
        long shares of Redis logins::redis_cluster_login,
        "the same in a Redis Cluster"
    ),
    scenario!(
        shares of Redis versions::valkey,
        "a Valkey that an application writes to; the primary's pod is deleted by force"
    ),
    scenario!(
        shares of Redis sentinel::redis_sentinel,
        "an application finds its Redis as clients of a Sentinel do, and follows a switchover and the loss of the primary's pod"
    ),
    scenario!(
        shares of Redis faults "redis_credentials" ["credentials_rotated"],
        "of Redis: the application's password is changed by an Operation and all certificates are issued anew, with no error for who reads the Secret for each connection"
    ),
    scenario!(
        shares pooler::pooler_hand_over,
        "through the pooler planned hand-overs are latency and no error, and nothing acknowledged is lost"
    ),
    scenario!(
        shares last_backup::last_backup,
        "deleted with its data, a set leaves a last backup on a volume, and a new one is made of it"
    ),
    scenario!(
        shares of Redis redis_backups::redis_backup_and_recovery,
        "of Redis: under load a replica makes a backup, and a new set is made of it alone"
    ),
    scenario!(
        long shares of Redis redis_backups::redis_cluster_backup,
        "of a Redis Cluster: under load a file of each shard is stored, and a new cluster is made of them alone"
    ),
    scenario!(
        shares of Redis redis_backups::redis_restore_in_place,
        "of Redis: under load everything is deleted; the set goes back in place to its backup, and back again to the newest data"
    ),
    scenario!(
        shares of Redis redis_backups::redis_drill,
        "of Redis: a backup is proven by a drill on demand; damaged in the store, the next one says so"
    ),
    scenario!(
        shares backups::backup_credentials,
        "without its store's credentials the database serves, and says what is missing"
    ),
    scenario!(
        shares deletion::deletion_and_adoption,
        "deleted with volumes kept, a resource of the same name adopts them"
    ),
    scenario!(
        shares failures::pod_deleted,
        "a deleted pod comes back on its volume, of a replica and of the primary"
    ),
    scenario!(
        shares failures::agent_killed,
        "a killed agent comes back, the engine keeps running; a hung one is caught by the watchdog"
    ),
    scenario!(
        shares service::two_in_one_namespace,
        "two databases in one namespace do not meet"
    ),
    scenario!(
        shares changes::paused,
        "a paused resource is left alone"
    ),
    scenario!(
        shares service::application_connects,
        "a developer's resource becomes a database in three zones that an application uses over verified TLS"
    ),
    scenario!(
        shares service::connections_are_refused,
        "plain text, a wrong authority and clients that are not allowed are refused"
    ),
    scenario!(
        shares failures::engine_killed,
        "a killed engine is started again in place, nothing acknowledged is lost"
    ),
    scenario!(
        shares changes::volume_grows,
        "a volume grows while in use"
    ),
    scenario!(
        shares deletion::namespace_deleted,
        "a namespace goes with everything inside"
    ),
    scenario!(
        shares failures::only_volume_lost,
        "the only instance's lost volume is Stalled and never initialised again"
    ),
    scenario!(
        shares deletion::protected,
        "a protected resource is not deleted, and the refusal says what to do"
    ),
    // Each on its own from here on.
    scenario!(
        still "it counts every write that the API server is asked for",
        service::a_settled_set_is_quiet,
        "a settled set causes no writes but lease renewals"
    ),
    scenario!(
        quiet "silence for 0.8 s counts as dropped, which a busy machine may be too slow for",
        network::network_policy,
        "network policies let pass and drop as the API says, within a node and across nodes"
    ),
    scenario!(
        alone "it cuts a node off",
        fault "node_cut",
        "the primary's node is cut off, and comes back"
    ),
    scenario!(
        alone "it cuts a node off",
        of Redis faults "redis_node_cut" ["node_cut"],
        "of Redis: the primary's node is cut off, and comes back"
    ),
    scenario!(
        alone "it changes a node's zone and cuts two nodes off",
        zones::zone_lost,
        "of two zones the larger is cut off with the primary: nothing acknowledged is lost"
    ),
    scenario!(
        long alone "it cuts a node off",
        of RedisCluster faults "redis_cluster_node_cut" ["node_cut"],
        "of a Redis Cluster: a node with a primary and a replica of another shard is cut off, and comes back"
    ),
    scenario!(
        alone "nobody has an API server",
        fault "api_server_frozen",
        "the API server answers nobody"
    ),
    scenario!(
        alone "it cordons a node",
        operations::switchover_refused,
        "a switchover that cannot be is refused, waits with a reason, is cancelled or given up"
    ),
    scenario!(
        alone "it cordons a node",
        operations::cordoned,
        "a primary on a node that takes no pods any more hands over"
    ),
    scenario!(
        alone "nodes lose power",
        failures::node_rebooted,
        "a node loses power and comes back, with a replica on it and with the primary"
    ),
    scenario!(
        alone "it cuts a node off",
        failures::replica_cut_off,
        "with a replica's node cut off writes go on, and it streams again afterwards"
    ),
    scenario!(
        alone "it kills the operators",
        operators::operator_restarted,
        "the operator may die in the middle of a change"
    ),
    scenario!(
        alone "it upgrades the operators",
        operators::operator_upgraded,
        "upgrading the operator restarts no data pod"
    ),
    scenario!(
        long alone "it kills the operators",
        endurance::failures_under_load,
        "failure after failure while an application writes: nothing acknowledged is lost"
    ),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chaos::faults;

    #[test]
    fn scenarios_of_redis_are_known_as_such() {
        for scenario in ALL {
            let named = ["redis", "valkey"]
                .iter()
                .any(|word| scenario.name.contains(word));
            assert_eq!(named, scenario.engine.is_redis(), "{}", scenario.name);
        }
    }

    #[test]
    fn faults_share_the_cluster_here_as_they_do_in_their_own_suite_and_each_other_s_set() {
        let mut found = 0;
        for scenario in ALL {
            let called = |name: &&str| {
                faults::called(name).unwrap_or_else(|| panic!("no fault is called {name}"))
            };
            let kind = scenario.engine;
            let faults: Vec<_> = scenario.faults.iter().map(called).collect();
            for fault in &faults {
                assert!(fault.kinds.contains(&kind), "{}", scenario.name);
                let shares = |company| company == Company::Shares;
                let same = shares(scenario.company) == shares(fault.company);
                assert!(same, "{} in {}", fault.name, scenario.name);
                let same = fault.goes_with(faults[0]);
                assert!(same, "{} in {}", fault.name, scenario.name);
                found += 1;
            }
        }
        assert!(found > 15, "{found}");
    }
}
