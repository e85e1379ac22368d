//! Rules of `kind: Postgres` that the API server checks (CEL), each with its sentence.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use kube::core::Rule;

use super::parameters::{self, REFUSED, Refused};
use crate::common::backup;
use crate::common::cel::{PLAIN_NAME, list, no_key, text};
use crate::common::sentences;

/// Major versions of PostgreSQL that Mainstay runs.
pub const MAJORS: &[u32] = &[15, 16, 17, 18];
/// Most instances of a set.
pub const MAX_INSTANCES: i32 = 9;
/// Fewest and most connections.
pub const CONNECTIONS: std::ops::RangeInclusive<u32> = 20..=10_000;
/// Fewest WAL senders and replication slots: what a set of any size needs.
pub const MIN_STREAMS: u32 = 10;
/// Names of databases that are PostgreSQL's, or words of its host rules.
pub const RESERVED_DATABASES: &[&str] = &[
    "all",
    "postgres",
    "replication",
    "samerole",
    "sameuser",
    "template0",
    "template1",
];
/// Names of roles that are PostgreSQL's, or words of its language.
pub const RESERVED_OWNERS: &[&str] = &[
    "all",
    "current_role",
    "current_user",
    "none",
    "postgres",
    "public",
    "replication",
    "session_user",
    "user",
];
/// Values of `synchronous_commit` that wait for a replica's disk.
pub const WAITING_COMMITS: &[&str] = &["on", "remote_apply", "true", "yes", "1"];

/// Of `version`.
pub const VERSION: &str = "write the major version of PostgreSQL, one of \"15\", \"16\", \"17\" and \"18\"; the minor \
     version comes with the image";
/// Of a lower `version`.
pub const DOWNGRADE: &str = "the version cannot go back: PostgreSQL does not read the data of a newer major version. \
     Write the former version, or make a new resource and restore a dump into it";
/// Of a higher `version`.
pub const UPGRADE: &str = "an upgrade to another major version is not supported yet: write the former version, or \
     make a new resource with the new version and restore a dump into it";
/// Of `instances`.
pub const INSTANCES: &str =
    "write a number of instances between 1 and 9; 3 go on when a node is lost";
/// Of `application.database`.
pub const DATABASE: &str = "write a name of at most 63 lower-case letters, digits and '_', beginning with a letter, \
     that is not PostgreSQL's or Mainstay's (postgres, template0, template1, replication, all, pg_…, \
     mainstay…); for example shop";
/// Of `application.owner`.
pub const OWNER: &str = "write a name of at most 63 lower-case letters, digits and '_', beginning with a letter, \
     that is not PostgreSQL's or Mainstay's (postgres, public, none, user, all, pg_…, mainstay…); for \
     example shop";
/// Of another `application`.
pub const APPLICATION_CHANGES: &str = "application cannot be changed: database and owner are made with the set. Write the \
     former names, or make further databases and roles with SQL";
/// Of a name that is no parameter; `{version}` stands before it.
pub const UNKNOWN: &str = "has no such parameter: write a name that SHOW ALL lists there, in lower case, or an \
     extension's with a dot";
/// Of a name that is too long or has line breaks.
pub const PARAMETER_NAME: &str =
    "a parameter's name is one line of at most 128 characters: write names that SHOW ALL lists";
/// Of a value with line breaks.
pub const ONE_LINE: &str =
    "a value is one line of text: remove line breaks and other control characters";
/// Of `max_connections`.
pub const MAX_CONNECTIONS: &str = "max_connections: write a whole number between 20 and 10000, for example 200; for more \
     clients put a pooler such as PgBouncer in front";
/// Of `max_wal_senders` and `max_replication_slots`.
pub const STREAMS: &str =
    "replicas need 10 of them: write a whole number between 10 and 1000, or remove it";
/// Of `synchronous_commit` under quorum.
pub const SYNCHRONOUS_COMMIT: &str = "synchronous_commit: with durability quorum a commit waits for a replica's disk: write on \
     or remote_apply, or durability: async";
/// Of `ssl_min_protocol_version`.
pub const OLD_TLS: &str =
    "ssl_min_protocol_version: older protocols are not safe: write TLSv1.2 or TLSv1.3";

/// `PostgreSQL 17 has no such parameter: …` as it is said of `name`.
pub fn unknown(name: &str, version: &str) -> String {
    format!("{name}: PostgreSQL {version} {UNKNOWN}")
}

/// Longest name of a parameter that a sentence repeats.
pub const MAX_PARAMETER_NAME: usize = 128;

