//! Repositories as they are meant.

use kube::ResourceExt;
use mainstay_backup::spec::{
    ACCESS_KEY, ACCESS_KEY_ID, PlaceSpec, RepositorySpec, SECRET_ACCESS_KEY, SERVICE_ACCOUNT,
    SESSION_TOKEN,
};
use mainstay_crds::common::backup::rules;
use mainstay_crds::common::backup::{Authority, Azure, Gcs, Repository, S3, Volume};
use mainstay_crds::common::sentences;
use mainstay_crds::operation::Operation;

use super::backup::Judge;
use super::syntax;
use crate::metadata::SetId;
use crate::names;
use crate::operator::desired::store::{Access, AuthorityRef, Store};

/// Region of stores that have none.
const REGION: &str = "us-east-1";
/// Port of stores unless said.
const HTTPS: u16 = 443;

/// The store whose copies of keys an operation destroys, and where it is, for people; or what is wrong with it.
///
/// # Errors
/// In sentences.
pub fn store(operation: &Operation) -> Result<Store, String> {
    let asked = operation.spec.destroy_keys.as_ref();
    let asked = asked.ok_or_else(|| format!("spec.destroyKeys: {}", sentences::KEYS_ARE_NAMED))?;
    let set = SetId {
        namespace: operation.namespace().unwrap_or_default(),
        name: operation.spec.target.name.clone(),
        ..SetId::default()
    };
    let mut problems = Vec::new();
    let mut judge = Judge {
        at: "destroyKeys",
        problems: &mut problems,
    };
    let found = repository(&asked.repository, Some(&set), &mut judge);
    let words: Vec<String> = problems.iter().map(ToString::to_string).collect();
    match found.filter(|_| problems.is_empty()) {
        Some((spec, access)) => {
            let place = place(&spec);
            Ok(Store {
                spec,
                access,
                place,
            })
        }
        None => Err(words.join("; ")),
    }
}

/// How a repository is reached.
pub fn repository(
    asked: &Repository,
    set: Option<&SetId>,
    judge: &mut Judge<'_>,
) -> Option<(RepositorySpec, Access)> {
    let credentials = asked.credentials.as_deref();
    judge.check(
        credentials.is_none_or(syntax::is_subdomain),
        ".repository.credentials",
        rules::SECRET,
    );
    judge.check(
        credentials.is_some() || asked.volume.is_some(),
        ".repository.credentials",
        rules::CREDENTIALS,
    );
    let prefix = match (&asked.prefix, set) {
        (Some(prefix), _) => prefix.clone(),
        (None, Some(set)) => format!("{}/{}", set.namespace, set.name),
        (None, None) => String::new(),
    };
    let named = asked.prefix.as_deref();
    judge.check(
        named.is_none_or(is_prefix),
        ".repository.prefix",
        rules::PREFIX,
    );
    let (inline, reference) = authority(asked.authority.as_ref(), judge);
    let (place, keys, port) = match (&asked.s3, &asked.gcs, &asked.azure, &asked.volume) {
        (Some(s3), None, None, None) => {
            let port = port(s3.endpoint.as_deref());
            (of_s3(s3, judge), S3_KEYS, Some(port))
        }
        (None, Some(gcs), None, None) => (of_gcs(gcs, judge), GCS_KEYS, Some(HTTPS)),
        (None, None, Some(azure), None) => (of_azure(azure, judge), AZURE_KEYS, Some(HTTPS)),
        (None, None, None, Some(volume)) => {
            has_no_store(asked, judge);
            (of_volume(volume, set, judge), NO_KEYS, None)
        }
        _ => {
            judge.say(".repository", rules::ONE_STORE);
            return None;
        }
    };
    let spec = RepositorySpec {
        place,
        prefix,
        authority: inline,
        bytes_per_second: None,
        concurrency: None,
        encryption: None,
    };
    let access = Access {
        credentials: asked.credentials.clone(),
        claim: asked.volume.as_ref().map(|v| v.claim_name.clone()),
        keys,
        authority: reference,
        port,
    };
    Some((spec, access))
}

const S3_KEYS: &[&str] = &[ACCESS_KEY_ID, SECRET_ACCESS_KEY, SESSION_TOKEN];
const GCS_KEYS: &[&str] = &[SERVICE_ACCOUNT];
const AZURE_KEYS: &[&str] = &[ACCESS_KEY];
const NO_KEYS: &[&str] = &[];

