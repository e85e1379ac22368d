//! What S3 can do with versions of objects and with locks, and `object_store` does not ask for.

use age::secrecy::ExposeSecret as _;
use http::{Method, StatusCode};
use jiff::Timestamp;
use object_store::aws::{AwsAuthorizer, AwsCredential};
use object_store::client::{HttpClient, HttpRequestBody, HttpResponse};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;

use super::error::{Answer, Reason, find};
use super::settings::S3;
use super::{PATIENCE, pause};

/// What S3's signatures leave as it is.
const PLAIN: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'~');
const PLAIN_PATH: &AsciiSet = &PLAIN.remove(b'/');

/// One version of an object, or a mark that it was deleted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version {
    /// The whole key.
    pub key: String,
    /// The version's id; `null` for what was written before versions were kept.
    pub id: String,
    /// When it was written, by the store's clock.
    pub modified: Timestamp,
    /// Whether it only marks a deletion.
    pub marker: bool,
}

/// Sorts the versions of an object: the newest first. Of the same moment they stay in the order of the store's list, which
/// has the newest first as well; marks come in a list of their own, and count as newer.
pub(super) fn newest_first(versions: &mut [Version]) {
    versions.sort_by_key(|version| (std::cmp::Reverse(version.modified), !version.marker));
}

/// What a bucket does with objects that are replaced or deleted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Bucket {
    /// It keeps versions.
    pub versions: bool,
    /// Versions can be locked.
    pub locks: bool,
    /// How long the bucket locks every new version by itself.
    pub days: Option<u32>,
}

/// Signed requests to one bucket.
#[derive(Debug)]
pub(super) struct Versions {
    client: HttpClient,
    url: String,
    region: String,
    credential: AwsCredential,
}

impl Versions {
    pub(super) fn new(client: HttpClient, s3: &S3) -> Self {
        let endpoint = s3.endpoint.clone();
        let url = match (endpoint, s3.virtual_hosted) {
            (Some(endpoint), true) => endpoint,
            (Some(endpoint), false) => format!("{endpoint}/{}", s3.bucket),
            (None, true) => format!("https://{}.s3.{}.amazonaws.com", s3.bucket, s3.region),
            (None, false) => format!("https://s3.{}.amazonaws.com/{}", s3.region, s3.bucket),
        };
        Self {
            client,
            url,
            region: s3.region.clone(),
            credential: AwsCredential {
                key_id: s3.access_key_id.clone(),
                secret_key: s3.secret_access_key.expose_secret().to_owned(),
                token: s3
                    .session_token
                    .as_ref()
                    .map(|token| token.expose_secret().to_owned()),
            },
        }
    }