/// Names of parameters can stand in a sentence.
fn parameter_names() -> Rule {
    Rule::new(format!("self.all(k, {PLAIN_NAME})")).message(PARAMETER_NAME)
}

/// Of `version`.
pub fn version() -> Rule {
    Rule::new(format!("self in {}", list(MAJORS))).message(VERSION)
}

/// Both versions are whole numbers, so that they can be compared.
const COMPARABLE: &str = "self.matches('^[0-9]{1,3}$') && oldSelf.matches('^[0-9]{1,3}$')";

/// The version does not go back.
pub fn version_back() -> Rule {
    Rule::new(format!("!({COMPARABLE}) || int(self) >= int(oldSelf)")).message(DOWNGRADE)
}

/// The version does not go up yet.
pub fn version_up() -> Rule {
    Rule::new(format!(
        "!({COMPARABLE}) || !(self in {}) || int(self) <= int(oldSelf)",
        list(MAJORS)
    ))
    .message(UPGRADE)
}

/// Of `instances`.
pub fn instances() -> Rule {
    Rule::new(format!("self >= 1 && self <= {MAX_INSTANCES}")).message(INSTANCES)
}

/// Quorum needs three, or two where it is only preferred.
pub fn quorum() -> Rule {
    Rule::new(
        "!has(self.durability) || self.durability != 'quorum' || (has(self.instances) && (self.instances >= 3 || \
         (self.instances == 2 && has(self.quorum) && has(self.quorum.enforcement) && self.quorum.enforcement == 'preferred')))",
    )
    .message(sentences::QUORUM)
    .field_path(".durability")
}

/// What says how a quorum is kept needs one.
pub fn enforcement() -> Rule {
    Rule::new(
        "!has(self.quorum) || !(has(self.quorum.enforcement) || has(self.quorum.acrossZones)) || \
         (has(self.durability) ? self.durability == 'quorum' : has(self.instances) && self.instances >= 3)",
    )
    .message(sentences::ENFORCEMENT)
    .field_path(".quorum")
}

/// What says how far replicas may be behind needs replicas that commits do not wait for.
pub fn asynchronous() -> Rule {
    Rule::new(
        "!has(self.async) || !has(self.async.maxLagBytes) || (has(self.instances) && self.instances >= 2 && \
         (has(self.durability) ? self.durability == 'async' : self.instances < 3))",
    )
    .message(sentences::ASYNCHRONOUS)
    .field_path(".async")
}

/// An identifier of PostgreSQL that is nobody else's.
fn identifier(reserved: &[&str], sentence: &str) -> Rule {
    Rule::new(format!(
        "self.matches('^[a-z][a-z0-9_]{{0,62}}$') && !(self in {}) && !self.startsWith('pg_') && \
         !self.startsWith('mainstay')",
        list(reserved)
    ))
    .message(sentence)
}

/// Of `application.database`.
pub fn database() -> Rule {
    identifier(RESERVED_DATABASES, DATABASE)
}

/// Of `application.owner`.
pub fn owner() -> Rule {
    identifier(RESERVED_OWNERS, OWNER)
}

/// Database and owner stay as they were made; leaving out a default changes nothing.
pub fn application_is_fixed() -> Rule {
    let name = |object: &str, field: &str| {
        format!(
            "(has({object}.application) && has({object}.application.{field}) ? {object}.application.{field} : 'app')"
        )
    };
    let same = |field| format!("{} == {}", name("self", field), name("oldSelf", field));
    Rule::new(format!("{} && {}", same("database"), same("owner")))
        .message(APPLICATION_CHANGES)
        .field_path(".application")
}

/// A group of parameters that a user cannot set.
pub fn refused(group: &Refused) -> Rule {
    no_key(
        "self",
        &format!("k in {}", list(group.names)),
        &text(&format!(": {}", group.sentence)),
    )
}

