//! The set's authority, who the operator is to agents, and certificates as served.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use mainstay_crds::common::CertificateStatus;
use mainstay_shared::apply::Object;
use mainstay_shared::apply::io::{self, Created};
use mainstay_shared::conditions::reasons;
use mainstay_shared::names;
use mainstay_shared::pki::{self, Pair};

use super::Pass;
use super::report::Report;
use crate::material;
use crate::observe::Observed;
use crate::observe::kinds::APP;
use crate::status::Obstacle;

impl Pass<'_> {
    /// The set's authority, stored before anything is made of it.
    pub(super) async fn authority(
        &self,
        observed: &Observed,
        paused: bool,
    ) -> Result<Pair, Option<Obstacle>> {
        let failed = |message: String, stalled| {
            Some(Obstacle {
                reason: reasons::FAILED,
                message,
                stalled,
            })
        };
        let authority = material::authority(&self.set, &observed.secrets, self.now)
            .map_err(|error| failed(error.to_string(), true))?;
        if !authority.is_new {
            return Ok(authority.pair);
        }
        if paused {
            return Err(None);
        }
        let name = names::authority_secret(APP, &self.set.namespace, &self.set.name);
        let mut metadata = self.id.kept(name, "ca");
        metadata.namespace = Some(self.context.settings.namespace.clone());
        let secret = Object::of(&pki::to_secret(metadata, &authority.pair))
            .map_err(|error| failed(error.to_string(), false))?;
        match io::create(&self.context.client, &secret).await {
            Ok(Created::Made) => Ok(authority.pair),
            // The cache is behind: the stored one is used as soon as it is seen.
            Ok(Created::Exists) => Err(failed(
                "The set's authority is stored and not seen yet.".to_owned(),
                false,
            )),
            Err(error) => Err(failed(error.to_string(), error.cause.stalled().is_some())),
        }
    }

    pub(super) fn talk_to_members(&self, report: &mut Report, authority: &Pair) {
        match self.context.identities.of(&self.set, authority, self.now) {
            Ok(identity) => {
                self.context
                    .talk
                    .follow(&self.set, &identity, &mut report.observed.instances);
                report.outcome.at(identity.renew, self.now);
                report.identity = Some(identity);
            }
            Err(error) => report.obstacle(reasons::FAILED, error.to_string(), false),
        }
    }

    /// Certificates as served; what cannot be seen now stays as it was seen.
    pub(super) fn certificates(&self, report: &Report) -> Vec<CertificateStatus> {
        let instances = report.observed.instances.iter().filter(|i| i.pod.is_some());
        let mut all: Vec<CertificateStatus> = instances
            .filter_map(|instance| {
                let seen = report
                    .identity
                    .as_ref()
                    .and_then(|identity| self.context.talk.served(&self.set, identity, instance));
                match seen {
                    Some(seen) => Some(CertificateStatus {
                        name: instance.name.clone(),
                        served_serial: seen.serial,
                        not_after: Time(seen.not_after),
                    }),
                    None => self
                        .before
                        .certificates
                        .iter()
                        .find(|c| c.name == instance.name)
                        .cloned(),
                }
            })
            .collect();
        all.sort_by(|a, b| a.name.cmp(&b.name));
        all
    }
}
