//! The rules of `parameters`.

use std::collections::BTreeMap;

use mainstay_crds::redis::parameters::{self as facts, Kind};
use mainstay_crds::redis::rules::{self, MAX_PARAMETER_NAME};

use super::Problem;
use crate::settings::Persistence;

/// Units of memory as Redis reads them, with their size in bytes.
const UNITS: &[(&str, i64)] = &[
    ("b", 1),
    ("k", 1000),
    ("kb", 1 << 10),
    ("m", 1_000_000),
    ("mb", 1 << 20),
    ("g", 1_000_000_000),
    ("gb", 1 << 30),
];
/// Letters of classes of key space events.
const EVENTS: &str = "KEg$lshzxetdmnA";

/// Finds what is wrong with the parameters.
pub fn check(
    parameters: &BTreeMap<String, String>,
    persistence: Option<Persistence>,
    problems: &mut Vec<Problem>,
) {
    for (name, value) in parameters {
        problems.extend(one(name, value));
    }
    let elsewhere = [
        ("appendfsync", Persistence::Aof, rules::APPENDFSYNC),
        ("save", Persistence::Rdb, rules::SAVE),
    ];
    for (name, of, sentence) in elsewhere {
        if parameters.contains_key(name) && persistence.is_some_and(|p| p != of) {
            problems.push(Problem::ParameterElsewhere(sentence));
        }
    }
}

/// Finds parameters that the version has not.
pub fn check_version(
    parameters: &BTreeMap<String, String>,
    engine: &str,
    version: &str,
    problems: &mut Vec<Problem>,
) {
    let of = facts::LACKING
        .iter()
        .filter(|l| l.engine == engine && l.version == version);
    let set = of.filter(|l| l.names.iter().any(|name| parameters.contains_key(*name)));
    problems.extend(set.map(|l| Problem::ParameterLacking(l.sentence)));
}

/// What is wrong with one parameter by itself.
fn one(name: &str, value: &str) -> Option<Problem> {
    if let Some(sentence) = facts::refused(name) {
        return Some(Problem::ParameterRefused {
            name: name.to_owned(),
            sentence,
        });
    }
    if name.chars().count() > MAX_PARAMETER_NAME || has_controls(name) {
        return Some(Problem::ParameterName);
    }
    let Some(fact) = facts::find(name) else {
        return Some(Problem::ParameterUnknown(name.to_owned()));
    };
    if has_controls(value) {
        return Some(Problem::ParameterLines(name.to_owned()));
    }
    (!fits(fact.kind, value)).then(|| Problem::ParameterValue {
        name: name.to_owned(),
        expected: expected(fact.kind),
    })
}

/// C0 controls and DEL, as the rules of the definition have them.
fn has_controls(text: &str) -> bool {
    text.bytes().any(|b| b < 0x20 || b == 0x7f)
}

fn fits(kind: Kind, value: &str) -> bool {
    match kind {
        Kind::Bool => matches!(value, "yes" | "no"),
        Kind::Integer { min, max } => number(value).is_some_and(|n| (min..=max).contains(&n)),
        Kind::Bytes { min, max } => bytes(value).is_some_and(|n| (min..=max).contains(&n)),
        Kind::Words(words) => words.contains(&value),
        Kind::Events => value.chars().all(|c| EVENTS.contains(c)),
        Kind::Snapshots => {
            let numbers: Vec<Option<i64>> = value.split(' ').map(number).collect();
            let good = |n: &Option<i64>| n.is_some_and(|n| n > 0);
            numbers.len().is_multiple_of(2) && numbers.iter().all(good)
        }
    }
}

/// A whole number as Redis reads it: no sign but `-`, no blank.
fn number(text: &str) -> Option<i64> {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let plain = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    plain.then(|| text.parse().ok()).flatten()
}

/// An amount of memory as Redis reads it.
pub fn bytes(text: &str) -> Option<i64> {
    let at = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (digits, unit) = text.split_at(at);
    let size = match unit {
        "" => 1,
        unit => {
            let found = UNITS.iter().find(|(u, _)| u.eq_ignore_ascii_case(unit));
            found?.1
        }
    };
    digits.parse::<i64>().ok()?.checked_mul(size)
}

/// What is expected, in words.
fn expected(kind: Kind) -> String {
    match kind {
        Kind::Bool => "yes or no".into(),
        Kind::Integer { min, max } => format!("a whole number between {min} and {max}"),
        Kind::Bytes { min, max } => {
            format!("bytes between {min} and {max}, or with a unit (kb, mb, gb), for example 64mb")
        }
        Kind::Words(words) => format!("one of {}", words.join(", ")),
        Kind::Events => "letters of classes of events, for example KEA, or \"\"".into(),
        Kind::Snapshots => "pairs of seconds and changes, for example 3600 1 300 100".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_read_as_redis_reads_them() {
        assert_eq!(bytes("1048576"), Some(1 << 20));
        assert_eq!(bytes("64mb"), Some(64 << 20));
        assert_eq!(bytes("1K"), Some(1000));
        assert_eq!(bytes("1 mb"), None);
        assert_eq!(bytes("64Mi"), None);
        assert_eq!(bytes("-1"), None);
        assert_eq!(bytes("9223372036854775807gb"), None);
    }

    #[test]
    fn values_are_those_that_redis_starts_with() {
        let fits = |name: &str, value: &str| one(name, value).is_none();
        assert!(fits("slowlog-log-slower-than", "-1"));
        assert!(!fits("slowlog-log-slower-than", "-2"));
        assert!(!fits("hz", "+10"));
        assert!(!fits("hz", ""));
        assert!(fits("save", "3600 1 300 100"));
        assert!(!fits("save", "3600 1 300"));
        assert!(!fits("save", "3600  1"));
        assert!(!fits("save", ""));
        assert!(fits("notify-keyspace-events", ""));
    }
}
