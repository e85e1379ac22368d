//! Processes that are killed, or stand still.

use std::time::Instant;

use anyhow::Result;
use rustix::process::Signal;

use crate::chaos::fault::{AGENT, Fault, Ground, INIT, fault};
use crate::scenarios::kit::{self, Look, READY};
use crate::scenarios::set::Kind;

/// This family.
pub const FAULTS: &[Fault] = &[
    fault!(
        postmaster_killed,
        "SIGKILL to the primary's first engine process"
    ),
    fault!(
        postmaster_stopped,
        "SIGSTOP to the primary's first engine process"
    ),
    fault!(
        engine_killed,
        "SIGKILL to the primary's engine, whose memory is lost with it"
    )
    .of_every_redis(),
    fault!(engine_stopped, "SIGSTOP to the primary's engine").of_every_redis(),
    fault!(agent_killed, "SIGKILL to the primary's agent").of_every(),
    fault!(agent_stopped, "SIGSTOP to the primary's agent").of_every(),
    fault!(
        container_killed,
        "SIGKILL to the first process of the primary's container"
    )
    .of_every(),
    fault!(
        container_killed_repeatedly,
        "the same, three times, each time to whoever is primary when all is whole again: the kubelet makes the container wait"
    )
    .of_every(),
    fault!(
        out_of_memory,
        "a session of the primary takes more memory than its container may have"
    )
    .of_every(),
    fault!(
        async_container_killed,
        "SIGKILL to the first process of the primary's container, and commits wait for nobody"
    )
    .without_waiting(),
];

/// Send a signal to such a process of the primary; returns its number.
pub(super) async fn signal(g: &Ground<'_>, part: &str, signal: Signal) -> Result<i32> {
    let before = g.process(&g.primary, part).await?;
    before.signal(signal)?;
    Ok(before.pid)
}

/// Wait until another process of the primary is in the place of that one.
pub(super) async fn another(g: &Ground<'_>, part: &str, before: i32) -> Result<()> {
    g.sandbox
        .until(&format!("another process {part:?}"), READY, || async {
            Ok(match g.process(&g.primary, part).await {
                Ok(now) if now.pid != before => Look::Done(()),
                Ok(_) => Look::NotYet("it is still there".to_owned()),
                Err(error) => Look::NotYet(format!("{error:#}")),
            })
        })
        .await
}

async fn signalled(g: &Ground<'_>, part: &str, which: Signal) -> Result<Instant> {
    let before = signal(g, part, which).await?;
    let since = Instant::now();
    another(g, part, before).await?;
    Ok(since)
}

async fn engine_killed(g: &Ground<'_>) -> Result<Instant> {
    signalled(g, g.kind.process(), Signal::KILL).await
}

async fn engine_stopped(g: &Ground<'_>) -> Result<Instant> {
    signalled(g, g.kind.process(), Signal::STOP).await
}

async fn postmaster_killed(g: &Ground<'_>) -> Result<Instant> {
    engine_killed(g).await
}

async fn postmaster_stopped(g: &Ground<'_>) -> Result<Instant> {
    engine_stopped(g).await
}

async fn agent_killed(g: &Ground<'_>) -> Result<Instant> {
    signalled(g, AGENT, Signal::KILL).await
}

async fn agent_stopped(g: &Ground<'_>) -> Result<Instant> {
    signalled(g, AGENT, Signal::STOP).await
}

async fn container_killed(g: &Ground<'_>) -> Result<Instant> {
    signalled(g, INIT, Signal::KILL).await
}

async fn async_container_killed(g: &Ground<'_>) -> Result<Instant> {
    container_killed(g).await
}

/// How often: from the second time on the kubelet waits before it starts a container again.
const KILLS: usize = 3;

async fn container_killed_repeatedly(g: &Ground<'_>) -> Result<Instant> {
    let mut since = Instant::now();
    for _ in 0..KILLS {
        // With one at a time, others can take over.
        g.settled().await?;
        let now = g.leads().await?;
        let init = g.process(&now, INIT).await?;
        init.kill()?;
        since = Instant::now();
        g.sandbox
            .until(
                &format!("another first process of {now}"),
                READY,
                || async {
                    Ok(match g.process(&now, INIT).await {
                        Ok(again) if again.pid != init.pid => Look::Done(()),
                        Ok(_) => Look::NotYet("it is still there".to_owned()),
                        Err(error) => Look::NotYet(format!("{error:#}")),
                    })
                },
            )
            .await?;
        g.writer.more(50).await?;
    }
    Ok(since)
}

/// More than a container of these sets may have.
const TOO_MUCH: &str = "select length(repeat('x', 1000000000))";
/// The same in a script, whose memory is not counted as data.
const TOO_MUCH_FOR_REDIS: &str = "return #string.rep('x', 1000000000)";

async fn out_of_memory(g: &Ground<'_>) -> Result<Instant> {
    let before = g.engine(&g.primary).await?.pid;
    let since = Instant::now();
    // Its session does not outlive it. That it came to that is seen by the engine's end.
    let _ = match g.kind {
        Kind::Postgres => g.sandbox.admin_sql(&g.primary, TOO_MUCH).await,
        Kind::Redis | Kind::RedisCluster => {
            let host = kit::host(&g.sandbox.namespace, "db", &g.primary);
            let script = ["call", "--host", &host, "EVAL", TOO_MUCH_FOR_REDIS, "0"];
            g.writer.run(&script).await
        }
    };
    another(g, g.kind.process(), before).await?;
    Ok(since)
}
