//! Looks after the repository: opens it when settings or secrets change, claims it, reads what is in it. I/O.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use mainstay_backup::catalogue::Catalogue;
use mainstay_backup::owner::Claim;
use mainstay_backup::repository::{ClaimError, Repository};
use mainstay_backup::store::Store;
use tokio::time::{Instant, timeout};

use super::Engine;
use super::settings::{BACKUP_FILE, REPOSITORY, SECRETS, Settings};
use super::state::{Away, Repo, Shared, lock};
use crate::agent::mounts::{Fingerprint, fingerprint};
use crate::agent::{config, paths};

/// How often mounts are looked at.
const LOOK: Duration = Duration::from_secs(2);
/// How often the catalogue is read.
const READ: Duration = Duration::from_mins(10);
/// How often a claim that was refused is made again: somebody may have made room.
const REFUSED: Duration = Duration::from_mins(1);
/// Longest pause after a failure.
const PAUSE: Duration = Duration::from_secs(20);

/// Looks after the repository until the process ends.
pub struct Keeper<E: Engine> {
    shared: Arc<Shared<E>>,
    seen: Option<(Fingerprint, Fingerprint)>,
    next: Instant,
    pause: Duration,
}

impl<E: Engine> Keeper<E> {
    /// Nothing is known.
    pub fn new(shared: Arc<Shared<E>>) -> Self {
        Self {
            shared,
            seen: None,
            next: Instant::now(),
            pause: LOOK,
        }
    }

    /// Runs until the process ends.
    pub async fn run(mut self) {
        loop {
            let asked = timeout(LOOK, self.shared.keeper.notified()).await.is_ok();
            let mount = |path| self.shared.engine.ground().mount(path);
            let now = (
                fingerprint(&mount(paths::CONFIG)),
                fingerprint(&mount(SECRETS)),
            );
            let changed = self.seen.as_ref() != Some(&now);
            self.seen = Some(now);
            if !(changed || asked || Instant::now() >= self.next) {
                continue;
            }
            let there = self.shared.repo().ok().filter(|_| !changed);
            let outcome = match there {
                Some(repo) => self.again(&repo).await.map(|()| None),
                None => self.open().await.map(|repo| Some(Arc::new(repo))),
            };
            match outcome {
                Ok(opened) => {
                    self.pause = LOOK;
                    self.next = Instant::now() + READ;
                    if let Some(repo) = opened {
                        self.shared.repo.send_modify(|held| *held = Ok(repo));
                    }
                    self.shared.engine.looked();
                }
                Err(away) => {
                    let wait = if away.refused {
                        REFUSED
                    } else {
                        self.pause = (self.pause * 2).min(PAUSE);
                        self.pause
                    };
                    self.next = Instant::now() + wait;
                    tracing::warn!(
                        reason = away.reason,
                        refused = away.refused,
                        "no repository"
                    );
                    // What was opened stays in use over a failure that may pass.
                    if away.refused || self.shared.repo().is_err() || changed {
                        self.shared.repo.send_modify(|held| *held = Err(away));
                        self.shared.engine.looked();
                    }
                }
            }
            self.shared.reporter.notify_one();
        }
    }

    /// The catalogue again.
    async fn again(&self, repo: &Arc<Repo<E::Data>>) -> Result<(), Away> {
        let away = |owner| move |error: ClaimError| refusal(owner, &error);
        let ours = repo.writer().still_ours().await;
        ours.map_err(away(Some(repo.owner.clone())))?;
        read(repo)
            .await
            .map_err(|e| refusal(Some(repo.owner.clone()), &e.into()))
    }

    async fn open(&self) -> Result<Repo<E::Data>, Away> {
        let waits = |reason: String| Away {
            reason,
            ..Away::default()
        };
        let place = self.shared.engine.ground();
        let file = place.mount(paths::CONFIG).join(BACKUP_FILE);
        let text = std::fs::read_to_string(&file)
            .map_err(|e| waits(format!("{BACKUP_FILE} cannot be read: {e}")))?;
        let settings: Settings = serde_json::from_str(&text)
            .map_err(|e| waits(format!("{BACKUP_FILE} cannot be understood: {e}")))?;
        *lock(&self.shared.settings_hash) = Some(config::hash(&text));
        let (owner, data) = self.shared.engine.owner().await.map_err(waits)?;
        let known = |reason: String| Away {
            reason,
            refused: false,
            owner: Some(owner.clone()),
        };
        let secrets = place.mount(SECRETS);
        let spec = settings.repository.clone();
        let volume = place.mount(REPOSITORY);
        // In a thread: a file server that hangs must not stop who tells so.
        let opening = tokio::task::spawn_blocking(move || {
            let opened = spec
                .settings(&secrets, &volume)
                .map_err(|e| e.to_string())?;
            let protection = spec.protection(&secrets).map_err(|e| e.to_string())?;
            let store = Store::open(&opened).map_err(|e| e.to_string())?;
            Ok::<_, String>(Repository::new(store, protection))
        });
        let opened = opening.await.map_err(|e| known(e.to_string()))?;
        let repository = opened.map_err(known)?;
        let claim = Claim {
            owner: owner.clone(),
            resource: settings.resource.clone(),
            adopt: settings.adopt.clone(),
        };
        let random = random().map_err(|e| known(format!("no random numbers: {e}")))?;
        let claimed = repository.claim(&claim, settings.immutable, Timestamp::now(), random);
        let ours = claimed
            .await
            .map_err(|e| refusal(Some(owner.clone()), &e))?;
        let repo = Repo {
            repository,
            owned: ours,
            settings,
            owner: owner.clone(),
            data,
            catalogue: std::sync::Mutex::default(),
            read_at: std::sync::Mutex::default(),
        };
        let kept = repo.writer().keep_keys().await;
        kept.map_err(|e| known(e.to_string()))?;
        read(&repo).await.map_err(|e| known(e.to_string()))?;
        Ok(repo)
    }
}

/// Reads what is in a repository.
///
/// # Errors
/// The store's answer.
pub async fn read<D>(repo: &Repo<D>) -> Result<(), mainstay_backup::store::StoreError> {
    let known = repo.catalogue().clone();
    let mut read = Catalogue::read(&repo.repository, Some(&known)).await?;
    let mut held = repo.catalogue();
    // What was stored while it was read.
    for piece in held.pieces.drain(..) {
        if !known.pieces.iter().any(|old| old.key == piece.key)
            && let Err(at) = read.pieces.binary_search_by(|p| p.key.cmp(&piece.key))
        {
            read.pieces.insert(at, piece);
        }
    }
    *held = read;
    drop(held);
    *lock(&repo.read_at) = Some(Timestamp::now());
    Ok(())
}

fn refusal(owner: Option<mainstay_backup::ids::OwnerId>, error: &ClaimError) -> Away {
    Away {
        reason: error.to_string(),
        refused: !matches!(error, ClaimError::Store(_)),
        owner,
    }
}

/// Random bytes.
///
/// # Errors
/// The system has none.
pub fn random<const N: usize>() -> Result<[u8; N], getrandom::Error> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes)?;
    Ok(bytes)
}
