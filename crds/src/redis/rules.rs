//! Rules of `kind: Redis` that the API server checks (CEL), each with its sentence.

use kube::core::Rule;

use super::parameters::{KNOWN, Lacking, REFUSED};
use crate::common::backup;
use crate::common::cel::{PLAIN_NAME, list, no_key, text};

/// Whose programs Mainstay runs, with the versions of each.
pub const VERSIONS: &[(&str, &[&str])] = &[("Redis", &["7.0", "8.0"]), ("Valkey", &["8.1"])];
/// Most instances of a set.
pub const MAX_INSTANCES: i32 = 9;
/// Fewest instances with which `bounded` makes sense.
pub const BOUNDED_FROM: i32 = 3;
/// Least and most of `bounded.maxLagSeconds`. Replicas report once in a second.
pub const LAG_SECONDS: std::ops::RangeInclusive<i32> = 2..=60;
/// What a set does that is full, by Redis' own words.
pub const POLICIES: &[&str] = &[
    "noeviction",
    "allkeys-lfu",
    "allkeys-lru",
    "allkeys-random",
    "volatile-lfu",
    "volatile-lru",
    "volatile-random",
    "volatile-ttl",
];
/// Longest name of a parameter that a sentence repeats.
pub const MAX_PARAMETER_NAME: usize = 128;

/// Of `engine`.
pub const ENGINE: &str = "write Redis or Valkey, or leave it out for Redis";
/// Of another `engine`.
pub const ENGINE_CHANGES: &str = "engine cannot be changed: Redis and Valkey do not read each other's data any more, neither on volumes nor in \
     backups. Write the former engine, or make a new resource of the other one and have an application copy the data";
/// Of `version`.
pub const VERSION: &str = "write the version as major and minor number in quotes: \"8.0\" or \"7.0\" of Redis, or \"8.1\" of Valkey with engine: Valkey; \
     the patch version comes with the image";
/// Of `mode`.
pub const MODE: &str = "write Replication (one primary, the other instances replicas of it), Cluster (several shards, each of one \
     primary and replicas), or leave it out for Replication";
/// Of another `mode`.
pub const MODE_CHANGES: &str = "mode cannot be changed: the data of a set lies in its members in another way. Write the former mode, or make a \
     new resource and move the data";
/// Fewest shards: with two, nobody is left to vote when one is lost.
pub const MIN_SHARDS: i32 = 3;
/// Most shards.
pub const MAX_SHARDS: i32 = 16;
/// Most replicas of a shard.
pub const MAX_REPLICAS: i32 = 2;
/// Of `shards`.
pub const SHARDS: &str = "with mode Cluster write a number of shards between 3 and 16: each is a primary that votes when another is lost";
/// Of `replicas`.
pub const REPLICAS: &str = "write how many replicas each shard has: 1 or 2, or 0 where a lost volume may take a part of the data with it";
/// Of `shards` and `replicas` without a cluster.
pub const ONLY_IN_CLUSTERS: &str =
    "shards and replicas are of mode Cluster: write instances in their place, or mode: Cluster";
/// Of what a cluster does not have.
pub const NOT_IN_CLUSTERS: &str = "with mode Cluster leave out instances (shards and replicas say how many there are), durability and bounded (a \
     write is answered before replicas have it) and sentinel (clients speak the cluster's own protocol)";
/// Of `backup.drill.checks[].database` in a cluster.
pub const CHECKS_OF_ONE_DATABASE: &str = "a cluster has database 0 alone: leave database out";
/// Of `backup.drill.checks[].command` in a cluster, without a key.
pub const CHECKS_OF_KEYS: &str = "with mode Cluster a command is asked of the shard that has its keys, and this one names none: name one, or for \
     a number of keys write keys, for example keys: {atLeast: 1}";
/// Commands of a drill that never name a key.
const KEYLESS: &str = "dbsize";
/// Those that say in their third word how many follow.
const COUNTED_KEYS: [&str; 2] = ["eval_ro", "fcall_ro"];
/// Of `persistence: none` in a cluster.
pub const KEPT_IN_CLUSTERS: &str = "with mode Cluster a primary that restarts empty would be followed by its replicas: write aof or rdb, or leave \
     persistence out";
