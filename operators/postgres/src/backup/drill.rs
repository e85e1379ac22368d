//! A drill: what a restore has brought back is looked at as its users would. I/O; what it is told by
//! [`words`].
//!
//! It runs after [`super::restore`], in the same pod and on the same volume, in a container that has no key and no
//! credentials: statements of users run here. A PostgreSQL that nobody else reaches is started on the data, the
//! user's own statements are asked, and all tables and indexes are gone through; then it is stopped, and the
//! checksums of all pages are read. All checks are made, also after one that fails: who reads the report wants to know
//! whether it is one table or everything. The data is thrown away with the volume.

pub mod words;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use mainstay_backup::drill::DrillReport;
use mainstay_shared::agent::paths;
use mainstay_shared::backups::container::restoring::make;
use mainstay_shared::backups::container::told_to_stop;
use tokio::process::Command;
use tokio::time::timeout;
use tokio_postgres::SimpleQueryMessage;

use super::api::{RestoreReport, RestoreStep};
use super::restore::server::{Private, Purpose, Server, UNHINDERED, sentence};
use super::restore::tool;
use super::settings::{
    DRILL_FILE, DrillCheck, DrillSettings, RESTORE_STATUS, RUN, TERMINATION_MESSAGE,
};
use crate::agent::data::{absent, control};
use crate::agent::place::Place;
use crate::settings::PORT;
use words::{Findings, holds, last_words};

/// Built-in check: the checksums of all pages.
pub const CHECKSUMS: &str = "pg_checksums";
/// Built-in check: the structure of all tables and B-trees.
pub const AMCHECK: &str = "pg_amcheck";
/// Built-in check: PostgreSQL starts on the data.
pub const START: &str = "PostgreSQL starts";
/// Built-in check, told of only where it does not hold: what was restored can be stopped again.
pub const STOP: &str = "PostgreSQL stops in order";
/// What `pg_controldata` says of data without checksums.
const NO_CHECKSUMS: &str = "0";
/// Longest wait beyond a statement's own limit, which PostgreSQL keeps.
const GRACE: Duration = Duration::from_secs(10);

/// A drill that did not pass, or could not be made.
#[derive(Debug, thiserror::Error)]
pub enum DrillError {
    /// What it is told, or where it runs.
    #[error("{0}")]
    Setting(String),
    /// It was made, and does not pass: its last words say why.
    #[error("{0}")]
    NotPassed(String),
}

fn setting(error: impl std::fmt::Display) -> DrillError {
    DrillError::Setting(error.to_string())
}

/// Makes the drill, and leaves a [`DrillReport`] as last words.
///
/// # Errors
/// It did not pass.
pub async fn run() -> Result<(), DrillError> {
    let place = Place::from_environment().map_err(setting)?;
    let told = told_to_stop().map_err(setting)?;
    let mut report = DrillReport::default();
    let ended = tokio::select! {
        ended = drill(&place, &mut report) => Some(ended),
        () = told => None,
    };
    report.ended = Some(Timestamp::now());
    match ended {
        Some(Ok(findings)) => findings.into_report(&mut report),
        Some(Err(why)) => report.message = why,
        None => "the drill was told to stop".clone_into(&mut report.message),
    }
    let words = last_words(&mut report);
    fs::write(place.mount(TERMINATION_MESSAGE), words).map_err(setting)?;
    tracing::info!(passed = report.passed, report.message, "the drill");
    if report.passed {
        Ok(())
    } else {
        Err(DrillError::NotPassed(report.message))
    }
}

fn read<T: serde::de::DeserializeOwned>(path: &Path) -> Result<T, String> {
    let failed = |e: String| format!("{}: {e}", path.display());
    let text = fs::read_to_string(path).map_err(|e| failed(e.to_string()))?;
    serde_json::from_str(&text).map_err(|e| failed(e.to_string()))
}