    /// What the bucket does.
    pub(super) async fn bucket(&self) -> Result<Bucket, Reason> {
        #[derive(Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct Versioning {
            status: Option<String>,
        }
        #[derive(Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct Lock {
            object_lock_enabled: Option<String>,
            rule: Option<Rule>,
        }
        #[derive(Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct Rule {
            default_retention: Option<Retention>,
        }
        #[derive(Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct Retention {
            days: Option<u32>,
            years: Option<u32>,
        }
        let mut bucket = Bucket::default();
        match self.setting("versioning").await {
            Ok(text) => {
                let versioning: Option<Versioning> = text.map(|text| parse(&text)).transpose()?;
                // Also where it was suspended: older versions are still there.
                bucket.versions = versioning.is_some_and(|versioning| versioning.status.is_some());
            }
            // We may not see it: then it may be so, and a list of versions tells.
            Err(Reason::Denied { .. }) => bucket.versions = true,
            Err(other) => return Err(other),
        }
        match self.setting("object-lock").await {
            Ok(Some(text)) => {
                let lock: Lock = parse(&text)?;
                bucket.locks = lock.object_lock_enabled.as_deref() == Some("Enabled");
                let retention = lock.rule.and_then(|rule| rule.default_retention);
                bucket.days = retention.and_then(|r| r.days.or_else(|| r.years?.checked_mul(366)));
            }
            // Only for people: a lock shows when something is to be deleted.
            Ok(None) | Err(Reason::Denied { .. }) => {}
            Err(other) => return Err(other),
        }
        Ok(bucket)
    }

    /// A setting of the bucket; none where there is none, or the store knows no such.
    async fn setting(&self, name: &str) -> Result<Option<String>, Reason> {
        let response = match self.send(Method::GET, "", &[(name, "")]).await {
            Ok(response) => response,
            Err(Reason::NotFound | Reason::Unsupported { .. }) => return Ok(None),
            Err(other) => return Err(other),
        };
        if response.status() == StatusCode::NOT_FOUND {
            return Ok(None);
        }
        text(response).await.map(Some)
    }

    /// Every version of every object whose whole key begins with `prefix`.
    pub(super) async fn list(&self, prefix: &str) -> Result<Vec<Version>, Reason> {
        #[derive(Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct Page {
            #[serde(default)]
            is_truncated: bool,
            next_key_marker: Option<String>,
            next_version_id_marker: Option<String>,
            #[serde(default, rename = "Version")]
            versions: Vec<Entry>,
            #[serde(default, rename = "DeleteMarker")]
            markers: Vec<Entry>,
        }
        #[derive(Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct Entry {
            key: String,
            version_id: String,
            last_modified: Timestamp,
        }
        let mut all = Vec::new();
        let mut marker: Option<(String, String)> = None;
        loop {
            let mut query = vec![("versions", ""), ("prefix", prefix)];
            if let Some((key, version)) = &marker {
                query.push(("key-marker", key));
                if !version.is_empty() {
                    query.push(("version-id-marker", version));
                }
            }
            let page: Page = parse(&text(self.send(Method::GET, "", &query).await?).await?)?;
            let entry = |marker: bool| {
                move |entry: Entry| Version {
                    key: entry.key,
                    id: entry.version_id,
                    modified: entry.last_modified,
                    marker,
                }
            };
            all.extend(page.versions.into_iter().map(entry(false)));
            all.extend(page.markers.into_iter().map(entry(true)));
            let next = page
                .next_key_marker
                .map(|key| (key, page.next_version_id_marker.unwrap_or_default()));
            if !page.is_truncated || next.is_none() || next == marker {
                return Ok(all);
            }
            marker = next;
        }
    }

    /// Deletes one version for good.
    pub(super) async fn delete(&self, key: &str, version: &str) -> Result<(), Reason> {
        match self
            .send(Method::DELETE, key, &[("versionId", version)])
            .await
        {
            Ok(_) | Err(Reason::NotFound) => Ok(()),
            // A refusal may be a lock: then the object says until when.
            Err(Reason::Denied { told }) => Err(match self.locked_until(key, version).await {
                Ok(Some(until)) => Reason::Locked { until },
                _ => Reason::Denied { told },
            }),
            Err(Reason::Locked { .. }) => Err(Reason::Locked {
                until: self
                    .locked_until(key, version)
                    .await
                    .ok()
                    .flatten()
                    .flatten(),
            }),
            Err(other) => Err(other),
        }
    }

    /// Until when a version is locked. `Some(None)`: for as long as a hold is on it.
    async fn locked_until(
        &self,
        key: &str,
        version: &str,
    ) -> Result<Option<Option<Timestamp>>, Reason> {
        let response = self
            .send(Method::HEAD, key, &[("versionId", version)])
            .await?;
        let header = |name: &str| response.headers().get(name)?.to_str().ok();
        if header("x-amz-object-lock-legal-hold") == Some("ON") {
            return Ok(Some(None));
        }
        let until =
            header("x-amz-object-lock-retain-until-date").and_then(|text| text.parse().ok());
        Ok(until.filter(|until| *until > Timestamp::now()).map(Some))
    }

    /// Asks, and again while what hinders it may pass by itself.
    async fn send(
        &self,
        method: Method,
        key: &str,
        query: &[(&str, &str)],
    ) -> Result<HttpResponse, Reason> {
        let mut attempt = 0;
        loop {
            match self.send_once(method.clone(), key, query).await {
                Err(reason) if reason.passes() && attempt < PATIENCE => {
                    attempt += 1;
                    tokio::time::sleep(pause(attempt)).await;
                }
                outcome => return outcome,
            }
        }
    }

    async fn send_once(
        &self,
        method: Method,
        key: &str,
        query: &[(&str, &str)],
    ) -> Result<HttpResponse, Reason> {
        let encode = |text: &str| utf8_percent_encode(text, PLAIN).to_string();
        let query: Vec<String> = query
            .iter()
            .map(|(name, value)| format!("{}={}", encode(name), encode(value)))
            .collect();
        let path = utf8_percent_encode(key, PLAIN_PATH);
        let slash = if key.is_empty() && self.url.matches('/').count() > 2 {
            ""
        } else {
            "/"
        };
        let url = format!("{}{slash}{path}?{}", self.url, query.join("&"));
        let other = |error: &dyn std::error::Error| Reason::Other {
            told: error.to_string(),
        };
        let mut request = http::Request::builder()
            .method(method)
            .uri(url)
            .body(HttpRequestBody::empty())
            .map_err(|error| other(&error))?;
        AwsAuthorizer::new(&self.credential, "s3", &self.region)
            .try_authorize(&mut request, None)
            .map_err(|error| super::error::reason(&error))?;
        match self.client.execute(request).await {
            Ok(response) => Ok(response),
            Err(error) => Err(find::<Answer>(&error).map_or_else(
                || Reason::Unreachable {
                    why: error.to_string(),
                },
                Answer::reason,
            )),
        }
    }
}

async fn text(response: HttpResponse) -> Result<String, Reason> {
    let bytes = response
        .into_body()
        .bytes()
        .await
        .map_err(|error| Reason::Interrupted {
            why: error.to_string(),
        })?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn parse<T: serde::de::DeserializeOwned>(xml: &str) -> Result<T, Reason> {
    quick_xml::de::from_str(xml).map_err(|error| Reason::Other {
        told: format!("the store's answer is not understood: {error}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_the_same_moment_the_newest_stays_first() {
        let version = |id: &str, second, marker| Version {
            key: "k".into(),
            id: id.into(),
            modified: Timestamp::from_second(second).unwrap(),
            marker,
        };
        // As a store lists them: versions, and then marks.
        let mut versions = vec![
            version("d", 7, false),
            version("c", 5, false),
            version("b", 5, false),
            version("a", 5, false),
            version("later mark", 8, true),
            version("mark", 5, true),
        ];
        newest_first(&mut versions);
        let ids: Vec<&str> = versions.iter().map(|version| version.id.as_str()).collect();
        assert_eq!(ids, ["later mark", "d", "mark", "c", "b", "a"]);
    }
}
