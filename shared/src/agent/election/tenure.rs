//! The term of this process, kept for the next one in the same container. I/O.

use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::election::charter::Charter;
use crate::election::group::Group;
use crate::election::machine::Tenure;
use crate::election::member::{Holder, Moment};

const FILE: &str = "tenure.json";
/// Type of a file system in memory, as `statfs` says it.
const TMPFS: u64 = 0x0102_1994;

/// A term, and in which container it was.
#[derive(Serialize, Deserialize)]
struct Kept {
    container: String,
    holder: Holder,
    charter: Charter,
    until: Moment,
    mark: u64,
    applied: Option<Group>,
    opened: Option<u64>,
    #[serde(default)]
    leaving: bool,
}

/// Where it is kept. A write waits for no disk: a folder that is not in memory keeps nothing.
pub(super) struct Keeping {
    file: Option<PathBuf>,
    container: Option<String>,
    last: Option<Tenure>,
}

impl Keeping {
    pub(super) fn new(folder: &Path) -> Self {
        let memory = rustix::fs::statfs(folder).is_ok_and(|s| s.f_type.cast_unsigned() == TMPFS);
        if !memory {
            tracing::warn!(
                folder = %folder.display(),
                "the run folder is not in memory: a new agent process does not go on with the term of the one before"
            );
        }
        Self {
            file: memory.then(|| folder.join(FILE)),
            container: container(),
            last: None,
        }
    }

    /// The term of the process before, if that was in this container.
    pub(super) fn take(&self) -> Option<Tenure> {
        let text = fs::read(self.file.as_ref()?).ok()?;
        let kept: Kept = serde_json::from_slice(&text).ok()?;
        (Some(&kept.container) == self.container.as_ref()).then_some(Tenure {
            holder: kept.holder,
            charter: kept.charter,
            until: kept.until,
            mark: kept.mark,
            applied: kept.applied,
            opened: kept.opened,
            leaving: kept.leaving,
        })
    }

    /// Keep it, or forget it.
    pub(super) fn keep(&mut self, tenure: Option<Tenure>) {
        if tenure == self.last {
            return;
        }
        if let (Some(file), Some(container)) = (&self.file, &self.container)
            && let Err(error) = store(file, container, tenure.clone())
        {
            tracing::warn!(%error, "the term could not be kept in memory");
            // An outdated one would only be shorter; but none is simpler to understand.
            let _ = fs::remove_file(file);
        }
        self.last = tenure;
    }
}

fn store(file: &Path, container: &str, tenure: Option<Tenure>) -> std::io::Result<()> {
    let Some(tenure) = tenure else {
        return match fs::remove_file(file) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(e),
            _ => Ok(()),
        };
    };
    let kept = Kept {
        container: container.to_owned(),
        holder: tenure.holder,
        charter: tenure.charter,
        until: tenure.until,
        mark: tenure.mark,
        applied: tenure.applied,
        opened: tenure.opened,
        leaving: tenure.leaving,
    };
    let new = file.with_extension("new");
    fs::write(&new, serde_json::to_vec(&kept)?)?;
    fs::rename(new, file)
}

/// The container this process is in: boot of the machine and start of PID 1. An `emptyDir` outlives
/// the container; its processes do not.
fn container() -> Option<String> {
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    let stat = fs::read_to_string("/proc/1/stat").ok()?;
    // The 22nd field, 20th after the name in parentheses: ticks since boot.
    let began = stat.rsplit_once(')')?.1.split_whitespace().nth(19)?;
    Some(format!("{} {began}", boot.trim()))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::election::member::{Ballot, Epoch, Member};

    fn tenure() -> Tenure {
        let holder = Holder {
            member: Member::new("db-1", "g"),
            pod: "p".into(),
            nonce: "n".into(),
        };
        Tenure {
            charter: Charter {
                ballot: Ballot {
                    epoch: Epoch(3),
                    holder: holder.clone(),
                },
                version: 2,
                groups: vec![Group::alone(holder.member.clone())],
                members: [holder.member.clone()].into(),
                timeline: 4,
                fork: 5,
                successor: None,
                identifier: None,
            },
            holder,
            until: Duration::new(77, 123_456_789),
            mark: 9,
            applied: None,
            opened: Some(5),
            leaving: true,
        }
    }

    #[test]
    fn the_next_process_of_the_container_finds_the_term_as_it_was() {
        let folder = Path::new("/dev/shm").join(format!("mainstay-tenure-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let mut keeping = Keeping::new(&folder);
        keeping.keep(Some(tenure()));
        assert_eq!(Keeping::new(&folder).take(), Some(tenure()));
        let mut elsewhere = Keeping::new(&folder);
        elsewhere.container = Some("another".into());
        assert_eq!(elsewhere.take(), None, "the engine has not outlived it");
        keeping.keep(None);
        assert_eq!(Keeping::new(&folder).take(), None);
        fs::remove_dir_all(&folder).unwrap();
    }
}