/// Of `parameters.databases` in a cluster.
pub const ONE_DATABASE: &str = "databases: a cluster has database 0 alone: remove it";
/// Of `instances`.
pub const INSTANCES: &str =
    "write a number of instances between 1 and 9; 3 go on when a node is lost";
/// Of `durability`.
pub const DURABILITY: &str = "write async, or bounded (a primary that too few replicas follow takes no write); Redis can promise no \
     quorum, for a write is answered before replicas have it: an application that must know sends WAIT after it";
/// Of `durability: bounded` with too few instances.
pub const BOUNDED: &str = "durability bounded needs at least 3 instances, so that losing one does not stop writes: write \
     instances: 3, or durability: async";
/// Of `bounded` without it.
pub const BOUNDED_BLOCK: &str = "bounded says how durability bounded is kept: write durability: bounded as well, or remove bounded";
/// Of `bounded.minReplicasToWrite`.
pub const MIN_REPLICAS: &str = "write a number of replicas from 1 on, and at least 2 below instances, so that losing one does not \
     stop writes";
/// Of `bounded.maxLagSeconds`.
pub const MAX_LAG: &str = "write seconds between 2 and 60, or leave it out for 10";
/// Of `persistence`.
pub const PERSISTENCE: &str =
    "write aof (every write), rdb (a snapshot now and then) or none, or leave it out for aof";
/// Of `persistence: none` with replicas.
pub const NONE_WITH_REPLICAS: &str = "without persistence a primary that restarts is empty, and its replicas would follow it: write \
     aof or rdb, or instances: 1 for a cache that may lose everything";
/// Of `maxmemoryPolicy`.
pub const POLICY: &str = "write noeviction, allkeys-lfu, allkeys-lru, allkeys-random, volatile-lfu, volatile-lru, \
     volatile-random or volatile-ttl, or leave it out for noeviction";
/// Of `backup.schedule.incrementals`.
pub const NO_INCREMENTALS: &str =
    "a backup of Redis is the whole dataset, there are none of changes: write 0, or leave it out";
/// Of `backup.onFull`.
pub const NO_LOG: &str = "onFull says what becomes of a log that waits for the store, and of Redis no log is kept there: leave it out";
/// Of `backup.seedReplicas`.
pub const NO_SEEDS: &str =
    "a replica of Redis receives all data from the primary anyway: write false, or leave it out";
/// Of `backup.drill.checks` with statements.
pub const CHECKS: &str = "a Redis understands no sql: write keys, key or command in its place";
/// Of `backup.drill.checks[].database` that the set does not have. Only the operator says it.
pub const NO_DATABASE: &str =
    "there is no such database: parameters.databases says how many there are, 16 unless said";
/// Of `bootstrap.recovery.target`.
pub const NO_MOMENTS: &str = "of Redis no log is kept, so there is nothing between two backups: write backup with the id of one, or leave \
     both out for the newest";
/// Of a moment of a restore in place that is no time.
pub const TIMES: &str = "of Redis no log is kept: write moment.time for the newest backup from before it, or backup for one by its id";
/// Of `backup` without persistence.
pub const NOTHING_KEPT: &str = "with persistence none the dataset is gone after a restart, and backups would follow: write persistence \
     aof or rdb, or leave backup out";
/// Of `bootstrap.recovery` without persistence.
pub const NOTHING_MADE: &str = "with persistence none there is nothing on the volume to begin with: write persistence aof or rdb, or \
     leave bootstrap out";
/// Of a name that is no parameter.
pub const UNKNOWN: &str = "is no parameter that Mainstay takes: write one of those that its documentation lists, in lower case";
/// Of a name that is too long or has line breaks.
pub const PARAMETER_NAME: &str = "a parameter's name is one line of at most 128 characters: write one of those that the documentation lists";
/// Of a value with line breaks.
pub const ONE_LINE: &str =
    "a value is one line of text: remove line breaks and other control characters";