fn of_s3(asked: &S3, judge: &mut Judge<'_>) -> PlaceSpec {
    let inner = |b: u8| b == b'-' || b == b'.';
    judge.check(
        is_name(&asked.bucket, 3..=63, inner),
        ".repository.s3.bucket",
        rules::S3_BUCKET,
    );
    judge.check(
        asked.endpoint.as_deref().is_none_or(is_endpoint),
        ".repository.s3.endpoint",
        rules::ENDPOINT,
    );
    let region = asked.region.as_deref();
    judge.check(
        region.is_none_or(|r| is_name(r, 1..=64, |b| b == b'-')),
        ".repository.s3.region",
        rules::REGION,
    );
    PlaceSpec::S3 {
        endpoint: asked.endpoint.clone(),
        region: region.unwrap_or(REGION).to_owned(),
        bucket: asked.bucket.clone(),
        virtual_hosted: asked.virtual_hosted.unwrap_or(asked.endpoint.is_none()),
    }
}

fn of_gcs(asked: &Gcs, judge: &mut Judge<'_>) -> PlaceSpec {
    let inner = |b: u8| matches!(b, b'-' | b'.' | b'_');
    judge.check(
        is_name(&asked.bucket, 3..=222, inner),
        ".repository.gcs.bucket",
        rules::GCS_BUCKET,
    );
    PlaceSpec::Gcs {
        bucket: asked.bucket.clone(),
    }
}

fn of_azure(asked: &Azure, judge: &mut Judge<'_>) -> PlaceSpec {
    judge.check(
        is_name(&asked.account, 3..=24, |_| false),
        ".repository.azure.account",
        rules::ACCOUNT,
    );
    judge.check(
        is_name(&asked.container, 3..=63, |b| b == b'-'),
        ".repository.azure.container",
        rules::CONTAINER,
    );
    PlaceSpec::Azure {
        account: asked.account.clone(),
        container: asked.container.clone(),
    }
}

/// What a volume does not have.
fn has_no_store(asked: &Repository, judge: &mut Judge<'_>) {
    judge.check(
        asked.credentials.is_none(),
        ".repository.credentials",
        rules::NO_CREDENTIALS,
    );
    judge.check(
        asked.authority.is_none(),
        ".repository.authority",
        rules::NO_AUTHORITY,
    );
    judge.check(
        asked.immutable != Some(true),
        ".repository.immutable",
        rules::NOT_IMMUTABLE,
    );
}

fn of_volume(asked: &Volume, set: Option<&SetId>, judge: &mut Judge<'_>) -> PlaceSpec {
    let claim = &asked.claim_name;
    judge.check(
        syntax::is_subdomain(claim),
        ".repository.volume.claimName",
        rules::CLAIM,
    );
    let instance = claim.strip_suffix("-data");
    let own = set
        .zip(instance)
        .is_some_and(|(set, instance)| names::ordinal(&set.name, instance).is_some());
    judge.check(!own, ".repository.volume.claimName", rules::OWN_CLAIM);
    let path = asked.path.as_deref();
    judge.check(
        path.is_none_or(|path| is_prefix(path) && path.len() <= 200),
        ".repository.volume.path",
        rules::PATH,
    );
    PlaceSpec::Volume {
        claim: claim.clone(),
        path: path.unwrap_or_default().to_owned(),
    }
}

