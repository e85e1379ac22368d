//! Bodies of answers.

use std::convert::Infallible;

use http::{Response, header};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use serde_json::{Value, json};

/// A whole answer, or a stream of watch events.
pub type Body = UnsyncBoxBody<Bytes, Infallible>;

/// A JSON answer.
pub fn json(code: u16, value: &Value) -> Response<Body> {
    let mut response = Response::new(Full::from(value.to_string()).boxed_unsync());
    *response.status_mut() = http::StatusCode::from_u16(code).unwrap_or_default();
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        header::HeaderValue::from_static("application/json"),
    );
    response
}

/// An object, or the items of a list, reduced to their metadata.
pub fn only_metadata(value: &Value) -> Value {
    if let Some(items) = value.get("items").and_then(Value::as_array) {
        json!({
            "apiVersion": "meta.k8s.io/v1",
            "kind": "PartialObjectMetadataList",
            "metadata": value["metadata"],
            "items": items.iter().map(only_metadata).collect::<Vec<_>>(),
        })
    } else if value["kind"] == "Status" {
        value.clone()
    } else {
        json!({
            "apiVersion": "meta.k8s.io/v1",
            "kind": "PartialObjectMetadata",
            "metadata": value["metadata"],
        })
    }
}
