//! What PID 1 does, as a state machine over values: inputs and the time in, acts out.
//!
//! Guarantees: the death of the agent never touches the engine, unless the agent was silent for
//! the watchdog's time; a stop of the container always ends, within the grace period and the time
//! that killing takes; no engine starts while a hard stop goes on.

use std::time::Duration;

use super::programs::Programs;
use super::protocol::{Command, Engine, EngineSignal, Start, State};

/// The bounds.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// An agent silent for longer is killed, after its engine.
    pub watchdog: Duration,
    /// A stop of the container gets hard after this time.
    pub grace: Duration,
}

/// Longest wait before the agent is started again.
const BACKOFF_MAX: Duration = Duration::from_secs(30);
/// An agent that lived this long is started again at once.
const SETTLED: Duration = Duration::from_mins(1);
/// First wait.
const BACKOFF_MIN: Duration = Duration::from_millis(250);

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// Some time passed.
    Tick,
    /// The agent was started.
    AgentStarted,
    /// The agent ended, or could not be started: how.
    AgentEnded(String),
    /// A command came from the agent.
    Command(Command),
    /// The engine was started.
    EngineStarted(i32),
    /// The engine's first process ended, or could not be started: how, and whether in order.
    EngineEnded(String, bool),
    /// After a round of kills: how many processes of the engine are left.
    Left(usize),
    /// The container shall stop.
    Terminate,
}

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Act {
    /// Start the agent.
    StartAgent,
    /// Kill the agent.
    KillAgent,
    /// Start the engine.
    StartEngine(Start),
    /// Send the engine a signal.
    SignalEngine(EngineSignal),
    /// Kill every process but this one and the agent, and say how many are left.
    KillAll,
    /// Send the state to the agent.
    Publish,
    /// End PID 1, and with it the container.
    Exit,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Agent {
    /// It is due to start at this time.
    Due(Duration),
    /// Start was asked for.
    Starting,
    /// It runs since, and was last heard at.
    Running { since: Duration, heard: Duration },
    /// Told to die; its end is awaited.
    Killed { since: Duration },
}

/// PID 1.
#[derive(Clone, Debug)]
pub struct Supervisor {
    bounds: Bounds,
    agent: Agent,
    programs: Programs,
    backoff: Duration,
    engine: Engine,
    starts: u64,
    stop_signal: EngineSignal,
    hard_stopping: bool,
    hard_stops: u64,
    stopping_since: Option<Duration>,
    engine_told: bool,
}

impl Supervisor {
    /// At the start of the container.
    pub fn new(bounds: Bounds) -> Self {
        Self {
            bounds,
            agent: Agent::Due(Duration::ZERO),
            programs: Programs::default(),
            backoff: Duration::ZERO,
            engine: Engine::Absent,
            starts: 0,
            stop_signal: EngineSignal::Interrupt,
            hard_stopping: false,
            hard_stops: 0,
            stopping_since: None,
            engine_told: false,
        }
    }

    /// What the agent is told.
    pub fn state(&self, now: Duration) -> State {
        let left = |since: Duration| (self.bounds.grace + since).saturating_sub(now);
        State {
            engine: self.engine.clone(),
            starts: self.starts,
            hard_stopping: self.hard_stopping,
            hard_stops: self.hard_stops,
            given_up: self.programs.given_up().cloned(),
            stop_within: self
                .stopping_since
                .map(|s| u64::try_from(left(s).as_millis()).unwrap_or(u64::MAX)),
        }
    }

    /// The program to start the agent from; none for the container's own.
    pub fn program(&self) -> Option<&str> {
        self.programs.current()
    }

    /// Whether a hard stop goes on, so that ticks should come quickly.
    pub fn hard_stopping(&self) -> bool {
        self.hard_stopping
    }

    /// One step. `now` never goes back.
    pub fn step(&mut self, now: Duration, input: Input) -> Vec<Act> {
        match input {
            Input::Tick => self.tick(now),
            Input::AgentStarted => {
                self.agent = Agent::Running {
                    since: now,
                    heard: now,
                };
                vec![]
            }
            Input::AgentEnded(how) => self.agent_ended(now, &how),
            Input::Command(command) => self.command(now, command),
            Input::EngineStarted(pid) => {
                self.engine = Engine::Running { pid };
                self.starts += 1;
                self.engine_told = false;
                vec![Act::Publish]
            }
            Input::EngineEnded(how, clean) => {
                self.engine = Engine::Exited { how, clean };
                let mut acts = vec![Act::Publish];
                acts.extend(self.end_if_over());
                acts
            }
            Input::Left(0) if self.hard_stopping && !self.engine_runs() => {
                self.hard_stopping = false;
                self.hard_stops += 1;
                let mut acts = vec![Act::Publish];
                acts.extend(self.end_if_over());
                acts
            }
            Input::Left(_) => vec![],
            Input::Terminate => {
                if self.stopping_since.is_none() {
                    self.stopping_since = Some(now);
                }
                let mut acts = vec![Act::Publish];
                acts.extend(self.stop_without_agent());
                acts.extend(self.end_if_over());
                acts
            }
        }
    }

    fn engine_runs(&self) -> bool {
        matches!(self.engine, Engine::Running { .. })
    }

    fn agent_lives(&self) -> bool {
        !matches!(self.agent, Agent::Due(_))
    }

    fn tick(&mut self, now: Duration) -> Vec<Act> {
        let mut acts = vec![];
        match self.agent {
            Agent::Due(at) if at <= now && self.stopping_since.is_none() && !self.hard_stopping => {
                self.agent = Agent::Starting;
                self.programs.starts(now);
                acts.push(Act::StartAgent);
            }
            Agent::Running { since, .. } if self.programs.tick(now, self.bounds.watchdog) => {
                // Before the watchdog's time is over: the engine is left to the agent that comes next.
                self.backoff = Duration::ZERO;
                self.agent = Agent::Killed { since };
                acts.push(Act::KillAgent);
            }
            Agent::Running { since, heard } if now.saturating_sub(heard) > self.bounds.watchdog => {
                // The engine first: a silent agent may hold a lease that others believe expired.
                self.hard_stopping = true;
                self.agent = Agent::Killed { since };
                acts.push(Act::KillAll);
                acts.push(Act::KillAgent);
            }
            Agent::Killed { .. } => acts.push(Act::KillAgent),
            _ => {}
        }
        if let Some(since) = self.stopping_since
            && now.saturating_sub(since) > self.bounds.grace
        {
            self.hard_stopping = true;
            if self.agent_lives() && !matches!(self.agent, Agent::Killed { .. }) {
                self.agent = Agent::Killed { since };
                acts.push(Act::KillAgent);
            }
        }
        if self.hard_stopping && !acts.contains(&Act::KillAll) {
            acts.push(Act::KillAll);
        }
        acts.extend(self.stop_without_agent());
        acts
    }

    fn agent_ended(&mut self, now: Duration, how: &str) -> Vec<Act> {
        let lived = match self.agent {
            Agent::Running { since, .. } | Agent::Killed { since } => now.saturating_sub(since),
            Agent::Due(_) | Agent::Starting => Duration::ZERO,
        };
        if lived >= SETTLED || self.programs.ended(how) {
            self.backoff = Duration::ZERO;
        }
        self.agent = Agent::Due(now + self.backoff);
        self.backoff = (self.backoff * 2).clamp(BACKOFF_MIN, BACKOFF_MAX);
        let mut acts = self.stop_without_agent();
        acts.extend(self.end_if_over());
        acts
    }

    fn command(&mut self, now: Duration, command: Command) -> Vec<Act> {
        if let Agent::Running { heard, .. } = &mut self.agent {
            *heard = now;
        }
        match command {
            Command::Start(start) => {
                let refused =
                    self.engine_runs() || self.hard_stopping || self.stopping_since.is_some();
                if refused {
                    return vec![Act::Publish];
                }
                self.stop_signal = start.stop;
                vec![Act::StartEngine(start)]
            }
            Command::Signal(signal) if self.engine_runs() => vec![Act::SignalEngine(signal)],
            Command::Works => {
                self.programs.works();
                vec![Act::Publish]
            }
            Command::TryOut { program } => self.try_out(program),
            Command::Heartbeat | Command::Signal(_) => vec![Act::Publish],
            Command::HardStop => {
                self.hard_stopping = true;
                vec![Act::KillAll]
            }
        }
    }

    /// The agent makes room for a new one.
    fn try_out(&mut self, program: String) -> Vec<Act> {
        let Agent::Running { since, .. } = self.agent else {
            return vec![Act::Publish];
        };
        let busy = self.hard_stopping || self.stopping_since.is_some();
        if busy || !self.programs.try_out(program) {
            return vec![Act::Publish];
        }
        self.backoff = Duration::ZERO;
        self.agent = Agent::Killed { since };
        vec![Act::KillAgent]
    }

    /// While stopping, an engine that has no agent is told to stop, once.
    fn stop_without_agent(&mut self) -> Vec<Act> {
        let due = self.stopping_since.is_some()
            && !self.agent_lives()
            && self.engine_runs()
            && !self.engine_told;
        if !due {
            return vec![];
        }
        self.engine_told = true;
        vec![Act::SignalEngine(self.stop_signal)]
    }

    fn end_if_over(&self) -> Option<Act> {
        let over = self.stopping_since.is_some()
            && !self.agent_lives()
            && !self.engine_runs()
            && !self.hard_stopping;
        over.then_some(Act::Exit)
    }
}

#[cfg(test)]
#[path = "supervisor_tests.rs"]
mod tests;
