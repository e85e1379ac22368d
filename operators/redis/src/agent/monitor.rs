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
    },
}

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
    loop {
        let wanted = *want.borrow_and_update();
        if wanted != start {
            // Another engine: nothing seen of the one before holds.
            start = wanted;
            session = None;
            mark = None;
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
            Ok(vitals) => Sight::Up {
                at,
                vitals: Box::new(vitals),
            },
            Err(error) => {
                session = None;
                match error {
                    SessionError::Loading => Sight::Loading,
                    other => Sight::Dark(other.to_string()),
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

async fn once(access: &Access, session: &mut Option<Session>) -> Result<Vitals, SessionError> {
    let open = match session.take() {
        Some(open) => open,
        None => Session::begin(access).await?,
    };
    // Kept only after a whole answer.
    let session = session.insert(open);
    session.vitals().await
}
