//! Removing a cluster, whatever state it is in.

use std::path::{Path, PathBuf};

use super::layout::Layout;
use super::lock::Lock;
use super::records::Record;
use super::{LocalError, at, cgroups, launch::Launch};
use crate::process;

/// Removes everything that has the cluster's name. Not an error if there is nothing.
///
/// All processes are found through their cgroup; with the last of them goes the mount namespace, and
/// with that every mount and every network namespace of the cluster.
pub async fn down(layout: &Layout, helper: &Path) -> Result<(), LocalError> {
    let lock = Lock::take(layout).await?;
    clear(layout, helper).await?;
    lock.remove()
}

/// As [`down`], for one who holds the lock.
pub(super) async fn clear(layout: &Layout, helper: &Path) -> Result<(), LocalError> {
    thaw(layout, helper).await;
    cgroups::kill(&layout.cgroup()).await?;
    detach_loops(&layout.state()).await?;
    cgroups::remove(&layout.cgroup()).await?;
    for folder in [layout.run(), layout.state()] {
        match std::fs::remove_dir_all(&folder) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(at(&folder)(error));
            }
            _ => {}
        }
    }
    // Shared by all clusters: it goes with the last one.
    let _ = std::fs::remove_dir("/run/mainstay");
    Ok(())
}

/// Lets file systems go on that a scenario froze: a process that writes to one could not be killed.
async fn thaw(layout: &Layout, helper: &Path) {
    let Some(anchor) = Record::read(&layout.record("anchor")).filter(|record| record.alive())
    else {
        return;
    };
    let mounts =
        std::fs::read_to_string(format!("/proc/{}/mounts", anchor.pid)).unwrap_or_default();
    for target in loop_mounts(&mounts) {
        let command = Launch::new(layout, "outer", "fsfreeze")
            .inside(layout, anchor, "outer")
            .args(["-u", target]);
        // Fails where nothing is frozen, which is nearly always.
        let _ = process::run(&mut command.command(helper)).await;
    }
}

fn loop_mounts(mounts: &str) -> Vec<&str> {
    mounts
        .lines()
        .filter_map(|line| {
            let (device, rest) = line.split_once(' ')?;
            device
                .starts_with("/dev/loop")
                .then(|| rest.split(' ').next())
                .flatten()
        })
        .collect()
}

/// Detaches the loop devices whose file is below a folder.
async fn detach_loops(folder: &Path) -> Result<(), LocalError> {
    for device in loops(folder) {
        process::run(process::command("losetup").arg("--detach").arg(device)).await?;
    }
    Ok(())
}

/// What is still there of a cluster, in words; nothing after [`down`].
pub fn leftovers(layout: &Layout) -> Result<Vec<String>, LocalError> {
    let mut found: Vec<String> = cgroups::processes(&layout.cgroup())?
        .into_iter()
        .map(|pid| format!("process {pid}"))
        .collect();
    let folders = cgroups::folders(&layout.cgroup())?;
    let paths = [layout.state(), layout.run(), layout.lock()]
        .into_iter()
        .filter(|path| path.exists());
    let devices = loops(&layout.state());
    found.extend(
        folders
            .into_iter()
            .chain(paths)
            .chain(devices)
            .map(|path| path.display().to_string()),
    );
    // Every mount table of the machine: a namespace without a process has none that anyone sees.
    let below = [layout.state(), layout.run()];
    for process in std::fs::read_dir("/proc")
        .map_err(at(Path::new("/proc")))?
        .flatten()
    {
        let mounts = std::fs::read_to_string(process.path().join("mounts")).unwrap_or_default();
        let ours = |line: &&str| {
            let target = line.split(' ').nth(1).unwrap_or_default();
            below
                .iter()
                .any(|folder| Path::new(target).starts_with(folder))
        };
        found.extend(
            mounts
                .lines()
                .find(ours)
                .map(|line| format!("mount {line} of {}", process.path().display())),
        );
    }
    Ok(found)
}

/// The loop devices whose file is below a folder.
pub(super) fn loops(folder: &Path) -> Vec<PathBuf> {
    let Ok(devices) = std::fs::read_dir("/sys/block") else {
        return Vec::new();
    };
    devices
        .flatten()
        .filter(|device| {
            let file = std::fs::read_to_string(device.path().join("loop/backing_file"))
                .unwrap_or_default();
            Path::new(file.trim_end()).starts_with(folder)
        })
        .map(|device| Path::new("/dev").join(device.file_name()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loop_devices_are_thawed() {
        let mounts = "/dev/loop3 /s/node1/volumes/a ext4 rw 0 0\n/dev/vda / ext4 rw 0 0\n";
        assert_eq!(loop_mounts(mounts), ["/s/node1/volumes/a"]);
    }
}
