//! What the agent asks of the running engine, over its Unix socket. I/O.

use std::path::PathBuf;
use std::time::Duration;

use tokio::time::{sleep, timeout};

use super::mark::{LIBRARY, Mark};
use super::render::{AGENT_ROLE, SHUT};
use super::vitals::{Clustered, NOBODY, Vitals};
use crate::resp::{Connection, RespError, Value, Words, words};

/// Longest wait for one answer.
const ANSWER: Duration = Duration::from_secs(2);
/// Longest wait for the connection, log-in included.
const CONNECT: Duration = Duration::from_secs(2);
/// Replicas have what was written within this time at a hand-over, or are left behind.
const CAUGHT_UP: Duration = Duration::from_secs(2);
/// Pause between looks at replicas meanwhile.
const LOOK: Duration = Duration::from_millis(5);

/// Something was not done.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// Over the wire.
    #[error(transparent)]
    Resp(#[from] RespError),
    /// It takes too long.
    #[error("Redis does not answer in time")]
    Mute,
    /// It reads its dataset.
    #[error("Redis reads its dataset")]
    Loading,
    /// It runs a script, or a function, that holds everybody up.
    #[error("Redis runs a script that holds everybody up")]
    Busy,
    /// It is not as it was believed.
    #[error("{0}")]
    Otherwise(String),
}

/// Where the engine is, and as whom the agent logs in.
#[derive(Clone, Debug)]
pub struct Access {
    /// Unix socket.
    pub socket: PathBuf,
    /// Password of [`AGENT_ROLE`].
    pub password: String,
}

/// What refuses writes, besides the role; lifted while the mark is written, and as it was before anybody else is heard.
#[derive(Clone, Debug)]
pub struct Limits {
    /// `min-replicas-to-write`.
    pub door: u64,
    /// `maxmemory`.
    pub memory: String,
    /// `stop-writes-on-bgsave-error`.
    pub on_error: String,
}

impl Limits {
    /// With the door shut.
    #[must_use]
    pub fn shut(self) -> Self {
        Self { door: SHUT, ..self }
    }

    /// The commands around what shall be written.
    fn around(&self) -> (Words, Words) {
        let lift = [
            ("min-replicas-to-write", "0"),
            ("maxmemory", "0"),
            ("stop-writes-on-bgsave-error", "no"),
        ];
        let door = self.door.to_string();
        let back = [
            ("min-replicas-to-write", door.as_str()),
            ("maxmemory", &self.memory),
            ("stop-writes-on-bgsave-error", &self.on_error),
        ];
        (config_set(&lift), config_set(&back))
    }
}

/// A connection to one start of the engine.
#[derive(Debug)]
pub struct Session {
    connection: Connection,
}

async fn bounded<T>(
    bound: Duration,
    work: impl Future<Output = Result<T, RespError>>,
) -> Result<T, SessionError> {
    match timeout(bound, work).await {
        Ok(done) => done.map_err(why),
        Err(_) => Err(SessionError::Mute),
    }
}

fn why(error: RespError) -> SessionError {
    match error.code() {
        Some("LOADING") => SessionError::Loading,
        Some("BUSY") => SessionError::Busy,
        _ => error.into(),
    }
}

impl Session {
    /// Connect and log in.
    ///
    /// # Errors
    /// See [`SessionError`].
    pub async fn begin(access: &Access) -> Result<Self, SessionError> {
        let begin = async {
            let mut connection = Connection::unix(&access.socket).await?;
            connection.login(AGENT_ROLE, &access.password).await?;
            Ok(Self { connection })
        };
        bounded(CONNECT, begin).await
    }

    async fn call(&mut self, command: Words) -> Result<Value, SessionError> {
        bounded(ANSWER, self.connection.call(command)).await
    }

    async fn pipeline(
        &mut self,
        commands: &[Words],
        bound: Duration,
    ) -> Result<Vec<Value>, SessionError> {
        bounded(bound, self.connection.pipeline(commands)).await
    }

    /// What it says of itself.
    ///
    /// # Errors
    /// See [`SessionError`].
    pub async fn vitals(&mut self) -> Result<Vitals, SessionError> {
        let asked = [
            words([
                "INFO",
                "server",
                "clients",
                "memory",
                "persistence",
                "stats",
                "replication",
                "keyspace",
                "cluster",
            ]),
            words(["FUNCTION", "LIST", "LIBRARYNAME", LIBRARY, "WITHCODE"]),
            words(["CONFIG", "GET", "min-replicas-to-write"]),
        ];
        let answers = self.pipeline(&asked, ANSWER).await?;
        let [info, library, door] = answers.as_slice() else {
            return Err(RespError::Protocol("three answers were expected").into());
        };
        let info = info.clone().accepted().map_err(why)?;
        let info = info
            .text()
            .ok_or(RespError::Protocol("INFO says no text"))?;
        let number = |value: &Value| value.items().get(1)?.text()?.parse::<u64>().ok();
        let mark = mark_in(library);
        let vitals = Vitals::read(&info, mark, number(door).unwrap_or(0));
        let mut vitals = vitals.ok_or(RespError::Protocol("INFO says no role"))?;
        // Others answer that question with an error, which would be counted.
        if info.lines().any(|l| l.trim_end() == "cluster_enabled:1") {
            let said = self.call(words(["CLUSTER", "INFO"])).await?;
            vitals.cluster = Some(Clustered::read(&said.text().unwrap_or_default()));
        }
        Ok(vitals)
    }

