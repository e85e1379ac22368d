//! Redis in a drill: it starts from what the restore has written, goes through every value, and is asked what users want
//! to know. I/O; the frame is [`mainstay_shared::backups::container::drill`], and what an answer means is said by
//! [`answers`].
//!
//! Who asks is a user of its own that may only read, whatever the resource says.

pub mod answers;

use std::time::Duration;

use mainstay_backup::drill::DrillReport;
use mainstay_shared::backups::container::drill::words::{Findings, holds};
use mainstay_shared::backups::container::drill::{self, DrillError, Scratch};
use tokio::time::timeout;

use super::restore::Reached;
use super::restore::server::{Reads, Server};
use super::settings::{DrillCheck, DrillSettings};
use crate::agent::place::{self, Place};
use crate::resp::{RespError, Value, Words, words};
use answers::{TRUE, counted, is_of_type, text, what};

/// Built-in check: Redis starts from what was restored, and every value in it is sound.
pub const START: &str = "Redis starts";
/// Built-in check: what it has read is what was restored, by its mark.
pub const MARK: &str = "it is the restored dataset";
/// Built-in check, told of only where it does not hold: what was restored can be stopped again.
pub const STOP: &str = "Redis stops in order";
/// ACL user that asks users' questions.
const ASKER: &str = "mainstay_drill";
/// What it may: read, also by scripts and functions, which are held to the same.
const RULES: [&str; 9] = [
    "on",
    "nopass",
    "~*",
    "resetchannels",
    "-@all",
    "+@read",
    "-@dangerous",
    "+eval_ro",
    "+fcall_ro",
];

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
    report.position = Some(reached.offset.to_string());
    report.history = Some(reached.timeline.to_string());
    // There is no log: the newest write is as old as the snapshot.
    report.last_commit = reached.taken;
    let program = place::server(settings.flavour)?;
    let scratch = Scratch::make(place.volume().join("redis.drill"))?;
    let mut findings = Findings::default();
    let started = async {
        let (data, reads) = (place.data(), Reads::Kept(settings.persistence));
        let mut server = Server::start(&program, &data, scratch.path(), settings.databases, reads)?;
        server.read(|_| ()).await?;
        Ok(server)
    };
    let Some(server) = findings.start(START, started.await, report) else {
        return Ok(findings);
    };
    findings.add(MARK, marked(&server, &reached).await);
    let rules = ["ACL", "SETUSER", ASKER].into_iter().chain(RULES);
    server.call(rules.map(str::to_owned).collect()).await?;
    let limit = Duration::from_secs(settings.question_seconds.into());
    for check in &settings.checks {
        let found = ask(&server, check, limit).await;
        findings.add(&what(check), found);
    }
    if let Err(why) = server.end("NOSAVE").await {
        findings.add(STOP, Err(why));
    }
    Ok(findings)
}

/// Whether it has read what was restored, and not something that was there before or nothing at all.
async fn marked(server: &Server, reached: &Reached) -> Result<(), String> {
    let held = server.held().await?;
    let mark = held.mark.map(|mark| mark.set);
    match mark {
        Some(set) if set == reached.set => Ok(()),
        Some(set) => Err(format!(
            "its mark says {set}, and {} was restored",
            reached.set
        )),
        None => Err("it has no mark".to_owned()),
    }
}

async fn ask(server: &Server, check: &DrillCheck, limit: Duration) -> Result<(), String> {
    match check {
        DrillCheck::Keys {
            database,
            at_least,
            at_most,
        } => {
            let keys = server.held().await?.keys;
            let keys = match database {
                Some(number) => keys.get(number).copied().unwrap_or(0),
                None => keys.values().sum(),
            };
            counted(keys, *at_least, *at_most)
        }
        DrillCheck::Key {
            database,
            name,
            kind,
            value,
        } => {
            let kind = kind.as_deref().or(value.as_ref().map(|_| "string"));
            let answer = question(server, *database, words(["TYPE", name]), limit).await?;
            is_of_type(&text(&answer).unwrap_or_default(), kind)?;
            let Some(value) = value else {
                return Ok(());
            };
            let answer = question(server, *database, words(["GET", name]), limit).await?;
            holds(Some(value), text(&answer).as_deref(), TRUE)
        }
        DrillCheck::Command {
            database,
            words,
            expect,
        } => {
            let answer = question(server, *database, words.clone(), limit).await?;
            answered(expect.as_deref(), &answer)
        }
    }
}

/// Whether an answer is what was expected. Without an expectation a number below 0 is none: it says that there is no such
/// key, or no such place in it.
fn answered(expect: Option<&str>, answer: &Value) -> Result<(), String> {
    match (expect, answer) {
        (None, Value::Integer(n)) if *n < 0 => {
            Err(format!("`{n}`, where a number above 0 was expected"))
        }
        _ => holds(expect, text(answer).as_deref(), TRUE),
    }
}

/// One command by who may only read, on a connection of its own, for a bounded time.
async fn question(
    server: &Server,
    database: u32,
    command: Words,
    limit: Duration,
) -> Result<Value, String> {
    let asked = async {
        let mut connection = server.connect().await?;
        let select = words(["SELECT", &database.to_string()]);
        connection.call(select).await?;
        // It has no password: nobody else reaches this Redis.
        connection.login(ASKER, "").await?;
        connection.call(command).await
    };
    if let Ok(answer) = timeout(limit, asked).await {
        return answer.map_err(|error: RespError| error.to_string());
    }
    // So that what is asked next is answered.
    for kind in ["SCRIPT", "FUNCTION"] {
        let killed = server.call(words([kind, "KILL"])).await;
        tracing::debug!(kind, ?killed, "what takes too long");
    }
    Err("it takes too long".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_that_says_that_there_is_nothing_holds_only_if_it_was_expected() {
        for (answer, holds) in [(3, true), (1, true), (0, false), (-1, false), (-2, false)] {
            let found = answered(None, &Value::Integer(answer));
            assert_eq!(found.is_ok(), holds, "{answer}: {found:?}");
        }
        assert_eq!(answered(Some("-1"), &Value::Integer(-1)), Ok(()));
    }
}
