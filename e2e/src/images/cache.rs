//! The cache's small index files, and the checkout. I/O.

use std::fs;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{Error, at};

/// The checkout that this program was compiled from.
pub fn repository() -> PathBuf {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    package.parent().unwrap_or(package).to_owned()
}

/// Reads an index file; absent, torn or foreign ones count as absent.
pub fn entry<T: DeserializeOwned>(path: &Path) -> Option<T> {
    serde_json::from_slice(&fs::read(path).ok()?).ok()
}

/// Writes an index file in one step.
pub fn put<T: Serialize>(path: &Path, value: &T) -> Result<(), Error> {
    let partial = path.with_extension("part");
    let text = serde_json::to_vec(value).map_err(|e| at(path)(e.into()))?;
    fs::write(&partial, text).map_err(at(&partial))?;
    fs::rename(&partial, path).map_err(at(path))
}
