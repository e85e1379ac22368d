//! Label and field selectors.

use serde_json::Value;

use super::status::Refusal;

/// A conjunction of requirements. Empty: everything.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Selector(Vec<Requirement>);

#[derive(Clone, Debug, PartialEq)]
enum Requirement {
    In(String, Vec<String>),
    NotIn(String, Vec<String>),
    Exists(String),
    Absent(String),
}

impl Selector {
    /// Read one, for example `app=db,tier in (a, b),!old`.
    pub fn parse(text: &str) -> Result<Self, Refusal> {
        let mut found = vec![];
        for part in split_outside_parentheses(text) {
            found.push(requirement(part.trim())?);
        }
        Ok(Self(found))
    }

    /// Whether the labels of an object meet it.
    pub fn matches_labels(&self, object: &Value) -> bool {
        let labels = object.pointer("/metadata/labels");
        self.matches(|key| labels?.get(key)?.as_str().map(str::to_owned))
    }

    /// Whether the fields of an object meet it. A field is a path such as `metadata.name`; an absent
    /// one is as an empty text.
    pub fn matches_fields(&self, object: &Value) -> bool {
        self.matches(|key| {
            let pointer = format!("/{}", key.replace('.', "/"));
            Some(match object.pointer(&pointer) {
                None | Some(Value::Null) => String::new(),
                Some(Value::String(text)) => text.clone(),
                Some(other) => other.to_string(),
            })
        })
    }

    fn matches(&self, value: impl Fn(&str) -> Option<String>) -> bool {
        self.0.iter().all(|requirement| match requirement {
            Requirement::In(key, any) => value(key).is_some_and(|v| any.contains(&v)),
            Requirement::NotIn(key, none) => value(key).is_none_or(|v| !none.contains(&v)),
            Requirement::Exists(key) => value(key).is_some(),
            Requirement::Absent(key) => value(key).is_none(),
        })
    }
}

fn split_outside_parentheses(text: &str) -> Vec<&str> {
    let (mut parts, mut depth, mut start) = (vec![], 0, 0);
    for (at, c) in text.char_indices() {
        match c {
            '(' => depth += 1,
            ')' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(&text[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[start..]);
    parts.retain(|part| !part.trim().is_empty());
    parts
}

fn requirement(part: &str) -> Result<Requirement, Refusal> {
    let many = |list: &str| -> Vec<String> {
        let inner = list.trim().trim_start_matches('(').trim_end_matches(')');
        inner
            .split(',')
            .map(|value| value.trim().to_owned())
            .collect()
    };
    let one = |(key, value): (&str, &str)| (key.trim().to_owned(), vec![value.trim().to_owned()]);
    if let Some((key, list)) = part.split_once(" notin ") {
        return Ok(Requirement::NotIn(key.trim().to_owned(), many(list)));
    }
    if let Some((key, list)) = part.split_once(" in ") {
        return Ok(Requirement::In(key.trim().to_owned(), many(list)));
    }
    if let Some(pair) = part.split_once("!=") {
        let (key, values) = one(pair);
        return Ok(Requirement::NotIn(key, values));
    }
    if let Some(pair) = part.split_once("==").or_else(|| part.split_once('=')) {
        let (key, values) = one(pair);
        return Ok(Requirement::In(key, values));
    }
    match part.strip_prefix('!') {
        Some(key) => Ok(Requirement::Absent(key.trim().to_owned())),
        None if part.contains(char::is_whitespace) => {
            Err(Refusal::bad(format!("unable to parse requirement: {part}")))
        }
        None => Ok(Requirement::Exists(part.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn labels_are_selected_as_the_api_does() {
        let object = json!({"metadata": {"labels": {"app": "db", "tier": "a"}}});
        for (text, expected) in [
            ("app=db", true),
            ("app==db,tier=a", true),
            ("app!=db", false),
            ("other!=x", true),
            ("app in (x, db)", true),
            ("app notin (db)", false),
            ("tier", true),
            ("!tier", false),
            ("!other", true),
            ("", true),
        ] {
            assert_eq!(
                Selector::parse(text).unwrap().matches_labels(&object),
                expected,
                "{text}"
            );
        }
    }

    #[test]
    fn fields_are_selected_by_path() {
        let object = json!({"metadata": {"name": "db"}, "spec": {"nodeName": "n1"}});
        let selected = |text| Selector::parse(text).unwrap().matches_fields(&object);
        assert!(selected("metadata.name=db,spec.nodeName=n1"));
        assert!(!selected("metadata.name=x"));
        assert!(selected("status.phase!=Running"));
    }
}
