//! Bad resources, and the sentence that each gets: what the tables of all kinds are made of, and what is bad in every
//! kind.

pub(crate) mod common;
pub(crate) mod maintenance;
pub mod rules;

use serde_json::Value;

/// Who refuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// A rule of the definition, and the operator in the same words.
    Both,
    /// A rule about changes: it needs the stored resource. The operator does not see that one.
    Change,
    /// The schema itself, in the API server's words.
    Schema,
    /// The operator alone: rules cannot say it.
    Operator,
}

/// One bad resource.
#[derive(Clone, Debug)]
pub struct Case {
    /// What is bad, in words.
    pub name: &'static str,
    /// Who refuses it.
    pub by: By,
    /// What makes the good resource bad: a JSON merge patch of the whole object.
    pub patch: Value,
    /// Field that the refusal names; empty for the object itself.
    pub field: &'static str,
    /// What is said.
    pub sentence: String,
}

pub(crate) fn case(
    name: &'static str,
    by: By,
    field: &'static str,
    sentence: impl Into<String>,
    patch: Value,
) -> Case {
    Case {
        name,
        by,
        patch,
        field,
        sentence: sentence.into(),
    }
}

/// A refusal of a field of the spec.
pub(crate) fn spec(
    name: &'static str,
    by: By,
    field: &'static str,
    sentence: impl Into<String>,
    patch: Value,
) -> Case {
    case(
        name,
        by,
        field,
        sentence,
        Value::Object([("spec".to_owned(), patch)].into_iter().collect()),
    )
}
