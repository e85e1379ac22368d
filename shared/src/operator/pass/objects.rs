//! What is wanted of a set, but pods and claims.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::Pass;
use super::report::PassError;
use crate::access::existing_roles;
use crate::agent::config::{Role, Zones, users_hash};
use crate::agent::paths::ZONES_FILE;
use crate::apply::Object;
use crate::names;
use crate::operator::desired::credentials::Given;
use crate::operator::desired::revision::Revision;
use crate::operator::desired::{Surroundings, certificate, zones};
use crate::operator::engine::Engine;
use crate::operator::material;
use crate::operator::observe::Observed;
use crate::operator::plan::{self, Seat};
use crate::operator::rotations;
use crate::operator::validated::Validated;
use crate::pki::{LeafSpec, Pair};

/// What is wanted, and when to look again.
pub(super) struct Wishes {
    pub(super) apply: Vec<Object>,
    pub(super) once: Vec<Object>,
    pub(super) config_hash: String,
    pub(super) revision: Revision,
    pub(super) due: Option<Timestamp>,
    /// Hash of the logins that agents are to know.
    pub(super) users_hash: Option<String>,
    /// Whether the password that a login gets next is among them.
    pub(super) announced: bool,
}

impl<E: Engine> Pass<'_, E> {
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
        validated: &Validated<E>,
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
        let mut objects = E::objects(&validated.own, &around)?;
        objects.once.push(plan::new_lease(&self.id, seat)?);
        let hours = validated.common.certificate_hours;
        let services = E::services(&validated.own);
        let of_member = |name: &String| {
            let spec = certificate::leaf_spec(&self.id, name, &services, hours);
            (name.clone(), spec)
        };
        let mut specs: BTreeMap<String, LeafSpec> = members.iter().map(of_member).collect();
        let others = E::certificates(&validated.own);
        let of_others: Vec<String> = others.keys().cloned().collect();
        specs.extend(others);
        let leaves = material::leaves(&specs, authority, &observed.secrets, self.now)?;
        for (name, pair) in &leaves.pairs {
            let secret = if of_others.contains(name) {
                certificate::secret(&self.id, name, pair)
            } else {
                certificate::leaf_secret(&self.id, name, pair)
            };
            objects.apply.push(Object::of(&secret)?);
        }
        let stored = |name: String| observed.secrets.get(&name);
        let application = stored(names::application_secret(&self.set.name));
        let roles = stored(names::access_secret(&self.set.name));
        let internal = stored(names::internal_secret(&self.set.name));
        let logins = Self::logins(observed)?;
        let next = rotations::next(observed, &self.set.name);
        let going = rotations::going(observed);
        let given = Given {
            password: &material::password(application)?,
            ca: &authority.certificate,
            roles: &roles.map(existing_roles).unwrap_or_default(),
            internal,
            logins: &logins,
            coming: going.as_ref().and_then(|g| g.coming(next.as_ref())),
            now: self.now,
        };
        let credentials = E::credentials(&validated.own, &given)?;
        let agents = names::access_secret(&self.set.name);
        let told = credentials
            .secrets
            .iter()
            .find(|s| s.metadata.name.as_ref() == Some(&agents));
        let told = told.and_then(|s| s.data.as_ref()).map(existing_roles);
        let told: Vec<Role> = told.unwrap_or_default().into_values().collect();
        for secret in credentials.secrets {
            objects.apply.push(Object::of(&secret)?);
        }
        if let Some(going) = &going
            && let Some(password) = going.wanted(next.as_ref(), || material::password(None))?
        {
            let secret = going.secret(&self.id, &password);
            objects.apply.push(Object::of(&secret)?);
        }
        let secret =
            certificate::authority_secret(&self.id, &self.context.settings.namespace, authority);
        objects.apply.push(Object::of(&secret)?);
        Ok(Wishes {
            apply: objects.apply,
            once: objects.once,
            config_hash: objects.config_hash,
            revision: E::revision(&validated.own),
            users_hash: users_hash(&told),
            announced: credentials.announced,
            due: leaves.due.into_iter().chain(credentials.due).min(),
        })
    }
}
