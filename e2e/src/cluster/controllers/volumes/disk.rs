//! Files, loop devices, file systems and mounts.
//!
//! A volume is `<folder>/<name>.img`, mounted at `<folder>/<name>`. Its loop device frees itself
//! with the last mount, so that nothing is left when the cluster's mount namespace ends, however
//! it ends. The file system is XFS: ext4 grows while mounted only for a process with
//! `CAP_SYS_RESOURCE`, which root lacks in many virtual machines and containers.

use std::path::{Path, PathBuf};

use tokio::sync::Mutex;

use crate::process::{self, ProcessError};

use super::mounts;

/// Why a step on a volume's disk failed.
#[derive(Debug, thiserror::Error)]
pub enum DiskError {
    /// A system program failed.
    #[error(transparent)]
    Program(#[from] ProcessError),
    /// A file or folder could not be changed.
    #[error("cannot {what} {path}: {source}", path = path.display())]
    File {
        /// What was tried.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// The system's answer.
        source: std::io::Error,
    },
    /// The volume's data is not there.
    #[error("the data of the volume is missing: {path} does not exist", path = .0.display())]
    Missing(PathBuf),
    /// It was to be grown, but is not mounted.
    #[error("{path} is not mounted", path = .0.display())]
    NotMounted(PathBuf),
}

/// Mounts and unmounts, one at a time: a check and the step it leads to must not be interleaved.
#[derive(Debug, Default)]
pub struct Disks {
    mounting: Mutex<()>,
}

fn failed<'a>(what: &'static str, path: &'a Path) -> impl FnOnce(std::io::Error) -> DiskError + 'a {
    move |source| DiskError::File {
        what,
        path: path.to_owned(),
        source,
    }
}

/// The file that holds the data of the volume mounted at `mount`.
pub fn file_of(mount: &Path) -> PathBuf {
    mount.with_extension("img")
}

impl Disks {
    /// Makes the file with an empty file system of exactly `bytes`, if it does not exist, and
    /// mounts it. Done twice it changes nothing.
    pub async fn create(&self, mount: &Path, bytes: u64) -> Result<(), DiskError> {
        let file = file_of(mount);
        if !file.exists() {
            std::fs::create_dir_all(mount).map_err(failed("create", mount))?;
            // Under a name of its own until complete: a file called `….img` has a file system.
            let draft = mount.with_extension("draft");
            let made = std::fs::File::create(&draft).map_err(failed("create", &draft))?;
            made.set_len(bytes).map_err(failed("size", &draft))?;
            drop(made);
            let mut mkfs = process::command("mkfs.xfs");
            // Without these, mkfs refuses less than 300 MiB; small volumes are what tests fill.
            mkfs.envs([("TEST_DIR", "1"), ("TEST_DEV", "1"), ("QA_CHECK_FS", "1")]);
            process::run(mkfs.args(["-q", "-f"]).arg(&draft)).await?;
            std::fs::rename(&draft, &file).map_err(failed("rename", &draft))?;
        }
        self.mount(mount).await
    }

    /// Mounts the volume, if it is not.
    pub async fn mount(&self, mount: &Path) -> Result<(), DiskError> {
        let _one = self.mounting.lock().await;
        if device(mount)?.is_some() {
            return Ok(());
        }
        let file = file_of(mount);
        if !file.exists() {
            return Err(DiskError::Missing(file));
        }
        std::fs::create_dir_all(mount).map_err(failed("create", mount))?;
        let mut program = process::command("mount");
        process::run(
            program
                .args(["-t", "xfs", "-o", "loop"])
                .arg(&file)
                .arg(mount),
        )
        .await?;
        Ok(())
    }

    /// Grows file, loop device and mounted file system to `bytes`; never shrinks them.
    pub async fn grow(&self, mount: &Path, bytes: u64) -> Result<(), DiskError> {
        let path = file_of(mount);
        let Some(device) = device(mount)? else {
            return Err(DiskError::NotMounted(mount.to_owned()));
        };
        let file = std::fs::OpenOptions::new()
            .write(true)
            .open(&path)
            .map_err(failed("open", &path))?;
        let size = file.metadata().map_err(failed("read", &path))?.len();
        if size < bytes {
            file.set_len(bytes).map_err(failed("grow", &path))?;
        }
        process::run(process::command("losetup").args(["-c", &device])).await?;
        process::run(process::command("xfs_growfs").arg(mount)).await?;
        Ok(())
    }

