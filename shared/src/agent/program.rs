//! Programs of the agent beside the one that it was installed with: how the operator's own gets
//! into a pod that runs. I/O.
//!
//! It comes in pieces, which costs neither side memory, and counts only when the SHA-256 that was
//! asked for is that of the whole.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::api::Program;
use crate::hex::hex;

/// Bytes of a piece at most.
pub const PIECE: usize = 1 << 20;
/// Bytes of a program at most.
const LARGEST: u64 = 256 << 20;
/// Names begin with this; the SHA-256 follows.
const PREFIX: &str = "agent-";

/// Why a program is not taken.
#[derive(Debug, thiserror::Error)]
pub enum ProgramError {
    /// The name.
    #[error("{0:?} is no SHA-256 in 64 hexadecimal digits")]
    NoHash(String),
    /// A piece is missing or came twice.
    #[error("{have} bytes are there, and the piece begins at {offset}: begin again at 0")]
    Gap {
        /// Bytes that are there.
        have: u64,
        /// Where the piece begins.
        offset: u64,
    },
    /// Larger than any program of ours.
    #[error("a program has at most {LARGEST} bytes")]
    TooLarge,
    /// Damaged, or not what was announced.
    #[error("what came has SHA-256 {0}: send it again")]
    Other(String),
    /// The folder.
    #[error("the folder of programs: {0}")]
    Io(#[from] io::Error),
}

/// The folder of a pod's programs.
#[derive(Clone, Debug)]
pub struct Programs {
    folder: PathBuf,
}

impl Programs {
    /// The folder is [`super::paths::BIN`] of the pod.
    pub fn new(folder: PathBuf) -> Self {
        Self { folder }
    }

    /// Keep a piece of the program with that SHA-256. The first, at 0, begins anew.
    ///
    /// # Errors
    /// See [`ProgramError`].
    pub fn keep(&self, sha256: &str, offset: u64, piece: &[u8]) -> Result<(), ProgramError> {
        let unfinished = self.unfinished(sha256)?;
        let mut options = OpenOptions::new();
        options.create(true);
        let mut file = if offset == 0 {
            // Only one comes at a time: what is left of others that did not get here goes.
            self.clear(|name| name.starts_with('.'))?;
            options.write(true).truncate(true).open(&unfinished)?
        } else {
            options.append(true).open(&unfinished)?
        };
        let have = file.metadata()?.len();
        if have != offset {
            return Err(ProgramError::Gap { have, offset });
        }
        if offset + piece.len() as u64 > LARGEST {
            return Err(ProgramError::TooLarge);
        }
        Ok(file.write_all(piece)?)
    }

    /// All pieces are there: make it a program that can be run, and say where. Once more is no harm.
    ///
    /// # Errors
    /// See [`ProgramError`].
    pub fn complete(&self, sha256: &str) -> Result<PathBuf, ProgramError> {
        let unfinished = self.unfinished(sha256)?;
        let program = self.folder.join(format!("{PREFIX}{sha256}"));
        let whole = if program.exists() {
            &program
        } else {
            &unfinished
        };
        let found = sha256_of(whole)?;
        if found != sha256 {
            fs::remove_file(whole)?;
            return Err(ProgramError::Other(found));
        }
        if whole == &unfinished {
            let file = File::open(&unfinished)?;
            file.set_permissions(Permissions::from_mode(0o555))?;
            file.sync_all()?;
            fs::rename(&unfinished, &program)?;
        }
        // The one that runs stays, for the way back.
        let running = std::env::current_exe()?;
        let kept = [running.file_name(), program.file_name()];
        self.clear(|name| name.starts_with(PREFIX) && !kept.contains(&Some(name.as_ref())))?;
        Ok(program)
    }

    fn unfinished(&self, sha256: &str) -> Result<PathBuf, ProgramError> {
        let is_digit = |c: char| matches!(c, '0'..='9' | 'a'..='f');
        if sha256.len() == 64 && sha256.chars().all(is_digit) {
            Ok(self.folder.join(format!(".{PREFIX}{sha256}")))
        } else {
            Err(ProgramError::NoHash(sha256.to_owned()))
        }
    }

    fn clear(&self, goes: impl Fn(&str) -> bool) -> io::Result<()> {
        for entry in fs::read_dir(&self.folder)? {
            let entry = entry?;
            if entry.file_name().to_str().is_some_and(&goes) {
                fs::remove_file(entry.path())?;
            }
        }
        Ok(())
    }
}

/// SHA-256, in hexadecimal, of the program whose path [`Programs::complete`] gave.
pub fn sha256_in(path: &str) -> Option<&str> {
    Path::new(path).file_name()?.to_str()?.strip_prefix(PREFIX)
}

/// SHA-256 of a file, in hexadecimal.
///
/// # Errors
/// When it cannot be read.
pub fn sha256_of(path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    let mut hasher = Sha256::new();
    let mut piece = vec![0; 64 << 10];
    loop {
        let read = file.read(&mut piece)?;
        if read == 0 {
            break;
        }
        hasher.update(&piece[..read]);
    }
    Ok(hex(&hasher.finalize()))
}

/// The program that runs here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Own {
    /// Where it can be read.
    pub path: PathBuf,
    /// What it is.
    pub program: Program,
}

impl Own {
    /// It reads the whole program once.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn find() -> io::Result<Self> {
        // Whatever became of its file since.
        Self::at(Path::new("/proc/self/exe"))
    }

    /// The program in that file, for processors like this one.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn at(path: &Path) -> io::Result<Self> {
        Ok(Self {
            path: path.to_owned(),
            program: Program {
                sha256: sha256_of(path)?,
                architecture: std::env::consts::ARCH.to_owned(),
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(bytes: &[u8]) -> String {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), bytes).unwrap();
        sha256_of(file.path()).unwrap()
    }

    #[test]
    fn pieces_become_a_program_and_others_go() {
        let folder = tempfile::tempdir().unwrap();
        let programs = Programs::new(folder.path().to_owned());
        fs::write(folder.path().join("mainstay"), "own").unwrap();
        let (old, new) = (hash(b"old"), hash(b"new one"));
        programs.keep(&old, 0, b"old").unwrap();
        programs.complete(&old).unwrap();
        programs.keep(&new, 0, b"what was interrupted").unwrap();
        programs.keep(&new, 0, b"new").unwrap();
        let gap = programs.keep(&new, 4, b"one").unwrap_err();
        assert!(matches!(gap, ProgramError::Gap { have: 3, offset: 4 }));
        programs.keep(&new, 3, b" one").unwrap();
        let path = programs.complete(&new).unwrap();
        assert_eq!(programs.complete(&new).unwrap(), path, "again");
        assert_eq!(sha256_in(path.to_str().unwrap()), Some(new.as_str()));
        assert_eq!(fs::read(&path).unwrap(), b"new one");
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o555);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
    }

    #[test]
    fn what_is_not_what_was_announced_is_not_kept() {
        let folder = tempfile::tempdir().unwrap();
        let programs = Programs::new(folder.path().to_owned());
        let announced = hash(b"whole");
        programs.keep(&announced, 0, b"hal").unwrap();
        let error = programs.complete(&announced).unwrap_err();
        assert!(matches!(error, ProgramError::Other(_)), "{error}");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
        for name in ["", "../../etc/passwd", &"g".repeat(64)] {
            let error = programs.keep(name, 0, b"").unwrap_err();
            assert!(matches!(error, ProgramError::NoHash(_)), "{error}");
        }
    }
}
