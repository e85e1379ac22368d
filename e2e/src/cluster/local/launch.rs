//! Starting a process of a cluster.
//!
//! What is started is first a helper of ours. It joins the cluster's cgroup, writes its record,
//! enters the namespaces and then becomes the program: so at no moment is there a process that
//! `down` would not find. If the cluster is gone meanwhile, joining fails and the helper ends.

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use nix::sched::{CloneFlags, setns, unshare};
use rustix::mount::MountFlags;
use tokio::process::{Child, Command};

use super::layout::Layout;
use super::records::Record;
use super::{LocalError, at};
use crate::process;

/// How long to wait before a process that ended by itself is started again.
const RESTART: Duration = Duration::from_secs(1);

/// What the helper does; the arguments of its hidden command.
#[derive(Debug, Clone, Default, PartialEq, Eq, clap::Args)]
pub struct Launch {
    /// The cgroup to join.
    #[arg(long)]
    cgroup: String,
    /// The file for the record; none for a short command.
    #[arg(long)]
    record: Option<PathBuf>,
    /// A process whose mount namespace to enter.
    #[arg(long)]
    mounts_of: Option<i32>,
    /// A network namespace to enter; looked up in the mount namespace entered.
    #[arg(long)]
    net: Option<PathBuf>,
    /// A folder that the program sees empty and shares with nobody, made if it is missing.
    #[arg(long)]
    empty: Option<PathBuf>,
    /// Start the program again when it ends, instead of becoming it.
    #[arg(long)]
    restart: bool,
    /// The program and its arguments.
    #[arg(last = true)]
    program: Vec<OsString>,
}

impl Launch {
    /// A program in the cluster's cgroup, in no other namespace.
    pub fn new(layout: &Layout, cgroup: &str, program: impl AsRef<Path>) -> Self {
        Self {
            cgroup: format!("{}/{cgroup}", layout.cgroup()),
            program: vec![program.as_ref().into()],
            ..Self::default()
        }
    }

    /// Enters the cluster's mount namespace, and the network namespace `outer` or of a node.
    #[must_use]
    pub fn inside(mut self, layout: &Layout, anchor: Record, net: &str) -> Self {
        self.mounts_of = Some(anchor.pid);
        self.net = Some(layout.netns(net));
        self
    }

    /// Gives the program an empty folder of its own in place of the machine's. What is mounted where
    /// the cluster shares mounts is seen on both sides nevertheless.
    #[must_use]
    pub fn empty(mut self, folder: impl Into<PathBuf>) -> Self {
        self.empty = Some(folder.into());
        self
    }

    /// Starts again whenever the program ends.
    #[must_use]
    pub fn restarted(mut self) -> Self {
        self.restart = true;
        self
    }

    /// Adds an argument.
    #[must_use]
    pub fn arg(mut self, arg: impl Into<OsString>) -> Self {
        self.program.push(arg.into());
        self
    }

    /// Adds arguments.
    #[must_use]
    pub fn args<A: Into<OsString>>(mut self, args: impl IntoIterator<Item = A>) -> Self {
        self.program.extend(args.into_iter().map(Into::into));
        self
    }

    /// The command that does this when it is run to its end, as any other.
    pub fn command(&self, helper: &Path) -> Command {
        let mut command = process::command(helper);
        command.env(super::LAUNCHED, "1");
        command.args(["cluster-helper", "launch", "--cgroup", &self.cgroup]);
        if let Some(path) = &self.record {
            command.arg("--record").arg(path);
        }
        if let Some(pid) = self.mounts_of {
            command.arg("--mounts-of").arg(pid.to_string());
        }
        if let Some(path) = &self.net {
            command.arg("--net").arg(path);
        }
        if let Some(path) = &self.empty {
            command.arg("--empty").arg(path);
        }
        if self.restart {
            command.arg("--restart");
        }
        command.arg("--").args(&self.program);
        command
    }

