//! The cgroup that holds every process of a cluster. It is how `down` finds all of them, also those
//! that nothing recorded: a child cannot leave its cgroup by forking or by losing its parent.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::process::{Pid, PidfdFlags, Signal};

use super::{LocalError, at};

/// How long killed processes may take to be gone.
const KILL_LIMIT: Duration = Duration::from_secs(30);

/// The mount points of cgroup hierarchies.
#[derive(Debug, Default, PartialEq, Eq)]
struct Hierarchies {
    first: Vec<PathBuf>,
    second: Vec<PathBuf>,
}

impl Hierarchies {
    fn read() -> Result<Self, LocalError> {
        let path = Path::new("/proc/mounts");
        Ok(Self::parse(
            &std::fs::read_to_string(path).map_err(at(path))?,
        ))
    }

    fn parse(mounts: &str) -> Self {
        let mut found = Self::default();
        for line in mounts.lines() {
            let mut fields = line.split(' ').skip(1);
            match (fields.next(), fields.next()) {
                (Some(path), Some("cgroup")) => found.first.push(path.into()),
                (Some(path), Some("cgroup2")) => found.second.push(path.into()),
                _ => {}
            }
        }
        found
    }

    /// Those with controllers: each of version 1, or that of version 2 where it is alone.
    fn used(self) -> Vec<PathBuf> {
        if self.first.is_empty() {
            self.second
        } else {
            self.first
        }
    }

    /// Also one of version 2 beside those of version 1, where the container runtime adds its own.
    fn all(mut self) -> Vec<PathBuf> {
        self.first.append(&mut self.second);
        self.first
    }
}

/// Makes a cgroup in every hierarchy, and its parents.
///
/// In version 1 a new cpuset is empty and nothing can run in it: it gets what its parent has. In
/// version 2 the controllers are handed down.
pub fn create(cgroup: &str) -> Result<(), LocalError> {
    for root in Hierarchies::read()?.used() {
        let mut path = root.clone();
        for part in cgroup.split('/') {
            let parent = path.clone();
            path.push(part);
            delegate(&parent);
            match std::fs::create_dir(&path) {
                Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
                    return Err(at(&path)(error));
                }
                _ => {}
            }
            for file in ["cpuset.cpus", "cpuset.mems"] {
                let (from, to) = (parent.join(file), path.join(file));
                if from.exists()
                    && std::fs::read_to_string(&to).is_ok_and(|text| text.trim().is_empty())
                {
                    let value = std::fs::read_to_string(&from).map_err(at(&from))?;
                    // Version 2 leaves them empty, which there means "as the parent".
                    if !value.trim().is_empty() {
                        std::fs::write(&to, value.trim()).map_err(at(&to))?;
                    }
                }
            }
        }
    }
    Ok(())
}

/// Gives a cgroup that exists so many times the processor time that a process beside it gets, where there is not enough for all.
///
/// Without it all pods of all clusters together get as much as one thread of a compiler.
pub fn weigh(cgroup: &str, times: u32) -> Result<(), LocalError> {
    for root in Hierarchies::read()?.used() {
        for (file, usual) in [("cpu.shares", 1024), ("cpu.weight", 100)] {
            let file = root.join(cgroup).join(file);
            if file.exists() {
                std::fs::write(&file, (usual * times).to_string()).map_err(at(&file))?;
            }
        }
    }
    Ok(())
}

/// Version 2: lets children use the controllers. One that the kernel lacks is no error; the kubelet
/// says which ones it misses.
fn delegate(parent: &Path) {
    let Ok(controllers) = std::fs::read_to_string(parent.join("cgroup.controllers")) else {
        return;
    };
    for controller in controllers.split_whitespace() {
        let _ = std::fs::write(
            parent.join("cgroup.subtree_control"),
            format!("+{controller}"),
        );
    }
}

/// Moves this process, with all of its threads, into a cgroup that exists.
pub fn join(cgroup: &str) -> Result<(), LocalError> {
    for root in Hierarchies::read()?.used() {
        let procs = root.join(cgroup).join("cgroup.procs");
        std::fs::write(&procs, "0").map_err(at(&procs))?;
    }
    Ok(())
}

