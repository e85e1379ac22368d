//! Tables of bad resources tried on the rules of a definition, without an API server.

use kube_cel::{CompiledSchema, Validator, compile_schema};
use mainstay_crds::definitions::definitions;
use serde_json::Value;

use super::{By, Case};
use crate::api::merge;

/// The rules of a kind's definition.
pub struct Rules(CompiledSchema);

impl Rules {
    /// Those of this kind.
    pub fn of(kind: &str) -> Self {
        let all = definitions().unwrap();
        let definition = all.iter().find(|crd| crd.spec.names.kind == kind).unwrap();
        let schema = definition.spec.versions[0].schema.as_ref().unwrap();
        let schema = schema.open_api_v3_schema.as_ref().unwrap();
        Self(compile_schema(&serde_json::to_value(schema).unwrap()))
    }

    /// What they say of an object; `old`: as it was before.
    pub fn refusals(&self, object: &Value, old: Option<&Value>) -> Vec<String> {
        let outcome = Validator::new().validate_compiled(&self.0, object, old);
        let errors = outcome.err().map(kube_cel::ValidationErrors::into_vec);
        let messages = errors.into_iter().flatten().map(|e| e.message);
        messages.collect()
    }

    /// Asserts that they refuse each bad resource with its sentence alone, and no good one.
    pub fn say(&self, good: &Value, also_good: &[(&str, Value)], cases: &[Case]) {
        let patched = |patch: &Value| {
            let mut resource = good.clone();
            merge(&mut resource, patch);
            resource
        };
        for case in cases {
            let old = match case.by {
                By::Both => None,
                By::Change => Some(good),
                By::Schema | By::Operator => continue,
            };
            assert_eq!(
                self.refusals(&patched(&case.patch), old),
                [case.sentence.as_str()],
                "{}",
                case.name
            );
        }
        let none = Vec::<String>::new();
        assert_eq!(self.refusals(good, Some(good)), none);
        for (name, patch) in also_good {
            assert_eq!(self.refusals(&patched(patch), None), none, "{name}");
        }
    }
}

impl Case {
    /// Whether the operator refuses it too.
    pub fn seen_by_the_operator(&self) -> bool {
        matches!(self.by, By::Both | By::Operator)
    }

    /// `field: sentence`, as the operator says it.
    pub fn expected(&self) -> String {
        if self.field.is_empty() {
            self.sentence.clone()
        } else {
            format!("{}: {}", self.field, self.sentence)
        }
    }
}
