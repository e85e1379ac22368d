//! What went wrong with a request that changes an object, so that the user learns what to do.

use kube::core::Status;

use super::Key;
use crate::conditions::reasons;

/// A request about an object failed.
#[derive(Debug, thiserror::Error)]
#[error("cannot {verb} {key}: {cause}")]
pub struct ApplyError {
    /// What was asked for: `apply`, `create`, `delete`, ….
    pub verb: &'static str,
    /// The object.
    pub key: Key,
    /// Why not.
    #[source]
    pub cause: Cause,
}

/// Why a request failed.
#[derive(Debug, thiserror::Error)]
pub enum Cause {
    /// The operator lacks a right.
    #[error(
        "the operator may not {verb} {resource}: install the chart of this version again, which grants it"
    )]
    Forbidden {
        /// Verb as RBAC names it.
        verb: String,
        /// Resource as RBAC names it.
        resource: String,
    },
    /// The namespace's quota is used up.
    #[error("the quota of the namespace is used up ({0}): ask for a larger one, or ask for less")]
    Quota(String),
    /// An admission policy, a webhook, pod security or a limit range refused it.
    #[error("refused at admission: {0}")]
    Refused(String),
    /// The API server finds the object invalid, or an immutable field would change.
    #[error("the API server finds it invalid: {0}")]
    Invalid(String),
    /// The namespace is being deleted: nothing can be made in it any more.
    #[error("the namespace is being deleted")]
    NamespaceGoing,
    /// The namespace or the kind does not exist.
    #[error("not found: {0}")]
    NotFound(String),
    /// Someone else wrote at the same time; the next pass sees what.
    #[error("it was changed meanwhile: {0}")]
    Conflict(String),
    /// The API server does not know the operator.
    #[error("the API server does not accept the operator's credentials: {0}")]
    Unauthorized(String),
    /// The object could not be written as JSON.
    #[error("it cannot be written as JSON: {0}")]
    Encode(#[source] serde_json::Error),
    /// The API server could not be reached, or failed.
    #[error("the API server did not answer as it should: {0}")]
    Unavailable(#[source] Box<kube::Error>),
}

impl Cause {
    /// Read it off a client's error.
    pub fn of(verb: &str, key: &Key, error: kube::Error) -> Self {
        match error {
            kube::Error::Api(status) => Self::of_status(verb, key, status),
            other => Self::Unavailable(Box::new(other)),
        }
    }

    fn of_status(verb: &str, key: &Key, status: Box<Status>) -> Self {
        let text = status.message.clone();
        let caused_by = |cause: &str| {
            status
                .details
                .as_ref()
                .is_some_and(|d| d.causes.iter().any(|c| c.reason == cause))
        };
        // The message of a refusal starts with `pods "db-1" is forbidden: `.
        let said = text
            .split_once(" is forbidden: ")
            .map_or(text.as_str(), |(_, rest)| rest);
        if caused_by("NamespaceTerminating") || said.contains("because it is being terminated") {
            return Self::NamespaceGoing;
        }
        // A policy may answer with any code; its words tell it.
        if said.contains("denied request: ") || said.contains("denied the request") {
            return Self::Refused(said.to_owned());
        }
        match status.code {
            401 => Self::Unauthorized(text),
            // A quota that is new has not counted yet: a moment later it has.
            403 if said.contains("status unknown for quota") => {
                Self::Unavailable(Box::new(kube::Error::Api(status)))
            }
            403 if said.contains("exceeded quota") => Self::Quota(said.to_owned()),
            403 => match missing_right(said) {
                Some((verb, resource)) => Self::Forbidden { verb, resource },
                None if said.is_empty() => Self::Forbidden {
                    verb: verb.to_owned(),
                    resource: key.kind.to_lowercase(),
                },
                None => Self::Refused(said.to_owned()),
            },
            404 => Self::NotFound(text),
            409 => Self::Conflict(text),
            // The uid in the request kept it off another object of the same name.
            422 if text.contains("metadata.uid") => Self::Conflict(text),
            400 | 413 | 422 => Self::Invalid(text),
            _ => Self::Unavailable(Box::new(kube::Error::Api(status))),
        }
    }

    /// Reason for the condition `Stalled`, when trying again does not help until a person acts.
    pub fn stalled(&self) -> Option<&'static str> {
        match self {
            Self::Forbidden { .. } => Some(reasons::FORBIDDEN),
            Self::Quota(_) => Some(reasons::QUOTA),
            Self::Refused(_) => Some(reasons::REFUSED),
            Self::Invalid(_) => Some(reasons::INVALID),
            _ => None,
        }
    }

    /// What was asked about has changed since it was seen, or is gone: that is news, by which it is looked at anew.
    pub fn is_overtaken(&self) -> bool {
        matches!(self, Self::NotFound(_) | Self::Conflict(_))
    }

    /// A short name for logs and metrics, from a bounded set.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Forbidden { .. } => "forbidden",
            Self::Quota(_) => "quota",
            Self::Refused(_) => "refused",
            Self::Invalid(_) => "invalid",
            Self::NamespaceGoing => "namespace_going",
            Self::NotFound(_) => "not_found",
            Self::Conflict(_) => "conflict",
            Self::Unauthorized(_) => "unauthorized",
            Self::Encode(_) => "encode",
            Self::Unavailable(_) => "unavailable",
        }
    }
}

