//! What a request asks for.

use std::collections::BTreeMap;

use http::{Method, Request, header};
use serde_json::Value;

use super::selector::Selector;
use super::status::Refusal;

/// What is asked for, as RBAC and audit logs name it; `apply` apart from other patches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// Read one.
    Get,
    /// Read many.
    List,
    /// Follow changes.
    Watch,
    /// Make one.
    Create,
    /// Replace one.
    Update,
    /// Change one by a patch.
    Patch,
    /// Server-side apply.
    Apply,
    /// Delete one.
    Delete,
    /// Delete many.
    DeleteCollection,
}

impl Verb {
    /// Whether it could change something.
    pub fn is_write(self) -> bool {
        !matches!(self, Self::Get | Self::List | Self::Watch)
    }
}

/// Which object, or which collection.
#[derive(Clone, Debug)]
pub struct Target {
    pub group: String,
    pub version: String,
    pub resource: String,
    pub namespace: Option<String>,
    pub name: Option<String>,
    pub subresource: Option<String>,
}

/// How a patch is written.
#[derive(Clone, Debug)]
pub enum PatchKind {
    Merge,
    Strategic,
    Json,
    Apply { manager: String, force: bool },
}

/// Which of a collection.
#[derive(Clone, Debug, Default)]
pub struct Query {
    pub labels: Selector,
    pub fields: Selector,
    pub resource_version: Option<u64>,
    pub bookmarks: bool,
    pub timeout_seconds: Option<u64>,
}

/// The request itself.
#[derive(Clone, Debug)]
pub enum Asked {
    Get,
    List(Query),
    Watch(Query),
    Create(Value),
    Update(Value),
    Patch(PatchKind, Value),
    Delete(Value),
    DeleteCollection(Query),
}

/// A request that was understood.
#[derive(Clone, Debug)]
pub struct Parsed {
    pub target: Target,
    pub asked: Asked,
    /// Only metadata is wanted back.
    pub metadata_only: bool,
}

impl Parsed {
    pub fn verb(&self) -> Verb {
        match &self.asked {
            Asked::Get => Verb::Get,
            Asked::List(_) => Verb::List,
            Asked::Watch(_) => Verb::Watch,
            Asked::Create(_) => Verb::Create,
            Asked::Update(_) => Verb::Update,
            Asked::Patch(PatchKind::Apply { .. }, _) => Verb::Apply,
            Asked::Patch(..) => Verb::Patch,
            Asked::Delete(_) => Verb::Delete,
            Asked::DeleteCollection(_) => Verb::DeleteCollection,
        }
    }
}

/// Understand a request.
pub fn parse(request: &Request<Vec<u8>>) -> Result<Parsed, Refusal> {
    let target = target(request.uri().path()).ok_or_else(|| {
        Refusal::new(
            404,
            "NotFound",
            format!("no such path {}", request.uri().path()),
        )
    })?;
    let parameters = parameters(request.uri().query().unwrap_or_default());
    let body = || {
        if request.body().is_empty() {
            return Ok(Value::Null);
        }
        serde_json::from_slice(request.body()).map_err(|e| Refusal::bad(format!("no JSON: {e}")))
    };
    let asked = match (request.method(), &target.name) {
        (&Method::GET, Some(_)) => Asked::Get,
        (&Method::GET, None) => {
            let query = query(&parameters)?;
            match parameters.get("watch").map(String::as_str) {
                Some("true" | "1") => Asked::Watch(query),
                _ => Asked::List(query),
            }
        }
        (&Method::POST, None) => Asked::Create(body()?),
        (&Method::PUT, Some(_)) => Asked::Update(body()?),
        (&Method::PATCH, Some(_)) => Asked::Patch(patch_kind(request, &parameters)?, body()?),
        (&Method::DELETE, Some(_)) => Asked::Delete(body()?),
        (&Method::DELETE, None) => Asked::DeleteCollection(query(&parameters)?),
        (method, _) => {
            let message = format!("{method} {} is not understood", request.uri().path());
            return Err(Refusal::new(405, "MethodNotAllowed", message));
        }
    };
    let accept = request
        .headers()
        .get(header::ACCEPT)
        .and_then(|value| value.to_str().ok());
    let metadata_only = accept.is_some_and(|accept| accept.contains("as=PartialObjectMetadata"));
    Ok(Parsed {
        target,
        asked,
        metadata_only,
    })
}

