//! What a pod was made from, in words. The inputs of a template are a JSON object of texts.

use std::collections::{BTreeMap, BTreeSet};

/// The first difference between the inputs of two revisions in words, for example
/// `memory: 512Mi → 1Gi`. `None` when there is none, or one of them cannot be read.
pub fn first_difference(old: &str, new: &str) -> Option<String> {
    let read = |text| serde_json::from_str::<BTreeMap<String, String>>(text).ok();
    let (old, new) = (read(old)?, read(new)?);
    let keys: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    keys.into_iter().find_map(|key| {
        let word = |all: &BTreeMap<String, String>| {
            all.get(key)
                .cloned()
                .unwrap_or_else(|| "not set".to_owned())
        };
        let (from, to) = (word(&old), word(&new));
        (from != to).then(|| format!("{key}: {from} → {to}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_is_told_by_its_first_name() {
        let old = r#"{"cpu":"250m","memory":"512Mi"}"#;
        let new = r#"{"cpu":"250m","memory":"1Gi","zone":"a"}"#;
        assert_eq!(
            first_difference(old, new).as_deref(),
            Some("memory: 512Mi → 1Gi")
        );
        assert_eq!(
            first_difference("{}", r#"{"zone":"a"}"#).as_deref(),
            Some("zone: not set → a")
        );
        assert_eq!(first_difference(old, old), None);
        assert_eq!(first_difference("torn", old), None);
    }
}
