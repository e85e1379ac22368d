//! Rules that the API server checks (CEL), each with its sentence.
//!
//! Schemas set only maxima; whatever deserves a sentence is a rule, because what a schema refuses
//! is answered with a regular expression or a bound, not with what to write instead.

use kube::core::Rule;
use schemars::{Schema, SchemaGenerator, json_schema};

use super::sentences;

/// Smallest processor time, in thousandths of a processor.
pub const MIN_CPU_MILLIS: i64 = 10;
/// Largest processor time, in thousandths of a processor.
pub const MAX_CPU_MILLIS: i64 = 1_024_000;
/// Smallest memory of an instance, in bytes.
pub const MIN_MEMORY: i64 = 256 << 20;
/// Largest memory of an instance, in bytes.
pub const MAX_MEMORY: i64 = 16 << 40;
/// Smallest volume, in bytes.
pub const MIN_STORAGE: i64 = 1 << 30;
/// Largest volume, in bytes.
pub const MAX_STORAGE: i64 = 256 << 40;
/// Longest validity of a leaf certificate.
pub const MAX_CERTIFICATE_HOURS: i32 = 8760;
/// Least and most of `async.maxLagBytes`.
pub const MAX_LAG_BYTES: std::ops::RangeInclusive<i64> = (1 << 20)..=(1 << 40);
/// Longest name of a resource: the names derived from it (`<name>-NN-data`) stay within 63.
pub const MAX_NAME: usize = 50;

/// Regular expression of a DNS subdomain, which most names in Kubernetes are.
pub(crate) const SUBDOMAIN: &str =
    r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$";
/// Regular expression of a label's key.
const LABEL_KEY: &str =
    r"^([a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$";
/// Regular expression of a label's value.
const LABEL_VALUE: &str = r"^([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?$";

fn matches(pattern: &str, sentence: &str) -> Rule {
    Rule::new(format!("self.matches('{pattern}')")).message(sentence)
}

/// A quantity within bounds; each bound is written as a quantity.
pub(crate) fn between(least: &str, most: &str, sentence: &str) -> Rule {
    Rule::new(format!(
        "isQuantity(string(self)) && quantity(string(self)).compareTo(quantity('{least}')) >= 0 \
         && quantity(string(self)).compareTo(quantity('{most}')) <= 0"
    ))
    .message(sentence)
}

/// `metadata.name` as names derived from it need it.
pub fn name() -> Rule {
    Rule::new(format!(
        "self.metadata.name.size() <= {MAX_NAME} && self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')"
    ))
    .message(sentences::NAME)
}

/// Of `resources.cpu`.
pub fn cpu() -> Rule {
    between("10m", "1024", sentences::CPU)
}

/// Of `resources.memory`.
pub fn memory() -> Rule {
    between("256Mi", "16Ti", sentences::MEMORY)
}

/// Of `storage.size`.
pub fn storage_size() -> Rule {
    between("1Gi", "256Ti", sentences::STORAGE_SIZE)
}

/// A volume never shrinks.
pub fn storage_grows() -> Rule {
    Rule::new(
        "!isQuantity(string(self)) || !isQuantity(string(oldSelf)) || \
         quantity(string(self)).compareTo(quantity(string(oldSelf))) >= 0",
    )
    .message(sentences::STORAGE_SHRINKS)
}

/// Of `storage.class`.
pub fn storage_class() -> Rule {
    matches(SUBDOMAIN, sentences::STORAGE_CLASS)
}

/// The class of a volume stays.
pub fn storage_class_is_fixed() -> Rule {
    Rule::new(
        "has(self.class) == has(oldSelf.class) && (!has(self.class) || self.class == oldSelf.class)",
    )
    .message(sentences::STORAGE_CLASS_CHANGES)
}

/// Of `async.maxLagBytes`.
pub fn max_lag() -> Rule {
    let (least, most) = (MAX_LAG_BYTES.start(), MAX_LAG_BYTES.end());
    Rule::new(format!("self >= {least} && self <= {most}")).message(sentences::MAX_LAG)
}

/// Of the name of an instance.
pub fn instance() -> Rule {
    matches(SUBDOMAIN, sentences::INSTANCE)
}

/// Of `tls.certificateHours`.
pub fn certificate_hours() -> Rule {
    Rule::new(format!("self >= 1 && self <= {MAX_CERTIFICATE_HOURS}"))
        .message(sentences::CERTIFICATE_HOURS)
}

/// Of `maintenance.windows[].start`.
pub fn window_start() -> Rule {
    matches("^([01][0-9]|2[0-3]):[0-5][0-9]$", sentences::WINDOW_START)
}

/// Of `maintenance.windows[].hours`.
pub fn window_hours() -> Rule {
    Rule::new("self >= 1 && self <= 24").message(sentences::WINDOW_HOURS)
}

/// A client must be chosen by something.
pub fn client_selects() -> Rule {
    Rule::new(
        "(has(self.podLabels) && self.podLabels.size() > 0) || \
         (has(self.namespaceLabels) && self.namespaceLabels.size() > 0)",
    )
    .message(sentences::CLIENT_SELECTS)
}

/// Schema of a map of labels.
pub fn label_map(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "additionalProperties": { "type": "string", "maxLength": 63 },
        "maxProperties": 16,
        "x-kubernetes-validations": [{
            "rule": format!("self.all(k, k.matches('{LABEL_KEY}') && self[k].matches('{LABEL_VALUE}'))"),
            "message": sentences::LABELS,
        }],
    })
}

/// Of `placement.dedicatedNodes.key`.
pub fn dedicated_key() -> Rule {
    matches(LABEL_KEY, sentences::DEDICATED_KEY)
}

/// Of `placement.dedicatedNodes.value`.
pub fn dedicated_value() -> Rule {
    matches(LABEL_VALUE, sentences::DEDICATED_VALUE)
}

/// Of `placement.priorityClass`.
pub fn priority_class() -> Rule {
    matches(SUBDOMAIN, sentences::PRIORITY_CLASS)
}

/// Of `image`: a tag or a digest, and not `latest`.
pub fn image() -> Rule {
    Rule::new(
        "self.matches('^([a-zA-Z0-9][a-zA-Z0-9._-]*(:[0-9]+)?/[a-z0-9][a-z0-9._/-]*|[a-z0-9][a-z0-9._-]*)(:[A-Za-z0-9_][A-Za-z0-9._-]{0,127})?(@sha256:[a-f0-9]{64})?$') \
         && self.matches('(:[^/@]+|@sha256:[a-f0-9]{64})$') && !self.matches(':latest(@|$)')",
    )
    .message(sentences::IMAGE)
}

/// Of `imagePullSecrets`.
pub fn pull_secrets() -> Rule {
    Rule::new(format!("self.all(name, name.matches('{SUBDOMAIN}'))"))
        .message(sentences::PULL_SECRETS)
}