async fn drill(place: &Place, report: &mut DrillReport) -> Result<Findings, String> {
    let settings: DrillSettings = read(&place.mount(paths::CONFIG).join(DRILL_FILE))?;
    let restored: RestoreReport = read(&place.mount(RESTORE_STATUS))?;
    let Some(reached) = restored
        .reached
        .filter(|_| restored.step == RestoreStep::Done)
    else {
        return Err(format!("nothing was restored: {}", restored.message));
    };
    report.backup = restored.backup;
    report.key = restored.key;
    report.bytes = restored.bytes;
    report.position = Some(reached.lsn);
    report.history = Some(reached.along.to_string());
    report.last_commit = reached.last_commit;
    report.begun = restored.begun;
    let scratch = Scratch::make(place).map_err(|e| format!("the data volume: {e}"))?;
    let mut findings = Findings::default();
    let server = Private {
        place,
        data: &place.data(),
        scratch: &scratch.0,
        purpose: Purpose::Look(&settings.role),
    };
    let started = async {
        let mut server = Server::start(&server).await?;
        server.answers().await?;
        Ok(server)
    };
    let server = match started.await {
        Ok(server) => server,
        Err(why) => {
            findings.add(START, Err(why));
            return Ok(findings);
        }
    };
    report.answered = Some(Timestamp::now());
    findings.add(START, Ok(()));
    for check in &settings.checks {
        let found = ask(&server, &settings, check).await;
        findings.add(&check.sql, found);
    }
    findings.add(AMCHECK, amcheck(place).await);
    if let Err(why) = server.stop().await {
        findings.add(STOP, Err(why));
        return Ok(findings);
    }
    // They are read while nobody writes. That is no part of a recovery, so not of its time; and what the server
    // has written since, it has read before, and then a wrong checksum is an error.
    if let Some(found) = checksums(place).await? {
        findings.add(CHECKSUMS, found);
    }
    Ok(findings)
}

/// A folder on the data volume for the server's configuration; it goes with this.
struct Scratch(PathBuf);

impl Scratch {
    fn make(place: &Place) -> io::Result<Self> {
        let folder = place.volume().join("pgdata.drill");
        absent(fs::remove_dir_all(&folder))?;
        make(&folder)?;
        Ok(Self(folder))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = absent(fs::remove_dir_all(&self.0)) {
            tracing::debug!(%error, "the server's configuration stays");
        }
    }
}

/// None where the data has no checksums.
async fn checksums(place: &Place) -> Result<Option<Result<(), String>>, String> {
    let data = place.data();
    let state = control(place, &data).await.map_err(|e| e.to_string())?;
    let version = state.get("Data page checksum version");
    if version.is_none_or(|version| version == NO_CHECKSUMS) {
        return Ok(None);
    }
    let mut command = Command::new(place.program(CHECKSUMS));
    command.args(["--check", "--pgdata"]).arg(&data);
    let found = tool(CHECKSUMS, command).await;
    Ok(Some(found.map_err(|e| e.to_string())))
}

/// All tables and B-trees of all databases. The extension that does it is made where it is missing: the data is a
/// copy that is thrown away.
async fn amcheck(place: &Place) -> Result<(), String> {
    let mut command = Command::new(place.program(AMCHECK));
    command
        .env("PGOPTIONS", UNHINDERED)
        .args([
            "--all",
            "--install-missing",
            "--on-error-stop",
            "--no-password",
        ])
        .args(["--username", "postgres", "--maintenance-db", "postgres"])
        .arg("--port")
        .arg(PORT.to_string())
        .arg("--host")
        .arg(place.mount(RUN));
    let found = tool(AMCHECK, command).await;
    found.map_err(|e| e.to_string())
}

/// One of the user's statements, as a role that may not write, for a bounded time.
async fn ask(server: &Server, of: &DrillSettings, check: &DrillCheck) -> Result<(), String> {
    let limit = Duration::from_secs(of.statement_seconds.into());
    let options = format!(
        "-c default_transaction_read_only=on -c statement_timeout={}",
        limit.as_millis()
    );
    let client = server.connected(&of.database, &of.role, &options).await?;
    let asked = timeout(limit + GRACE, client.simple_query(&check.sql)).await;
    let rows = asked
        .map_err(|_| "it takes too long".to_owned())?
        .map_err(|e| sentence(&e))?;
    let statements = rows
        .iter()
        .filter(|m| matches!(m, SimpleQueryMessage::CommandComplete(_)));
    if statements.count() > 1 {
        return Err("these are several statements: write a check for each".to_owned());
    }
    let first = rows.iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => Some(row.try_get(0).ok().flatten().map(str::to_owned)),
        _ => None,
    });
    holds(
        check.expect.as_deref(),
        first.as_ref().map(Option::as_deref),
    )
}
