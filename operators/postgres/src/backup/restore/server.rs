//! A PostgreSQL of its own, for recovery and for drills: nobody outside this container reaches it. I/O.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};
use tokio::time::{sleep, timeout};
use tokio_postgres::{Client, Config, NoTls};

use super::super::state::lock;
use super::words::Words;
use crate::agent::data::{FLOORS, absent, control};
use crate::agent::place::Place;
use crate::agent::render::{in_command, quoted};
use crate::backup::settings::{RUN, Target};
use crate::settings::PORT;

/// How often it is asked how far it is.
const LOOK: Duration = Duration::from_millis(200);
/// Longest time for a connection.
const PATIENCE: Duration = Duration::from_secs(5);
/// Against settings that come with the data, of databases and roles, and would end or hinder what is asked here.
pub const UNHINDERED: &str = "-c statement_timeout=0 -c lock_timeout=0 -c idle_in_transaction_session_timeout=0 \
                              -c default_transaction_read_only=off";
/// Longest time for an orderly stop: a checkpoint.
const STOP: Duration = Duration::from_mins(30);

/// Where it runs, and what for.
pub struct Private<'a> {
    /// Where this runs.
    pub place: &'a Place,
    /// The data directory.
    pub data: &'a Path,
    /// Folder for its configuration.
    pub scratch: &'a Path,
    /// What it is for.
    pub purpose: Purpose<'a>,
}

/// What a server is for.
pub enum Purpose<'a> {
    /// To recover the data.
    Recovery(Recovery<'a>),
    /// To replay the log that is stored as a replica does, which never ends by itself.
    Standby {
        /// Socket on which the log is asked for.
        log_socket: &'a Path,
        /// Timeline to replay along.
        timeline: u32,
    },
    /// To see what is in data that was stopped in order, also as this role.
    Look(&'a str),
}

/// How it recovers.
pub struct Recovery<'a> {
    /// Socket on which the log is asked for.
    pub log_socket: &'a Path,
    /// Timeline to recover along.
    pub timeline: u32,
    /// How far.
    pub target: &'a Target,
}

/// A running server.
pub struct Server {
    child: Child,
    sockets: PathBuf,
    /// What it says.
    pub words: Arc<Mutex<Words>>,
}

/// What a server that recovers is at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reached {
    /// It has been promoted.
    pub promoted: bool,
    /// Place up to which it replayed.
    pub lsn: String,
    /// When the last transaction was committed that it replayed, in microseconds since 1970.
    pub last_commit: Option<i64>,
}

fn settings(of: &Private<'_>, control: &BTreeMap<String, String>) -> io::Result<String> {
    let sockets = of.place.mount(RUN);
    let in_scratch = |name: &str| of.scratch.join(name).display().to_string();
    let mut all: Vec<(&str, String)> = vec![
        ("archive_mode", "off".to_owned()),
        ("autovacuum", "off".to_owned()),
        ("hba_file", in_scratch("pg_hba.conf")),
        ("hot_standby", "on".to_owned()),
        ("huge_pages", "off".to_owned()),
        ("ident_file", in_scratch("pg_ident.conf")),
        ("lc_messages", "C".to_owned()),
        ("listen_addresses", String::new()),
        ("log_destination", "stderr".to_owned()),
        ("log_line_prefix", String::new()),
        ("log_timezone", "UTC".to_owned()),
        ("logging_collector", "off".to_owned()),
        // Nothing of what was restored may reach out to others.
        ("max_logical_replication_workers", "0".to_owned()),
        ("max_wal_size", "4GB".to_owned()),
        ("port", PORT.to_string()),
        ("primary_conninfo", String::new()),
        ("restart_after_crash", "off".to_owned()),
        ("ssl", "off".to_owned()),
        // A restore syncs the volume as a whole at the end, before the data counts; a drill's is thrown away.
        ("fsync", "off".to_owned()),
        ("timezone", "UTC".to_owned()),
        ("unix_socket_directories", sockets.display().to_string()),
        ("unix_socket_permissions", "0700".to_owned()),
        ("wal_level", "replica".to_owned()),
    ];
    for (key, name) in FLOORS {
        if let Some(value) = control.get(key) {
            all.push((name, value.clone()));
        }
    }
    match &of.purpose {
        Purpose::Recovery(recovery) => {
            replays(recovery.log_socket, recovery.timeline, &mut all)?;
            recovers(recovery, &mut all);
        }
        Purpose::Standby {
            log_socket,
            timeline,
        } => replays(log_socket, *timeline, &mut all)?,
        Purpose::Look(_) => {}
    }
    let mut text = String::new();
    for (name, value) in all {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{name} = '{}'", quoted(&value));
    }
    Ok(text)
}

