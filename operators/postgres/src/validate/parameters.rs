//! The rules of `parameters`.

use std::collections::BTreeMap;

use mainstay_crds::common::Durability;
use mainstay_crds::postgres::parameters as facts;
use mainstay_crds::postgres::rules::{
    CONNECTIONS, MAX_PARAMETER_NAME, MIN_STREAMS, WAITING_COMMITS,
};

use super::Problem;
use crate::parameters::value;

/// Largest share of the memory that shared buffers may take, as a fraction.
const SHARED_BUFFERS_SHARE: (i64, i64) = (3, 4);
/// PostgreSQL's own defaults, for rules that compare two parameters.
const DEFAULT_CONNECTIONS: u32 = 100;
const DEFAULT_SUPERUSER_RESERVED: u32 = 3;

/// The parameters, and what else their rules speak of.
pub struct Subject<'a> {
    /// By name.
    pub parameters: &'a BTreeMap<String, String>,
    /// The version as the user wrote it.
    pub version: &'a str,
    /// The major version, when it is one.
    pub major: Option<u32>,
    /// When a write is acknowledged.
    pub durability: Durability,
    /// Memory of an instance, in bytes.
    pub memory: i64,
}

/// Finds what is wrong with the parameters.
pub fn check(subject: &Subject<'_>, problems: &mut Vec<Problem>) {
    for (name, value) in subject.parameters {
        let spelling = name.to_ascii_lowercase();
        if let Some(problem) = one(subject, name, value) {
            problems.push(problem);
        } else if *name != spelling && subject.parameters.contains_key(&spelling) {
            problems.push(Problem::ParameterTwice(name.clone()));
        }
    }
    problems.extend(reserved_connections(subject));
    problems.extend(shared_buffers(subject));
}

/// What is wrong with one parameter by itself.
fn one(subject: &Subject<'_>, name: &str, value: &str) -> Option<Problem> {
    if let Some(sentence) = facts::refused(name) {
        return Some(Problem::ParameterRefused {
            name: name.to_owned(),
            sentence,
        });
    }
    if name.chars().count() > MAX_PARAMETER_NAME || has_controls(name) {
        return Some(Problem::ParameterName);
    }
    if has_controls(value) {
        return Some(Problem::ParameterLines(name.to_owned()));
    }
    let fact = facts::find(subject.major?, name).filter(|fact| facts::is_spelled(fact, name));
    let Some(fact) = fact else {
        return (!facts::is_extension(name)).then(|| Problem::ParameterUnknown {
            name: name.to_owned(),
            version: subject.version.to_owned(),
        });
    };
    match name {
        "max_connections" => {
            let fits = value.parse().is_ok_and(|n| CONNECTIONS.contains(&n));
            return (!fits).then_some(Problem::MaxConnections);
        }
        "max_wal_senders" | "max_replication_slots" => {
            let fits = value
                .parse()
                .is_ok_and(|n| (MIN_STREAMS..=1000).contains(&n));
            return (!fits).then(|| Problem::Streams(name.to_owned()));
        }
        "ssl_min_protocol_version" => {
            let safe = ["tlsv1.2", "tlsv1.3"].contains(&value.to_ascii_lowercase().as_str());
            return (!safe).then_some(Problem::OldTls);
        }
        "synchronous_commit" if subject.durability == Durability::Quorum => {
            let waits = WAITING_COMMITS.contains(&value.to_ascii_lowercase().as_str());
            return (!waits).then_some(Problem::SynchronousCommit);
        }
        _ => {}
    }
    value::check(&fact.kind, value)
        .err()
        .map(|expected| Problem::ParameterValue {
            name: name.to_owned(),
            expected,
        })
}

/// C0 controls and DEL, as the rules of the definition have them.
fn has_controls(text: &str) -> bool {
    text.bytes().any(|b| b < 0x20 || b == 0x7f)
}

/// PostgreSQL does not start when every connection is reserved.
fn reserved_connections(subject: &Subject<'_>) -> Option<Problem> {
    let number = |name: &str, default: u32| match subject.parameters.get(name) {
        Some(value) => value.trim().parse().ok(),
        None => Some(default),
    };
    let max_connections = number("max_connections", DEFAULT_CONNECTIONS)?;
    let superuser = number("superuser_reserved_connections", DEFAULT_SUPERUSER_RESERVED)?;
    let reserved = number("reserved_connections", 0)?;
    let fits = superuser.saturating_add(reserved) < max_connections;
    (!fits && CONNECTIONS.contains(&max_connections))
        .then_some(Problem::ReservedConnections { max_connections })
}

fn shared_buffers(subject: &Subject<'_>) -> Option<Problem> {
    let fact = facts::find(subject.major?, "shared_buffers")?;
    let facts::Kind::Integer { unit, .. } = fact.kind else {
        return None;
    };
    let blocks = value::amount(subject.parameters.get("shared_buffers")?, unit)?;
    let (part, of) = SHARED_BUFFERS_SHARE;
    let most = subject.memory / of * part;
    #[expect(clippy::cast_precision_loss, reason = "memory is far below 2^53 bytes")]
    let fits = blocks * 8192.0 <= most as f64;
    (!fits).then_some(Problem::SharedBuffers {
        most_mib: most >> 20,
    })
}
