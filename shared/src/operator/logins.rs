//! Logins that resources of kind `Access` ask for: which there are, and what is said of them. Values only.

use jiff::Timestamp;
use kube::ResourceExt;
use mainstay_crds::access::{self, Access, AccessStatus};
use mainstay_crds::common::SecretRef;

use crate::access::{Password, existing_password};
use crate::apply::Object;
use crate::conditions::{self, Progress, State, reasons};
use crate::instances::Instance;
use crate::names;
use crate::operator::observe::kinds::SECRET;
use crate::operator::observe::{Data, Observed};

/// A login that a set makes.
#[derive(Clone, Debug)]
pub struct Login {
    /// What asks for it.
    pub access: Access,
    /// With which password: that of its Secret, or a new one for it.
    pub password: Password,
    /// Whether it stands in its Secret. Until then nobody else is told of it: what is made may not be what counts.
    pub is_stored: bool,
    /// Whether it asks for what cannot be: then what is in force stays, and nothing is made.
    pub is_wrong: bool,
}

impl Login {
    /// Its name, which is that of its Secret.
    pub fn name(&self) -> String {
        self.access.name_any()
    }
}

/// What is asked for, in the order of names. What is being deleted counts no more.
pub fn ordered(mut all: Vec<Access>) -> Vec<Access> {
    all.retain(|a| a.metadata.deletion_timestamp.is_none());
    all.sort_by_key(ResourceExt::name_any);
    all
}

/// What is wrong with a login of any engine.
pub fn problems(access: &Access) -> Vec<String> {
    let mut problems = Vec::new();
    if !access::is_free_name(&access.name_any()) {
        problems.push(access::NAME.to_owned());
    }
    problems
}

/// The data of the login's own Secret: one of that name that was made for something else is not it.
pub fn own_secret<'a>(access: &Access, observed: &'a Observed) -> Option<&'a Data> {
    let (name, uid) = (access.name_any(), access.uid()?);
    let own = |o: &&Object| {
        o.resource.kind == SECRET
            && o.meta("name") == Some(&name)
            && o.label(names::ACCESS_UID) == Some(&uid)
    };
    observed.live.iter().find(own)?;
    observed.secrets.get(&name)
}

/// The password that its Secret holds.
pub fn stored_password(access: &Access, observed: &Observed) -> Option<Password> {
    own_secret(access, observed).and_then(existing_password)
}

/// How far a login is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stage {
    /// It asks for what cannot be: sentences.
    Wrong(Vec<String>),
    /// There is no set of that name.
    NoTarget,
    /// Its Secret is not there yet.
    NoSecret,
    /// These instances serve and do not know it yet as it is.
    Unknown(Vec<String>),
    /// No instance serves.
    NobodyServes,
    /// Whoever serves knows it.
    Known,
}

/// Whether those that serve know all logins as they are: what agents say is in force has this hash.
pub fn known_by(instances: &[Instance], hash: &str) -> Stage {
    let serving = instances
        .iter()
        .filter_map(|i| Some((i, i.agent().filter(|s| s.ready)?)));
    let mut anybody = false;
    let mut behind = Vec::new();
    for (instance, status) in serving {
        anybody = true;
        if status.users_hash.as_deref() != Some(hash) {
            behind.push(instance.name.clone());
        }
    }
    match (anybody, behind.is_empty()) {
        (false, _) => Stage::NobodyServes,
        (true, true) => Stage::Known,
        (true, false) => Stage::Unknown(behind),
    }
}

/// A status to write.
#[derive(Clone, Debug, PartialEq)]
pub struct Told {
    /// The resource, as it was seen.
    pub access: Access,
    /// What is to be said of it.
    pub status: AccessStatus,
}

