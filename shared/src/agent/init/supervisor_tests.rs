use std::collections::BTreeMap;
use std::time::Duration;

use super::*;

const BOUNDS: Bounds = Bounds {
    watchdog: Duration::from_secs(10),
    grace: Duration::from_secs(25),
};

fn at(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn start() -> Start {
    Start {
        argv: vec!["engine".into()],
        env: BTreeMap::new(),
        cwd: "/".into(),
        stop: EngineSignal::Interrupt,
    }
}

/// Agent and engine run, at second 0.
fn running() -> Supervisor {
    let mut s = Supervisor::new(BOUNDS);
    assert_eq!(s.step(at(0), Input::Tick), vec![Act::StartAgent]);
    s.step(at(0), Input::AgentStarted);
    let acts = s.step(at(0), Input::Command(Command::Start(start())));
    assert_eq!(acts, vec![Act::StartEngine(start())]);
    s.step(at(0), Input::EngineStarted(7));
    s
}

#[test]
fn a_dead_agent_is_started_again_and_the_engine_is_left_alone() {
    let mut s = running();
    assert_eq!(s.step(at(1), Input::AgentEnded("signal 9".into())), vec![]);
    assert_eq!(s.step(at(1), Input::Tick), vec![Act::StartAgent]);
    s.step(at(1), Input::AgentStarted);
    assert_eq!(s.step(at(2), Input::AgentEnded("signal 9".into())), vec![]);
    assert_eq!(
        s.step(at(2), Input::Tick),
        vec![],
        "the second time it waits"
    );
    assert_eq!(s.step(at(3), Input::Tick), vec![Act::StartAgent]);
    assert_eq!(s.state(at(3)).engine, Engine::Running { pid: 7 });
}

#[test]
fn a_silent_agent_costs_the_engine_and_then_itself() {
    let mut s = running();
    s.step(at(5), Input::Command(Command::Heartbeat));
    assert_eq!(s.step(at(15), Input::Tick), vec![]);
    assert_eq!(
        s.step(at(16), Input::Tick),
        vec![Act::KillAll, Act::KillAgent]
    );
    s.step(at(16), Input::AgentEnded("signal 9".into()));
    assert_eq!(
        s.step(at(17), Input::Tick),
        vec![Act::KillAll],
        "until none is left"
    );
    s.step(at(17), Input::EngineEnded("signal 9".into(), false));
    assert_eq!(s.step(at(17), Input::Left(0)), vec![Act::Publish]);
    assert_eq!(s.step(at(17), Input::Tick), vec![Act::StartAgent]);
}

#[test]
fn no_engine_starts_during_a_hard_stop() {
    let mut s = running();
    assert_eq!(
        s.step(at(1), Input::Command(Command::HardStop)),
        vec![Act::KillAll]
    );
    s.step(at(1), Input::EngineEnded("signal 9".into(), false));
    assert_eq!(s.step(at(1), Input::Left(1)), vec![]);
    let refused = s.step(at(1), Input::Command(Command::Start(start())));
    assert_eq!(refused, vec![Act::Publish]);
    s.step(at(2), Input::Left(0));
    let again = s.step(at(2), Input::Command(Command::Start(start())));
    assert_eq!(again, vec![Act::StartEngine(start())]);
}

#[test]
fn an_orderly_stop_ends_when_both_are_gone() {
    let mut s = running();
    assert_eq!(s.step(at(1), Input::Terminate), vec![Act::Publish]);
    assert_eq!(s.state(at(2)).stop_within, Some(24_000));
    assert_eq!(
        s.step(at(2), Input::EngineEnded("code 0".into(), true)),
        vec![Act::Publish]
    );
    assert_eq!(
        s.step(at(2), Input::AgentEnded("signal 9".into())),
        vec![Act::Exit]
    );
}

#[test]
fn a_stop_without_agent_stops_the_engine_in_order() {
    let mut s = running();
    s.step(at(1), Input::Terminate);
    assert_eq!(
        s.step(at(2), Input::AgentEnded("signal 9".into())),
        vec![Act::SignalEngine(EngineSignal::Interrupt)]
    );
    assert_eq!(
        s.step(at(3), Input::Tick),
        vec![],
        "told once, and no agent is started"
    );
    let end = s.step(at(3), Input::EngineEnded("code 0".into(), true));
    assert_eq!(end, vec![Act::Publish, Act::Exit]);
}

#[test]
fn a_stop_that_takes_too_long_gets_hard() {
    let mut s = running();
    s.step(at(1), Input::Terminate);
    for second in 2..=26 {
        s.step(at(second), Input::Command(Command::Heartbeat));
        assert_eq!(s.step(at(second), Input::Tick), vec![]);
    }
    assert_eq!(
        s.step(at(27), Input::Tick),
        vec![Act::KillAgent, Act::KillAll]
    );
    s.step(at(27), Input::AgentEnded("signal 9".into()));
    s.step(at(27), Input::EngineEnded("signal 9".into(), false));
    assert_eq!(
        s.step(at(27), Input::Left(0)),
        vec![Act::Publish, Act::Exit]
    );
}

#[test]
fn a_new_program_takes_over_beside_the_engine() {
    let mut s = running();
    let program = "/bin/new".to_owned();
    let acts = s.step(at(1), Input::Command(Command::TryOut { program }));
    assert_eq!(acts, vec![Act::KillAgent]);
    s.step(at(1), Input::AgentEnded("signal 9".into()));
    assert_eq!(s.program(), Some("/bin/new"));
    assert_eq!(s.step(at(1), Input::Tick), vec![Act::StartAgent], "at once");
    s.step(at(1), Input::AgentStarted);
    s.step(at(2), Input::Command(Command::Works));
    for now in 3..70 {
        s.step(at(now), Input::Command(Command::Heartbeat));
        assert_eq!(s.step(at(now), Input::Tick), vec![]);
    }
    assert_eq!(s.state(at(70)).engine, Engine::Running { pid: 7 });
    assert_eq!(s.state(at(70)).given_up, None);
}

#[test]
fn a_new_program_that_hangs_costs_the_engine_nothing() {
    let mut s = running();
    let program = "/bin/new".to_owned();
    s.step(at(1), Input::Command(Command::TryOut { program }));
    s.step(at(1), Input::AgentEnded("signal 9".into()));
    s.step(at(1), Input::Tick);
    s.step(at(1), Input::AgentStarted);
    assert_eq!(s.step(at(9), Input::Tick), vec![]);
    assert_eq!(s.step(at(10), Input::Tick), vec![Act::KillAgent]);
    s.step(at(10), Input::AgentEnded("signal 9".into()));
    assert_eq!(s.program(), None);
    assert_eq!(s.step(at(10), Input::Tick), vec![Act::StartAgent]);
    let state = s.state(at(10));
    assert_eq!(state.engine, Engine::Running { pid: 7 });
    assert_eq!(state.given_up.unwrap().program, "/bin/new");
}

#[test]
fn a_new_program_is_not_tried_out_while_the_container_stops() {
    let mut s = running();
    s.step(at(1), Input::Terminate);
    let program = "/bin/new".to_owned();
    let acts = s.step(at(1), Input::Command(Command::TryOut { program }));
    assert_eq!(acts, vec![Act::Publish]);
    assert_eq!(s.program(), None);
}
