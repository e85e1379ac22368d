//! What a server reads of what another one wrote: values only.
//!
//! A dataset is read by a server of the same engine whose version is no lower. Redis says no more: it refuses a snapshot
//! whose format is of a number that it does not know (7.0 writes format 10, 8.0 writes 12), and what came with a version
//! is unknown to an older one also where the number is the same. Redis and Valkey have parted after 7.2.

use std::fmt;

use crate::settings::Flavour;

/// A server: whose program, and of which version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// Whose program.
    pub flavour: Flavour,
    /// Its version, for example `8.0` or `8.0.2`.
    pub version: String,
}

impl Server {
    /// Whether it reads what `other` writes, also as a replica of it.
    pub fn reads(&self, other: &Self) -> bool {
        self.flavour == other.flavour && number(&self.version) >= number(&other.version)
    }

    /// Why it cannot be a replica of `other`; none: it can.
    pub fn cannot_follow(&self, other: &Self, name: &str) -> Option<String> {
        (!self.reads(other)).then(|| {
            format!(
                "{name} runs {other}, and {self} here does not read what that writes: its pod has to be made anew with the newer version"
            )
        })
    }
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", name(self.flavour), self.version)
    }
}

/// The engine's name, as `spec.engine` has it.
pub fn name(flavour: Flavour) -> &'static str {
    match flavour {
        Flavour::Redis => "Redis",
        Flavour::Valkey => "Valkey",
    }
}

/// Major and minor number: what decides of a version. Of what is none, 0.
pub fn number(version: &str) -> (u32, u32) {
    let mut parts = version.split('.').map(|part| part.parse().unwrap_or(0));
    (
        parts.next().unwrap_or_default(),
        parts.next().unwrap_or_default(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(flavour: Flavour, version: &str) -> Server {
        Server {
            flavour,
            version: version.into(),
        }
    }

    #[test]
    fn what_is_newer_or_of_another_engine_is_not_read() {
        let redis = |v: &str| server(Flavour::Redis, v);
        assert!(redis("8.0.2").reads(&redis("7.0.15")));
        assert!(
            redis("8.0").reads(&redis("8.0.4")),
            "patches change nothing"
        );
        assert!(!redis("7.0.15").reads(&redis("8.0.2")));
        assert!(!redis("8.0.2").reads(&redis("8.2.0")));
        assert!(redis("10.0").reads(&redis("8.0")), "numbers, not texts");
        let valkey = server(Flavour::Valkey, "8.1.1");
        assert!(!valkey.reads(&redis("8.0.2")) && !redis("8.2").reads(&valkey));
        assert_eq!(valkey.cannot_follow(&valkey, "db-2"), None);
        let why = redis("7.0.15").cannot_follow(&redis("8.0.2"), "db-2");
        let why = why.unwrap();
        assert!(
            why.contains("db-2 runs Redis 8.0.2") && why.contains("Redis 7.0.15 here"),
            "{why}"
        );
    }
}