/// Every process in a cgroup and below it.
pub fn processes(cgroup: &str) -> Result<BTreeSet<i32>, LocalError> {
    let mut pids = BTreeSet::new();
    for root in Hierarchies::read()?.all() {
        visit(&root.join(cgroup), &mut |folder| {
            let text = std::fs::read_to_string(folder.join("cgroup.procs")).unwrap_or_default();
            pids.extend(
                text.lines()
                    .filter_map(|line| line.parse::<i32>().ok())
                    .filter(|pid| *pid > 0),
            );
        });
    }
    Ok(pids)
}

/// The cgroup's folders that exist, one per hierarchy.
pub fn folders(cgroup: &str) -> Result<Vec<PathBuf>, LocalError> {
    let roots = Hierarchies::read()?.all();
    Ok(roots
        .into_iter()
        .map(|root| root.join(cgroup))
        .filter(|path| path.exists())
        .collect())
}

/// Calls `see` for a folder's subfolders, then for itself.
fn visit(folder: &Path, see: &mut impl FnMut(&Path)) {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return;
    };
    for entry in entries.flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            visit(&entry.path(), see);
        }
    }
    see(folder);
}

/// Kills every process in a cgroup and below it, and returns when none is left.
///
/// # Errors
/// A process does not die, as one that waits for a dead disk.
///
/// # Caveats
/// A process id is looked up, pinned, and looked up again before it is killed, so that a number that
/// was given to a stranger meanwhile is left alone.
pub async fn kill(cgroup: &str) -> Result<(), LocalError> {
    let start = Instant::now();
    loop {
        let pids = processes(cgroup)?;
        if pids.is_empty() {
            return Ok(());
        }
        if start.elapsed() > KILL_LIMIT {
            return Err(LocalError::Undead {
                pids: pids.into_iter().collect(),
            });
        }
        let pinned: Vec<_> = pids
            .iter()
            .filter_map(|pid| {
                Some((
                    *pid,
                    rustix::process::pidfd_open(Pid::from_raw(*pid)?, PidfdFlags::empty()).ok()?,
                ))
            })
            .collect();
        let still = processes(cgroup)?;
        for (_, handle) in pinned.iter().filter(|(pid, _)| still.contains(pid)) {
            let _ = rustix::process::pidfd_send_signal(handle, Signal::KILL);
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Removes a cgroup with all below it from every hierarchy. Its processes must be gone; one that comes
/// meanwhile, started by somebody who has been killed, is killed as well.
pub async fn remove(cgroup: &str) -> Result<(), LocalError> {
    let start = Instant::now();
    for root in Hierarchies::read()?.all() {
        let top = root.join(cgroup);
        while top.exists() {
            visit(&top, &mut |folder| {
                let _ = std::fs::remove_dir(folder);
            });
            if top.exists() {
                if start.elapsed() > KILL_LIMIT {
                    return Err(LocalError::Cgroup { path: top });
                }
                // One that was on its way in when the others were killed.
                kill(cgroup).await?;
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
        // The parent is shared by all clusters: it goes with the last one.
        if let Some(parent) = top.parent().filter(|parent| **parent != root) {
            let _ = std::fs::remove_dir(parent);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn version_one_wins_where_both_are() {
        let hybrid = "cgroup /sys/fs/cgroup/cpu cgroup rw 0 0\ncgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0\n";
        assert_eq!(
            Hierarchies::parse(hybrid).used(),
            [PathBuf::from("/sys/fs/cgroup/cpu")]
        );
        assert_eq!(Hierarchies::parse(hybrid).all().len(), 2);
        let unified = "proc /proc proc rw 0 0\ncgroup2 /sys/fs/cgroup cgroup2 rw 0 0\n";
        assert_eq!(
            Hierarchies::parse(unified).used(),
            [PathBuf::from("/sys/fs/cgroup")]
        );
    }
}
