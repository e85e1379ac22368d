//! Large images, unpacked once and then shared by all nodes.
//!
//! A template is a containerd root folder in the cache, filled by one import. A node's root is made
//! of it by hard links: unpacked layers and content are never written again, so that nodes can share
//! them (and the page cache holds them once); only the small databases are copied.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use rustix::process::Signal;

use super::control_plane::Starter;
use super::launch::Launch;
use super::load::{self, Archive};
use super::{LocalError, at, config};
use crate::cluster::context::NodeContext;
use crate::process;
use crate::tools;

/// Archives from this size on are worth it, in bytes; importing a smaller one takes less than a second.
const LARGE: u64 = 32 << 20;
/// Templates kept; the least recently used go.
const KEPT: usize = 3;
/// Part of a template's key: raised when its layout changes.
const FORMAT: &str = "1";

/// Images in the form of a containerd root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    folder: PathBuf,
}

impl Template {
    /// The one used last, if there is any.
    pub fn latest() -> Option<Self> {
        all().pop().map(|(_, folder)| Self { folder })
    }

    /// A template with at least these archives: one that is there, or a new one.
    pub async fn with(starter: &Starter<'_>, archives: &[Archive]) -> Result<Self, LocalError> {
        let wanted: BTreeSet<String> = archives
            .iter()
            .map(|archive| archive.hash.clone())
            .collect();
        for (_, folder) in all().into_iter().rev() {
            let template = Self { folder };
            if template.contents().is_superset(&wanted) {
                template.touch();
                return Ok(template);
            }
        }
        let key = tools::key(
            std::iter::once(FORMAT.as_bytes()).chain(wanted.iter().map(String::as_bytes)),
        );
        let folder = store().join(key);
        tools::once(&folder, |draft| async move {
            fill(starter, &draft, archives)
                .await
                .map_err(|error| tools::at(&draft)(std::io::Error::other(error)))
        })
        .await?;
        let template = Self { folder };
        template.touch();
        prune();
        Ok(template)
    }