    /// End the script, or function, that runs.
    ///
    /// # Errors
    /// See [`SessionError`]. One that has written is not ended: Redis would keep half of what it does.
    pub async fn end_script(&mut self) -> Result<(), SessionError> {
        match self.call(words(["SCRIPT", "KILL"])).await {
            // Of a function it says that it is busy with one.
            Err(SessionError::Busy) => self.call(words(["FUNCTION", "KILL"])).await.map(drop),
            done => done.map(drop),
        }
    }

    /// Receive from nobody: whoever it received from is gone when this returns.
    ///
    /// # Errors
    /// See [`SessionError`].
    pub async fn detach(&mut self) -> Result<(), SessionError> {
        let (host, port) = NOBODY;
        let port = port.to_string();
        self.call(words(["REPLICAOF", host, &port])).await.map(drop)
    }

    /// Receive from there, as `announce`.
    ///
    /// # Errors
    /// See [`SessionError`].
    pub async fn follow(
        &mut self,
        (host, port): (&str, u16),
        announce: &str,
        password: &str,
    ) -> Result<(), SessionError> {
        let set = [("masterauth", password), ("replica-announce-ip", announce)];
        self.set(&set).await?;
        let port = port.to_string();
        self.call(words(["REPLICAOF", host, &port])).await.map(drop)
    }

    /// Set directives, all or none.
    ///
    /// # Errors
    /// See [`SessionError`].
    pub async fn set(&mut self, directives: &[(&str, &str)]) -> Result<(), SessionError> {
        self.call(config_set(directives)).await.map(drop)
    }

    /// Write the mark, whatever refuses writes otherwise: the shut door, memory that is full, a snapshot that failed.
    ///
    /// # Errors
    /// See [`SessionError`].
    pub async fn write(&mut self, mark: &Mark, limits: &Limits) -> Result<(), SessionError> {
        let load = words(["FUNCTION", "LOAD", "REPLACE", &mark.code()]);
        if limits.door == 0 {
            match self.call(load.clone()).await {
                Err(SessionError::Resp(e))
                    if matches!(e.code(), Some("OOM" | "MISCONF" | "NOREPLICAS")) => {}
                done => return done.map(drop),
            }
        }
        let (lift, back) = limits.around();
        let answers = self.pipeline(&[lift, load, back], ANSWER).await?;
        for answer in answers {
            answer.accepted()?;
        }
        Ok(())
    }

    /// Become primary of the history that `mark` begins, with the door shut, and have replicas say what they have.
    ///
    /// # Errors
    /// See [`SessionError`]. It may be primary then, without the mark.
    pub async fn promote(&mut self, mark: Mark, limits: Limits) -> Result<(), SessionError> {
        let shut = SHUT.to_string();
        self.set(&[("min-replicas-to-write", &shut)]).await?;
        let before = self.vitals().await?;
        if !before.is_primary && !before.is_detached() {
            let why = "it receives from somebody, and is not promoted";
            return Err(SessionError::Otherwise(why.to_owned()));
        }
        self.call(words(["REPLICAOF", "NO", "ONE"])).await?;
        let now = self.vitals().await?;
        let mark = Mark {
            replid: now.replid,
            base: now.offset,
            offset: now.offset,
            ..mark
        };
        self.write(&mark, &limits.shut()).await
    }

    /// Write the mark, and have replicas say at once what they have: by themselves they do once a second.
    ///
    /// # Errors
    /// See [`SessionError`].
    pub async fn write_and_ask(
        &mut self,
        mark: &Mark,
        limits: &Limits,
        (replicas, within): (usize, Duration),
    ) -> Result<(), SessionError> {
        self.write(mark, limits).await?;
        let (replicas, wait) = (replicas.to_string(), within.as_millis().to_string());
        let ask = [words(["WAIT", &replicas, &wait])];
        self.pipeline(&ask, within + ANSWER).await.map(drop)
    }

    /// The first data of a set: an empty dataset with its mark, receiving from nobody.
    ///
    /// # Errors
    /// See [`SessionError`].
    pub async fn found(&mut self, mark: Mark, limits: Limits) -> Result<(), SessionError> {
        let before = self.vitals().await?;
        if before.keys > 0 || before.mark.is_some() {
            let why = "there is data already, so none is made";
            return Err(SessionError::Otherwise(why.to_owned()));
        }
        self.promote(mark, limits).await?;
        self.detach().await
    }

