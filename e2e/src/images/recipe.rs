//! What each image is made of and how it is named. Pure.

use sha2::{Digest, Sha256};

use super::Error;

/// An image that the project builds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Image {
    /// The PostgreSQL operator, which is also the agent of its data pods. Revisions differ in a
    /// label and in their name only: they stand for an upgrade of the operator.
    PostgresOperator {
        /// From 1.
        revision: u32,
    },
    /// The operator of Redis, which is also the agent of its data pods; revisions as of PostgreSQL's.
    RedisOperator {
        /// From 1.
        revision: u32,
    },
    /// Redis 8.0. Revisions differ in a label and in their name only.
    Redis {
        /// From 1.
        revision: u32,
    },
    /// Redis 7.0, to go on from.
    Redis7,
    /// Valkey 8.1.
    Valkey,
    /// PostgreSQL 17. Revisions differ in a label and in their name only, so that a test can change
    /// the image without changing the version.
    Postgres {
        /// From 1.
        revision: u32,
    },
    /// The client that writes during tests.
    Workload,
    /// The connection pooler.
    PgBouncer,
}

/// How an image is built.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recipe {
    /// Last part of its name.
    pub repository: &'static str,
    /// Its Dockerfile, from the root of the checkout.
    pub dockerfile: &'static str,
    /// Build arguments besides the base.
    pub args: Vec<(String, String)>,
    /// Whether it stands on the Debian base.
    pub needs_base: bool,
    /// Binary of this workspace that it holds; the package bears the same name.
    pub binary: Option<&'static str>,
    /// Version in its tag.
    pub version: Version,
    /// Put after the end of the binary, so that it is another program that does the same.
    pub mark: Option<String>,
    /// Part of the tag between version and hash.
    pub suffix: Option<String>,
}

/// Where the version in an image's tag comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Version {
    /// It is the project's own.
    Known(&'static str),
    /// A program in the image tells it once the image is built.
    Asked(&'static [&'static str]),
}

impl Image {
    /// How it is built.
    pub fn recipe(&self) -> Recipe {
        match self {
            Self::PostgresOperator { revision } => {
                operator("postgres-operator", "mainstay-postgres", *revision)
            }
            Self::RedisOperator { revision } => {
                operator("redis-operator", "mainstay-redis", *revision)
            }
            Self::Redis { revision } => server("redis", *revision, ""),
            Self::Redis7 => server("redis", 1, "bookworm"),
            Self::Valkey => server("valkey", 1, ""),
            Self::Workload => Recipe {
                repository: "workload",
                dockerfile: "images/workload/Dockerfile",
                args: Vec::new(),
                needs_base: false,
                binary: Some("mainstay-workload"),
                mark: None,
                version: Version::Known(env!("CARGO_PKG_VERSION")),
                suffix: None,
            },
            Self::PgBouncer => Recipe {
                repository: "pgbouncer",
                dockerfile: "images/pgbouncer/Dockerfile",
                args: Vec::new(),
                needs_base: true,
                binary: None,
                mark: None,
                version: Version::Asked(&["pgbouncer", "--version"]),
                suffix: None,
            },
            Self::Postgres { revision } => Recipe {
                repository: "postgres",
                dockerfile: "images/postgres/Dockerfile",
                args: vec![
                    ("MAJOR".to_owned(), "17".to_owned()),
                    ("REVISION".to_owned(), revision.to_string()),
                ],
                needs_base: true,
                binary: None,
                mark: None,
                version: Version::Asked(&["postgres", "--version"]),
                suffix: suffix(*revision),
            },
        }
    }
}

/// An operator's image: nothing but its program.
fn operator(repository: &'static str, program: &'static str, revision: u32) -> Recipe {
    Recipe {
        repository,
        dockerfile: "images/operator/Dockerfile",
        args: vec![
            ("PROGRAM".to_owned(), program.to_owned()),
            ("REVISION".to_owned(), revision.to_string()),
        ],
        needs_base: false,
        binary: Some(program),
        mark: suffix(revision),
        version: Version::Known(env!("CARGO_PKG_VERSION")),
        suffix: suffix(revision),
    }
}

