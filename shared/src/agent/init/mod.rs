//! PID 1 of a data pod: starts the agent and, when the agent asks, the engine; keeps both apart;
//! watches the agent; reaps. Small, synchronous, never replaced. I/O; the rules are in
//! [`supervisor`].

pub mod client;
pub mod engine;
pub mod processes;
pub mod programs;
pub mod protocol;
pub mod supervisor;

use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;
use std::{fs, io, thread};

use nix::errno::Errno;
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid, waitpid};
use nix::unistd::{Pid, getpid};

use super::clock::boottime;
use super::state::absent;
use protocol::{Command, EngineSignal, Start};
use supervisor::{Act, Bounds, Input, Supervisor};

/// How PID 1 is told to work.
#[derive(Clone, Debug)]
pub struct Options {
    /// Program and arguments of the agent.
    pub agent: Vec<String>,
    /// Program and arguments of what becomes the engine whose command line follows: see [`engine`].
    pub engine: Vec<String>,
    /// Where it takes the agent's commands.
    pub socket: PathBuf,
    /// The bounds.
    pub bounds: Bounds,
}

/// PID 1 could not begin.
#[derive(Debug, thiserror::Error)]
pub enum InitError {
    /// The socket.
    #[error("cannot listen on {0}: {1}. The folder must be a writable emptyDir")]
    Socket(PathBuf, io::Error),
    /// Signals.
    #[error("cannot take signals: {0}")]
    Signals(Errno),
    /// There is nothing to start.
    #[error("no program was named for the agent, or for the engine")]
    NoProgram,
}

enum Event {
    Signal(Signal),
    Line(i32, Command),
    Connected(UnixStream),
}

const TICK: Duration = Duration::from_millis(250);
const TICK_HARD: Duration = Duration::from_millis(20);

/// Run as PID 1 until the container ends.
///
/// # Errors
/// Only before anything was started.
pub fn run(options: &Options) -> Result<(), InitError> {
    if options.agent.is_empty() || options.engine.is_empty() {
        return Err(InitError::NoProgram);
    }
    let mut signals = SigSet::empty();
    for signal in [Signal::SIGCHLD, Signal::SIGTERM, Signal::SIGINT] {
        signals.add(signal);
    }
    // Before any thread starts, so that all inherit the mask. So do children, which empty it before they do anything else.
    signals.thread_block().map_err(InitError::Signals)?;
    // Orphans of the engine come here also where this is not PID 1.
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))
        .map_err(|e| InitError::Signals(Errno::from_raw(e.raw_os_error())))?;

    let (events, inbox) = channel();
    listen(&options.socket, events.clone())
        .map_err(|e| InitError::Socket(options.socket.clone(), e))?;
    thread::spawn(move || {
        while let Ok(signal) = signals.wait() {
            if events.send(Event::Signal(signal)).is_err() {
                return;
            }
        }
    });
    let mut init = Init {
        options: options.clone(),
        supervisor: Supervisor::new(options.bounds),
        agent: None,
        engine: None,
        peer: None,
    };
    init.live(&inbox);
    Ok(())
}

fn listen(path: &Path, events: Sender<Event>) -> io::Result<()> {
    absent(fs::remove_file(path))?;
    let listener = UnixListener::bind(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let Ok(peer) = rustix::net::sockopt::socket_peercred(&stream) else {
                continue;
            };
            let (Ok(reader), events) = (stream.try_clone(), events.clone()) else {
                continue;
            };
            // An agent that does not read must not hold up PID 1.
            let timeout = stream.set_write_timeout(Some(Duration::from_millis(200)));
            if timeout.is_err() || events.send(Event::Connected(stream)).is_err() {
                continue;
            }
            let pid = peer.pid.as_raw_nonzero().get();
            thread::spawn(move || {
                for line in BufReader::new(reader).lines() {
                    let Ok(line) = line else { return };
                    match serde_json::from_str(&line) {
                        Ok(command) => {
                            if events.send(Event::Line(pid, command)).is_err() {
                                return;
                            }
                        }
                        Err(e) => log(&format!("a line on the socket is no command: {e}")),
                    }
                }
            });
        }
    });
    Ok(())
}

struct Init {
    options: Options,
    supervisor: Supervisor,
    agent: Option<Child>,
    engine: Option<Child>,
    peer: Option<UnixStream>,
}

impl Init {
    fn live(&mut self, inbox: &Receiver<Event>) {
        if self.feed(Input::Tick) {
            return;
        }
        loop {
            let tick = if self.supervisor.hard_stopping() {
                TICK_HARD
            } else {
                TICK
            };
            let event = match inbox.recv_timeout(tick) {
                Ok(event) => Some(event),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => return,
            };
            // What is waiting counts before time does: after a stall of the whole machine the
            // agent's heartbeats are in the queue.
            let mut over = event.is_some_and(|e| self.take(e));
            while let Ok(event) = inbox.try_recv() {
                over |= self.take(event);
            }
            over |= self.reap();
            over |= self.feed(Input::Tick);
            if over {
                return;
            }
        }
    }

    fn take(&mut self, event: Event) -> bool {
        match event {
            Event::Signal(Signal::SIGTERM | Signal::SIGINT) => {
                log("the container is being stopped");
                self.feed(Input::Terminate)
            }
            Event::Signal(_) => self.reap(),
            Event::Connected(stream) => {
                if self.is_agent(&stream) {
                    self.peer = Some(stream);
                    self.feed(Input::Command(Command::Heartbeat))
                } else {
                    false
                }
            }
            Event::Line(pid, command) => {
                // An agent of before, or a stranger in the container, commands nothing.
                let known = self
                    .agent
                    .as_ref()
                    .is_some_and(|a| a.id().cast_signed() == pid);
                known && self.feed(Input::Command(command))
            }
        }
    }