    /// The hashes of the archives in it.
    pub fn contents(&self) -> BTreeSet<String> {
        let text = std::fs::read_to_string(self.folder.join("images")).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    /// Makes a node's containerd root of it. Its containerd must not run.
    pub async fn copy_to(
        &self,
        starter: &Starter<'_>,
        node: &NodeContext,
    ) -> Result<(), LocalError> {
        let target = node.dir.join("containerd");
        if target.exists() {
            std::fs::remove_dir_all(&target).map_err(at(&target))?;
        }
        let root = self.folder.join("root");
        // In the cluster's cgroup: a copy that outlived its cluster would bring the folder back.
        let copy = |how: &str| {
            let copy = Launch::new(starter.layout, "outer", "cp")
                .args(["--archive", how])
                .arg(&root)
                .arg(&target);
            let mut command = copy.command(&starter.programs.helper);
            async move { process::run(&mut command).await }
        };
        if copy("--link").await.is_err() {
            // Another file system.
            let _ = std::fs::remove_dir_all(&target);
            copy("--reflink=auto").await?;
        }
        for database in databases(&root) {
            let to = target.join(database.strip_prefix(&root).unwrap_or(&database));
            std::fs::remove_file(&to).map_err(at(&to))?;
            std::fs::copy(&database, &to).map_err(at(&to))?;
        }
        load::remember(node, &self.contents())
    }

    /// Whether what a node has, or is about to be given, is all in here or in these archives.
    pub fn replaces(&self, known: &BTreeSet<String>, archives: &[Archive]) -> bool {
        let mut all = self.contents();
        all.extend(archives.iter().map(|archive| archive.hash.clone()));
        known.is_subset(&all)
    }

    fn touch(&self) {
        // Only the order of use depends on it.
        let _ = std::fs::write(self.folder.join("used"), "");
    }
}

/// The archives that are worth a template.
pub fn large(archives: &[Archive]) -> Vec<Archive> {
    archives
        .iter()
        .filter(|archive| archive.size >= LARGE)
        .cloned()
        .collect()
}

fn store() -> PathBuf {
    tools::cache().join("containerd")
}

/// Every template with when it was last used, the latest last.
fn all() -> Vec<(SystemTime, PathBuf)> {
    let Ok(entries) = std::fs::read_dir(store()) else {
        return Vec::new();
    };
    let mut found: Vec<_> = entries
        .flatten()
        .filter_map(|entry| {
            let used = std::fs::metadata(entry.path().join("used"))
                .ok()?
                .modified()
                .ok()?;
            entry
                .path()
                .extension()
                .is_none()
                .then(|| (used, entry.path()))
        })
        .collect();
    found.sort();
    found
}

fn prune() {
    let mut found = all();
    let surplus = found.len().saturating_sub(KEPT);
    for (_, folder) in found.drain(..surplus) {
        // One that is being copied at this moment is not among those used longest ago.
        let _ = std::fs::remove_dir_all(folder);
    }
}

/// The files of a containerd root that are written again.
fn databases(root: &Path) -> Vec<PathBuf> {
    let Ok(parts) = std::fs::read_dir(root) else {
        return Vec::new();
    };
    parts
        .flatten()
        .filter_map(|part| std::fs::read_dir(part.path()).ok())
        .flat_map(|files| files.flatten().map(|file| file.path()))
        .filter(|path| path.extension().is_some_and(|extension| extension == "db"))
        .collect()
}

/// Imports archives into a new containerd root, with a containerd of its own.
async fn fill(
    starter: &Starter<'_>,
    folder: &Path,
    archives: &[Archive],
) -> Result<(), LocalError> {
    if folder.exists() {
        std::fs::remove_dir_all(folder).map_err(at(folder))?;
    }
    std::fs::create_dir_all(folder).map_err(at(folder))?;
    let layout = starter.layout;
    let socket = layout.run().join("spare.sock");
    let config = layout.file("containerd-spare.toml");
    let text = config::runtime(
        &folder.join("root"),
        &layout.run().join("spare"),
        &socket,
        &layout.file("no-cni"),
    );
    std::fs::write(&config, text).map_err(at(&config))?;
    let mut daemon = starter.spare_containerd(&config)?;
    load::answers(&socket).await?;
    for archive in archives {
        load::import(layout, starter.programs, starter.anchor, &socket, archive).await?;
    }
    daemon.end(Signal::TERM).await?;
    let list = archives
        .iter()
        .fold(String::new(), |list, archive| list + &archive.hash + "\n");
    let images = folder.join("images");
    std::fs::write(&images, list).map_err(at(&images))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn archive(hash: &str, size: u64) -> Archive {
        Archive {
            path: hash.into(),
            hash: hash.into(),
            size,
        }
    }

    #[test]
    fn small_archives_are_not_worth_it() {
        assert_eq!(
            large(&[archive("a", 1), archive("b", LARGE)]),
            [archive("b", LARGE)]
        );
    }

    #[test]
    fn an_image_that_would_be_lost_prevents_it() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("images"), "a\nb\n").unwrap();
        let template = Template {
            folder: folder.path().to_owned(),
        };
        let known = |list: &[&str]| list.iter().map(|hash| (*hash).to_owned()).collect();
        assert!(template.replaces(&known(&["a"]), &[]));
        assert!(template.replaces(&known(&["a", "c"]), &[archive("c", 1)]));
        assert!(!template.replaces(&known(&["a", "d"]), &[archive("c", 1)]));
    }

    #[test]
    fn only_databases_are_copied() {
        let folder = tempfile::tempdir().unwrap();
        for file in ["meta/meta.db", "content/blob"] {
            let path = folder.path().join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "x").unwrap();
        }
        assert_eq!(
            databases(folder.path()),
            [folder.path().join("meta/meta.db")]
        );
    }
}
