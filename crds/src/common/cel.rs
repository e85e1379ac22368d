//! Texts, lists and maps in rules (CEL).

use kube::core::{Message, Rule};

/// A list of texts as CEL writes it.
pub(crate) fn list<T: std::fmt::Display>(items: impl IntoIterator<Item = T>) -> String {
    let quoted: Vec<String> = items.into_iter().map(|i| format!("'{i}'")).collect();
    format!("[{}]", quoted.join(","))
}

/// A text as CEL writes it.
pub(crate) fn text(text: &str) -> String {
    format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'"))
}

/// No key `k` of the map `keys` for which `bad` holds; the sentence begins with one such key (all
/// of them would cost more than the API server allows for a message).
///
/// A key that would spoil the sentence (the API server then shows the rule instead) is left to
/// a rule of its own.
pub(crate) fn no_key(keys: &str, bad: &str, sentence: &str) -> Rule {
    let bad = format!("{PLAIN_NAME} && {bad}");
    Rule::new(format!("{keys}.all(k, !({bad}))")).message(Message::Expression(format!(
        "{keys}.filter(k, {bad})[0] + {sentence}"
    )))
}

/// `k` can stand in a sentence.
pub(crate) const PLAIN_NAME: &str = r"k.size() <= 128 && !k.matches('[\\x00-\\x1f\\x7f]')";
