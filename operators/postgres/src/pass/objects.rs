//! What is wanted of a set, but pods and claims.

use std::collections::BTreeMap;

use jiff::Timestamp;
use mainstay_shared::access::{entropy, existing_roles};
use mainstay_shared::agent::config::Zones;
use mainstay_shared::agent::paths::ZONES_FILE;
use mainstay_shared::apply::Object;
use mainstay_shared::names;
use mainstay_shared::operator::desired::revision::Revision;
use mainstay_shared::operator::desired::{Surroundings, certificate, zones};
use mainstay_shared::pki::{LeafSpec, Pair};

use super::Pass;
use super::report::PassError;
use crate::desired;
use crate::desired::pooler::certificate::{pooler_secret, pooler_spec};
use crate::desired::revision::revision;
use crate::desired::scram::SALT_BYTES;
use crate::material::{self, MaterialError};
use crate::observe::Observed;
use crate::plan::{self, Seat};
use crate::validate::Validated;

/// What is wanted, and when to look again.
pub(super) struct Wishes {
    pub(super) apply: Vec<Object>,
    pub(super) once: Vec<Object>,
    pub(super) config_hash: String,
    pub(super) revision: Revision,
    pub(super) due: Option<Timestamp>,
}

impl Pass<'_> {
    /// Zones of the nodes on which instances are, or were.
    fn zones(&self, observed: &Observed) -> Zones {
        let name = names::config_map(&self.set.name);
        let of = |o: &&Object| o.resource.kind == "ConfigMap" && o.meta("name") == Some(&name);
        let told = observed.live.iter().find(of).and_then(|o| {
            let text = o.value.get("data")?.get(ZONES_FILE)?.as_str()?;
            serde_json::from_str(text).ok()
        });
        let pods = observed.instances.iter().filter_map(|i| i.pod.as_ref());
        let nodes: Vec<&str> = pods.filter_map(|p| p.node.as_deref()).collect();
        let known = |node: &str| self.context.nodes.get(node).zone;
        zones::zones(&told.unwrap_or_default(), &nodes, known)
    }

    /// Everything that is wanted but pods and claims.
    pub(super) fn wishes(
        &self,
        observed: &Observed,
        validated: &Validated,
        seat: &Seat,
        authority: &Pair,
        members: &[String],
    ) -> Result<Wishes, PassError> {
        let zones = self.zones(observed);
        let around = Surroundings {
            operator_namespace: &self.context.settings.namespace,
            api_servers: &self.context.servers.all(),
            members,
            zones: &zones,
            operator_image: &self.context.settings.image,
            drilling: !observed.drills.is_empty(),
            live: &observed.live,
        };
        let mut objects = desired::objects(validated, &around)?;
        objects.once.push(plan::new_lease(&self.id, seat)?);
        let mut specs: BTreeMap<String, LeafSpec> = members
            .iter()
            .map(|name| {
                (
                    name.clone(),
                    certificate::leaf_spec(&validated.set, name, validated.certificate_hours),
                )
            })
            .collect();
        let pooler = names::pooler(&self.set.name);
        if validated.pooler.is_some() {
            specs.insert(pooler.clone(), pooler_spec(validated));
        }
        let leaves = material::leaves(&specs, authority, &observed.secrets, self.now)?;
        for (instance, pair) in &leaves.pairs {
            let secret = if *instance == pooler {
                pooler_secret(validated, pair)
            } else {
                certificate::leaf_secret(&validated.set, instance, pair)
            };
            objects.apply.push(Object::of(&secret)?);
        }
        let stored = |name: String| observed.secrets.get(&name);
        let application = stored(names::application_secret(&self.set.name));
        let password = material::password(application)?;
        let secret =
            desired::credentials::application_secret(validated, &password, &authority.certificate);
        objects.apply.push(Object::of(&secret)?);
        let roles = stored(names::access_secret(&self.set.name))
            .map(existing_roles)
            .unwrap_or_default();
        let salt = entropy::<SALT_BYTES>().map_err(MaterialError::from)?;
        let secret = desired::credentials::access_secret(validated, &password, &roles, &salt)?;
        objects.apply.push(Object::of(&secret)?);
        let secret = certificate::authority_secret(
            &validated.set,
            &self.context.settings.namespace,
            authority,
        );
        objects.apply.push(Object::of(&secret)?);
        Ok(Wishes {
            apply: objects.apply,
            once: objects.once,
            config_hash: objects.config_hash,
            revision: revision(validated),
            due: leaves.due,
        })
    }
}