    fn is_agent(&self, stream: &UnixStream) -> bool {
        let Ok(peer) = rustix::net::sockopt::socket_peercred(stream) else {
            return false;
        };
        let pid = peer.pid.as_raw_nonzero().get();
        self.agent
            .as_ref()
            .is_some_and(|a| a.id().cast_signed() == pid)
    }

    /// Give the supervisor an input and do what it says. True at the end.
    fn feed(&mut self, input: Input) -> bool {
        let mut inputs = vec![input];
        let mut over = false;
        while let Some(input) = inputs.pop() {
            for act in self.supervisor.step(boottime(), input) {
                match act {
                    Act::Exit => over = true,
                    act => inputs.extend(self.act(act)),
                }
            }
        }
        over
    }

    fn act(&mut self, act: Act) -> Option<Input> {
        match act {
            Act::StartAgent => Some(self.start_agent()),
            Act::KillAgent => {
                if let Some(agent) = &self.agent {
                    let _ = kill(Pid::from_raw(agent.id().cast_signed()), Signal::SIGKILL);
                }
                None
            }
            Act::StartEngine(start) => Some(self.start_engine(&start)),
            Act::SignalEngine(signal) => {
                if let Some(engine) = &self.engine {
                    let _ = kill(Pid::from_raw(engine.id().cast_signed()), native(signal));
                }
                None
            }
            Act::KillAll => {
                let agent = self.agent.as_ref().map(|a| a.id().cast_signed());
                let spared: Vec<i32> = agent.into_iter().collect();
                Some(Input::Left(processes::kill_all(getpid().as_raw(), &spared)))
            }
            Act::Publish => {
                self.publish();
                None
            }
            Act::Exit => None,
        }
    }

    fn publish(&mut self) {
        let Some(peer) = &mut self.peer else { return };
        let Ok(mut line) = serde_json::to_vec(&self.supervisor.state(boottime())) else {
            return;
        };
        line.push(b'\n');
        if peer.write_all(&line).is_err() {
            self.peer = None;
        }
    }

    fn start_agent(&mut self) -> Input {
        let Some((own, args)) = self.options.agent.split_first() else {
            return Input::AgentEnded("no program was named".to_owned());
        };
        let program = self.supervisor.program().unwrap_or(own);
        let spawned = std::process::Command::new(program)
            .args(args)
            .stdin(Stdio::null())
            .spawn();
        match spawned {
            Ok(child) => {
                self.agent = Some(child);
                Input::AgentStarted
            }
            Err(e) => {
                let how = format!("{program} cannot be started: {e}");
                log(&how);
                Input::AgentEnded(how)
            }
        }
    }

    fn start_engine(&mut self, start: &Start) -> Input {
        let Some((program, args)) = self.options.engine.split_first() else {
            return Input::EngineEnded("no program was named".into(), false);
        };
        let spawned = std::process::Command::new(program)
            .args(args)
            .args(&start.argv)
            .env_clear()
            .envs(&start.env)
            .current_dir(&start.cwd)
            .stdin(Stdio::null())
            .process_group(0)
            .spawn();
        match spawned {
            Ok(child) => {
                let pid = child.id().cast_signed();
                self.engine = Some(child);
                Input::EngineStarted(pid)
            }
            Err(e) => Input::EngineEnded(format!("cannot start {program}: {e}"), false),
        }
    }

    /// Reap: orphans here; agent and engine by their owners, so that no status is lost.
    fn reap(&mut self) -> bool {
        let mut over = false;
        loop {
            let peek = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
            let Ok(WaitStatus::Exited(pid, _) | WaitStatus::Signaled(pid, _, _)) =
                waitid(Id::All, peek)
            else {
                return over;
            };
            if let Some(status) = ended(&mut self.agent, pid) {
                log(&format!("the agent ended: {}", how(status)));
                self.peer = None;
                over |= self.feed(Input::AgentEnded(how(status)));
            } else if let Some(status) = ended(&mut self.engine, pid) {
                over |= self.feed(Input::EngineEnded(how(status), status.success()));
            } else if waitpid(pid, Some(WaitPidFlag::WNOHANG)).is_err() {
                return over;
            }
        }
    }
}

/// The status of `child` if it is `pid`, which has ended; the owner reaps it here.
fn ended(child: &mut Option<Child>, pid: Pid) -> Option<ExitStatus> {
    let owner = child
        .as_mut()
        .filter(|c| c.id().cast_signed() == pid.as_raw())?;
    let status = owner.try_wait().ok().flatten()?;
    *child = None;
    Some(status)
}

fn how(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) if code == i32::from(engine::NOT_FOUND) => {
            format!("exit code {code}: its program could not be run, the log says why")
        }
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => "unknown".to_owned(),
    }
}

fn native(signal: EngineSignal) -> Signal {
    match signal {
        EngineSignal::Hangup => Signal::SIGHUP,
        EngineSignal::Interrupt => Signal::SIGINT,
        EngineSignal::Quit => Signal::SIGQUIT,
        EngineSignal::Terminate => Signal::SIGTERM,
    }
}

/// One line of JSON, as all of the pod's log. A closed stderr is no reason for PID 1 to end.
fn log(message: &str) {
    let line = serde_json::json!({"level": "INFO", "target": "init", "message": message});
    let _ = writeln!(io::stderr(), "{line}");
}
