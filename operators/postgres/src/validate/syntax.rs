//! Syntax of names that are PostgreSQL's, as the rules of the definition have it in regular expressions.

/// Name of a database or role, without those in `reserved` and without prefixes that are others'.
pub fn is_identifier(text: &str, reserved: &[&str]) -> bool {
    text.len() <= 63
        && text.starts_with(|c: char| c.is_ascii_lowercase())
        && text
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
        && !reserved.contains(&text)
        && !text.starts_with("pg_")
        && !text.starts_with("mainstay")
}

#[cfg(test)]
mod tests {
    use kube::core::Rule;
    use kube_cel::Validator;
    use mainstay_crds::postgres::rules as postgres;
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    /// Whether a rule on a text lets `text` pass.
    fn passes(rule: &Rule, text: &str) -> bool {
        let schema = json!({ "type": "string", "x-kubernetes-validations": [rule] });
        Validator::new()
            .validate(&schema, &text.into(), None)
            .is_ok()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        /// The rules of the definition and this function draw the same line.
        #[test]
        fn rules_and_functions_agree(text in "[aZ0_.:/@-]{0,8}|[a-z][a-z0-9_]{0,20}|(pg_|mainstay)[a-z]{0,3}|[a-z]{60,66}") {
            prop_assert_eq!(
                passes(&postgres::owner(), &text),
                is_identifier(&text, postgres::RESERVED_OWNERS)
            );
        }
    }
}
