//! The rendered configuration on its way into force: checked, put in place, loaded. I/O.

use std::collections::BTreeMap;
use std::path::Path;

use mainstay_shared::pki::Pair;

use super::data;
use super::mounts::place_file;
use super::place::Place;
use super::render::{Facts, Files, render};
use crate::settings::PostgresConfig;

const SETTINGS: &str = "postgresql.conf";
const CANDIDATE: &str = "candidate.conf";
/// The configuration that PostgreSQL took last, as JSON; it holds no secret.
const TAKEN: &str = "taken.json";

/// A hash and floors, and a certificate.
type Asked = ((String, BTreeMap<String, u64>), Option<String>);

fn written(error: &std::io::Error) -> String {
    format!("the configuration files: {error}")
}

/// Which configuration is where.
///
/// Guarantee: what PostgreSQL refuses never replaces what it took, so a mistake in the resource
/// costs neither what runs nor the next start in this pod.
#[derive(Debug, Default)]
pub struct Configuration {
    rendered: Option<Files>,
    /// What PostgreSQL was asked about last and took: the hash and the floors.
    checked: Option<(String, BTreeMap<String, u64>)>,
    /// What it refused last, with which certificate, and why.
    refused: Option<(Asked, String)>,
    /// The newest that it took, and its hash.
    taken: Option<(PostgresConfig, String)>,
    /// Hash of what is in place.
    placed: Option<String>,
    /// What is in place lets clients in.
    open: bool,
    /// So did what was loaded before it.
    was_open: bool,
    /// Told to load; the time of the load before.
    loading: Option<f64>,
    /// Told to load, and not known yet which settings wait for a restart; the time of the load before.
    settling: Option<f64>,
    in_force: Option<String>,
    certificate: Option<String>,
    serial: Option<String>,
}

impl Configuration {
    /// Hash of the configuration in force.
    pub fn in_force(&self) -> Option<&String> {
        self.in_force.as_ref()
    }

    /// Serial number of the certificate that PostgreSQL was last told to serve.
    pub fn serial(&self) -> Option<&String> {
        self.serial.as_ref()
    }

    /// Whether what is loaded lets clients in, and what is about to be as well.
    pub fn is_open(&self) -> bool {
        self.open && (self.was_open || self.loading.is_none()) && self.in_force.is_some()
    }

    /// Whether what is in place is not loaded yet.
    pub fn is_loading(&self) -> bool {
        self.loading.is_some()
    }

    /// Why the newest configuration is not taken.
    pub fn refusal(&self) -> Option<&String> {
        self.refused.as_ref().map(|(_, why)| why)
    }

    /// Whether there is anything to start with.
    pub fn exists(place: &Place) -> bool {
        place.run().join(SETTINGS).exists()
    }

    /// Put the configuration in place, if PostgreSQL takes it; true when something changed.
    ///
    /// What the election and the volume ask for (who acknowledges, whom to follow, who is let in, whether writes are
    /// taken) does not wait for a person: where the newest is refused, the one that was taken last is put in place
    /// with it.
    ///
    /// # Errors
    /// The newest is refused, and nothing changed; or nothing can be written.
    pub async fn place(
        &mut self,
        place: &Place,
        newest: &(PostgresConfig, String),
        facts: &Facts,
        identity: Option<&Pair>,
    ) -> Result<bool, String> {
        let certificate = identity.map(|pair| pair.certificate.clone());
        let Some(why) = self
            .refuses(place, newest, facts, certificate.as_ref())
            .await?
        else {
            let changed = self.put(place, newest, facts, certificate)?;
            self.refused = None;
            self.remember(place, newest)?;
            return Ok(changed);
        };
        let Some(before) = self.taken(place) else {
            return Err(why);
        };
        if self.put(place, &before, facts, certificate)? {
            return Ok(true);
        }
        Err(why)
    }

