//! Streams of changes.

use std::borrow::Cow;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use futures::stream;
use http::{Response, header};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Bytes, Frame};
use serde::Serialize;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::FakeApi;
use super::body::{Body, only_metadata};
use super::request::{Query, Target};
use super::status::Refusal;
use super::store::Change;

/// A quiet watch tells its version this often, if bookmarks are asked for.
const BOOKMARK: Duration = Duration::from_mins(1);
/// A watch without a wish ends after this time.
const LONGEST: Duration = Duration::from_mins(30);

/// One line of the stream.
#[derive(Serialize)]
struct Line<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    object: Cow<'a, Value>,
}

/// What a line tells, as the store holds it.
struct Told {
    kind: &'static str,
    object: Arc<Value>,
    /// The version told, where it is not the object's own.
    version: Option<u64>,
}

impl Told {
    fn new(kind: &'static str, object: impl Into<Arc<Value>>) -> Self {
        Self {
            kind,
            object: object.into(),
            version: None,
        }
    }

    fn line(&self, metadata_only: bool) -> String {
        let mut object = if metadata_only && self.kind != "ERROR" {
            Cow::Owned(only_metadata(&self.object))
        } else {
            Cow::Borrowed(&*self.object)
        };
        if let Some(version) = self.version {
            object.to_mut()["metadata"]["resourceVersion"] = version.to_string().into();
        }
        let kind = self.kind;
        // What was parsed from JSON can be written as such.
        let mut line = serde_json::to_string(&Line { kind, object }).unwrap_or_default();
        line.push('\n');
        line
    }
}

struct Watch {
    api: FakeApi,
    target: Target,
    query: Query,
    metadata_only: bool,
    /// Index of the next event.
    next: usize,
    /// Version told last.
    version: u64,
    cut: u64,
    ends: Instant,
    /// What waits to be sent, the last first.
    lines: Vec<Told>,
    over: bool,
}

/// Follow a collection, or, by a field selector, one object.
pub fn stream(api: FakeApi, target: &Target, query: &Query, metadata_only: bool) -> Response<Body> {
    let cut = api.visible.borrow().cut;
    let lasts = query.timeout_seconds.map_or(LONGEST, Duration::from_secs);
    let mut watch = Watch {
        api,
        target: target.clone(),
        query: query.clone(),
        metadata_only,
        next: 0,
        version: 0,
        cut,
        ends: Instant::now() + lasts,
        lines: vec![],
        over: false,
    };
    watch.begin();
    let lines = stream::unfold(watch, |mut watch| async {
        let line = watch.line().await?;
        let frame = Frame::data(Bytes::from(line));
        Some((Ok::<_, Infallible>(frame), watch))
    });
    let mut response = Response::new(StreamBody::new(lines).boxed_unsync());
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        header::HeaderValue::from_static("application/json"),
    );
    response
}

impl Watch {
    fn begin(&mut self) {
        let inner = self.api.lock();
        let store = &inner.store;
        match self.query.resource_version {
            None | Some(0) => {
                let all = store.select(&self.target, &self.query);
                self.lines = all
                    .map(|object| Told::new("ADDED", Arc::clone(object)))
                    .collect();
                (self.next, self.version) = (store.event_count(), store.version());
            }
            Some(version) if version < store.compacted() => {
                let gone = Refusal::new(
                    410,
                    "Expired",
                    format!(
                        "too old resource version: {version} ({})",
                        store.compacted()
                    ),
                );
                self.lines = vec![Told::new("ERROR", gone.value())];
                self.over = true;
            }
            Some(version) => {
                let all = store.events(0, store.event_count());
                self.next = all.partition_point(|change| change.version <= version);
                self.version = version;
            }
        }
        self.lines.reverse();
    }

    /// The next line; none at the end.
    async fn line(&mut self) -> Option<String> {
        let mut visible = self.api.visible.subscribe();
        loop {
            if let Some(told) = self.lines.pop() {
                return Some(told.line(self.metadata_only));
            }
            let shown = *visible.borrow_and_update();
            if self.over || shown.cut != self.cut {
                return None;
            }
            self.gather(shown.events);
            if !self.lines.is_empty() {
                continue;
            }
            let bookmark = if self.query.bookmarks {
                BOOKMARK
            } else {
                LONGEST
            };
            tokio::select! {
                changed = visible.changed() => changed.ok()?,
                () = tokio::time::sleep_until(self.ends) => return None,
                () = tokio::time::sleep(bookmark) => self.lines.push(self.bookmark()),
            }
        }
    }

    fn gather(&mut self, visible: usize) {
        let lines: Vec<Told> = {
            let inner = self.api.lock();
            let events = inner.store.events(self.next, visible.max(self.next));
            self.version = events.last().map_or(self.version, |change| change.version);
            events
                .iter()
                .filter_map(|change| self.told(change))
                .collect()
        };
        self.next = self.next.max(visible);
        self.lines = lines;
        self.lines.reverse();
    }

    /// How a change looks through the selectors.
    fn told(&self, change: &Change) -> Option<Told> {
        let (id, target) = (&change.id, &self.target);
        let place = id.group == target.group
            && id.resource == target.resource
            && (target.namespace.is_none() || id.namespace == target.namespace);
        if !place {
            return None;
        }
        let selected = |object: &&Arc<Value>| {
            self.query.labels.matches_labels(object) && self.query.fields.matches_fields(object)
        };
        let before = change.before.as_ref().filter(selected);
        let after = change.after.as_ref().filter(selected);
        let (kind, object) = match (before, after) {
            (None, None) => return None,
            (None, Some(object)) => ("ADDED", object),
            (Some(_), Some(object)) => ("MODIFIED", object),
            (Some(object), None) => ("DELETED", object),
        };
        let mut told = Told::new(kind, Arc::clone(object));
        // What went, or is not selected any more, is told as it was, with the version of that change.
        told.version = (kind == "DELETED").then_some(change.version);
        Some(told)
    }

    fn bookmark(&self) -> Told {
        let version = match self.target.group.as_str() {
            "" => self.target.version.clone(),
            group => format!("{group}/{}", self.target.version),
        };
        let meta = json!({"resourceVersion": self.version.to_string(), "name": ""});
        Told::new(
            "BOOKMARK",
            json!({"apiVersion": version, "kind": "", "metadata": meta}),
        )
    }
}
