//! Looks at the running engine again and again, in a task of its own: the machine never waits for
//! SQL. I/O.

use std::sync::Arc;
use std::time::Duration;

use mainstay_shared::agent::clock::boottime;
use mainstay_shared::agent::tell::set;
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::time::sleep;

use super::place::Place;
use super::sql::{self, Session, SqlError, Vitals};

/// What was seen last.
#[derive(Clone, Debug, PartialEq)]
pub enum Sight {
    /// Nothing: no engine runs, or it does not answer, for this reason.
    Dark(String),
    /// It starts, recovers or stops.
    NotYet,
    /// It answers.
    Up {
        /// Time since boot, taken before it was asked.
        at: Duration,
        /// What it said.
        vitals: Box<Vitals>,
        /// Settings that wait for a restart.
        pending_restart: Vec<String>,
        /// What is wrong with the configuration files.
        configuration_error: Option<String>,
        /// The load of the configuration of which these two tell, in seconds since 1970.
        settings_of: f64,
    },
}

/// Pause between looks at an engine that is up, unless told otherwise.
pub const CALM: Duration = Duration::from_secs(1);
/// So much lies at least between looks that include a small write, and ask who lets others in. A promotion ends
/// with a durable write of its own.
const FULL: Duration = Duration::from_secs(2);
/// Pause between looks at one that is not.
const EAGER: Duration = Duration::from_millis(100);
/// Pause after a nudge, for so many looks: something is about to change, and others wait for it.
const HURRY: (Duration, u32) = (Duration::from_millis(15), 65);
/// Every so many looks the settings are read as well, as after each load of the configuration.
const SETTINGS: u32 = 15;

/// The monitor's other end.
#[derive(Clone, Debug)]
pub struct Monitor {
    /// What was seen last.
    pub sight: watch::Receiver<Sight>,
    /// Whether an engine runs at all.
    pub wanted: watch::Sender<bool>,
    /// Wakes it: look now, and often for a while.
    pub look: Arc<Notify>,
    /// Pause between looks at an engine that is up.
    pub pace: watch::Sender<Duration>,
    /// Time since boot since when the engine's first process answers nobody, though it is there.
    pub mute: watch::Receiver<Option<Duration>>,
    /// Promotions that are asked for.
    promotions: mpsc::Sender<Promotion>,
}

/// Where it is said what came of it. Who does not wait for it any more does not want it.
type Promotion = oneshot::Sender<Result<(), SqlError>>;

impl Monitor {
    /// Have the replica that is looked at become primary: between two looks, on the connection that is there. Done
    /// when it was told; it is seen in the vitals.
    ///
    /// # Errors
    /// It does not run, refuses, or does not answer.
    pub async fn promote(&self) -> Result<(), SqlError> {
        let (answer, told) = oneshot::channel();
        let asked = self.promotions.send(answer).await;
        asked.map_err(|_| SqlError::NotYet)?;
        told.await.map_err(|_| SqlError::NotYet)?
    }
}

/// Start it.
pub fn monitor(place: Arc<Place>) -> Monitor {
    let (tell, sight) = watch::channel(Sight::Dark("not looked at yet".to_owned()));
    let (wanted, want) = watch::channel(false);
    let look = Arc::new(Notify::new());
    let (cadence, calm) = watch::channel(CALM);
    let (muteness, mute) = watch::channel(None);
    let (promotions, asked) = mpsc::channel(1);
    let ears = Ears {
        want,
        look: Arc::clone(&look),
        cadence: calm,
        promotions: asked,
    };
    tokio::spawn(run(place, (tell, muteness), ears));
    Monitor {
        sight,
        wanted,
        look,
        pace: cadence,
        mute,
        promotions,
    }
}

/// What the monitor heeds.
struct Ears {
    want: watch::Receiver<bool>,
    look: Arc<Notify>,
    cadence: watch::Receiver<Duration>,
    promotions: mpsc::Receiver<Promotion>,
}

