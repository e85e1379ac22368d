//! What a folder needs besides what `object_store` does with it. I/O.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use jiff::Timestamp;

/// A folder with objects as files.
#[derive(Debug, Clone)]
pub(super) struct Folder(PathBuf);

/// A file: its name, its size, and when it was written.
pub(super) type Entry = (String, u64, Timestamp);

impl Folder {
    pub(super) fn new(path: &Path) -> Self {
        Self(path.to_owned())
    }

    /// Has a file and every name on the way to it on the disk.
    pub(super) async fn settle(&self, path: &str) -> io::Result<()> {
        let top = self.0.clone();
        let at = top.join(path);
        in_thread(move || {
            File::open(&at)?.sync_all()?;
            settle_folders(&top, at.parent())
        })
        .await
    }

    /// Has every name on the way to a file on the disk, or that there is none any more.
    pub(super) async fn settle_names(&self, path: &str) -> io::Result<()> {
        let top = self.0.clone();
        let at = top.join(path);
        in_thread(move || settle_folders(&top, at.parent())).await
    }

    /// Files of a folder whose name begins with `start`. What is told outlives a power cut: files are on the disk
    /// before they have a name, and names are seen to here.
    pub(super) async fn beginning(&self, path: &str, start: &str) -> io::Result<Vec<Entry>> {
        let (top, start) = (self.0.clone(), start.to_owned());
        let at = top.join(path);
        in_thread(move || {
            let mut all = Vec::new();
            let entries = match std::fs::read_dir(&at) {
                Ok(entries) => entries,
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(all),
                Err(error) => return Err(error),
            };
            for entry in entries {
                let entry = entry?;
                let Ok(name) = entry.file_name().into_string() else {
                    continue;
                };
                // With `#` it is being written.
                if !name.starts_with(&start) || name.contains('#') {
                    continue;
                }
                match entry.metadata() {
                    Ok(meta) if meta.is_file() => {
                        let modified = meta.modified()?.try_into();
                        let modified = modified.unwrap_or(Timestamp::UNIX_EPOCH);
                        all.push((name, meta.len(), modified));
                    }
                    // It went meanwhile.
                    Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                    _ => {}
                }
            }
            if !all.is_empty() {
                settle_folders(&top, Some(&at))?;
            }
            all.sort_unstable();
            Ok(all)
        })
        .await
    }
}

/// Has the names in a folder, and in all that it is in, on the disk.
fn settle_folders(top: &Path, mut folder: Option<&Path>) -> io::Result<()> {
    while let Some(path) = folder.filter(|path| path.starts_with(top)) {
        match File::open(path) {
            Ok(open) => open.sync_all()?,
            // It went with what was in it.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        folder = path.parent();
    }
    Ok(())
}

/// A disk may take its time.
async fn in_thread<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(io::Error::other)?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn files_by_the_beginning_of_their_names() {
        let top = tempfile::tempdir().unwrap();
        let folder = Folder::new(top.path());
        assert_eq!(folder.beginning("log/a", "0").await.unwrap(), []);
        std::fs::create_dir_all(top.path().join("log/a/0-folder")).unwrap();
        for name in ["0-b", "0-a", "1-a", "0-c#1"] {
            std::fs::write(top.path().join("log/a").join(name), name).unwrap();
        }
        let found = folder.beginning("log/a", "0").await.unwrap();
        let names: Vec<_> = found.iter().map(|f| (f.0.as_str(), f.1)).collect();
        assert_eq!(names, [("0-a", 3), ("0-b", 3)]);
        assert_eq!(folder.beginning("log/a", "").await.unwrap().len(), 3);
    }

    #[tokio::test]
    async fn what_is_there_is_settled_and_what_is_not_is_told() {
        let top = tempfile::tempdir().unwrap();
        let folder = Folder::new(top.path());
        std::fs::create_dir(top.path().join("log")).unwrap();
        std::fs::write(top.path().join("log/a"), "a").unwrap();
        folder.settle("log/a").await.unwrap();
        let missing = folder.settle("log/b").await.unwrap_err();
        assert_eq!(missing.kind(), io::ErrorKind::NotFound);
        folder.settle_names("log/b").await.unwrap();
        folder.settle_names("gone/with/it").await.unwrap();
    }
}