    /// Why PostgreSQL does not take it. Only what a person can get wrong is asked about: a hand-over waits for this.
    async fn refuses(
        &mut self,
        place: &Place,
        (config, hash): &(PostgresConfig, String),
        facts: &Facts,
        certificate: Option<&String>,
    ) -> Result<Option<String>, String> {
        let asked = (hash.clone(), facts.floors.clone());
        let seen = (asked.clone(), certificate.cloned());
        if let Some((refused, why)) = &self.refused
            && *refused == seen
        {
            return Ok(Some(why.clone()));
        }
        let files = render(config, facts);
        let same = self.certificate.as_ref() == certificate;
        let settled = same && self.rendered.as_ref() == Some(&files);
        if settled || (same && self.checked.as_ref() == Some(&asked)) {
            return Ok(None);
        }
        std::fs::create_dir_all(place.sockets()).map_err(|e| written(&e))?;
        let candidate = place.run().join(CANDIDATE);
        place_file(&candidate, &files.settings, 0o600).map_err(|e| written(&e))?;
        if let Some(why) = data::check(place, &candidate).await? {
            self.refused = Some((seen, why.clone()));
            return Ok(Some(why));
        }
        self.checked = Some(asked);
        Ok(None)
    }

    /// Write the files of one that PostgreSQL takes; true when something changed.
    fn put(
        &mut self,
        place: &Place,
        (config, hash): &(PostgresConfig, String),
        facts: &Facts,
        certificate: Option<String>,
    ) -> Result<bool, String> {
        let files = render(config, facts);
        if self.rendered.as_ref() == Some(&files) && self.certificate == certificate {
            self.placed = Some(hash.clone());
            if self.settling.is_none() && self.in_force.is_some() {
                self.in_force = Some(hash.clone());
            }
            return Ok(false);
        }
        let run = place.run();
        std::fs::create_dir_all(place.sockets()).map_err(|e| written(&e))?;
        let put = |name: &str, text: &str| place_file(&run.join(name), text, 0o600);
        put("pg_hba.conf", &files.access).map_err(|e| written(&e))?;
        put("pg_ident.conf", &files.identities).map_err(|e| written(&e))?;
        put(SETTINGS, &files.settings).map_err(|e| written(&e))?;
        self.open = facts.open;
        self.rendered = Some(files);
        self.placed = Some(hash.clone());
        self.serial = certificate
            .as_ref()
            .and_then(|pem| mainstay_shared::pki::facts(pem).ok())
            .map(|facts| facts.serial);
        self.certificate = certificate;
        Ok(true)
    }

    /// Note which one was taken, for the agent after this one too.
    fn remember(&mut self, place: &Place, taken: &(PostgresConfig, String)) -> Result<(), String> {
        if self.taken.as_ref() == Some(taken) {
            return Ok(());
        }
        let text = serde_json::to_string(taken).map_err(|e| e.to_string())?;
        place_file(&place.run().join(TAKEN), &text, 0o600).map_err(|e| written(&e))?;
        self.taken = Some(taken.clone());
        Ok(())
    }

    /// The one that was taken last. None in a pod in which none was.
    fn taken(&mut self, place: &Place) -> Option<(PostgresConfig, String)> {
        if self.taken.is_none() {
            let text = std::fs::read_to_string(place.run().join(TAKEN)).ok()?;
            self.taken = serde_json::from_str(&text).ok();
        }
        self.taken.clone()
    }

    /// The engine was started with what is in place.
    pub fn started(&mut self) {
        self.in_force.clone_from(&self.placed);
        self.loading = None;
        self.settling = None;
        self.was_open = self.open;
    }

    /// The engine has ended.
    pub fn ended(&mut self) {
        self.in_force = None;
        self.loading = None;
        self.settling = None;
        self.was_open = false;
    }

    /// The engine was told to load what is in place; `loaded_at` is when it did so before.
    pub fn told(&mut self, loaded_at: f64) {
        self.loading = Some(loaded_at);
        self.settling = Some(loaded_at);
    }

    /// The engine has loaded its configuration at `loaded_at`, and of the load at `settings_of` it is known
    /// which settings wait for a restart: only then it counts as in force.
    pub fn seen(&mut self, loaded_at: f64, settings_of: f64) {
        if self.loading.take_if(|before| loaded_at > *before).is_some() {
            self.was_open = self.open;
        }
        let settled = self.settling.take_if(|before| settings_of > *before);
        // An agent that was started beside a running engine: what it rendered is what was in place.
        let beside = self.settling.is_none() && self.in_force.is_none();
        if settled.is_some() || beside {
            self.in_force.clone_from(&self.placed);
        }
        if beside {
            self.was_open = self.open;
        }
    }
}

/// The configuration file with which the engine is started.
pub fn settings_file(run: &Path) -> String {
    run.join(SETTINGS).display().to_string()
}