async fn run(
    place: Arc<Place>,
    (tell, muteness): (watch::Sender<Sight>, watch::Sender<Option<Duration>>),
    mut ears: Ears,
) {
    let mut full_at = Duration::ZERO;
    let mut session: Option<Session> = None;
    let mut count: u32 = 0;
    let mut hurry: u32 = 0;
    let mut settings = Settings::default();
    let mut moves: u32 = 0;
    let mut promoted = false;
    loop {
        if !*ears.want.borrow_and_update() {
            session = None;
            count = 0;
            promoted = false;
            tell.send_replace(Sight::Dark("it does not run".to_owned()));
            muteness.send_replace(None);
            if ears.want.changed().await.is_err() {
                return;
            }
            continue;
        }
        let before = match &*tell.borrow() {
            Sight::Up { vitals, .. } => Some(vitals.clone()),
            _ => None,
        };
        let calm = *ears.cadence.borrow_and_update();
        let full = count == 0 || boottime().saturating_sub(full_at) >= FULL;
        if full {
            full_at = boottime();
        }
        let began = boottime();
        let mut seen = once(&place, &mut session, full, &mut settings).await;
        if let (Some(before), Ok((_, vitals))) = (before, &mut seen) {
            let same = before.in_recovery && !before.attached;
            // Before the second record that follows the look they were read again.
            moves = match vitals.position > before.position {
                _ if !same || !vitals.in_recovery => 0,
                true => moves + 1,
                false => moves,
            };
            vitals.heeds |= moves > 1;
        }
        if let (true, Ok((_, vitals)), Some(session)) = (promoted, &seen, &session)
            && !vitals.in_recovery
        {
            // Who was let in by the configuration of before and was not through when it was told to be promoted.
            match session.end_clients().await {
                Ok(()) => promoted = false,
                Err(error) => seen = Err(error),
            }
        }
        let mut seen = seen.map(|(at, vitals)| settings.with(at, vitals));
        if let (Ok(Sight::Up { at, vitals, .. }), Some(session)) = (&seen, &session)
            && (settings.of < vitals.loaded_at || (hurry == 0 && count.is_multiple_of(SETTINGS)))
        {
            tell.send_replace(settings.with(*at, vitals.clone()));
            let read = settings.read(session, vitals.loaded_at).await;
            seen = read.map(|()| settings.with(*at, vitals.clone()));
        }
        let pause = match &seen {
            Ok(_) if hurry > 0 => HURRY.0,
            Ok(_) => calm,
            Err(_) => EAGER,
        };
        set(
            &muteness,
            match &seen {
                Err(SqlError::Mute) => Some(muteness.borrow().unwrap_or(began)),
                _ => None,
            },
        );
        count = count.wrapping_add(1);
        hurry = hurry.saturating_sub(1);
        tell.send_replace(match seen {
            Ok(sight) => sight,
            Err(error) => {
                session = None;
                // Another engine, or the same after a failure: all is read anew.
                count = 0;
                match error {
                    SqlError::NotYet => Sight::NotYet,
                    other => Sight::Dark(other.to_string()),
                }
            }
        });
        tokio::select! {
            biased;
            Some(answer) = ears.promotions.recv() => if !answer.is_closed() {
                let done = match &session {
                    Some(session) => session.promote().await,
                    None => Err(SqlError::NotYet),
                };
                promoted |= done.is_ok();
                hurry = HURRY.1;
                let _ = answer.send(done);
            },
            changed = ears.want.changed() => if changed.is_err() { return },
            // As often, but not all that a first look asks: that would cost those who wait.
            () = ears.look.notified() => hurry = HURRY.1,
            Ok(()) = ears.cadence.changed() => {}
            () = sleep(pause) => {}
        }
    }
}

/// What was read of the settings last.
#[derive(Default)]
struct Settings {
    pending: Vec<String>,
    error: Option<String>,
    of: f64,
}

impl Settings {
    async fn read(&mut self, session: &Session, loaded_at: f64) -> Result<(), SqlError> {
        (self.pending, self.error) = session.settings().await?;
        self.of = loaded_at;
        Ok(())
    }

    fn with(&self, at: Duration, vitals: Box<Vitals>) -> Sight {
        Sight::Up {
            at,
            vitals,
            pending_restart: self.pending.clone(),
            configuration_error: self.error.clone(),
            settings_of: self.of,
        }
    }
}

/// Time since boot before it was asked, and what it said. Of a new start nothing is told before its settings
/// were read as well.
async fn once(
    place: &Place,
    session: &mut Option<Session>,
    full: bool,
    settings: &mut Settings,
) -> Result<(Duration, Box<Vitals>), SqlError> {
    // A new connection may be to a new start, of which nothing seen earlier holds.
    let new = session.as_ref().is_none_or(Session::is_closed);
    let session = match session {
        Some(session) if !new => session,
        _ => match Session::begin(place).await {
            Ok(new) => session.insert(new),
            Err(SqlError::Timeout) => {
                // Who lets others in may be well, and what comes after it slow.
                sql::answers(place).await?;
                return Err(SqlError::Timeout);
            }
            Err(error) => return Err(error),
        },
    };
    let at = boottime();
    if !new && full {
        sql::answers(place).await?;
    }
    let vitals = session.vitals(full).await?;
    if new {
        settings.read(session, vitals.loaded_at).await?;
    }
    Ok((at, Box::new(vitals)))
}
