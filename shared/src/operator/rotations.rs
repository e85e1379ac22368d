//! Passwords of applications that are changed without a refused login: what is done next, and what is said of it. Values only.
//!
//! Who reads the Secret anew for each connection comes with the new password as soon as it stands there. So it stands
//! elsewhere first: in a Secret that nobody mounts. Of that agents are told what checks it, besides what checks the present
//! one; and when every instance says that it has it in force, the applications' Secret is written. Then the other password is
//! the former one, and the engine lets it go after a while.
//!
//! What was seen stands in the operation's status before anything is done on the ground of it, written only to the operation
//! as it was read: an operator that starts anew, or whose caches are late, goes on or is refused. That the Secret was written
//! is seen by comparing the two.

use jiff::Timestamp;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt;
use mainstay_crds::access::Access;
use mainstay_crds::operation::{Operation, OperationPhase, OperationStatus, RotatedPassword};

use crate::access::{PASSWORD_KEY, Password, existing_password};
use crate::instances::{Instance, Phase};
use crate::metadata::{SetId, whole};
use crate::names;
use crate::operations::{self, Told, current, deadline, in_turn};
use crate::operator::desired::credentials::Coming;
use crate::operator::logins;
use crate::operator::observe::Observed;
use crate::operator::observe::kinds::SECRET;

/// The Secret with the password that comes next, as it is seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Next {
    uid: String,
    /// Uid of the operation that it was made for.
    operation: String,
    /// None when it holds none, which nobody of us makes.
    password: Option<Password>,
}

/// The Secret of the set that holds the password which comes next.
pub fn next(observed: &Observed, set: &str) -> Option<Next> {
    let name = names::coming_secret(set);
    let is_it = |o: &&crate::apply::Object| {
        o.resource.kind == SECRET && o.meta("name") == Some(&name) && !o.is_terminating()
    };
    let object = observed.live.iter().find(is_it)?;
    Some(Next {
        uid: object.meta("uid")?.to_owned(),
        operation: object
            .label(names::OPERATION_UID)
            .unwrap_or_default()
            .to_owned(),
        password: observed.secrets.get(&name).and_then(existing_password),
    })
}

/// The operation that has begun and is not over.
#[derive(Clone, Copy, Debug)]
pub struct Going<'a> {
    operation: &'a Operation,
    rotation: &'a RotatedPassword,
    is_there: bool,
}

/// Those that have begun before those that have not, else in their order.
pub fn ordered(mut operations: Vec<Operation>) -> Vec<Operation> {
    operations.sort_by_key(|o| o.status.as_ref().and_then(status_of).is_none());
    operations
}

/// The operation that has begun and is not over, if one has.
pub fn going(observed: &Observed) -> Option<Going<'_>> {
    Going::of(current(&observed.rotations)?, observed)
}

/// Name of the login whose password is changed; none: that of the set's own application.
fn access_of(operation: &Operation) -> Option<&str> {
    let asked = operation.spec.rotate_password.as_ref()?;
    asked.access.as_deref()
}

/// The login of that name.
fn find<'a>(observed: &'a Observed, name: &str) -> Option<&'a Access> {
    observed.accesses.iter().find(|a| a.name_any() == name)
}

impl<'a> Going<'a> {
    /// Of an operation that has begun.
    fn of(operation: &'a Operation, observed: &Observed) -> Option<Self> {
        let rotation = operation.status.as_ref().and_then(status_of)?;
        // The login that was meant, and no other of its name.
        let is_meant = |name| find(observed, name).is_some_and(|a| a.uid() == rotation.access_uid);
        Some(Self {
            operation,
            rotation,
            is_there: access_of(operation).is_none_or(is_meant),
        })
    }