/// Of `appendfsync` where there is no file to sync.
pub const APPENDFSYNC: &str =
    "appendfsync: it is of persistence aof alone: write persistence: aof, or remove it";
/// Of `save` where there are no snapshots.
pub const SAVE: &str = "save: it is of persistence rdb alone: write persistence: rdb, or remove it";

/// `name is no parameter …`.
pub fn unknown(name: &str) -> String {
    format!("{name}: {UNKNOWN}")
}

/// A field that has one of these words.
fn one_of<'a>(words: impl IntoIterator<Item = &'a str>, sentence: &str) -> Rule {
    Rule::new(format!("self in {}", list(words))).message(sentence)
}

/// Of `engine`.
pub fn engine() -> Rule {
    one_of(VERSIONS.iter().map(|(engine, _)| *engine), ENGINE)
}

/// The engine stays; leaving out the default changes nothing.
pub fn engine_is_fixed() -> Rule {
    let engine = |object: &str| format!("(has({object}.engine) ? {object}.engine : 'Redis')");
    Rule::new(format!("{} == {}", engine("self"), engine("oldSelf")))
        .message(ENGINE_CHANGES)
        .field_path(".engine")
}

/// The version is one of the engine's.
pub fn version() -> Rule {
    let each: Vec<String> = VERSIONS
        .iter()
        .map(|(engine, versions)| {
            let own = format!(
                "(has(self.engine) ? self.engine == '{engine}' : {})",
                *engine == "Redis"
            );
            format!("({own} && self.version in {})", list(versions.iter()))
        })
        .collect();
    let engines = list(VERSIONS.iter().map(|(engine, _)| *engine));
    // What is wrong with the engine itself is said by its own rule.
    let unknown = format!("has(self.engine) && !(self.engine in {engines})");
    Rule::new(format!("{unknown} || {}", each.join(" || ")))
        .message(VERSION)
        .field_path(".version")
}

/// Parameters that the version has.
pub fn parameters_of_the_version(of: &Lacking) -> Rule {
    let own = format!(
        "(has(self.engine) ? self.engine == '{}' : {})",
        of.engine,
        of.engine == "Redis"
    );
    Rule::new(format!(
        "!has(self.parameters) || !{own} || self.version != '{}' || !{}.exists(n, n in self.parameters)",
        of.version,
        list(of.names)
    ))
    .message(of.sentence)
    .field_path(".parameters")
}

/// Of `mode`.
pub fn mode() -> Rule {
    one_of(["Replication", "Cluster"], MODE)
}

/// Whether an object is a cluster.
const IS_CLUSTER: &str = "(has(self.mode) && self.mode == 'Cluster')";

/// What holds of a cluster.
fn of_clusters(holds: &str) -> Rule {
    Rule::new(format!("!{IS_CLUSTER} || ({holds})"))
}

/// The mode stays; leaving out the default changes nothing.
pub fn mode_is_fixed() -> Rule {
    let mode = |object: &str| format!("(has({object}.mode) ? {object}.mode : 'Replication')");
    Rule::new(format!("{} == {}", mode("self"), mode("oldSelf")))
        .message(MODE_CHANGES)
        .field_path(".mode")
}

/// A cluster has shards.
pub fn shards() -> Rule {
    of_clusters(&format!(
        "has(self.shards) && self.shards >= {MIN_SHARDS} && self.shards <= {MAX_SHARDS}"
    ))
    .message(SHARDS)
    .field_path(".shards")
}

/// Of `replicas`.
pub fn replicas() -> Rule {
    Rule::new(format!("self >= 0 && self <= {MAX_REPLICAS}")).message(REPLICAS)
}

/// Nobody else has.
pub fn only_in_clusters() -> Rule {
    Rule::new(format!(
        "{IS_CLUSTER} || !(has(self.shards) || has(self.replicas))"
    ))
    .message(ONLY_IN_CLUSTERS)
    .field_path(".shards")
}

