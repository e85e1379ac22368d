//! What an agent keeps of its engine's process, whatever the engine is: what PID 1 tells of it, how it ended, tries and
//! pauses, a restart on request, and the program that this process runs itself.
//!
//! What is known of ends and sweeps is a value ([`Ends`]); the rest talks to PID 1.

use std::path::PathBuf;
use std::time::Duration;

use super::api::{GivenUp, Program, Restart, Upgrade};
use super::clock::boottime;
use super::init::client::InitClient;
use super::init::protocol::{Command, Engine, Start, State};
use super::pauses::{self, Pauses};
use super::server::{Answer, Refusal};
use super::task::{Task, finished};
use super::upgrade;

/// An engine that was asked for is there within this time.
const STARTED: Duration = Duration::from_secs(5);

/// What is said to whoever asks for another thing meanwhile.
pub const OCCUPIED: &str = "something else is being done just now";

/// Which ends of the engine were noticed, and after which of them no process of it is left. Values only.
#[derive(Debug, Default)]
struct Ends {
    /// The start whose end was noticed last.
    noticed: u64,
    /// The start of which no process is left.
    clean: Option<u64>,
    /// A sweep was asked for when so many were over.
    sweep: Option<u64>,
}

impl Ends {
    /// Take notice of what PID 1 says: how the engine has ended, where that is news.
    fn notice(&mut self, state: &State) -> Option<String> {
        match &state.engine {
            Engine::Absent => self.clean = Some(state.starts),
            Engine::Exited { .. } if self.sweep.is_some_and(|n| state.hard_stops > n) => {
                self.clean = Some(state.starts);
                self.sweep = None;
            }
            _ => {}
        }
        match &state.engine {
            Engine::Exited { how, .. } if self.noticed < state.starts.max(1) => {
                self.noticed = state.starts.max(1);
                Some(how.clone())
            }
            _ => None,
        }
    }
}

/// An agent's engine as a process.
///
/// Assumption: within one turn of its loop an agent waits for nothing between two questions, so that all are answered from the
/// same word of PID 1 (a runtime of one thread).
pub struct Supervision {
    init: InitClient,
    /// The engine's name in sentences.
    name: &'static str,
    /// Of this process.
    nonce: String,
    ends: Ends,
    /// The start that was asked for and not confirmed yet, and when.
    asked: Option<(u64, Duration)>,
    /// Who waits for a restart, and how many starts there had been.
    restart: Option<(u64, Answer)>,
    restart_wanted: bool,
    /// When the engine was first seen to answer since it was started.
    well_since: Option<Duration>,
    /// Pauses between tries.
    pub pauses: Pauses,
    /// What went wrong last, for the status.
    pub last_error: Option<String>,
    program: Option<Program>,
    identifying: Option<Task<Option<Program>>>,
    /// PID 1 has been told that this agent works.
    works: bool,
}

impl Supervision {
    /// At the start of an agent's process, whose `nonce` is unlike those before; `name` is the engine's in sentences.
    pub fn new(init: InitClient, name: &'static str, nonce: String) -> Self {
        Self {
            init,
            name,
            nonce,
            ends: Ends::default(),
            asked: None,
            restart: None,
            restart_wanted: false,
            well_since: None,
            pauses: Pauses::default(),
            last_error: None,
            program: None,
            identifying: Some(Box::pin(upgrade::identify())),
            works: false,
        }
    }

    /// PID 1.
    pub fn init(&self) -> &InitClient {
        &self.init
    }

    /// What PID 1 said last.
    pub fn state(&self) -> State {
        self.init.heard().borrow().state.clone()
    }

    /// How often the engine was started since the container began.
    pub fn starts(&self) -> u64 {
        self.init.heard().borrow().state.starts
    }

    /// It changes with every start of agent or engine: who decided on what was before decides nothing now.
    pub fn nonce(&self) -> String {
        format!("{}.{}", self.nonce, self.starts())
    }

    /// What this process runs, once that is known.
    pub fn program(&self) -> Option<&Program> {
        self.program.as_ref()
    }

    /// The program that PID 1 gave up last.
    pub fn given_up(&self) -> Option<GivenUp> {
        upgrade::given_up(&self.init)
    }

    /// How the engine has ended, where that is news. To be asked whenever the loop turns.
    pub fn notice(&mut self) -> Option<String> {
        self.ends.notice(&self.state())
    }

    /// Whether no process of the engine's last start is left.
    pub fn is_clean(&self) -> bool {
        self.ends.clean == Some(self.starts())
    }

    /// Whether what is left of it is being killed.
    pub fn is_sweeping(&self) -> bool {
        self.ends.sweep.is_some() || self.state().hard_stopping
    }

    /// Whether a start that was asked for may still come.
    pub fn is_starting(&self, now: Duration) -> bool {
        let starts = self.starts();
        self.asked
            .is_some_and(|(before, since)| starts == before && now.saturating_sub(since) < STARTED)
    }

    /// Whether it is to stop and be started again, as somebody asked.
    pub fn is_restart_wanted(&self) -> bool {
        self.restart_wanted
    }

    /// Whether somebody waits for a restart.
    pub fn is_restarting(&self) -> bool {
        self.restart.is_some()
    }

    /// A step failed: the next try comes after a growing pause; the first at once.
    pub fn fail(&mut self, why: &str) {
        tracing::warn!(%why, "a step failed");
        self.last_error = Some(why.to_owned());
        self.pauses.fail(boottime());
    }

