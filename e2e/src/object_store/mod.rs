//! An S3 server on a folder: versitygw, over TLS with an authority of its own.
//!
//! It runs beside a local cluster, where pods reach it ([`crate::cluster::Cluster::object_store`]), or by
//! itself on the loopback interface for tests ([`Server`]). Its buckets can keep versions and lock them.
//!
//! What it does otherwise than Amazon's, as tried with v1.8.0 on a folder. It takes, and ignores: storage
//! classes other than `STANDARD`, server-side encryption, and in a bucket with default retention writes
//! without a checksum, which Amazon refuses. It does not know lifecycle rules (501). A lock that comes from
//! the bucket's default is not told by HEAD, only by the refusal to delete. An unknown access key is 404, not
//! 403. An object cannot have the name of a folder of others (409). Conditional writes, checksums, versions,
//! delete marks, retention (also its bypass under governance), and clocks that are off are as Amazon's.

mod client;
mod files;
mod server;

pub use client::{Answer, ObjectStore};
pub use server::Server;

pub(crate) use files::Files;

use crate::process::ProcessError;
use crate::tools::{Need, ToolError};

/// The port that it listens on in a cluster.
pub const PORT: u16 = 7480;
/// The region that it is in.
pub const REGION: &str = "us-east-1";

/// What asking it needs.
pub const CLIENT: &[Need] = &[Need {
    program: "curl",
    package: "curl",
}];

/// Why there is no object store, or no answer of it.
#[derive(Debug, thiserror::Error)]
pub enum ObjectStoreError {
    /// The program cannot be had.
    #[error(transparent)]
    Tool(#[from] ToolError),
    /// A program failed.
    #[error(transparent)]
    Process(#[from] ProcessError),
    /// A certificate cannot be made.
    #[error("certificates: {0}")]
    Certificate(#[from] rcgen::Error),
    /// A file cannot be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: std::path::PathBuf,
        /// The system's answer.
        source: std::io::Error,
    },
    /// It does not answer.
    #[error("the object store does not answer; the end of its log:\n{log}")]
    Silent {
        /// What it wrote last.
        log: String,
    },
    /// It refused what was needed.
    #[error("{what}: the object store answered {status}: {body}")]
    Refused {
        /// What was asked for.
        what: String,
        /// HTTP's number.
        status: u16,
        /// Its words.
        body: String,
    },
}

fn at(path: &std::path::Path) -> impl FnOnce(std::io::Error) -> ObjectStoreError {
    let path = path.to_owned();
    move |source| ObjectStoreError::Io { path, source }
}