fn replays(socket: &Path, timeline: u32, all: &mut Vec<(&str, String)>) -> io::Result<()> {
    let program = std::env::current_exe()?;
    let fetch = format!(
        "{} fetch --socket {} %f %p",
        in_command(&program),
        in_command(socket)
    );
    all.extend([
        ("recovery_target_timeline", timeline.to_string()),
        ("restore_command", fetch),
    ]);
    Ok(())
}

fn recovers(recovery: &Recovery<'_>, all: &mut Vec<(&str, String)>) {
    all.extend([
        ("recovery_target_action", "pause".to_owned()),
        ("recovery_target_inclusive", "on".to_owned()),
    ]);
    match recovery.target {
        Target::Latest => {}
        Target::Immediate => all.push(("recovery_target", "immediate".to_owned())),
        // With digits for the zone: its abbreviations are not known yet when the configuration is read.
        Target::Time(time) => {
            let text = time.strftime("%Y-%m-%d %H:%M:%S%.6f+00").to_string();
            all.push(("recovery_target_time", text));
        }
        Target::Lsn(lsn) => all.push(("recovery_target_lsn", lsn.clone())),
        Target::Xid(xid) => all.push(("recovery_target_xid", xid.to_string())),
        Target::Name(name) => all.push(("recovery_target_name", name.clone())),
    }
}