    /// It has ended, in this way; `wanted` when it was told to.
    pub fn ended(&mut self, how: &str, wanted: bool, now: Duration) {
        let settled = self.well_since.take();
        let settled = settled.is_some_and(|since| now.saturating_sub(since) > pauses::MAX);
        if std::mem::take(&mut self.restart_wanted) || wanted {
            return;
        }
        if settled {
            self.pauses.forgive();
        }
        let name = self.name;
        self.fail(&format!(
            "{name} ended by itself ({how}); see its log. It is started again"
        ));
    }

    /// It answered at that time: who asked for a restart hears of it; once it has for long, what failed before counts no
    /// more.
    pub fn answered(&mut self, at: Duration) {
        if self.well_since.is_none() {
            self.well_since = Some(at);
            self.last_error = None;
        }
        let since = self.well_since.unwrap_or(at);
        if boottime().saturating_sub(since) > pauses::MAX {
            self.pauses.forgive();
        }
        let starts = self.starts();
        if let Some((_, answer)) = self.restart.take_if(|(before, _)| starts > *before) {
            // Who asked may have gone.
            let _ = answer.send(Ok(()));
        }
    }

    /// It could not be stopped: nor is it restarted then.
    pub fn stop_failed(&mut self, why: &str) {
        self.restart_wanted = false;
        if let Some((_, answer)) = self.restart.take() {
            let _ = answer.send(Err(Refusal::Impossible(why.to_owned())));
        }
        self.fail(why);
    }

    /// Why an order that was decided on that status, `nonce`, cannot be followed; `why` where something is in the way.
    fn refusal(&self, nonce: &str, why: Option<String>) -> Option<Refusal> {
        if nonce == self.nonce() {
            why.map(Refusal::Impossible)
        } else {
            Some(Refusal::Outdated)
        }
    }

    /// Somebody asks for a restart, and hears of its end; `refusal` where something is in the way.
    pub fn restart(&mut self, asked: &Restart, answer: Answer, refusal: Option<String>) {
        if let Some(refusal) = self.refusal(&asked.nonce, refusal) {
            let _ = answer.send(Err(refusal));
            return;
        }
        let name = self.name;
        tracing::info!(reason = asked.reason, "a restart of {name} was asked for");
        self.restart_wanted = true;
        self.restart = Some((self.starts(), answer));
    }

    /// Another program takes this one's place, unless something is done that would be lost.
    pub fn make_room(&self, wish: &Upgrade, program: PathBuf, answer: Answer, occupied: bool) {
        let refusal = self.refusal(&wish.nonce, occupied.then(|| OCCUPIED.to_owned()));
        upgrade::make_room(&self.init, wish, program, answer, refusal);
    }

    /// Start it.
    ///
    /// # Errors
    /// The connection to PID 1 is gone.
    pub async fn start(&mut self, start: Start) -> Result<(), String> {
        let starts = self.starts();
        let sent = self.init.send(Command::Start(start)).await;
        sent.map_err(|e| e.to_string())?;
        self.asked = Some((starts, boottime()));
        Ok(())
    }

    /// Kill all of it at once.
    pub async fn kill(&self) {
        // A lost connection ends this process elsewhere.
        let _ = self.init.send(Command::HardStop).await;
    }

    /// Kill what is left of it, unless that was asked for.
    pub async fn sweep(&mut self) {
        if self.ends.sweep.is_none() {
            self.ends.sweep = Some(self.state().hard_stops);
            self.kill().await;
        }
    }

    /// PID 1 is told once that this agent works: it listens, and has looked, decided and told.
    pub async fn say_works(&mut self) {
        if !self.works {
            // A lost connection ends this process elsewhere.
            self.works = self.init.send(Command::Works).await.is_ok();
        }
    }

    /// Wait until it is known what this process runs; for ever where it is. It may be dropped at any time.
    pub async fn identify(&mut self) {
        self.program = finished(self.identifying.as_mut()).await;
        self.identifying = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(starts: u64, hard_stops: u64, ended: Option<&str>) -> State {
        State {
            engine: match ended {
                Some(how) => Engine::Exited {
                    how: how.to_owned(),
                    clean: false,
                },
                None if starts == 0 => Engine::Absent,
                None => Engine::Running { pid: 7 },
            },
            starts,
            hard_stops,
            ..State::default()
        }
    }

    #[test]
    fn an_end_is_news_once_and_what_is_left_is_known_after_a_sweep() {
        let mut ends = Ends::default();
        assert_eq!(ends.notice(&state(0, 0, None)), None);
        assert_eq!(ends.clean, Some(0), "none was started");
        assert_eq!(ends.notice(&state(1, 0, None)), None);
        let how = "killed";
        assert_eq!(ends.notice(&state(1, 0, Some(how))).as_deref(), Some(how));
        assert_eq!(ends.notice(&state(1, 0, Some(how))), None);
        assert_ne!(ends.clean, Some(1), "a worker may be left");
        ends.sweep = Some(0);
        ends.notice(&state(1, 0, Some(how)));
        assert_ne!(ends.clean, Some(1), "it is not over");
        ends.notice(&state(1, 1, Some(how)));
        assert_eq!((ends.clean, ends.sweep), (Some(1), None));
        ends.notice(&state(2, 1, None));
        assert_eq!(ends.notice(&state(2, 1, Some(how))).as_deref(), Some(how));
        assert_ne!(ends.clean, Some(2), "of another start");
    }

    #[test]
    fn an_end_before_this_process_is_news() {
        let mut ends = Ends::default();
        assert!(ends.notice(&state(3, 0, Some("code 1"))).is_some());
        // It failed before a start was counted.
        let mut ends = Ends::default();
        assert!(ends.notice(&state(0, 0, Some("not found"))).is_some());
        assert!(ends.notice(&state(0, 0, Some("not found"))).is_none());
    }
}