/// Redis or Valkey, which differ in their names only, as the base has them or an older `release` of Debian.
fn server(engine: &'static str, revision: u32, release: &str) -> Recipe {
    let said: &'static [&'static str] = match engine {
        "valkey" => &["valkey-server", "--version"],
        _ => &["redis-server", "--version"],
    };
    Recipe {
        repository: engine,
        dockerfile: "images/redis/Dockerfile",
        args: vec![
            ("ENGINE".to_owned(), engine.to_owned()),
            ("RELEASE".to_owned(), release.to_owned()),
            ("REVISION".to_owned(), revision.to_string()),
        ],
        needs_base: true,
        binary: None,
        mark: None,
        version: Version::Asked(said),
        suffix: suffix(revision),
    }
}

fn suffix(revision: u32) -> Option<String> {
    (revision > 1).then(|| format!("r{revision}"))
}

/// Eight hexadecimal digits over `parts`, each with its length, so that no two lists agree.
pub fn hash(parts: &[Vec<u8>]) -> String {
    let mut digest = Sha256::new();
    for part in parts {
        digest.update((part.len() as u64).to_be_bytes());
        digest.update(part);
    }
    hex(&digest.finalize()[..4])
}

/// Hexadecimal digits of `bytes`.
pub fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Full name of an image. `localhost` is no registry: nothing can be pulled by such a name.
pub fn name(repository: &str, version: &str, suffix: Option<&str>, hash: &str) -> String {
    let suffix = suffix.map(|s| format!("-{s}")).unwrap_or_default();
    format!("localhost/mainstay/{repository}:{version}{suffix}-{hash}")
}

/// `17.12` of `postgres (PostgreSQL) 17.12 (Debian 17.12-0+deb13u1)`, `1.24.1` of `PgBouncer 1.24.1`,
/// `8.0.2` of `Redis server v=8.0.2 sha=00000000:0 malloc=jemalloc-5.3.0 bits=64 build=1`.
pub fn full_version(said: &str) -> Result<String, Error> {
    let is_version = |word: &&str| {
        let digits = |s: &str| !s.is_empty() && s.bytes().all(|b| b.is_ascii_digit());
        word.contains('.') && word.split('.').all(digits)
    };
    let words = said.split_whitespace();
    words
        .map(|word| word.strip_prefix("v=").unwrap_or(word))
        .find(is_version)
        .map(str::to_owned)
        .ok_or_else(|| Error::Version(said.trim().to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_read_from_what_postgres_says() {
        let said = "postgres (PostgreSQL) 17.12 (Debian 17.12-0+deb13u1)\n";
        assert_eq!(full_version(said).unwrap(), "17.12");
        assert_eq!(
            full_version("PgBouncer 1.24.1\nlibevent 2.1").unwrap(),
            "1.24.1"
        );
        let said = "Redis server v=8.0.2 sha=00000000:0 malloc=jemalloc-5.3.0 bits=64 build=1f";
        assert_eq!(full_version(said).unwrap(), "8.0.2");
        assert!(full_version("postgres: not found").is_err());
        assert!(full_version("PostgreSQL 18devel").is_err());
    }

    #[test]
    fn names_say_version_revision_and_content() {
        let recipe = Image::Postgres { revision: 2 }.recipe();
        let name = name(
            recipe.repository,
            "17.12",
            recipe.suffix.as_deref(),
            "0a1b2c3d",
        );
        assert_eq!(name, "localhost/mainstay/postgres:17.12-r2-0a1b2c3d");
    }

    #[test]
    fn revisions_differ_in_their_arguments_only() {
        let first = Image::Postgres { revision: 1 }.recipe();
        let second = Image::Postgres { revision: 2 }.recipe();
        assert_ne!(first.args, second.args);
        assert_eq!(first.dockerfile, second.dockerfile);
    }

    #[test]
    fn moving_a_byte_between_parts_changes_the_hash() {
        let parts = |a: &str, b: &str| hash(&[a.as_bytes().to_vec(), b.as_bytes().to_vec()]);
        assert_ne!(parts("ab", "c"), parts("a", "bc"));
        assert_eq!(parts("ab", "c"), parts("ab", "c"));
    }
}
