//! One process at a time starts, changes or removes a cluster.

use std::fs::File;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;

use super::layout::Layout;
use super::{LocalError, at};
use crate::tools;

/// The right to change a cluster. Ends when dropped, or when the process ends.
#[derive(Debug)]
pub struct Lock {
    _file: File,
    path: PathBuf,
}

impl Lock {
    /// Waits for its turn.
    pub async fn take(layout: &Layout) -> Result<Self, LocalError> {
        let path = layout.lock();
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).map_err(at(folder))?;
        }
        loop {
            let file = tools::lock(&path).await.map_err(at(&path))?;
            // Who held it before may have removed the file: then this lock is on nothing.
            let ours = file.metadata().map_err(at(&path))?.ino();
            if std::fs::metadata(&path).is_ok_and(|meta| meta.ino() == ours) {
                return Ok(Self { _file: file, path });
            }
        }
    }

    /// Gives the lock up and removes its file.
    pub fn remove(self) -> Result<(), LocalError> {
        std::fs::remove_file(&self.path).map_err(at(&self.path))
    }
}