    /// Unmounts the volume, if it is mounted. Pods that still hold it keep it until they end.
    pub async fn unmount(&self, mount: &Path) -> Result<(), DiskError> {
        let _one = self.mounting.lock().await;
        while device(mount)?.is_some() {
            process::run(process::command("umount").arg(mount)).await?;
        }
        match std::fs::remove_dir(mount) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(failed("remove", mount)(error))
            }
            _ => Ok(()),
        }
    }

    /// Unmounts the volume and removes its data.
    pub async fn destroy(&self, mount: &Path) -> Result<(), DiskError> {
        self.unmount(mount).await?;
        let file = file_of(mount);
        match std::fs::remove_file(&file) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(failed("remove", &file)(error))
            }
            _ => Ok(()),
        }
    }
}

/// The device that is mounted at `mount`.
fn device(mount: &Path) -> Result<Option<String>, DiskError> {
    let table = mounts::read().map_err(failed("read", Path::new("/proc/self/mountinfo")))?;
    Ok(mounts::at(&table, mount).map(|mount| mount.source.clone()))
}

/// Unmounts everything below `state` that this mount namespace sees, and frees every loop device
/// backed by a file below it.
///
/// Needed only where the cluster did not have a mount namespace of its own, or where one of its
/// processes outlives it; with nothing to do it costs one reading of two tables.
///
/// # Errors
/// A mount or a device cannot be freed; the others were nevertheless tried.
pub async fn cleanup(state: &Path) -> Result<(), DiskError> {
    let mut outcome = Ok(());
    let table = mounts::read().map_err(failed("read", Path::new("/proc/self/mountinfo")))?;
    for mount in table
        .iter()
        .rev()
        .filter(|mount| mount.target.starts_with(state))
    {
        let freed = process::run(process::command("umount").arg("-l").arg(&mount.target)).await;
        outcome = outcome.and(freed.map(drop).map_err(DiskError::from));
    }
    for (device, file) in loop_devices()? {
        if file.starts_with(state) {
            let freed = process::run(process::command("losetup").arg("-d").arg(&device)).await;
            outcome = outcome.and(freed.map(drop).map_err(DiskError::from));
        }
    }
    outcome
}

/// Loop devices in use, with the files behind them.
fn loop_devices() -> Result<Vec<(PathBuf, PathBuf)>, DiskError> {
    let blocks = Path::new("/sys/block");
    let entries = std::fs::read_dir(blocks).map_err(failed("read", blocks))?;
    Ok(entries
        .flatten()
        .filter_map(|entry| {
            let file = std::fs::read_to_string(entry.path().join("loop/backing_file")).ok()?;
            Some((
                Path::new("/dev").join(entry.file_name()),
                PathBuf::from(file.trim_end()),
            ))
        })
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    /// Size of the mounted file system in bytes.
    fn size_of(mount: &Path) -> u64 {
        let stat = rustix::fs::statvfs(mount).unwrap();
        stat.f_blocks * stat.f_frsize
    }

    #[tokio::test]
    #[ignore = "needs root and loop devices; the scenarios on a local cluster run the same code"]
    async fn a_volume_is_made_grown_and_removed() {
        let state = tempfile::tempdir().unwrap();
        let mount = state.path().join("volumes/pvc-1");
        let disks = Disks::default();
        let begun = Instant::now();
        disks.create(&mount, 64 << 20).await.unwrap();
        println!("made in {:?}", begun.elapsed());
        disks.create(&mount, 64 << 20).await.unwrap();
        assert_eq!(std::fs::metadata(file_of(&mount)).unwrap().len(), 64 << 20);
        let small = size_of(&mount);
        assert!(small > 45 << 20 && small <= 64 << 20, "{small}");
        std::fs::write(mount.join("kept"), "x").unwrap();

        let begun = Instant::now();
        disks.grow(&mount, 256 << 20).await.unwrap();
        disks.grow(&mount, 256 << 20).await.unwrap();
        println!("grown twice in {:?}", begun.elapsed());
        assert!(size_of(&mount) > 220 << 20);
        disks.unmount(&mount).await.unwrap();
        assert!(!mount.exists());
        disks.mount(&mount).await.unwrap();
        assert!(mount.join("kept").exists());

        cleanup(state.path()).await.unwrap();
        let left = loop_devices().unwrap();
        assert!(
            !left.iter().any(|(_, file)| file.starts_with(state.path())),
            "{left:?}"
        );
        disks.destroy(&mount).await.unwrap();
        assert!(!file_of(&mount).exists());
        assert!(matches!(
            disks.mount(&mount).await,
            Err(DiskError::Missing(_))
        ));
    }
}