/// What goes with replication alone.
pub fn not_in_clusters() -> Rule {
    let fields = ["instances", "durability", "bounded", "sentinel"];
    let any: Vec<String> = fields.iter().map(|f| format!("has(self.{f})")).collect();
    of_clusters(&format!("!({})", any.join(" || ")))
        .message(NOT_IN_CLUSTERS)
        .field_path(".mode")
}

/// What a drill asks of a cluster is asked of its one database.
pub fn checks_of_one_database() -> Rule {
    backup::checks::all(
        &format!("!{IS_CLUSTER} || !has(c.database) || c.database <= 0"),
        CHECKS_OF_ONE_DATABASE,
    )
}

/// And by key.
pub fn checks_of_keys() -> Rule {
    backup::checks::all(
        &format!(
            "!{IS_CLUSTER} || !has(c.command) || c.command.size() == 0 || !(c.command[0].lowerAscii() == '{KEYLESS}' || \
             (c.command[0].lowerAscii() in {} && c.command.size() > 2 && c.command[2] == '0'))",
            list(COUNTED_KEYS)
        ),
        CHECKS_OF_KEYS,
    )
}

/// Whether a command names a key, as far as its words say without an engine.
pub fn names_a_key(command: &[String]) -> bool {
    let Some(first) = command.first().map(|word| word.to_ascii_lowercase()) else {
        return true;
    };
    let none = command.get(2).is_some_and(|count| count == "0");
    first != KEYLESS && !(none && COUNTED_KEYS.contains(&first.as_str()))
}

/// A cluster's data is kept.
pub fn kept_in_clusters() -> Rule {
    of_clusters("!has(self.persistence) || self.persistence != 'none'")
        .message(KEPT_IN_CLUSTERS)
        .field_path(".persistence")
}

/// A cluster has one database.
pub fn one_database() -> Rule {
    of_clusters("!has(self.parameters) || !('databases' in self.parameters)")
        .message(ONE_DATABASE)
        .field_path(".parameters")
}

/// Of `instances`.
pub fn instances() -> Rule {
    Rule::new(format!("self >= 1 && self <= {MAX_INSTANCES}")).message(INSTANCES)
}

/// Of `durability`.
pub fn durability() -> Rule {
    one_of(["async", "bounded"], DURABILITY)
}

/// Bounded needs three.
pub fn bounded() -> Rule {
    Rule::new(format!(
        "!has(self.durability) || self.durability != 'bounded' || (has(self.instances) && self.instances >= {BOUNDED_FROM})"
    ))
    .message(BOUNDED)
    .field_path(".durability")
}

/// What says how the bound is kept needs one.
pub fn bounded_block() -> Rule {
    Rule::new(format!(
        "!has(self.bounded) || !(has(self.bounded.minReplicasToWrite) || has(self.bounded.maxLagSeconds)) || \
         (has(self.durability) ? self.durability == 'bounded' : has(self.instances) && self.instances >= {BOUNDED_FROM})"
    ))
    .message(BOUNDED_BLOCK)
    .field_path(".bounded")
}

/// Losing an instance leaves enough replicas.
pub fn min_replicas() -> Rule {
    Rule::new(format!(
        "!has(self.bounded) || !has(self.bounded.minReplicasToWrite) || !has(self.instances) || \
         self.instances < {BOUNDED_FROM} || self.instances > {MAX_INSTANCES} || \
         (self.bounded.minReplicasToWrite >= 1 && self.bounded.minReplicasToWrite <= self.instances - 2)"
    ))
    .message(MIN_REPLICAS)
    .field_path(".bounded.minReplicasToWrite")
}

/// Of `bounded.maxLagSeconds`.
pub fn max_lag() -> Rule {
    let (least, most) = (LAG_SECONDS.start(), LAG_SECONDS.end());
    Rule::new(format!("self >= {least} && self <= {most}")).message(MAX_LAG)
}

/// Of `persistence`.
pub fn persistence() -> Rule {
    one_of(["aof", "rdb", "none"], PERSISTENCE)
}

