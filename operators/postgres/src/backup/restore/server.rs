//! A PostgreSQL of its own that recovers the data: nobody but this process reaches it. I/O.

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
/// Longest time for an orderly stop: a checkpoint.
const STOP: Duration = Duration::from_mins(30);

/// How it recovers.
pub struct Recovery<'a> {
    /// Where this runs.
    pub place: &'a Place,
    /// The data directory.
    pub data: &'a Path,
    /// Folder for its configuration.
    pub scratch: &'a Path,
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

fn settings(recovery: &Recovery<'_>, control: &BTreeMap<String, String>) -> io::Result<String> {
    let program = std::env::current_exe()?;
    let fetch = format!(
        "{} fetch --socket {} %f %p",
        in_command(&program),
        in_command(recovery.log_socket)
    );
    let sockets = recovery.place.mount(RUN);
    let in_scratch = |name: &str| recovery.scratch.join(name).display().to_string();
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
        ("recovery_target_action", "pause".to_owned()),
        ("recovery_target_inclusive", "on".to_owned()),
        ("recovery_target_timeline", recovery.timeline.to_string()),
        ("restart_after_crash", "off".to_owned()),
        ("restore_command", fetch),
        ("ssl", "off".to_owned()),
        // The volume is synced as a whole at the end, before the data counts.
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
    let mut text = String::new();
    for (name, value) in all {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{name} = '{}'", quoted(&value));
    }
    Ok(text)
}

impl Server {
    /// Starts it on data of which it takes no further notice than that it is to be recovered.
    ///
    /// # Errors
    /// A sentence.
    pub async fn start(recovery: &Recovery<'_>) -> Result<Self, String> {
        let control = control(recovery.place, recovery.data).await;
        let control = control.map_err(|e| e.to_string())?;
        let failed = |e: io::Error| format!("PostgreSQL's configuration: {e}");
        let text = settings(recovery, &control).map_err(failed)?;
        let write = |name: &str, text: &str| std::fs::write(recovery.scratch.join(name), text);
        write("postgresql.conf", &text).map_err(failed)?;
        write("pg_hba.conf", "local all postgres peer map=restore\n").map_err(failed)?;
        let ident = format!("restore \"{}\" postgres\n", recovery.place.user);
        write("pg_ident.conf", &ident).map_err(failed)?;
        // A backup of a replica has the file that makes one; and settings of its own would win over ours.
        for name in ["standby.signal", "postgresql.auto.conf"] {
            absent(std::fs::remove_file(recovery.data.join(name))).map_err(failed)?;
        }
        write_empty(&recovery.data.join("postgresql.auto.conf")).map_err(failed)?;
        write_empty(&recovery.data.join("recovery.signal")).map_err(failed)?;
        let config = recovery.scratch.join("postgresql.conf");
        let mut child = Command::new(recovery.place.program("postgres"))
            .arg("-D")
            .arg(recovery.data)
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
            sockets: recovery.place.mount(RUN),
            words,
        })
    }

    /// A connection, once it takes one; none while it does not.
    async fn connect(&self) -> Option<Client> {
        let mut config = Config::new();
        config
            .host_path(&self.sockets)
            .port(PORT)
            .user("postgres")
            .dbname("postgres")
            .application_name("mainstay restore")
            .connect_timeout(PATIENCE);
        let (client, connection) = timeout(PATIENCE, config.connect(NoTls)).await.ok()?.ok()?;
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "own connection to PostgreSQL ended");
            }
        });
        Some(client)
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

fn write_empty(path: &Path) -> io::Result<()> {
    std::fs::File::create(path).map(drop)
}