/// What is to be said of it, if it is not said yet.
pub fn told(access: &Access, stage: &Stage, now: Timestamp) -> Option<Told> {
    let target = &access.spec.target;
    let name = access.name_any();
    let message = match stage {
        Stage::Wrong(problems) => Some(problems.join(" ")),
        Stage::NoTarget => Some(format!(
            "there is no {} called {} in this namespace: it waits until there is one",
            target.kind, target.name
        )),
        Stage::NoSecret => Some(format!(
            "its Secret {name} is being made; if one of that name is in the way that was made for something else, delete \
             that, or make this under another name"
        )),
        Stage::Unknown(instances) => Some(format!(
            "{} does not know it yet as it is: what is mounted in a pod is renewed within about a minute",
            instances.join(", ")
        )),
        Stage::NobodyServes => Some("no instance serves, so nobody can log in".to_owned()),
        Stage::Known => None,
    };
    let mut status = access.status.clone().unwrap_or_default();
    let generation = access.metadata.generation.unwrap_or_default();
    status.observed_generation = Some(generation);
    status.message.clone_from(&message);
    let there = !matches!(stage, Stage::Wrong(_) | Stage::NoTarget | Stage::NoSecret);
    status.username = there.then(|| name.clone());
    status.secret_ref = there.then_some(SecretRef { name });
    let text = message.as_deref().unwrap_or_default();
    let (ready, reason) = match stage {
        Stage::Known => (State::True, reasons::SETTLED),
        Stage::Wrong(_) => (State::False, reasons::INVALID),
        Stage::NoSecret => (State::False, reasons::CREATING),
        Stage::NobodyServes => (State::False, reasons::NOT_SERVING),
        Stage::NoTarget | Stage::Unknown(_) => (State::False, reasons::WAITING),
    };
    let conditions = &mut status.conditions;
    conditions::set(
        conditions,
        conditions::READY,
        ready,
        reason,
        text,
        generation,
        now,
    );
    let progress = match stage {
        Stage::Known => Progress::Settled,
        Stage::Wrong(_) => Progress::Stalled {
            reason,
            message: text,
        },
        _ => Progress::Reconciling {
            reason,
            message: text,
        },
    };
    conditions::set_progress(conditions, &progress, generation, now);
    (access.status.as_ref() != Some(&status)).then(|| Told {
        access: access.clone(),
        status,
    })
}

#[cfg(test)]
mod tests {
    use mainstay_crds::access::AccessSpec;

    use super::*;
    use crate::agent::api::Status;
    use crate::instances::{Known, PodSeen};

    fn access(name: &str) -> Access {
        let mut access = Access::new(name, AccessSpec::default());
        access.metadata.generation = Some(2);
        access
    }

    fn now() -> Timestamp {
        Timestamp::from_second(1_800_000_000).unwrap()
    }

    fn instance(ordinal: u32, ready: bool, hash: Option<&str>) -> Instance {
        Instance {
            name: names::instance("db", ordinal),
            ordinal,
            pod: Some(PodSeen::default()),
            claim: None,
            agent: Known::Known(Status {
                ready,
                users_hash: hash.map(str::to_owned),
                ..Status::default()
            }),
        }
    }

    #[test]
    fn it_is_ready_when_everybody_who_serves_knows_it_as_it_is() {
        let both = [instance(1, true, Some("h")), instance(2, true, Some("h"))];
        assert_eq!(known_by(&both, "h"), Stage::Known);
        let one = [
            instance(1, true, Some("h")),
            instance(2, true, Some("before")),
            instance(3, true, None),
            instance(4, false, None),
        ];
        let behind = Stage::Unknown(vec!["db-2".into(), "db-3".into()]);
        assert_eq!(known_by(&one, "h"), behind);
        assert_eq!(known_by(&one[3..], "h"), Stage::NobodyServes);
        assert_eq!(known_by(&[], "h"), Stage::NobodyServes);
    }

    #[test]
    fn what_is_said_is_said_once_and_names_what_is_waited_for() {
        let mut orders = access("orders");
        let told = |access: &Access, stage: &Stage| super::told(access, stage, now());
        let waits = told(&orders, &Stage::Unknown(vec!["db-2".into()])).unwrap();
        assert!(waits.status.message.unwrap().starts_with("db-2 does not"));
        let ready = told(&orders, &Stage::Known).unwrap();
        assert!(conditions::is_true(
            &ready.status.conditions,
            conditions::READY
        ));
        assert_eq!(ready.status.username.as_deref(), Some("orders"));
        orders.status = Some(ready.status);
        assert_eq!(told(&orders, &Stage::Known), None);
        let wrong = told(&orders, &Stage::Wrong(vec!["no.".into()])).unwrap();
        assert!(conditions::is_true(
            &wrong.status.conditions,
            conditions::STALLED
        ));
        assert_eq!(wrong.status.secret_ref, None);
    }

    #[test]
    fn names_of_a_set_are_nobodys_and_what_goes_counts_no_more() {
        for name in ["app", "default", "db-app", "db-internal", "db-1-tls"] {
            assert_eq!(problems(&access(name)), [access::NAME], "{name}");
        }
        assert!(problems(&access("orders")).is_empty());
        let mut going = access("a");
        going.metadata.deletion_timestamp =
            Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(now()));
        let names: Vec<String> = ordered(vec![access("c"), going, access("b")])
            .iter()
            .map(ResourceExt::name_any)
            .collect();
        assert_eq!(names, ["b", "c"]);
    }
}
