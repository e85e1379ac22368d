//! Syntax of names, as the rules of the definition have it in regular expressions.

use mainstay_crds::common::rules::MAX_NAME;

fn lower(b: u8) -> bool {
    b.is_ascii_lowercase() || b.is_ascii_digit()
}

/// `text` begins and ends with what `edge` takes, and has only what `edge` or `inner` take.
fn framed(text: &str, edge: fn(u8) -> bool, inner: &[u8]) -> bool {
    let bytes = text.as_bytes();
    bytes.first().is_some_and(|b| edge(*b))
        && bytes.last().is_some_and(|b| edge(*b))
        && bytes.iter().all(|b| edge(*b) || inner.contains(b))
}

/// Name of a set: a DNS label that begins with a letter, short enough for what is derived from it.
pub fn is_set_name(text: &str) -> bool {
    text.len() <= MAX_NAME
        && text.starts_with(|c: char| c.is_ascii_lowercase())
        && framed(text, lower, b"-")
}

/// A DNS subdomain: labels with dots between them.
pub fn is_subdomain(text: &str) -> bool {
    text.len() <= 253 && text.split('.').all(|label| framed(label, lower, b"-"))
}

/// A label's name or value that is not empty.
fn is_label_part(text: &str) -> bool {
    text.len() <= 63 && framed(text, |b| b.is_ascii_alphanumeric(), b"-_.")
}

/// A label's key.
pub fn is_label_key(text: &str) -> bool {
    match text.split_once('/') {
        Some((prefix, name)) => {
            prefix.len() <= 253 && framed(prefix, lower, b"-.") && is_label_part(name)
        }
        None => is_label_part(text),
    }
}

/// A label's value.
pub fn is_label_value(text: &str) -> bool {
    text.is_empty() || is_label_part(text)
}

/// An image with a fixed tag or digest.
pub fn is_fixed_image(text: &str) -> bool {
    let (rest, digest) = match text.split_once('@') {
        Some((rest, digest)) => (rest, Some(digest)),
        None => (text, None),
    };
    let is_digest = |d: &str| {
        d.strip_prefix("sha256:").is_some_and(|hex| {
            hex.len() == 64 && hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
        })
    };
    // A colon after the last slash begins a tag; one before it a registry's port.
    let last = rest.rfind('/').map_or(0, |slash| slash + 1);
    let (name, tag) = match rest[last..].split_once(':') {
        Some((name, tag)) => (&rest[..last + name.len()], Some(tag)),
        None => (rest, None),
    };
    let is_tag = |t: &str| {
        t.len() <= 128
            && t.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_')
            && t.bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
            && t != "latest"
    };
    is_image_name(name)
        && tag.is_none_or(is_tag)
        && digest.is_none_or(is_digest)
        && (tag.is_some() || digest.is_some())
}

/// `registry:port/path/name` without tag.
fn is_image_name(name: &str) -> bool {
    let path = |text: &str| {
        text.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
            && text.bytes().all(|b| lower(b) || b"._/-".contains(&b))
    };
    let Some((registry, rest)) = name.split_once('/') else {
        return path(name);
    };
    let (host, port) = registry.split_once(':').unwrap_or((registry, "0"));
    host.starts_with(|c: char| c.is_ascii_alphanumeric())
        && host
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
        && !port.is_empty()
        && port.bytes().all(|b| b.is_ascii_digit())
        && path(rest)
}

#[cfg(test)]
mod tests {
    use kube::core::Rule;
    use kube_cel::Validator;
    use mainstay_crds::common::rules;
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn images_need_a_fixed_tag_or_digest() {
        let digest = format!("@sha256:{}", "a".repeat(64));
        for good in [
            "engine:17.6",
            "registry.example.com:5000/a/engine:17",
            "a/b:1_x",
        ] {
            assert!(is_fixed_image(good), "{good}");
            assert!(passes(&rules::image(), good), "{good}");
            assert!(is_fixed_image(&format!("{good}{digest}")), "{good}");
        }
        assert!(is_fixed_image(&format!("engine{digest}")));
        for bad in [
            "",
            "engine",
            "engine:latest",
            "host:5000/engine",
            "a b:1",
            ":1",
            "x:",
            "x@sha256:1",
            "-x:1",
            "a/:0",
            "a//b:1",
        ] {
            assert!(!is_fixed_image(bad), "{bad}");
            assert!(!passes(&rules::image(), bad), "{bad}");
        }
        assert!(!is_fixed_image(&format!("engine:latest{digest}")));
    }

    #[test]
    fn labels_are_kubernetes_labels() {
        assert!(is_label_key("example.com/node-type") && is_label_key("tier"));
        assert!(!is_label_key("/x") && !is_label_key("a/b/c") && !is_label_key("a b"));
        assert!(is_label_value("") && is_label_value("a.b_c-D"));
        assert!(!is_label_value("-a") && !is_label_value(&"a".repeat(64)));
    }

    /// Whether a rule on a text lets `text` pass.
    fn passes(rule: &Rule, text: &str) -> bool {
        let schema = json!({ "type": "string", "x-kubernetes-validations": [rule] });
        Validator::new()
            .validate(&schema, &text.into(), None)
            .is_ok()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        /// The rules of the definition and these functions draw the same line.
        #[test]
        fn rules_and_functions_agree(text in "[aZ0_.:/@-]{0,8}|[a-z][a-z0-9-]{45,55}|[aB1._-]{60,66}") {
            prop_assert_eq!(passes(&rules::storage_class(), &text), is_subdomain(&text));
            prop_assert_eq!(passes(&rules::dedicated_key(), &text), is_label_key(&text));
            prop_assert_eq!(passes(&rules::dedicated_value(), &text), is_label_value(&text));
            prop_assert_eq!(passes(&rules::image(), &text), is_fixed_image(&text));
        }
    }
}
