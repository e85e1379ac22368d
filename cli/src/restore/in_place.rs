//! A set goes back where it is, and what becomes of its volumes from before.

use anyhow::{Context as _, Result, bail, ensure};
use jiff::Timestamp;
use kube::ResourceExt as _;
use kube::api::{ListParams, ObjectMeta, Patch, PatchParams, PostParams};
use mainstay_crds::common::Target;
use mainstay_crds::restore::{Restore, RestorePhase, RestoreSpec};
use serde_json::json;

use super::{Options, Point, yaml};
use crate::follow::{Look, Progress};
use crate::sets::{Set, one};
use crate::words::condition;
use crate::{Asked, Output, Scene};

/// So much of a set's name is in that of the object, of 50 characters at most.
const NAME: usize = 27;
/// The kind of sets that keep a log, in which any place is a moment.
const LOGGED: &str = "Postgres";

/// What is said last of a restore.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Last {
    /// What came of it is good.
    Confirm,
    /// It is taken back.
    Revert,
}

/// The object that asks for it.
///
/// # Errors
/// The set cannot go back there; a sentence.
fn wanted(
    options: &Options,
    namespace: &str,
    set: &Set,
    to: &Point,
    now: Timestamp,
) -> Result<Restore> {
    let Set { kind, name, .. } = set;
    ensure!(
        kind == LOGGED || matches!(to, Point::Latest | Point::Time(_)),
        "of a {kind} no log is kept: write `latest`, or a time for the newest backup from before it"
    );
    ensure!(
        set.backups.is_some(),
        "{name} has no backups: its `spec.backup` is not set"
    );
    to.check(&set.said.recovery.clone().unwrap_or_default(), now)?;
    let short: String = name.chars().take(NAME).collect();
    let own = format!("{short}-restore-{}", now.strftime("%Y%m%d%H%M%S"));
    Ok(Restore {
        metadata: ObjectMeta {
            name: Some(options.name.clone().unwrap_or(own)),
            namespace: Some(namespace.to_owned()),
            ..ObjectMeta::default()
        },
        spec: RestoreSpec {
            target: Target {
                kind: kind.clone(),
                name: name.clone(),
            },
            moment: to.target(),
            backup: options.backup.clone(),
            timeout_seconds: options.timeout,
            cancel: None,
            confirm: None,
            revert: None,
        },
        status: None,
    })
}

fn phase(restore: &Restore) -> RestorePhase {
    let status = restore.status.as_ref();
    status.and_then(|s| s.phase).unwrap_or_default()
}

/// Whether volumes are kept by it, or will be: nothing more may be asked of the set until that is decided.
fn is_open(restore: &Restore) -> bool {
    let finished = restore.status.as_ref().and_then(|s| s.finished_at.as_ref());
    !phase(restore).is_over() && finished.is_none()
}

/// Restores of a set that are not over, the oldest first.
async fn open(scene: &Scene, set: &Set) -> Result<Vec<Restore>> {
    let all = scene.api::<Restore>().list(&ListParams::default()).await;
    let of_set = |r: &Restore| r.spec.target.kind == set.kind && r.spec.target.name == set.name;
    let mut open: Vec<Restore> = all
        .context("restores cannot be listed")?
        .items
        .into_iter()
        .filter(|r| of_set(r) && is_open(r))
        .collect();
    open.sort_by_key(|r| (r.creation_timestamp().map(|t| t.0), r.name_any()));
    Ok(open)
}

/// It is followed until the set serves as it was at that moment.
fn look(restore: &Restore) -> Look {
    let status = restore.status.clone().unwrap_or_default();
    let message = status.message.unwrap_or_default();
    match phase(restore) {
        RestorePhase::Restoring => match condition(&status.conditions, "Stalled") {
            Some(stalled) if stalled.status == "True" => Look::Failed(format!(
                "it does not go on until somebody looks: {}; `--revert` goes back to the volumes from before",
                stalled.message
            )),
            _ => on(message),
        },
        RestorePhase::Pending | RestorePhase::Stopping => on(message),
        RestorePhase::Restored => Look::Done(message),
        RestorePhase::Confirmed => Look::Done("it was confirmed by somebody".to_owned()),
        RestorePhase::Reverting | RestorePhase::Reverted => {
            Look::Failed(format!("it was taken back: {message}"))
        }
        RestorePhase::Failed => Look::Failed(format!("nothing was done: {message}")),
        RestorePhase::Cancelled => Look::Failed(format!("it was given up: {message}")),
    }
}

