//! The set's authority, who the operator is to agents, and certificates as served.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use mainstay_crds::common::CertificateStatus;

use super::report::{PassError, Report};
use super::{LOOK, Pass};
use crate::apply::Object;
use crate::apply::io::{self, Created};
use crate::names;
use crate::operator::engine::Engine;
use crate::operator::material;
use crate::outcome::{Outcome, Wait};
use crate::pki::{self, Pair};

impl<E: Engine> Pass<'_, E> {
    /// The set's authority, stored before anything is made of it; none when that is not done yet.
    pub(super) async fn authority(&self, report: &mut Report<E>, paused: bool) -> Option<Pair> {
        let authority =
            match material::authority(E::APP, &self.set, &report.observed.secrets, self.now) {
                Ok(authority) => authority,
                Err(error) => {
                    report.failed(PassError::Authority(error));
                    return None;
                }
            };
        if !authority.is_new {
            return Some(authority.pair);
        }
        if paused {
            return None;
        }
        match self.store(&authority.pair).await {
            Ok(Created::Made) => Some(authority.pair),
            // The cache is behind: the stored one is used as soon as it is seen.
            Ok(Created::Exists) => {
                report.progress(Outcome::Progressing(Wait {
                    step: "store the set's authority".to_owned(),
                    predicate: "wait_for_the_cache_to_catch_up",
                    reason: "the set's authority is stored and not seen yet".to_owned(),
                    after: Some(LOOK),
                }));
                None
            }
            Err(error) => {
                report.failed(error);
                None
            }
        }
    }

    async fn store(&self, authority: &Pair) -> Result<Created, PassError> {
        let name = names::authority_secret(E::APP, &self.set.namespace, &self.set.name);
        let mut metadata = self.id.kept(name, "ca");
        metadata.namespace = Some(self.context.settings.namespace.clone());
        let secret = Object::of(&pki::to_secret(metadata, authority))?;
        Ok(io::create(&self.context.client, &secret).await?)
    }

    pub(super) fn talk_to_members(&self, report: &mut Report<E>, authority: &Pair) {
        match self.context.identities.of(&self.set, authority, self.now) {
            Ok(identity) => {
                self.context
                    .talk
                    .follow(&self.set, &identity, &mut report.observed.instances);
                report.look_at(identity.renew, self.now);
                report.identity = Some(identity);
            }
            Err(error) => report.failed(error),
        }
    }

    /// Certificates as served; what cannot be seen now stays as it was seen.
    pub(super) fn certificates(&self, report: &Report<E>) -> Vec<CertificateStatus> {
        let instances = report.observed.instances.iter().filter(|i| i.pod.is_some());
        let mut all: Vec<CertificateStatus> = instances
            .filter_map(|instance| {
                let seen = report.identity.as_ref().and_then(|identity| {
                    self.context.talk.served::<E>(&self.set, identity, instance)
                });
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