/// Verb and resource out of RBAC's sentence `… cannot patch resource "pods" in API group …`.
fn missing_right(said: &str) -> Option<(String, String)> {
    let (_, rest) = said.split_once(" cannot ")?;
    let (verb, rest) = rest.split_once(" resource \"")?;
    let (resource, _) = rest.split_once('"')?;
    Some((verb.to_owned(), resource.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    fn cause(code: u16, message: &str) -> Cause {
        let key = Key {
            group: String::new(),
            kind: "Pod".into(),
            namespace: Some("shop".into()),
            name: "db-1".into(),
        };
        let status = Status {
            code,
            message: message.into(),
            ..Status::default()
        };
        Cause::of("apply", &key, kube::Error::Api(Box::new(status)))
    }

    #[rstest]
    #[case(403, r#"pods "db-1" is forbidden: User "system:serviceaccount:m:o" cannot patch resource "pods" in API group "" in the namespace "shop""#, "forbidden", "may not patch pods")]
    #[case(403, r#"pods "db-1" is forbidden: exceeded quota: q, requested: pods=1, used: pods=2, limited: pods=2"#, "quota", "exceeded quota: q")]
    #[case(
        403,
        r#"pods "db-1" is forbidden: status unknown for quota: q, resources: pods"#,
        "unavailable",
        "status unknown"
    )]
    #[case(
        403,
        r#"pods "db-1" is forbidden: violates PodSecurity "restricted:latest": x"#,
        "refused",
        "violates PodSecurity"
    )]
    #[case(422, r#"pods "db-1" is forbidden: ValidatingAdmissionPolicy 'p' with binding 'b' denied request: no latest"#, "refused", "no latest")]
    #[case(
        400,
        r#"admission webhook "w.example.org" denied the request: no"#,
        "refused",
        "w.example.org"
    )]
    #[case(403, r#"pods "db-1" is forbidden: unable to create new content in namespace shop because it is being terminated"#, "namespace_going", "being deleted")]
    #[case(
        422,
        "Service is invalid: spec.clusterIP: field is immutable",
        "invalid",
        "immutable"
    )]
    #[case(401, "Unauthorized", "unauthorized", "credentials")]
    #[case(404, r#"namespaces "shop" not found"#, "not_found", "shop")]
    #[case(409, "the object has been modified", "conflict", "changed meanwhile")]
    #[case(
        422,
        r#"postgreses "db" is invalid: metadata.uid: Invalid value: "1": field is immutable"#,
        "conflict",
        "changed meanwhile"
    )]
    #[case(500, "etcd is slow", "unavailable", "etcd is slow")]
    fn the_api_servers_words_become_advice(
        #[case] code: u16,
        #[case] message: &str,
        #[case] label: &str,
        #[case] says: &str,
    ) {
        let cause = cause(code, message);
        assert_eq!(cause.label(), label);
        assert!(cause.to_string().contains(says), "{cause}");
    }

    #[test]
    fn only_what_a_person_must_mend_is_stalled() {
        assert!(
            cause(403, "x is forbidden: exceeded quota: q")
                .stalled()
                .is_some()
        );
        for transient in [409, 500, 503, 404, 401] {
            assert_eq!(cause(transient, "x").stalled(), None, "{transient}");
        }
    }
}