    fn own<'b>(&self, next: Option<&'b Next>) -> Option<(&'b Next, &'b Password)> {
        let next = next.filter(|n| Some(&n.operation) == self.operation.uid().as_ref())?;
        Some((next, next.password.as_ref()?))
    }

    /// Whether that is the password which instances were seen to know.
    fn is_known(&self, next: &Next) -> bool {
        self.rotation.known_at.is_some() && self.rotation.coming_uid.as_ref() == Some(&next.uid)
    }

    /// The password that its login gets next, as soon as it is kept somewhere.
    pub fn coming<'b>(&self, next: Option<&'b Next>) -> Option<Coming<'b>>
    where
        'a: 'b,
    {
        let (next, password) = self.own(next).filter(|_| self.is_there)?;
        Some(Coming {
            access: access_of(self.operation),
            password,
            publish: self.is_known(next),
        })
    }

    /// The password that the Secret of the next one has to hold; none: there shall be no such Secret. `make`: a new one.
    ///
    /// # Errors
    /// Those of `make`.
    pub fn wanted<E>(
        &self,
        next: Option<&Next>,
        make: impl FnOnce() -> Result<Password, E>,
    ) -> Result<Option<Password>, E> {
        if let Some((_, password)) = self.own(next) {
            return Ok(Some(password.clone()));
        }
        // One of another operation goes first. What was known once is not made anew.
        let waits = next.is_some() || self.rotation.known_at.is_some();
        if waits || self.operation.spec.is_cancelled() {
            return Ok(None);
        }
        make().map(Some)
    }

    /// That Secret. Nobody mounts it, nobody can change it, and it goes with the set.
    pub fn secret(&self, set: &SetId, password: &Password) -> Secret {
        let mut metadata = set.owned(names::coming_secret(&set.name));
        let uid = self.operation.uid().unwrap_or_default();
        let labels = metadata.labels.get_or_insert_default();
        labels.insert(names::OPERATION_UID.to_owned(), uid);
        let text = ByteString(password.expose().as_bytes().to_vec());
        Secret {
            metadata,
            type_: Some("Opaque".into()),
            immutable: Some(true),
            data: Some([(PASSWORD_KEY.to_owned(), text)].into()),
            ..Secret::default()
        }
    }
}

/// The set as it is.
pub struct Setting<'a> {
    /// Now.
    pub now: Timestamp,
    /// The set.
    pub set: &'a SetId,
    /// Why no password of such a set is changed so.
    pub refusal: Option<&'static str>,
    /// What is seen of it, with what agents say.
    pub observed: &'a Observed,
    /// Whether a login asks for what cannot be.
    pub is_wrong: &'a dyn Fn(&Access) -> bool,
    /// Hash of the logins that agents are to know; none unless the coming password is among them.
    pub users_hash: Option<&'a str>,
}

/// What is to be said of them that is not said yet.
///
/// Guarantees: of what is over nothing is said again; one goes on at a time.
pub fn told(setting: &Setting<'_>) -> Vec<Told> {
    in_turn(&setting.observed.rotations, setting.now, |operation| {
        let verdict = judge(operation, setting);
        let mut status =
            operations::written(operation, setting.now, verdict.phase, verdict.message);
        if let Some(rotation) = verdict.rotation {
            status.rotation = Some(rotation);
        }
        status
    })
}

/// When to look again although nothing happens.
pub fn due(observed: &Observed, now: Timestamp) -> Option<Timestamp> {
    let operation = current(&observed.rotations)?;
    let is_open = going(observed).is_none_or(|g| g.rotation.known_at.is_none());
    is_open.then(|| deadline(operation, now))
}

struct Verdict {
    phase: OperationPhase,
    message: String,
    /// What is to be written down.
    rotation: Option<RotatedPassword>,
}

impl Verdict {
    fn new(phase: OperationPhase, message: impl Into<String>) -> Self {
        Self {
            phase,
            message: message.into(),
            rotation: None,
        }
    }

    fn failed(message: impl Into<String>) -> Self {
        Self::new(OperationPhase::Failed, message)
    }

    fn running(message: impl Into<String>) -> Self {
        Self::new(OperationPhase::Running, message)
    }
}

fn judge(operation: &Operation, s: &Setting<'_>) -> Verdict {
    if let Some(why) = s.refusal {
        return Verdict::failed(why);
    }
    let Some(going) = Going::of(operation, s.observed) else {
        return begin(operation, s);
    };
    if going.rotation.known_at.is_some() {
        publish(&going, s)
    } else {
        announce(&going, s)
    }
}

fn status_of(status: &OperationStatus) -> Option<&RotatedPassword> {
    status.rotation.as_ref()
}

fn late(operation: &Operation, s: &Setting<'_>, why: &str) -> Option<Verdict> {
    (s.now >= deadline(operation, s.now)).then(|| {
        let seconds = operation.spec.timeout_seconds();
        Verdict::failed(format!("given up after {seconds} s: {why}"))
    })
}

/// Nothing is done yet.
fn begin(operation: &Operation, s: &Setting<'_>) -> Verdict {
    if operation.spec.is_cancelled() {
        return Verdict::new(OperationPhase::Cancelled, "it was cancelled");
    }
    let found = match access_of(operation) {
        None => Ok(RotatedPassword {
            secret: names::application_secret(&s.set.name),
            ..RotatedPassword::default()
        }),
        Some(name) => login(name, s),
    };
    match found {
        Ok(rotation) => Verdict {
            rotation: Some(rotation),
            ..Verdict::running("a new password is made")
        },
        Err(why) => {
            late(operation, s, &why).unwrap_or_else(|| Verdict::new(OperationPhase::Pending, why))
        }
    }
}