fn on(message: String) -> Look {
    Look::On(Progress {
        message,
        bytes: None,
    })
}

impl Last {
    /// Its field in the resource.
    fn field(self) -> &'static str {
        match self {
            Self::Confirm => "confirm",
            Self::Revert => "revert",
        }
    }

    /// Why it cannot be said of a restore now; none: it can.
    fn refused(self, restore: &Restore) -> Option<String> {
        use RestorePhase::{Pending, Restored, Restoring, Reverted, Reverting, Stopping};
        let name = restore.name_any();
        match (self, phase(restore)) {
            (_, Pending) => Some(format!(
                "{name} has not begun: `kubectl patch restore {name} --type merge -p '{{\"spec\":{{\"cancel\":true}}}}'` gives it up"
            )),
            (Self::Confirm, Stopping | Restoring | Reverting) => Some(format!(
                "{name} goes on, and there is nothing to be confirmed yet"
            )),
            (Self::Revert, Reverted) => Some(format!(
                "{name} was taken back already, which can be done once: `--confirm` deletes the restored volumes, and then there may be another restore"
            )),
            (Self::Revert, Restored) if restore.spec.is_confirmed() => Some(format!(
                "{name} was confirmed: its volumes from before are deleted"
            )),
            _ => None,
        }
    }

    /// It is followed until it is done.
    fn look(self, restore: &Restore) -> Look {
        let status = restore.status.clone().unwrap_or_default();
        let message = status.message.unwrap_or_default();
        match (self, phase(restore)) {
            (Self::Confirm, RestorePhase::Confirmed) | (Self::Revert, RestorePhase::Reverted) => {
                Look::Done(message)
            }
            (Self::Confirm, RestorePhase::Reverted) if status.finished_at.is_some() => {
                Look::Done(message)
            }
            (Self::Revert, RestorePhase::Confirmed) => {
                Look::Failed(format!("it was confirmed before: {message}"))
            }
            (_, RestorePhase::Failed | RestorePhase::Cancelled) => {
                Look::Failed(format!("nothing was done: {message}"))
            }
            _ => on(message),
        }
    }
}

/// The set goes back.
pub(super) async fn run(options: &Options, to: &Point, mut asked: Asked<'_>) -> Result<()> {
    let scene = asked.scene;
    let set = one(scene, &options.set).await?;
    let restore = wanted(options, &scene.namespace, &set, to, Timestamp::now())?;
    if options.dry_run {
        return match asked.output {
            Output::Json => crate::json(asked.out, &restore),
            Output::Text => Ok(write!(asked.out, "{}", yaml(&restore)?)?),
        };
    }
    if let Some(other) = open(scene, &set).await?.first() {
        bail!(
            "restore {} of {} is not over: end it with `--confirm` or `--revert` first",
            other.name_any(),
            set.name
        );
    }
    let api = scene.api::<Restore>();
    let made = match api.create(&PostParams::default(), &restore).await {
        Ok(made) => made,
        Err(kube::Error::Api(status)) if status.is_already_exists() => {
            bail!(
                "there is a restore {} already: name another one with `--name`",
                restore.name_any()
            )
        }
        Err(error) => return Err(error).context("the restore is not asked for"),
    };
    let told = format!("restore {} is asked for", made.name_any());
    asked.conclude(made, &told, options.no_wait, look).await
}

