//! The programs that a cluster, the images and the demo need: fetched or built once, kept outside
//! the checkout, keyed by what they are made of.
//!
//! The cache is `$MAINSTAY_CACHE`, else `~/.cache/mainstay`; deleting it costs only time.

mod debian;
mod go;
pub mod languages;
mod open;
mod pause;
mod servers;

use std::path::{Path, PathBuf};

use crate::process::ProcessError;

pub use debian::{CLUSTER, IMAGES, Need, POSTGRES, REDIS, postgres, redis, require};
pub use go::{coredns, helm, kind, kube, kubectl, versitygw};
pub use open::for_all;
pub use pause::{PAUSE_IMAGE, pause};
pub use servers::{Server, server};

/// Why a program is not to be had.
#[derive(Debug, thiserror::Error)]
pub enum ToolError {
    /// Programs are missing and this machine cannot be given them by us.
    #[error("missing: {programs}. {remedy}")]
    Missing {
        /// The programs.
        programs: String,
        /// What the user can do.
        remedy: String,
    },
    /// What was fetched is not what is pinned.
    #[error(
        "what was fetched is not what {list} names; if that is what you want, write this there:\n{found}\n"
    )]
    Other {
        /// The list of digests.
        list: PathBuf,
        /// What was found, as that list would have it.
        found: String,
    },
    /// A program that fetches or builds failed.
    #[error(transparent)]
    Process(#[from] ProcessError),
    /// A file could not be read or written.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's answer.
        source: std::io::Error,
    },
}

/// Adds the path to an input or output error.
pub(crate) fn at(path: &Path) -> impl FnOnce(std::io::Error) -> ToolError {
    let path = path.to_owned();
    move |source| ToolError::Io { path, source }
}

/// The folder of everything that is expensive to make again.
pub fn cache() -> PathBuf {
    std::env::var_os("MAINSTAY_CACHE").map_or_else(|| home().join(".cache/mainstay"), PathBuf::from)
}

/// The user's home folder; the file system's root where none is set.
pub(crate) fn home() -> PathBuf {
    std::env::var_os("HOME").map_or_else(|| PathBuf::from("/"), PathBuf::from)
}

/// A folder of this crate, for example `kubernetes`.
pub(crate) fn source(folder: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(folder)
}

/// The lowercase hexadecimal SHA-256 of parts, each with its length, cut to 16 characters.
pub(crate) fn key<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> String {
    use sha2::{Digest, Sha256};
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    let mut text = hex(&hash.finalize());
    text.truncate(16);
    text
}

/// Lowercase hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Has the file to itself among all processes that ask for it, from now until what is returned is dropped.
pub(crate) async fn lock(path: &Path) -> std::io::Result<std::fs::File> {
    let lock = std::fs::File::create(path)?;
    tokio::task::spawn_blocking(move || lock.lock().map(|()| lock))
        .await
        .map_err(std::io::Error::other)?
}

/// Makes `path` once, also when several processes ask at the same time: `make` is given a path
/// beside it to write to, which is moved into place when it succeeds.
pub(crate) async fn once<F>(
    path: &Path,
    make: impl FnOnce(PathBuf) -> F,
) -> Result<PathBuf, ToolError>
where
    F: Future<Output = Result<(), ToolError>>,
{
    if path.exists() {
        return Ok(path.to_owned());
    }
    let folder = path.parent().unwrap_or(Path::new("/"));
    std::fs::create_dir_all(folder).map_err(at(folder))?;
    let lock_path = path.with_extension("lock");
    let lock = lock(&lock_path).await.map_err(at(&lock_path))?;
    if !path.exists() {
        let draft = path.with_extension("draft");
        make(draft.clone()).await?;
        std::fs::rename(&draft, path).map_err(at(path))?;
    }
    drop(lock);
    Ok(path.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_tells_parts_apart() {
        assert_eq!(key([b"ab".as_slice(), b"c"]).len(), 16);
        assert_ne!(key([b"ab".as_slice(), b"c"]), key([b"a".as_slice(), b"bc"]));
    }

    #[tokio::test]
    async fn once_makes_once_and_leaves_nothing_after_failure() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("thing");
        let failed = once(&path, |_| async {
            Err(ToolError::Missing {
                programs: "x".into(),
                remedy: String::new(),
            })
        })
        .await;
        assert!(failed.is_err() && !path.exists());
        for text in ["first", "second"] {
            once(&path, |draft| async move {
                std::fs::write(&draft, text).map_err(at(&draft))
            })
            .await
            .unwrap();
        }
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "first");
    }
}
