//! Looks at the running engine again and again, in a task of its own: the machine never waits for it. I/O.

use std::sync::Arc;
use std::time::Duration;

use mainstay_shared::agent::clock::boottime;
use mainstay_shared::agent::tell::set;
use tokio::sync::{Notify, watch};
use tokio::time::sleep;

use super::mark::Mark;
use super::session::{Access, Session, SessionError};
use super::vitals::Vitals;

/// What was seen last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sight {
    /// Nothing: no engine runs, or it does not answer, for this reason.
    Dark(String),
    /// It reads its dataset.
    Loading,
    /// It answers.
    Up {
        /// Time since boot, taken before it was asked.
        at: Duration,
        /// What it said.
        vitals: Box<Vitals>,
        /// It says no more than this since then.
        busy: Option<Busy>,
    },
}

/// It answers that it runs a script, which holds everybody up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Busy {
    /// Time since boot when it said so first.
    pub since: Duration,
    /// And last; taken before it was asked.
    pub at: Duration,
}

/// A script that has held everybody up for so long is ended. Until then it is a sign of life.
pub const LONGEST_SCRIPT: Duration = Duration::from_secs(30);
/// One that cannot be ended is told to end so often.
const AGAIN: Duration = Duration::from_secs(5);
/// A script that has said before that it runs says so again at once; the next one only when it has run for
/// `busy-reply-threshold`, which is a second at least.
const AT_ONCE: Duration = Duration::from_millis(500);

/// Pause between looks at an engine that is up.
const CALM: Duration = Duration::from_secs(1);
/// Pause between looks at one that is not.
const EAGER: Duration = Duration::from_millis(100);
/// Pause after a nudge, for so many looks: something is about to change, and others wait for it.
const HURRY: (Duration, u32) = (Duration::from_millis(15), 65);

/// The monitor's other end.
#[derive(Clone, Debug)]
pub struct Monitor {
    /// What was seen last.
    pub sight: watch::Receiver<Sight>,
    /// Number of the start that runs, if one does.
    pub wanted: watch::Sender<Option<u64>>,
    /// Wakes it: look now, and often for a while.
    pub look: Arc<Notify>,
    /// Time since boot since when the engine answers nobody, though it is there.
    pub mute: watch::Receiver<Option<Duration>>,
}

/// Start it.
pub fn monitor(access: Access) -> Monitor {
    let (tell, sight) = watch::channel(Sight::Dark("not looked at yet".to_owned()));
    let (wanted, want) = watch::channel(None);
    let look = Arc::new(Notify::new());
    let (muteness, mute) = watch::channel(None);
    tokio::spawn(run(access, tell, muteness, want, Arc::clone(&look)));
    Monitor {
        sight,
        wanted,
        look,
        mute,
    }
}

async fn run(
    access: Access,
    tell: watch::Sender<Sight>,
    muteness: watch::Sender<Option<Duration>>,
    mut want: watch::Receiver<Option<u64>>,
    look: Arc<Notify>,
) {
    let mut session: Option<Session> = None;
    let mut hurry: u32 = 0;
    let mut start = None;
    let mut mark = None;
    // What a script that it is busy with began from.
    let mut before: Option<(Duration, Box<Vitals>)> = None;
    let mut busy: Option<Busy> = None;
    let mut ended_at: Option<Duration> = None;
    loop {
        let wanted = *want.borrow_and_update();
        if wanted != start {
            // Another engine: nothing seen of the one before holds.
            start = wanted;
            session = None;
            mark = None;
            (before, busy) = (None, None);
            tell.send_replace(Sight::Dark("it does not run".to_owned()));
            muteness.send_replace(None);
        }
        if wanted.is_none() {
            if want.changed().await.is_err() {
                return;
            }
            continue;
        }
        let at = boottime();
        let mut seen = once(&access, &mut session).await;
        if let Ok(vitals) = &mut seen {
            remember(&mut mark, vitals);
        }
        busy = match seen {
            Err(SessionError::Busy) => Some(went_on(busy, at, boottime())),
            _ => None,
        };
        let told_late = busy.is_some_and(|b| b.at >= b.since + LONGEST_SCRIPT);
        if told_late && ended_at.is_none_or(|last| at >= last + AGAIN) {
            ended_at = Some(at);
            end_script(&access).await;
        }
        let silent = matches!(seen, Err(SessionError::Mute));
        let since = silent.then(|| muteness.borrow().unwrap_or(at));
        set(&muteness, since);
        let pause = match &seen {
            Ok(_) if hurry > 0 => HURRY.0,
            Ok(_) => CALM,
            Err(_) => EAGER,
        };
        hurry = hurry.saturating_sub(1);
        if want.has_changed().unwrap_or(true) {
            continue;
        }
        tell.send_replace(match seen {
            Ok(vitals) if vitals.loading => Sight::Loading,
            Ok(vitals) => {
                let vitals = Box::new(vitals);
                before = Some((at, vitals.clone()));
                Sight::Up {
                    at,
                    vitals,
                    busy: None,
                }
            }
            Err(error) => {
                session = None;
                match (error, &before) {
                    (SessionError::Loading, _) => Sight::Loading,
                    (SessionError::Busy, Some((at, vitals))) => Sight::Up {
                        at: *at,
                        vitals: vitals.clone(),
                        busy,
                    },
                    (other, _) => Sight::Dark(other.to_string()),
                }
            }
        });
        tokio::select! {
            () = sleep(pause) => {}
            () = look.notified() => hurry = HURRY.1,
            changed = want.changed() => if changed.is_err() { return },
        }
    }
}

/// Somebody may remove the library with the mark (`FUNCTION FLUSH`): the dataset is what it was, and bears it again soon.
fn remember(mark: &mut Option<Mark>, vitals: &mut Vitals) {
    if vitals.mark.is_some() {
        mark.clone_from(&vitals.mark);
    } else if !vitals.loading && !vitals.syncing {
        vitals.mark.clone_from(mark);
        vitals.mark_lost = vitals.mark.is_some();
    }
}

/// It was asked at `at` and said by `now` that it runs a script: the one that was known, or another.
fn went_on(known: Option<Busy>, at: Duration, now: Duration) -> Busy {
    let same = known.filter(|_| now.saturating_sub(at) < AT_ONCE);
    Busy {
        since: same.map_or(now, |b| b.since),
        at,
    }
}

/// Nobody is served meanwhile, and nothing else ends it.
async fn end_script(access: &Access) {
    let ended = async { Session::begin(access).await?.end_script().await };
    match ended.await {
        Ok(()) => {
            tracing::warn!("a script held everybody up for {LONGEST_SCRIPT:?}, and was ended");
        }
        Err(error) => {
            tracing::warn!(%error, "a script that holds everybody up could not be ended");
        }
    }
}

async fn once(access: &Access, session: &mut Option<Session>) -> Result<Vitals, SessionError> {
    let open = match session.take() {
        Some(open) => open,
        None => Session::begin(access).await?,
    };
    // Kept only after a whole answer.
    let session = session.insert(open);
    session.vitals().await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scripts_one_after_the_other_are_not_one_long_script() {
        let ms = Duration::from_millis;
        let first = went_on(None, ms(1000), ms(2900));
        assert_eq!(first.since, ms(2900));
        let on = went_on(Some(first), ms(3000), ms(3001));
        assert_eq!((on.since, on.at), (ms(2900), ms(3000)));
        let next = went_on(Some(on), ms(3100), ms(5000));
        assert_eq!((next.since, next.at), (ms(5000), ms(3100)));
    }
}