fn patch_kind(
    request: &Request<Vec<u8>>,
    parameters: &BTreeMap<String, String>,
) -> Result<PatchKind, Refusal> {
    let kind = request
        .headers()
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok());
    Ok(match kind.unwrap_or_default() {
        "application/merge-patch+json" => PatchKind::Merge,
        "application/strategic-merge-patch+json" => PatchKind::Strategic,
        "application/json-patch+json" => PatchKind::Json,
        "application/apply-patch+yaml" => PatchKind::Apply {
            manager: parameters
                .get("fieldManager")
                .cloned()
                .ok_or_else(|| Refusal::bad("fieldManager is required for apply patch"))?,
            force: parameters.get("force").is_some_and(|force| force == "true"),
        },
        other => return Err(Refusal::new(415, "UnsupportedMediaType", other)),
    })
}

fn target(path: &str) -> Option<Target> {
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    let (group, version, rest) = match parts.as_slice() {
        ["api", version, rest @ ..] => ("", *version, rest),
        ["apis", group, version, rest @ ..] => (*group, *version, rest),
        _ => return None,
    };
    // `namespaces/x` alone names a namespace; with more after it, what is in it.
    let (namespace, rest) = match rest {
        ["namespaces", namespace, rest @ ..] if !rest.is_empty() => (Some(*namespace), rest),
        rest => (None, rest),
    };
    let owned = |text: &&str| (*text).to_owned();
    Some(Target {
        group: group.to_owned(),
        version: version.to_owned(),
        resource: rest.first().map(owned)?,
        namespace: namespace.map(str::to_owned),
        name: rest.get(1).map(owned),
        subresource: rest.get(2).map(owned),
    })
}

fn query(parameters: &BTreeMap<String, String>) -> Result<Query, Refusal> {
    let selector = |name: &str| match parameters.get(name) {
        Some(text) => Selector::parse(text),
        None => Ok(Selector::default()),
    };
    let number = |name: &str| parameters.get(name).and_then(|text| text.parse().ok());
    Ok(Query {
        labels: selector("labelSelector")?,
        fields: selector("fieldSelector")?,
        resource_version: number("resourceVersion"),
        bookmarks: parameters
            .get("allowWatchBookmarks")
            .is_some_and(|v| v == "true"),
        timeout_seconds: number("timeoutSeconds"),
    })
}

fn parameters(query: &str) -> BTreeMap<String, String> {
    let pairs = query.split('&').filter(|pair| !pair.is_empty());
    pairs
        .map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decoded(name), decoded(value))
        })
        .collect()
}

fn decoded(text: &str) -> String {
    let mut bytes = vec![];
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => {
                let digits = [rest.next().unwrap_or(b'0'), rest.next().unwrap_or(b'0')];
                let digits = std::str::from_utf8(&digits).unwrap_or("00");
                u8::from_str_radix(digits, 16).unwrap_or(b'?')
            }
            other => other,
        });
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_understood() {
        let of = |path| target(path).unwrap();
        let pod = of("/api/v1/namespaces/shop/pods/db-1/status");
        assert_eq!(
            (pod.namespace.as_deref(), pod.name.as_deref()),
            (Some("shop"), Some("db-1"))
        );
        assert_eq!(pod.subresource.as_deref(), Some("status"));
        let namespace = of("/api/v1/namespaces/shop");
        assert_eq!(
            (namespace.resource.as_str(), namespace.name.as_deref()),
            ("namespaces", Some("shop"))
        );
        let all = of("/apis/mainstay.dev/v1alpha1/postgreses");
        assert_eq!((all.group.as_str(), all.name), ("mainstay.dev", None));
    }

    #[test]
    fn queries_are_decoded() {
        let all = parameters("labelSelector=a%3Db%2Cc&x=1+2");
        assert_eq!(all["labelSelector"], "a=b,c");
        assert_eq!(all["x"], "1 2");
    }
}