/// Certificates as the settings have them, and where they are if not there.
fn authority(
    asked: Option<&Authority>,
    judge: &mut Judge<'_>,
) -> (Option<String>, Option<AuthorityRef>) {
    let Some(asked) = asked else {
        return (None, None);
    };
    let at = ".repository.authority";
    for (field, reference) in [("configMap", &asked.config_map), ("secret", &asked.secret)] {
        let Some(reference) = reference else { continue };
        judge.check(
            syntax::is_subdomain(&reference.name),
            &format!("{at}.{field}.name"),
            rules::OBJECT,
        );
        let allowed = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
        let key = reference.key();
        judge.check(
            !key.is_empty() && key.bytes().all(allowed),
            &format!("{at}.{field}.key"),
            rules::KEY,
        );
    }
    match (&asked.certificate, &asked.config_map, &asked.secret) {
        (Some(text), None, None) => {
            judge.check(
                text.contains("-----BEGIN CERTIFICATE-----"),
                &format!("{at}.certificate"),
                rules::CERTIFICATE,
            );
            (Some(text.clone()), None)
        }
        // Empty: they are a file among the secrets.
        (None, Some(map), None) => {
            let of = AuthorityRef::ConfigMap(map.name.clone(), map.key().to_owned());
            (Some(String::new()), Some(of))
        }
        (None, None, Some(secret)) => {
            let of = AuthorityRef::Secret(secret.name.clone(), secret.key().to_owned());
            (Some(String::new()), Some(of))
        }
        _ => {
            judge.say(at, rules::ONE_AUTHORITY);
            (None, None)
        }
    }
}

/// Where a repository is, for people.
pub fn place(spec: &RepositorySpec) -> String {
    let prefix = &spec.prefix;
    match &spec.place {
        PlaceSpec::S3 {
            bucket, endpoint, ..
        } => {
            let host = endpoint.as_deref().and_then(|e| e.strip_prefix("https://"));
            host.map_or_else(
                || format!("s3://{bucket}/{prefix}"),
                |host| format!("s3://{bucket}/{prefix} at {host}"),
            )
        }
        PlaceSpec::Gcs { bucket } => format!("gs://{bucket}/{prefix}"),
        PlaceSpec::Azure { account, container } => {
            format!("azure://{account}/{container}/{prefix}")
        }
        PlaceSpec::Volume { claim, path } if path.is_empty() => {
            format!("volume://{claim}/{prefix}")
        }
        PlaceSpec::Volume { claim, path } => format!("volume://{claim}/{path}/{prefix}"),
    }
}

fn is_name(text: &str, length: std::ops::RangeInclusive<usize>, inner: fn(u8) -> bool) -> bool {
    let edge = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = text.as_bytes();
    length.contains(&bytes.len())
        && bytes.first().is_some_and(edge)
        && bytes.last().is_some_and(edge)
        && bytes.iter().all(|b| edge(b) || inner(*b))
}

fn is_prefix(text: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
    let segment = |s: &str| !s.is_empty() && s != "." && s != ".." && s.bytes().all(allowed);
    text.len() <= 400 && text.split('/').all(segment)
}

/// Host and port of an endpoint.
fn host(endpoint: &str) -> Option<(&str, Option<&str>)> {
    let rest = endpoint.strip_prefix("https://")?;
    let end = rest.rfind(']').map_or(0, |bracket| bracket + 1);
    match rest[end..].rfind(':') {
        Some(colon) => Some((&rest[..end + colon], Some(&rest[end + colon + 1..]))),
        None => Some((rest, None)),
    }
}

fn is_endpoint(text: &str) -> bool {
    let Some((host, port)) = host(text) else {
        return false;
    };
    let named = |host: &str| {
        let edge = |b: &u8| b.is_ascii_alphanumeric();
        let bytes = host.as_bytes();
        bytes.first().is_some_and(edge)
            && bytes.last().is_some_and(edge)
            && bytes.iter().all(|b| edge(b) || b".-".contains(b))
    };
    let address = host.strip_prefix('[').and_then(|h| h.strip_suffix(']'));
    let good = address.map_or_else(
        || named(host),
        |a| !a.is_empty() && a.bytes().all(|b| b.is_ascii_hexdigit() || b == b':'),
    );
    let port = port.is_none_or(|p| !p.starts_with('0') && p.len() <= 5 && p.parse::<u16>().is_ok());
    good && port
}

/// Port of an endpoint.
fn port(endpoint: Option<&str>) -> u16 {
    let said = endpoint.and_then(host).and_then(|(_, port)| port);
    said.and_then(|p| p.parse().ok()).unwrap_or(HTTPS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_of_stores_are_opened() {
        assert_eq!(port(None), 443);
        assert_eq!(port(Some("https://store.example.com")), 443);
        assert_eq!(port(Some("https://store.example.com:9000")), 9000);
        assert_eq!(port(Some("https://[fd00::1]:7480")), 7480);
        assert_eq!(port(Some("https://[fd00::1]")), 443);
    }
}