/// A name in the files that map the operating system's users to roles.
fn in_map(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

impl Server {
    /// Starts it on data of which it takes no further notice than what it is for.
    ///
    /// # Errors
    /// A sentence.
    pub async fn start(of: &Private<'_>) -> Result<Self, String> {
        let control = control(of.place, of.data).await;
        let control = control.map_err(|e| e.to_string())?;
        let failed = |e: io::Error| format!("PostgreSQL's configuration: {e}");
        let text = settings(of, &control).map_err(failed)?;
        let write = |name: &str, text: &str| std::fs::write(of.scratch.join(name), text);
        write("postgresql.conf", &text).map_err(failed)?;
        write("pg_hba.conf", "local all all peer map=restore\n").map_err(failed)?;
        let role = match of.purpose {
            Purpose::Recovery(_) | Purpose::Standby { .. } => None,
            Purpose::Look(role) => Some(role),
        };
        let user = in_map(&of.place.user);
        let line = |role| format!("restore {user} {}\n", in_map(role));
        let map: String = ["postgres"].into_iter().chain(role).map(line).collect();
        write("pg_ident.conf", &map).map_err(failed)?;
        // A backup of a replica has the file that makes one; and settings of its own would win over ours.
        for name in ["standby.signal", "postgresql.auto.conf"] {
            absent(std::fs::remove_file(of.data.join(name))).map_err(failed)?;
        }
        write_empty(&of.data.join("postgresql.auto.conf")).map_err(failed)?;
        let signal = match of.purpose {
            Purpose::Recovery(_) => Some("recovery.signal"),
            Purpose::Standby { .. } => Some("standby.signal"),
            Purpose::Look(_) => None,
        };
        if let Some(signal) = signal {
            write_empty(&of.data.join(signal)).map_err(failed)?;
        }
        let config = of.scratch.join("postgresql.conf");
        let mut child = Command::new(of.place.program("postgres"))
            .arg("-D")
            .arg(of.data)
            .arg("-c")
            .arg(format!("config_file={}", config.display()))
            .env("LC_ALL", "C")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(|e| format!("PostgreSQL cannot be started: {e}"))?;
        let words = Arc::new(Mutex::new(Words::default()));
        if let Some(stderr) = child.stderr.take() {
            let words = Arc::clone(&words);
            tokio::spawn(async move {
                let mut lines = BufReader::new(stderr).lines();
                while let Ok(Some(line)) = lines.next_line().await {
                    tracing::info!(line, "postgres");
                    lock(&words).take(&line);
                }
            });
        }
        Ok(Self {
            child,
            sockets: of.place.mount(RUN),
            words,
        })
    }

    /// A connection, once it takes one; none while it does not.
    async fn connect(&self) -> Option<Client> {
        self.connected("postgres", "postgres", UNHINDERED)
            .await
            .ok()
    }

    /// A connection to a database as a role, with `-c name=value` options.
    ///
    /// # Errors
    /// Why there is none.
    pub async fn connected(
        &self,
        database: &str,
        role: &str,
        options: &str,
    ) -> Result<Client, String> {
        let mut config = Config::new();
        config
            .host_path(&self.sockets)
            .port(PORT)
            .user(role)
            .dbname(database)
            .options(options)
            .application_name("mainstay restore")
            .connect_timeout(PATIENCE);
        let late = |_| "PostgreSQL takes no connection".to_owned();
        let made = timeout(PATIENCE, config.connect(NoTls)).await;
        let (client, connection) = made.map_err(late)?.map_err(|e| sentence(&e))?;
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "own connection to PostgreSQL ended");
            }
        });
        Ok(client)
    }

    /// Waits until it takes connections.
    ///
    /// # Errors
    /// It ended; its words say why.
    pub async fn answers(&mut self) -> Result<(), String> {
        while self.connect().await.is_none() {
            if self.ended() {
                return Err(self.failure().await);
            }
            sleep(LOOK).await;
        }
        Ok(())
    }

    /// Waits until it has reached its target and waits there, or has been promoted at the end of the log.
    ///
    /// # Errors
    /// It ended; its words say why.
    pub async fn reached(
        &mut self,
        progress: &mut (dyn FnMut(&str) + Send),
    ) -> Result<Reached, String> {
        let query = "select pg_is_in_recovery(),
            case when pg_is_in_recovery() then pg_get_wal_replay_pause_state() = 'paused' else false end,
            coalesce(case when pg_is_in_recovery() then pg_last_wal_replay_lsn() else pg_current_wal_lsn() end, '0/0')::text,
            (extract(epoch from pg_last_xact_replay_timestamp()) * 1000000)::int8";
        let mut client: Option<Client> = None;
        loop {
            if self.ended() {
                return Err(self.failure().await);
            }
            if client.as_ref().is_none_or(Client::is_closed) {
                client = self.connect().await;
            }
            if let Some(open) = &client
                && let Ok(row) = open.query_one(query, &[]).await
            {
                let (recovering, paused): (bool, bool) = (row.get(0), row.get(1));
                let reached = Reached {
                    promoted: !recovering,
                    lsn: row.get(2),
                    last_commit: row.get(3),
                };
                progress(&reached.lsn);
                if !recovering || paused {
                    return Ok(reached);
                }
            }
            sleep(LOOK).await;
        }
    }

    /// Waits until it has ended: what it said last.
    pub async fn failed(&mut self) -> String {
        while !self.ended() {
            sleep(LOOK).await;
        }
        self.failure().await
    }

    /// Place up to which it has replayed.
    ///
    /// # Errors
    /// It does not say.
    pub async fn replayed(&self) -> Result<String, String> {
        let client = self
            .connect()
            .await
            .ok_or("PostgreSQL takes no connection")?;
        let query = "select coalesce(pg_last_wal_replay_lsn(), '0/0')::text";
        let row = client.query_one(query, &[]).await;
        row.map(|row| row.get(0)).map_err(|e| sentence(&e))
    }

    /// Ends recovery where it waits.
    ///
    /// # Errors
    /// It ended; its words say why.
    pub async fn promote(&mut self) -> Result<(), String> {
        let mut client: Option<Client> = None;
        let mut told = false;
        loop {
            if self.ended() {
                return Err(self.failure().await);
            }
            if client.as_ref().is_none_or(Client::is_closed) {
                client = self.connect().await;
            }
            if let Some(open) = &client {
                if !told {
                    told = open
                        .execute("select pg_wal_replay_resume()", &[])
                        .await
                        .is_ok();
                }
                if let Ok(row) = open.query_one("select pg_is_in_recovery()", &[]).await
                    && !row.get::<_, bool>(0)
                {
                    return Ok(());
                }
            }
            sleep(LOOK).await;
        }
    }

    /// The timeline that it writes now.
    ///
    /// # Errors
    /// It does not say.
    pub async fn timeline(&mut self) -> Result<u32, String> {
        let client = self
            .connect()
            .await
            .ok_or("PostgreSQL takes no connection")?;
        let failed = |e: tokio_postgres::Error| format!("PostgreSQL: {e}");
        client.batch_execute("checkpoint").await.map_err(failed)?;
        let query =
            "select ('x' || left(pg_walfile_name(pg_current_wal_insert_lsn()), 8))::bit(32)::int8";
        let row = client.query_one(query, &[]).await.map_err(failed)?;
        u32::try_from(row.get::<_, i64>(0)).map_err(|e| e.to_string())
    }

    /// Stops it in order.
    ///
    /// # Errors
    /// It did not stop in order.
    pub async fn stop(mut self) -> Result<(), String> {
        if let Some(pid) = self.child.id().and_then(|pid| i32::try_from(pid).ok()) {
            let pid = nix::unistd::Pid::from_raw(pid);
            nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGINT)
                .map_err(|e| format!("PostgreSQL cannot be stopped: {e}"))?;
        }
        match timeout(STOP, self.child.wait()).await {
            Ok(Ok(status)) if status.success() => Ok(()),
            Ok(Ok(_)) => Err(self.failure().await),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err("PostgreSQL does not stop".to_owned()),
        }
    }

    fn ended(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(Some(_)))
    }

    async fn failure(&self) -> String {
        // Its last words may still be on their way.
        sleep(LOOK).await;
        lock(&self.words).failure()
    }
}

/// What the server said, else what the driver does.
pub fn sentence(error: &tokio_postgres::Error) -> String {
    error
        .as_db_error()
        .map_or_else(|| error.to_string(), |said| said.message().to_owned())
}

fn write_empty(path: &Path) -> io::Result<()> {
    std::fs::File::create(path).map(drop)
}
