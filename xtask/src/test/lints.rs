//! Lints, found while everything is compiled: `.cargo/config.toml` has clippy compile this workspace, so that what
//! its crates are made of is compiled once for both.

use super::compile::{compile, each};
use super::report::Counts;

/// Everything there is: the second has programs and libraries without their tests, which is all but made by the first.
const ALL: [&[&str]; 2] = [
    &["test", "--workspace", "--all-targets", "--no-run"],
    &["build", "--workspace"],
];

/// Compile it. It holds when no compiler or lint says anything; what one does is shown.
pub fn run() -> Counts {
    let mut said = Vec::new();
    let mut succeeded = true;
    for words in ALL {
        match compile(&[words, &["--message-format=json"]].concat()) {
            Ok((done, messages)) => {
                succeeded &= done;
                findings(&messages, &mut said);
            }
            Err(why) => return Counts::failed(&why),
        }
    }
    let mut counts = Counts::default();
    for finding in &said {
        eprintln!("{finding}");
        counts += Counts::failed(finding);
    }
    if said.is_empty() {
        counts = Counts::one("cargo says why above", succeeded);
    }
    counts
}

/// What compilers and lints find, as people read it; once what is found in a program and in its tests. Cargo says it
/// again of what it need not compile again.
fn findings(messages: &str, found: &mut Vec<String>) {
    for message in each(messages).filter(|m| m["reason"] == "compiler-message") {
        let text = &message["message"]["rendered"];
        let text = text.as_str().unwrap_or("a message without words");
        let text = text.trim_end().to_owned();
        if !found.contains(&text) {
            found.push(text);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_compilers_say_is_found_once() {
        let messages = r#"
            {"reason":"compiler-message","target":{"name":"shared"},"message":{"level":"warning","rendered":"warning: unused\n"}}
            {"reason":"compiler-artifact","target":{"name":"shared"},"profile":{"test":true},"executable":"/t/shared"}
            {"reason":"compiler-message","target":{"name":"shared"},"message":{"level":"warning","rendered":"warning: unused\n"}}
            {"reason":"compiler-message","target":{"name":"cli"},"message":{"level":"error","rendered":"error: no such name\n"}}
            {"reason":"build-finished","success":false}"#;
        let mut found = Vec::new();
        findings("", &mut found);
        assert!(found.is_empty());
        findings(messages, &mut found);
        assert_eq!(found, ["warning: unused", "error: no such name"]);
    }
}
