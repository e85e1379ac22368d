//! What an engine that has started on a shard is asked. I/O.
//!
//! What users ask is asked by a user of its own that may only read, whatever the resource says.

use std::time::Duration;

use mainstay_shared::backups::container::drill::words::holds;
use tokio::time::timeout;

use super::answers::{TRUE, answered, is_of_type, text};
use super::ways::{Answer, Strangers, Way, of_keys};
use crate::backup::restore::Reached;
use crate::backup::restore::server::Server;
use crate::backup::settings::DrillCheck;
use crate::backup::shards::Slots;
use crate::resp::{RespError, Value, Words, words};

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
/// How the engine says that a command never names a key.
const KEYLESS: &str = "no key arguments";

/// Whether it has read what was restored, and not something that was there before or nothing at all.
///
/// # Errors
/// What it is instead.
pub async fn marked(server: &Server, reached: &Reached) -> Result<(), String> {
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

/// Whether all of its keys are of these slots.
///
/// # Errors
/// Some are of others; or it does not say.
pub async fn in_slots(server: &Server, slots: &[Slots]) -> Result<(), String> {
    let mut strangers = Strangers::default();
    server.keys(|key| strangers.look(key, slots)).await?;
    strangers.none()
}

/// Makes the user that asks.
///
/// # Errors
/// It is refused; a sentence.
pub async fn let_ask(server: &Server) -> Result<(), String> {
    let rules = ["ACL", "SETUSER", ASKER].into_iter().chain(RULES);
    server.call(rules.map(str::to_owned).collect()).await?;
    Ok(())
}

/// Who is asked what a cluster's users want to know; any engine says which words of a command are keys. `shards`: the slots of each.
pub async fn ways(server: &Server, checks: &[DrillCheck], shards: &[&[Slots]]) -> Vec<Way> {
    let mut all = Vec::new();
    for check in checks {
        all.push(match check {
            DrillCheck::Keys { .. } => Way::All,
            DrillCheck::Key { name, .. } => of_keys(&[name], shards),
            DrillCheck::Command { words, .. } => match keys(server, words).await {
                Ok(keys) => of_keys(&keys, shards),
                Err(why) => Way::Nobody(why),
            },
        });
    }
    all
}

/// The words of a command that are keys.
async fn keys(server: &Server, command: &[String]) -> Result<Vec<Vec<u8>>, String> {
    // Nothing follows, which the engine would refuse to look at.
    if command.len() < 2 {
        return Ok(Vec::new());
    }
    let mut asked = words(["COMMAND", "GETKEYS"]);
    asked.extend_from_slice(command);
    let found = match server.call(asked).await {
        Err(why) if why.contains(KEYLESS) => return Ok(Vec::new()),
        other => other?,
    };
    let key = |value: &Value| match value {
        Value::Bulk(bytes) => Some(bytes.clone()),
        other => other.text().map(String::into_bytes),
    };
    Ok(found.items().iter().filter_map(key).collect())
}

/// Asks what a check wants to know.
///
/// # Errors
/// What was answered instead, or why nothing was.
pub async fn ask(server: &Server, check: &DrillCheck, limit: Duration) -> Result<Answer, String> {
    match check {
        DrillCheck::Keys { database, .. } => {
            let keys = server.held().await?.keys;
            return Ok(Answer::Keys(match database {
                Some(number) => keys.get(number).copied().unwrap_or(0),
                None => keys.values().sum(),
            }));
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
            if let Some(value) = value {
                let answer = question(server, *database, words(["GET", name]), limit).await?;
                holds(Some(value), text(&answer).as_deref(), TRUE)?;
            }
        }
        DrillCheck::Command {
            database,
            words,
            expect,
        } => {
            let answer = question(server, *database, words.clone(), limit).await?;
            answered(expect.as_deref(), &answer)?;
        }
    }
    Ok(Answer::Good)
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
