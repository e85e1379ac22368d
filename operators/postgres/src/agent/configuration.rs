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

/// Which configuration is where.
///
/// Guarantee: what PostgreSQL refuses never replaces what it took, so a mistake in the resource
/// costs neither what runs nor the next start in this pod.
#[derive(Debug, Default)]
pub struct Configuration {
    rendered: Option<Files>,
    /// What PostgreSQL was asked about last and took: the hash and the floors.
    checked: Option<(String, BTreeMap<String, u64>)>,
    refused: Option<(Files, String)>,
    /// Hash of what is in place.
    placed: Option<String>,
    /// What is in place lets clients in.
    open: bool,
    /// So did what was loaded before it.
    was_open: bool,
    /// Told to load; the time of the load before.
    loading: Option<f64>,
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
    pub async fn place(
        &mut self,
        place: &Place,
        (config, hash): &(PostgresConfig, String),
        facts: &Facts,
        identity: Option<&Pair>,
    ) -> Result<bool, String> {
        let files = render(config, facts);
        if let Some((refused, why)) = &self.refused
            && *refused == files
        {
            return Err(why.clone());
        }
        let certificate = identity.map(|pair| pair.certificate.clone());
        let settled = self.rendered.as_ref() == Some(&files) && self.certificate == certificate;
        if settled {
            self.refused = None;
            self.placed = Some(hash.clone());
            if self.loading.is_none() && self.in_force.is_some() {
                self.in_force = Some(hash.clone());
            }
            return Ok(false);
        }
        let new_certificate = self.certificate != certificate;
        let written = |e: std::io::Error| format!("the configuration files: {e}");
        let run = place.run();
        std::fs::create_dir_all(place.sockets()).map_err(written)?;
        let put = |name: &str, text: &str| place_file(&run.join(name), text, 0o600);
        put(CANDIDATE, &files.settings).map_err(written)?;
        // Only what a person can get wrong is checked: a hand-over waits for this.
        let asked = (hash.clone(), facts.floors.clone());
        let known = self.checked.as_ref() == Some(&asked) && !new_certificate;
        if !known && let Some(why) = data::check(place, &run.join(CANDIDATE)).await? {
            self.refused = Some((files, why.clone()));
            return Err(why);
        }
        self.checked = Some(asked);
        put("pg_hba.conf", &files.access).map_err(written)?;
        put("pg_ident.conf", &files.identities).map_err(written)?;
        put(SETTINGS, &files.settings).map_err(written)?;
        self.refused = None;
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

    /// The engine was started with what is in place.
    pub fn started(&mut self) {
        self.in_force.clone_from(&self.placed);
        self.loading = None;
        self.was_open = self.open;
    }

    /// The engine has ended.
    pub fn ended(&mut self) {
        self.in_force = None;
        self.loading = None;
        self.was_open = false;
    }

    /// The engine was told to load what is in place; `loaded_at` is when it did so before.
    pub fn told(&mut self, loaded_at: f64) {
        self.loading = Some(loaded_at);
    }

    /// All is known of the configuration that the engine loaded then.
    pub fn seen(&mut self, loaded_at: f64) {
        if self.loading.take_if(|before| loaded_at > *before).is_some() {
            self.in_force.clone_from(&self.placed);
            self.was_open = self.open;
        }
        // An agent that was started beside a running engine: what it rendered is what was in place.
        if self.loading.is_none() && self.in_force.is_none() {
            self.in_force.clone_from(&self.placed);
            self.was_open = self.open;
        }
    }
}

/// The configuration file with which the engine is started.
pub fn settings_file(run: &Path) -> String {
    run.join(SETTINGS).display().to_string()
}