    /// Hand over: hold writers back, wait until `to` has everything, or anybody where nobody is named, and become a replica of
    /// nobody. Writers are held back for `pause` at most; whoever they are, they find a replica then.
    ///
    /// Says whether the other had everything.
    ///
    /// # Errors
    /// See [`SessionError`]. The caller calls [`Self::resume`] then.
    pub async fn hand_over(
        &mut self,
        access: &Access,
        mark: &Mark,
        limits: &Limits,
        to: Option<&str>,
        pause: Duration,
    ) -> Result<bool, SessionError> {
        let mut other = Self::begin(access).await?;
        let load = words(["FUNCTION", "LOAD", "REPLACE", &mark.code()]);
        let (lift, back) = limits.clone().shut().around();
        // The door is shut directly after the mark, so nothing is written any more, and WAIT has replicas say what they
        // have. A moment later writers are held back instead of refused: while they are, Redis asks no replica.
        let last = [lift, load, back, words(["INFO", "replication"])];
        let answers = self.pipeline(&last, ANSWER).await?;
        let info = answers.last().and_then(Value::text).unwrap_or_default();
        let end = Vitals::read(&info, None, 0).map(|v| v.offset);
        let end = end.ok_or(RespError::Protocol("INFO says no role"))?;
        let (within, pause) = (
            CAUGHT_UP.as_millis().to_string(),
            pause.as_millis().to_string(),
        );
        let wait = [words(["WAIT", "1", &within])];
        let held = async {
            sleep(LOOK).await;
            other
                .call(words(["CLIENT", "PAUSE", &pause, "WRITE"]))
                .await
        };
        let (asked, held) = tokio::join!(self.pipeline(&wait, CAUGHT_UP + ANSWER), held);
        asked?;
        held?;
        let whole = async {
            loop {
                let mut flushed = self.vitals().await?.flushed().into_iter();
                let named = |name: &str| to.is_none_or(|to| to == name);
                if flushed.any(|(m, offset)| named(m.name.as_str()) && offset >= end) {
                    return Ok::<bool, SessionError>(true);
                }
                sleep(LOOK).await;
            }
        };
        let whole = timeout(CAUGHT_UP, whole).await.unwrap_or(Ok(false))?;
        self.detach().await?;
        Ok(whole)
    }

    /// Have nobody write any more for `pause`, neither clients nor whoever it received from, and say how far the dataset goes.
    ///
    /// # Errors
    /// See [`SessionError`].
    pub async fn quiet(&mut self, pause: Duration) -> Result<Vitals, SessionError> {
        let pause = pause.as_millis().to_string();
        self.call(words(["CLIENT", "PAUSE", &pause, "WRITE"]))
            .await?;
        if !self.vitals().await?.is_primary {
            self.detach().await?;
        }
        self.vitals().await
    }

    /// Write everything and end. It says nothing when it does: its connections end.
    ///
    /// # Errors
    /// It refuses.
    pub async fn shut_down(&mut self) -> Result<(), SessionError> {
        match self.call(words(["SHUTDOWN"])).await {
            Err(SessionError::Resp(RespError::Refused(why))) => Err(RespError::Refused(why).into()),
            _ => Ok(()),
        }
    }

    /// Let writers go on, and end all clients: they look anew where they are led.
    ///
    /// # Errors
    /// See [`SessionError`].
    pub async fn resume(&mut self) -> Result<(), SessionError> {
        let commands = [
            words(["CLIENT", "UNPAUSE"]),
            words(["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]),
            words(["CLIENT", "KILL", "TYPE", "pubsub", "SKIPME", "yes"]),
        ];
        self.pipeline(&commands, ANSWER).await.map(drop)
    }

    /// Make users as they shall be, and end those that shall not be. Connections of others stay.
    ///
    /// # Errors
    /// See [`SessionError`].
    pub async fn users(
        &mut self,
        users: &[(String, String)],
        gone: &[String],
    ) -> Result<(), SessionError> {
        for (name, rules) in users {
            let mut command = words(["ACL", "SETUSER", name, "reset"]);
            command.extend(rules.split_whitespace().map(str::to_owned));
            self.call(command).await?;
        }
        for name in gone {
            self.call(words(["ACL", "DELUSER", name])).await?;
        }
        Ok(())
    }
}

fn config_set(directives: &[(&str, &str)]) -> Words {
    let mut command = words(["CONFIG", "SET"]);
    for (name, value) in directives {
        command.extend([(*name).to_owned(), (*value).to_owned()]);
    }
    command
}

/// `library_name`, its name, …, `library_code`, its code.
pub(crate) fn mark_in(libraries: &Value) -> Option<Mark> {
    let library = libraries.items().first()?.items();
    let at = library
        .iter()
        .position(|v| v.text().as_deref() == Some("library_code"))?;
    Mark::read(&library.get(at + 1)?.text()?)
}
