//! A data pod without a container: `init` and its children as processes in a folder. Of any engine; used by the tests
//! of each.

use std::fs;
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use mainstay_shared::agent::api::Status;
use mainstay_shared::agent::client::{AgentClient, ClientError};
use mainstay_shared::agent::election::record::Record;
use mainstay_shared::agent::init::processes::kill_all;
use mainstay_shared::agent::paths;
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Gid, Pid, Uid};

/// Longest wait for anything.
pub const LONG: Duration = Duration::from_mins(1);

/// A data pod.
pub struct Pod {
    pub name: String,
    pub address: String,
    pub root: PathBuf,
    pub init: Option<Child>,
    /// User and group that the engine runs as; none: as the test does.
    pub owner: Option<(Uid, Gid)>,
    /// A word in the command line of the engine's first process.
    pub engine: &'static str,
}

impl Pod {
    pub fn path(&self, absolute: &str) -> PathBuf {
        paths::under(&self.root, absolute)
    }

    /// Start its processes: `init` of this program, which finds others in `path`.
    pub fn spawn(&mut self, program: &str, path: &str, kubeconfig: &serde_json::Value, uid: &str) {
        let file = self.root.join("kubeconfig");
        fs::write(&file, kubeconfig.to_string()).unwrap();
        let log = fs::File::options()
            .create(true)
            .append(true)
            .open(self.root.join("log"))
            .unwrap();
        let mut command = Command::new(program);
        command
            .arg("init")
            .env_clear()
            .env("PATH", path)
            .env(paths::ROOT, &self.root)
            .env("KUBECONFIG", &file)
            .env("MAINSTAY_LISTEN", &self.address)
            .env("MAINSTAY_WATCHDOG_SECONDS", "4")
            .env("POD_NAME", &self.name)
            .env("POD_UID", uid)
            .env("POD_IP", &self.address)
            .env("NODE_NAME", format!("node-of-{}", self.name))
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log);
        if let Some((uid, gid)) = self.owner {
            command.uid(uid.as_raw()).gid(gid.as_raw());
        }
        self.init = Some(command.spawn().unwrap());
    }

    /// Poll its agent's status until it is as wanted.
    pub async fn until(
        &self,
        mut agent: AgentClient,
        what: &str,
        wanted: impl Fn(&Status) -> bool,
    ) -> Status {
        let begun = Instant::now();
        let mut last = None;
        while begun.elapsed() < LONG {
            let after = last
                .as_ref()
                .and_then(|r: &Result<Status, ClientError>| Some(r.as_ref().ok()?.sequence));
            let answer = agent.status(after, Duration::from_millis(500)).await;
            match answer {
                Ok(status) if wanted(&status) => return status,
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
                Ok(_) => {}
            }
            last = Some(answer);
        }
        panic!("{}: not {what}: {last:#?}\n{}", self.name, self.log());
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.root.join("log")).unwrap_or_default()
    }

    pub fn give(&self) {
        let Some((uid, gid)) = self.owner else { return };
        let mut folders = vec![self.root.clone()];
        while let Some(path) = folders.pop() {
            chown(&path, Some(uid.as_raw()), Some(gid.as_raw())).unwrap();
            if path.is_dir() && path.file_name() != Some("data".as_ref()) {
                folders.extend(fs::read_dir(&path).unwrap().map(|e| e.unwrap().path()));
            } else if path.is_dir() {
                chown(&path, Some(uid.as_raw()), Some(gid.as_raw())).unwrap();
            }
        }
    }

    /// A process of the engine, by a word of its title.
    #[allow(dead_code, reason = "not every engine has several")]
    pub fn engine_child(&self, text: &str) -> Option<i32> {
        let engine = self.child(self.engine)?;
        children(engine).into_iter().find(|pid| {
            let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            String::from_utf8_lossy(&line).contains(text)
        })
    }

    pub fn init(&self) -> i32 {
        self.init.as_ref().unwrap().id().cast_signed()
    }

    /// Child processes of PID 1 with this text in their command line.
    pub fn child(&self, text: &str) -> Option<i32> {
        children(self.init()).into_iter().find(|pid| {
            let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            String::from_utf8_lossy(&line).contains(text)
        })
    }

    pub fn agent_pid(&self) -> i32 {
        self.child("\0agent").expect("an agent")
    }

    pub fn engine_pid(&self) -> i32 {
        self.child(self.engine).expect("an engine")
    }

    /// As the kubelet does; returns whether it ended by itself in time.
    pub fn terminate(&mut self) -> bool {
        let Some(mut init) = self.init.take() else {
            return true;
        };
        kill(Pid::from_raw(init.id().cast_signed()), Signal::SIGTERM).unwrap();
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_secs(30) {
            if init.try_wait().unwrap().is_some() {
                return true;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        self.init = Some(init);
        self.cut();
        false
    }

    /// As when the node loses power.
    pub fn cut(&mut self) {
        let Some(mut init) = self.init.take() else {
            return;
        };
        let pid = init.id().cast_signed();
        kill(Pid::from_raw(pid), Signal::SIGSTOP).unwrap();
        while kill_all(pid, &[]) > 0 {
            std::thread::sleep(Duration::from_millis(5));
        }
        init.kill().unwrap();
        init.wait().unwrap();
    }
}

impl Drop for Pod {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("log of {}:\n{}", self.name, self.log());
        }
        self.cut();
    }
}

fn children(parent: i32) -> Vec<i32> {
    let tasks = fs::read_dir(format!("/proc/{parent}/task")).unwrap();
    tasks
        .flatten()
        .flat_map(|t| {
            let text = fs::read_to_string(t.path().join("children")).unwrap_or_default();
            text.split_whitespace()
                .map(|p| p.parse().unwrap())
                .collect::<Vec<i32>>()
        })
        .collect()
}

/// As the kubelet does: the new file is another one.
pub fn replace(path: &Path, content: &str) {
    let new = path.with_file_name(format!(
        "..new-{}",
        path.file_name().unwrap().to_string_lossy()
    ));
    fs::write(&new, content).unwrap();
    fs::rename(&new, path).unwrap();
}

/// Private memory of a process that is not backed by a file, in KiB.
#[allow(dead_code, reason = "not every engine's tests look at it")]
pub fn anonymous_kib(pid: i32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status
        .lines()
        .find_map(|l| l.strip_prefix("RssAnon:"))
        .unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// Which data is the set's, by its record. It is written with a primary's next renewal, not before it serves.
pub async fn identifier(record: impl AsyncFn() -> Record) -> String {
    let mut found = None;
    crate::wait_for("the record of its data", async || {
        found = record().await.system_identifier;
        found.is_some()
    })
    .await;
    found.unwrap()
}