    /// Starts the program in the background, recorded and with its output in the log.
    pub fn start(
        mut self,
        layout: &Layout,
        helper: &Path,
        name: &str,
    ) -> Result<Daemon, LocalError> {
        self.record = Some(layout.record(name));
        let log = layout.log(name);
        let output = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&log)
            .map_err(at(&log))?;
        let both = output.try_clone().map_err(at(&log))?;
        let child = self
            .command(helper)
            .kill_on_drop(false)
            .stdout(Stdio::from(output))
            .stderr(Stdio::from(both))
            .spawn()
            .map_err(at(helper))?;
        Ok(Daemon {
            name: name.to_owned(),
            log,
            child,
        })
    }
}

/// A process that was started in the background. Dropping this leaves it running.
#[derive(Debug)]
pub struct Daemon {
    name: String,
    log: PathBuf,
    child: Child,
}

impl Daemon {
    /// Ends the process and waits until it is gone.
    pub async fn end(&mut self, signal: rustix::process::Signal) -> Result<(), LocalError> {
        if let Some(pid) = self
            .child
            .id()
            .and_then(|id| i32::try_from(id).ok())
            .and_then(rustix::process::Pid::from_raw)
        {
            // It is our child and not yet reaped: the number is its own.
            let _ = rustix::process::kill_process(pid, signal);
        }
        self.child.wait().await.map(drop).map_err(at(&self.log))
    }

    /// # Errors
    /// The process has ended; the error holds the end of its log.
    pub fn check(&mut self) -> Result<(), LocalError> {
        match self.child.try_wait() {
            Ok(None) => Ok(()),
            ended => {
                let text = std::fs::read_to_string(&self.log).unwrap_or_default();
                Err(LocalError::Ended {
                    process: self.name.clone(),
                    how: ended.map_or_else(
                        |error| error.to_string(),
                        |status| status.map_or_else(String::new, |s| s.to_string()),
                    ),
                    log: self.log.clone(),
                    output: process::tail(text.trim(), 1500).to_owned(),
                })
            }
        }
    }
}

/// The helper's side: returns only when something failed, or when a restarted program's supervisor
/// is to end, which it never is.
///
/// Must run before the process has a second thread: entering a mount namespace demands it.
pub fn run(launch: &Launch) -> Result<(), LocalError> {
    // Fails only for the leader of a group, which is as good.
    let _ = rustix::process::setsid();
    super::cgroups::join(&launch.cgroup)?;
    if let Some(path) = &launch.record {
        let own = Record::own().ok_or(LocalError::Record)?;
        own.write(path)?;
    }
    enter(launch.mounts_of, launch.net.as_deref())?;
    if let Some(folder) = &launch.empty {
        cover(folder)?;
    }
    let Some((program, args)) = launch.program.split_first() else {
        return Err(LocalError::Record);
    };
    let mut command = std::process::Command::new(program);
    command
        .args(args)
        .env_remove(super::LAUNCHED)
        .env("PATH", process::search_path());
    if !launch.restart {
        return Err(at(Path::new(program))(command.exec()));
    }
    loop {
        let ended = command.status().map_err(at(Path::new(program)))?;
        eprintln!(
            "{} ended ({ended}); it is started again",
            program.to_string_lossy()
        );
        std::thread::sleep(RESTART);
    }
}

/// Puts an empty file system over a folder, in a mount namespace of this process alone.
fn cover(folder: &Path) -> Result<(), LocalError> {
    std::fs::create_dir_all(folder).map_err(at(folder))?;
    unshare(CloneFlags::CLONE_NEWNS).map_err(|errno| at(folder)(errno.into()))?;
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    rustix::mount::mount("tmpfs", folder, "tmpfs", flags, None)
        .map_err(|errno| at(folder)(errno.into()))
}

/// Enters the mount namespace of a process, then a network namespace found there.
pub fn enter(mounts_of: Option<i32>, net: Option<&Path>) -> Result<(), LocalError> {
    let go = |path: &Path, kind| {
        let file = File::open(path).map_err(at(path))?;
        setns(file, kind).map_err(|errno| at(path)(errno.into()))
    };
    if let Some(pid) = mounts_of {
        go(
            Path::new(&format!("/proc/{pid}/ns/mnt")),
            CloneFlags::CLONE_NEWNS,
        )?;
    }
    if let Some(path) = net {
        go(path, CloneFlags::CLONE_NEWNET)?;
    }
    Ok(())
}
