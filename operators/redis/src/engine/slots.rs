//! Who owns which slots, as clients of a cluster learn it. Pure.

use std::net::IpAddr;

use crate::resp::Value;
use crate::settings::PROBE_KEY;
use crate::shards::slots::slot;

/// Slots that somebody owns, and where that is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    first: u16,
    last: u16,
    /// The owner's host name.
    pub host: String,
    /// Its address.
    pub address: IpAddr,
}

/// What `CLUSTER SLOTS` says, one part for each owner; none when it is not understood.
pub fn parts(answer: &Value) -> Option<Vec<Part>> {
    let mut parts: Vec<Part> = Vec::new();
    for range in answer.items() {
        let [first, last, owner, ..] = range.items() else {
            return None;
        };
        let number = |v: &Value| u16::try_from(v.integer()?).ok();
        let [host, _, _, more] = owner.items() else {
            return None;
        };
        // Names and values one after the other.
        let more: Vec<String> = more.items().iter().filter_map(Value::text).collect();
        let ip = more.chunks(2).find_map(|pair| match pair {
            [name, value] if name == "ip" => value.parse().ok(),
            _ => None,
        });
        let part = Part {
            first: number(first)?,
            last: number(last)?,
            host: host.text()?,
            address: ip?,
        };
        if !parts.iter().any(|p| p.host == part.host) {
            parts.push(part);
        }
    }
    Some(parts)
}

/// How many slots have an owner.
pub fn owned(answer: &Value) -> usize {
    let number = |v: &Value| v.integer().and_then(|n| usize::try_from(n).ok());
    let ranges = answer
        .items()
        .iter()
        .filter_map(|range| match range.items() {
            [first, last, ..] => Some(number(last)? + 1 - number(first)?),
            _ => None,
        });
    ranges.sum()
}

impl Part {
    /// A key of the probe that lies in it.
    pub fn key(&self) -> Option<String> {
        let keys = (0..1_000_000_u32).map(|n| format!("{PROBE_KEY}:{n}"));
        keys.into_iter()
            .find(|key| (self.first..=self.last).contains(&slot(key.as_bytes())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backup::shards::SLOTS;

    fn text(text: &str) -> Value {
        Value::Bulk(text.as_bytes().to_vec())
    }

    fn range(first: i64, last: i64, host: &str, ip: &str) -> Value {
        let more = Value::Array(vec![text("ip"), text(ip)]);
        let owner = Value::Array(vec![text(host), Value::Integer(6379), text("id"), more]);
        Value::Array(vec![Value::Integer(first), Value::Integer(last), owner])
    }

    #[test]
    fn each_owner_is_written_to_once_in_a_slot_of_its_own() {
        let answer = Value::Array(vec![
            range(0, 5460, "db-1.db-peers.shop.svc", "10.0.0.1"),
            range(5461, 10922, "db-2.db-peers.shop.svc", "10.0.0.2"),
            range(10923, 10923, "db-1.db-peers.shop.svc", "10.0.0.1"),
            range(10924, 16383, "db-3.db-peers.shop.svc", "10.0.0.3"),
        ]);
        let parts = parts(&answer).unwrap();
        assert_eq!(owned(&answer), usize::from(SLOTS));
        assert_eq!(parts.len(), 3);
        for part in &parts {
            let at = slot(part.key().unwrap().as_bytes());
            assert!((part.first..=part.last).contains(&at));
        }
        assert_eq!(parts[1].address, IpAddr::from([10, 0, 0, 2]));
    }
}
