//! PostgreSQL in a drill: the user's own statements are asked, and all tables and indexes are gone through; then it is
//! stopped, and the checksums of all pages are read. I/O; the frame is [`mainstay_shared::backups::container::drill`].

use std::time::Duration;

use mainstay_backup::drill::DrillReport;
use mainstay_shared::backups::container::drill::words::{Findings, holds};
use mainstay_shared::backups::container::drill::{self, DrillError, Scratch};
use tokio::process::Command;
use tokio::time::timeout;
use tokio_postgres::SimpleQueryMessage;

use super::api::Reached;
use super::restore::server::{Private, Purpose, Server, UNHINDERED, sentence};
use super::restore::tool;
use super::settings::{DrillCheck, DrillSettings, RUN};
use crate::agent::data::control;
use crate::agent::place::Place;
use crate::settings::PORT;

/// Built-in check: the checksums of all pages.
pub const CHECKSUMS: &str = "pg_checksums";
/// Built-in check: the structure of all tables and B-trees.
pub const AMCHECK: &str = "pg_amcheck";
/// Built-in check: PostgreSQL starts on the data.
pub const START: &str = "PostgreSQL starts";
/// Built-in check, told of only where it does not hold: what was restored can be stopped again.
pub const STOP: &str = "PostgreSQL stops in order";
/// How PostgreSQL writes that something is true.
const TRUE: &str = "t";
/// What `pg_controldata` says of data without checksums.
const NO_CHECKSUMS: &str = "0";
/// Longest wait beyond a statement's own limit, which PostgreSQL keeps.
const GRACE: Duration = Duration::from_secs(10);

/// Makes the drill, and leaves a [`DrillReport`] as last words.
///
/// # Errors
/// It did not pass.
pub async fn run() -> Result<(), DrillError> {
    let place = Place::from_environment().map_err(DrillError::setting)?;
    let look = async |settings, reached, report: &mut DrillReport| {
        look(&place, settings, reached, report).await
    };
    drill::run(&place.root, look).await
}

async fn look(
    place: &Place,
    settings: DrillSettings,
    reached: Reached,
    report: &mut DrillReport,
) -> Result<Findings, String> {
    report.position = Some(reached.lsn);
    report.history = Some(reached.along.to_string());
    report.last_commit = reached.last_commit;
    let scratch = Scratch::make(place.volume().join("pgdata.drill"))?;
    let mut findings = Findings::default();
    let server = Private {
        place,
        data: &place.data(),
        scratch: scratch.path(),
        purpose: Purpose::Look(&settings.role),
    };
    let started = async {
        let mut server = Server::start(&server).await?;
        server.answers().await?;
        Ok(server)
    };
    let Some(server) = findings.start(START, started.await, report) else {
        return Ok(findings);
    };
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
    let Some(first) = first else {
        return Err("no row".to_owned());
    };
    holds(check.expect.as_deref(), first.as_deref(), TRUE)
}
