//! Streams of changes.

use std::convert::Infallible;
use std::time::Duration;

use futures::stream;
use http::{Response, header};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Bytes, Frame};
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
    /// Lines that wait to be sent.
    lines: Vec<Value>,
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
        let frame = Frame::data(Bytes::from(format!("{line}\n")));
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
                let all: Vec<Value> = store.select(&self.target, &self.query).cloned().collect();
                self.lines = all
                    .into_iter()
                    .map(|object| json!({"type": "ADDED", "object": object}))
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
                self.lines = vec![json!({"type": "ERROR", "object": gone.value()})];
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
    async fn line(&mut self) -> Option<Value> {
        let mut visible = self.api.visible.subscribe();
        loop {
            if let Some(mut line) = self.lines.pop() {
                if self.metadata_only && line["type"] != "ERROR" {
                    only_metadata(&mut line["object"]);
                }
                return Some(line);
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
        let lines: Vec<Value> = {
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
    fn told(&self, change: &Change) -> Option<Value> {
        let (id, target) = (&change.id, &self.target);
        let place = id.group == target.group
            && id.resource == target.resource
            && (target.namespace.is_none() || id.namespace == target.namespace);
        if !place {
            return None;
        }
        let selected = |object: &&Value| {
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
        let mut object = object.clone();
        object["metadata"]["resourceVersion"] = change.version.to_string().into();
        Some(json!({"type": kind, "object": object}))
    }

    fn bookmark(&self) -> Value {
        let version = match self.target.group.as_str() {
            "" => self.target.version.clone(),
            group => format!("{group}/{}", self.target.version),
        };
        let meta = json!({"resourceVersion": self.version.to_string(), "name": ""});
        json!({"type": "BOOKMARK", "object": {"apiVersion": version, "kind": "", "metadata": meta}})
    }
}