/// Every rule of `parameters` that needs nothing else of the resource.
pub fn of_parameters() -> Vec<Rule> {
    let mut rules: Vec<Rule> = REFUSED.iter().map(refused).collect();
    rules.push(parameter_names());
    rules.push(no_key(
        "self",
        &format!("k in {}", list(parameters::internal())),
        &text(&format!(": {}", parameters::INTERNAL)),
    ));
    rules.push(no_key(
        "self",
        r"self[k].matches('[\\x00-\\x1f\\x7f]')",
        &text(&format!(": {ONE_LINE}")),
    ));
    rules.push(
        Rule::new(format!(
            "!('max_connections' in self) || (self['max_connections'].matches('^[0-9]{{1,5}}$') && \
             int(self['max_connections']) >= {} && int(self['max_connections']) <= {})",
            CONNECTIONS.start(),
            CONNECTIONS.end()
        ))
        .message(MAX_CONNECTIONS),
    );
    rules.push(no_key(
        "self",
        "k in ['max_wal_senders','max_replication_slots'] && !self[k].matches('^([1-9][0-9]{1,2}|1000)$')",
        &text(&format!(": {STREAMS}")),
    ));
    rules.push(
        Rule::new(
            "!('ssl_min_protocol_version' in self) || self['ssl_min_protocol_version'].lowerAscii() in \
             ['tlsv1.2','tlsv1.3']",
        )
        .message(OLD_TLS),
    );
    rules
}

/// With quorum a commit waits for a replica's disk.
pub fn synchronous_commit() -> Rule {
    Rule::new(format!(
        "!has(self.parameters) || !('synchronous_commit' in self.parameters) || \
         !(has(self.durability) ? self.durability == 'quorum' : has(self.instances) && self.instances >= 3) || \
         self.parameters['synchronous_commit'].lowerAscii() in {}",
        list(WAITING_COMMITS)
    ))
    .message(SYNCHRONOUS_COMMIT)
    .field_path(".parameters")
}

/// Spellings of a parameter that a resource may use.
fn spellings(name: &'static str) -> impl Iterator<Item = String> {
    let lower = name.to_ascii_lowercase();
    std::iter::once(name.to_owned()).chain((lower != name).then_some(lower))
}

/// Every parameter is one of some major version, or an extension's.
pub fn known_parameters() -> Rule {
    let mut names: Vec<String> = parameters::all()
        .iter()
        .flat_map(|p| spellings(p.name))
        .chain(
            REFUSED
                .iter()
                .flat_map(|g| g.names.iter().map(ToString::to_string)),
        )
        .collect();
    names.sort();
    names.dedup();
    let bad = format!(
        r"!(k in {} || k.matches('^[A-Za-z_][A-Za-z0-9_$]*(\\.[A-Za-z_][A-Za-z0-9_$]*)+$'))",
        list(names)
    );
    unknown_rule(&bad)
}

/// Every parameter that only some major versions have is one of this version.
pub fn parameters_of_the_version() -> Rule {
    let mut majors: BTreeMap<&str, Vec<u32>> = BTreeMap::new();
    for parameter in parameters::all() {
        majors
            .entry(parameter.name)
            .or_default()
            .extend(parameter.majors.clone());
    }
    let mut table = String::new();
    for (name, majors) in majors.iter().filter(|(_, m)| m.len() < MAJORS.len()) {
        // Writing to a String cannot fail.
        let _ = write!(table, "'{name}':{},", list(majors));
    }
    let table = format!("{{{}}}", table.trim_end_matches(','));
    unknown_rule(&format!(
        "k in {table} && self.version in {} && !(self.version in {table}[k])",
        list(MAJORS)
    ))
}

fn unknown_rule(bad: &str) -> Rule {
    let rule = no_key(
        "self.parameters",
        bad,
        &format!(
            "': PostgreSQL ' + self.version + {}",
            text(&format!(" {UNKNOWN}"))
        ),
    );
    Rule {
        rule: format!("!has(self.parameters) || {}", rule.rule),
        ..rule
    }
    .field_path(".parameters")
}

/// Major versions that can make incremental backups, by their first.
pub const INCREMENTAL_SINCE: u32 = 17;

/// Of `backup.schedule.incrementals` where the version has none.
pub const NO_INCREMENTALS: &str =
    "incremental backups need PostgreSQL 17 or newer: write 0, or leave it out";

/// Of `backup.drill.checks` that ask for keys.
pub const CHECKS: &str =
    "a PostgreSQL is asked with sql: write sql in place of keys, key and command";

/// Drills ask with statements.
pub fn checks() -> Rule {
    backup::checks::all(
        "!has(c.keys) && !has(c.key) && !(has(c.command) && c.command.size() > 0)",
        CHECKS,
    )
}

/// Incremental backups need a version that can make them.
pub fn incrementals() -> Rule {
    Rule::new(format!(
        "!has(self.backup) || !has(self.backup.schedule) || !has(self.backup.schedule.incrementals) || \
         self.backup.schedule.incrementals < 1 || !(self.version in {}) || int(self.version) >= {INCREMENTAL_SINCE}",
        list(MAJORS)
    ))
    .message(NO_INCREMENTALS)
    .field_path(".backup.schedule.incrementals")
}
