//! Refusals, in the API server's own words where a client reads them.

use http::Response;
use serde_json::{Value, json};

use super::body::{self, Body};
use super::store::Id;

/// A refusal.
#[derive(Clone, Debug, PartialEq)]
pub struct Refusal {
    /// HTTP status.
    pub code: u16,
    /// Machine-readable reason.
    pub reason: &'static str,
    /// For people.
    pub message: String,
}

impl Refusal {
    /// Any refusal.
    pub fn new(code: u16, reason: &'static str, message: impl Into<String>) -> Self {
        Self {
            code,
            reason,
            message: message.into(),
        }
    }

    /// It does not exist.
    pub fn not_found(id: &Id) -> Self {
        Self::new(
            404,
            "NotFound",
            format!("{} {:?} not found", id.resource, id.name),
        )
    }

    /// It exists already.
    pub fn exists(id: &Id) -> Self {
        Self::new(
            409,
            "AlreadyExists",
            format!("{} {:?} already exists", id.resource, id.name),
        )
    }

    /// It is not what the request was made on.
    pub fn conflict(id: &Id, why: &str) -> Self {
        let message = format!(
            "Operation cannot be fulfilled on {} {:?}: {why}",
            id.resource, id.name
        );
        Self::new(409, "Conflict", message)
    }

    /// The request makes no sense.
    pub fn bad(message: impl Into<String>) -> Self {
        Self::new(400, "BadRequest", message)
    }

    /// The object is not valid.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(422, "Invalid", message)
    }

    /// As the API writes it.
    pub fn value(&self) -> Value {
        json!({
            "apiVersion": "v1", "kind": "Status", "metadata": {}, "status": "Failure",
            "message": self.message, "reason": self.reason, "code": self.code,
        })
    }

    /// As an answer.
    pub fn response(&self) -> Response<Body> {
        body::json(self.code, &self.value())
    }
}