/// The login of that name, or why it has no password that could be changed.
fn login(name: &str, s: &Setting<'_>) -> Result<RotatedPassword, String> {
    let (kind, set) = (&s.set.kind, &s.set.name);
    let Some(access) = find(s.observed, name) else {
        return Err(format!(
            "there is no Access called {name} of the {kind} {set}"
        ));
    };
    if (s.is_wrong)(access) {
        return Err(format!(
            "the Access {name} asks for what cannot be, as its status says"
        ));
    }
    if logins::stored_password(access, s.observed).is_none() {
        return Err(format!("the Secret of the Access {name} is not there yet"));
    }
    Ok(RotatedPassword {
        secret: name.to_owned(),
        access_uid: access.uid(),
        ..RotatedPassword::default()
    })
}

/// Agents are told, and the applications' Secret is as it was.
fn announce(going: &Going<'_>, s: &Setting<'_>) -> Verdict {
    let Going {
        operation,
        rotation,
        is_there,
    } = *going;
    let secret = &rotation.secret;
    if operation.spec.is_cancelled() {
        let message = format!("it was cancelled: {secret} has the password that it had");
        return Verdict::new(OperationPhase::Cancelled, message);
    }
    if !is_there {
        return Verdict::failed(format!("the Access {secret} is gone"));
    }
    let name = names::coming_secret(&s.set.name);
    let next = next(s.observed, &s.set.name);
    let Some((own, _)) = going.own(next.as_ref()) else {
        let why = format!(
            "the Secret {name}, which keeps the new password until then, is being made; if one of that name is in the way \
             that was made for something else, delete it"
        );
        return late(operation, s, &why).unwrap_or_else(|| Verdict::running(why));
    };
    match unknowing(&s.observed.instances, s.users_hash) {
        Some(why) => late(operation, s, &why)
            .unwrap_or_else(|| Verdict::running(format!("{secret} is as it was: {why}"))),
        None => Verdict {
            rotation: Some(RotatedPassword {
                known_at: Some(whole(s.now)),
                coming_uid: Some(own.uid.clone()),
                ..rotation.clone()
            }),
            ..Verdict::running(format!(
                "every instance knows the new password: {secret} gets it"
            ))
        },
    }
}

/// Every instance knows it: there is no way back, and none is needed.
fn publish(going: &Going<'_>, s: &Setting<'_>) -> Verdict {
    let secret = &going.rotation.secret;
    let name = names::coming_secret(&s.set.name);
    if !going.is_there {
        return Verdict::failed(format!("the Access {secret} is gone"));
    }
    let next = next(s.observed, &s.set.name);
    let own = going
        .own(next.as_ref())
        .filter(|(next, _)| going.is_known(next));
    let Some((_, password)) = own else {
        return Verdict::failed(format!(
            "the Secret {name} is gone, and {secret} was not seen with the new password before: whichever it has is taken; \
             make another operation to be sure that it is a new one"
        ));
    };
    let (shown, wrong) = match access_of(going.operation) {
        None => (s.observed.secrets.get(secret), false),
        Some(name) => {
            let access = find(s.observed, name);
            let data = access.and_then(|a| logins::own_secret(a, s.observed));
            (data, access.is_some_and(s.is_wrong))
        }
    };
    if shown.and_then(existing_password).as_ref() == Some(password) {
        return Verdict::new(
            OperationPhase::Succeeded,
            format!(
                "{secret} has the new password, which every instance knows; the one before is taken for an hour more"
            ),
        );
    }
    Verdict::running(if wrong {
        format!(
            "every instance knows the new password; {secret} gets it when its Access asks for nothing that cannot be, as its \
             status says"
        )
    } else {
        format!("every instance knows the new password: {secret} gets it")
    })
}

/// Why it is not certain of every instance that runs that it knows the logins of this hash; none when it is.
///
/// One that does not answer may serve all the same, and one that does not serve yet starts with what is mounted: both are
/// waited for.
fn unknowing(instances: &[Instance], hash: Option<&str>) -> Option<String> {
    let Some(hash) = hash else {
        return Some("agents are being told".to_owned());
    };
    let is_placed = |i: &&Instance| {
        let pod = i.pod.as_ref();
        pod.is_some_and(|p| p.node.is_some() && p.phase != Phase::Ended)
    };
    let mut any = false;
    let mut behind = Vec::new();
    for instance in instances.iter().filter(is_placed) {
        any = true;
        let name = &instance.name;
        match instance.agent() {
            Some(status) if status.users_hash.as_deref() == Some(hash) => {}
            Some(status) if status.ready => {
                behind.push(format!("{name} does not know the new password yet"));
            }
            _ => behind.push(
                instance
                    .unwell()
                    .unwrap_or_else(|| format!("{name} has not said whether it knows it")),
            ),
        }
    }
    if !any {
        return Some("no instance runs that could know the new password".to_owned());
    }
    (!behind.is_empty()).then(|| behind.join(", "))
}

#[cfg(test)]
#[path = "rotations_tests.rs"]
mod tests;