/// The last word on a restore of the set.
pub(super) async fn end(options: &Options, last: Last, mut asked: Asked<'_>) -> Result<()> {
    let scene = asked.scene;
    let set = one(scene, &options.set).await?;
    let open = open(scene, &set).await?;
    let restore = match (&options.name, &open[..]) {
        (Some(name), all) => all
            .iter()
            .find(|r| r.name_any() == *name)
            .with_context(|| format!("{} has no restore {name} that is not over", set.name))?,
        (None, [one]) => one,
        (None, []) => bail!(
            "{} has no restore in place that is not over: none of its volumes is kept",
            set.name
        ),
        (None, all) => {
            let names: Vec<String> = all.iter().map(kube::ResourceExt::name_any).collect();
            bail!("say which with `--name`: {}", names.join(", "))
        }
    };
    if let Some(why) = last.refused(restore) {
        bail!(why);
    }
    let name = restore.name_any();
    let body = json!({"spec": {last.field(): true}});
    let said = scene
        .api::<Restore>()
        .patch(&name, &PatchParams::default(), &Patch::Merge(body))
        .await
        .with_context(|| format!("{name} is as it was"))?;
    let told = format!("restore {name} is told to {}", last.field());
    let look = |restore: &Restore| last.look(restore);
    asked.conclude(said, &told, options.no_wait, look).await
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn seen(phase: &str, more: &Value) -> Restore {
        let mut status = json!({"phase": phase, "message": "so it is"});
        for (key, value) in more.as_object().unwrap() {
            status[key] = value.clone();
        }
        serde_json::from_value(json!({
            "apiVersion": "mainstay.dev/v1alpha1", "kind": "Restore",
            "metadata": {"name": "back"},
            "spec": {"target": {"kind": "Postgres", "name": "db"}},
            "status": status,
        }))
        .unwrap()
    }

    fn plain(phase: &str) -> Restore {
        seen(phase, &json!({}))
    }

    const DONE: &str = "so it is";

    #[test]
    fn it_is_followed_until_the_set_serves_or_cannot() {
        for going in ["Pending", "Stopping", "Restoring"] {
            assert_eq!(look(&plain(going)), on(DONE.into()), "{going}");
        }
        assert_eq!(look(&plain("Restored")), Look::Done(DONE.into()));
        for bad in ["Failed", "Cancelled", "Reverting", "Reverted"] {
            assert!(matches!(look(&plain(bad)), Look::Failed(_)), "{bad}");
        }
        let stalled = json!([{
            "type": "Stalled", "status": "True", "reason": "Failed", "message": "no backup leads there",
            "lastTransitionTime": "2026-01-01T00:00:00Z",
        }]);
        let stalled = json!({"conditions": stalled});
        let Look::Failed(why) = look(&seen("Restoring", &stalled)) else {
            panic!("somebody has to look");
        };
        assert!(
            why.contains("no backup leads there") && why.contains("--revert"),
            "{why}"
        );
        assert!(matches!(look(&seen("Pending", &stalled)), Look::On(_)));
    }

    #[test]
    fn the_last_word_is_refused_where_it_is_not_one() {
        use Last::{Confirm, Revert};
        for (last, phase) in [
            (Confirm, "Pending"),
            (Confirm, "Stopping"),
            (Confirm, "Restoring"),
            (Confirm, "Reverting"),
            (Revert, "Pending"),
            (Revert, "Reverted"),
        ] {
            assert!(last.refused(&plain(phase)).is_some(), "{last:?} {phase}");
        }
        for (last, phase) in [
            (Confirm, "Restored"),
            (Confirm, "Reverted"),
            (Revert, "Stopping"),
            (Revert, "Restoring"),
            (Revert, "Restored"),
        ] {
            assert_eq!(last.refused(&plain(phase)), None, "{last:?} {phase}");
        }
        let mut confirmed = plain("Restored");
        confirmed.spec.confirm = Some(true);
        assert!(Revert.refused(&confirmed).is_some());
    }

    #[test]
    fn the_last_word_is_followed_until_it_is_done() {
        use Last::{Confirm, Revert};
        let finished = json!({"finishedAt": "2026-01-01T00:00:00Z"});
        assert_eq!(Confirm.look(&plain("Restored")), on(DONE.into()));
        assert_eq!(Confirm.look(&plain("Confirmed")), Look::Done(DONE.into()));
        assert_eq!(Confirm.look(&plain("Reverted")), on(DONE.into()));
        let over = seen("Reverted", &finished);
        assert_eq!(Confirm.look(&over), Look::Done(DONE.into()));
        assert!(!is_open(&over) && is_open(&plain("Reverted")));
        for going in ["Restored", "Restoring", "Reverting"] {
            assert_eq!(Revert.look(&plain(going)), on(DONE.into()), "{going}");
        }
        assert_eq!(Revert.look(&plain("Reverted")), Look::Done(DONE.into()));
        assert!(matches!(Revert.look(&plain("Confirmed")), Look::Failed(_)));
    }
}