/// Replicas need data that outlasts a restart.
pub fn none_with_replicas() -> Rule {
    Rule::new(
        "!has(self.persistence) || self.persistence != 'none' || !has(self.instances) || self.instances <= 1",
    )
    .message(NONE_WITH_REPLICAS)
    .field_path(".persistence")
}

/// Of `maxmemoryPolicy`.
pub fn policy() -> Rule {
    one_of(POLICIES.iter().copied(), POLICY)
}

/// Backups are whole.
pub fn no_incrementals() -> Rule {
    Rule::new(
        "!has(self.backup) || !has(self.backup.schedule) || !has(self.backup.schedule.incrementals) || \
         self.backup.schedule.incrementals < 1",
    )
    .message(NO_INCREMENTALS)
    .field_path(".backup.schedule.incrementals")
}

/// There is no log that could wait.
pub fn no_log_to_give_way() -> Rule {
    Rule::new("!has(self.backup) || !has(self.backup.onFull)")
        .message(NO_LOG)
        .field_path(".backup.onFull")
}

/// Replicas are not made from the repository.
pub fn no_seeds() -> Rule {
    Rule::new("!has(self.backup) || !has(self.backup.seedReplicas) || !self.backup.seedReplicas")
        .message(NO_SEEDS)
        .field_path(".backup.seedReplicas")
}

/// Drills ask for keys.
pub fn checks() -> Rule {
    backup::checks::all("!has(c.sql)", CHECKS)
}

/// Without a log there are no moments.
pub fn no_moments() -> Rule {
    Rule::new(
        "!has(self.bootstrap) || !has(self.bootstrap.recovery) || !has(self.bootstrap.recovery.target)",
    )
    .message(NO_MOMENTS)
    .field_path(".bootstrap.recovery.target")
}

/// `field` needs a dataset that is kept.
fn is_kept(field: &str, sentence: &str) -> Rule {
    Rule::new(format!(
        "!has(self.{field}) || !has(self.persistence) || self.persistence != 'none'"
    ))
    .message(sentence)
    .field_path(format!(".{field}"))
}

/// Backups need a dataset that is kept.
pub fn backups_of_what_is_kept() -> Rule {
    is_kept("backup", NOTHING_KEPT)
}

/// So does a beginning from one.
pub fn made_from_what_is_kept() -> Rule {
    is_kept("bootstrap", NOTHING_MADE)
}

/// Syncing the file of writes needs one.
pub fn appendfsync() -> Rule {
    Rule::new(
        "!has(self.parameters) || !('appendfsync' in self.parameters) || !has(self.persistence) || \
         !(self.persistence in ['rdb','none'])",
    )
    .message(APPENDFSYNC)
    .field_path(".parameters")
}

/// When snapshots are made is said where they are.
pub fn save() -> Rule {
    Rule::new(
        "!has(self.parameters) || !('save' in self.parameters) || \
         (has(self.persistence) && !(self.persistence in ['aof','none']))",
    )
    .message(SAVE)
    .field_path(".parameters")
}

/// Every rule of `parameters` that needs nothing else of the resource.
pub fn of_parameters() -> Vec<Rule> {
    let mut rules: Vec<Rule> = REFUSED
        .iter()
        .map(|group| {
            no_key(
                "self",
                &format!("k.lowerAscii() in {}", list(group.names)),
                &text(&format!(": {}", group.sentence)),
            )
        })
        .collect();
    rules.push(Rule::new(format!("self.all(k, {PLAIN_NAME})")).message(PARAMETER_NAME));
    let refused = REFUSED.iter().flat_map(|group| group.names.iter().copied());
    let known = KNOWN.iter().map(|p| p.name);
    rules.push(no_key(
        "self",
        &format!(
            "!(k in {}) && !(k.lowerAscii() in {})",
            list(known),
            list(refused)
        ),
        &text(&format!(": {UNKNOWN}")),
    ));
    rules.push(no_key(
        "self",
        r"self[k].matches('[\\x00-\\x1f\\x7f]')",
        &text(&format!(": {ONE_LINE}")),
    ));
    rules
}
