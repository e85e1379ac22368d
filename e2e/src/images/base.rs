//! The Debian root file system under engine images, made from packages by `mmdebstrap`. I/O.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::command::output as run;
use super::{Error, at, cache, recipe};

/// The suite; newer than the machine's own is fine.
const SUITE: &str = "trixie";
/// Left out: every node of a test cluster holds a copy.
const LEFT_OUT: [&str; 4] = [
    "/usr/share/doc/*",
    "/usr/share/man/*",
    "/usr/share/info/*",
    "/usr/share/locale/*",
];

/// A root file system in the cache.
#[derive(Serialize, Deserialize)]
pub struct RootFs {
    /// The tar archive.
    pub archive: PathBuf,
    /// SHA-256 of it, 16 hexadecimal digits.
    pub digest: String,
}

/// Makes the root file system unless the cache has it.
///
/// It stays as it is until its file is deleted: packages of the suite that are newer do not count,
/// so that tests of one day and of the next run the same base.
pub fn make(cache: &Path, progress: &dyn Fn(&str)) -> Result<RootFs, Error> {
    let folder = cache.join("images");
    let index = folder.join(format!("debian-{SUITE}.json"));
    if let Some(found) = cache::entry::<RootFs>(&index)
        && found.archive.exists()
    {
        return Ok(found);
    }
    progress(&format!("making a Debian {SUITE} root file system"));
    let archive = folder.join(format!("debian-{SUITE}.rootfs.tar"));
    let partial = folder.join(format!(".debian-{SUITE}.part.tar"));
    let mut command = Command::new("mmdebstrap");
    command.arg("--variant=minbase");
    for path in LEFT_OUT {
        command.arg(format!("--dpkgopt=path-exclude={path}"));
    }
    run(command.arg(SUITE).arg(&partial))?;
    let mut digest = Sha256::new();
    let mut file = File::open(&partial).map_err(at(&partial))?;
    io::copy(&mut file, &mut HashWriter(&mut digest)).map_err(at(&partial))?;
    fs::rename(&partial, &archive).map_err(at(&archive))?;
    let made = RootFs {
        archive,
        digest: recipe::hex(&digest.finalize()[..8]),
    };
    cache::put(&index, &made)?;
    Ok(made)
}

/// Feeds a digest from `io::copy`.
struct HashWriter<'a>(&'a mut Sha256);

impl io::Write for HashWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
