//! What cargo says while it compiles, for programs.

use std::process::Stdio;

use serde_json::Value;

/// Whether cargo did this, and its messages, one a line. What it says to people is shown.
pub fn compile(words: &[&str]) -> Result<(bool, String), String> {
    let output = mainstay_e2e::cargo::command()
        .args(words)
        .arg("--quiet")
        .stderr(Stdio::inherit())
        .output()
        .map_err(|e| format!("cargo could not be started: {e}"))?;
    let messages = String::from_utf8_lossy(&output.stdout).into_owned();
    Ok((output.status.success(), messages))
}

/// Each message that is one.
pub fn each(messages: &str) -> impl Iterator<Item = Value> {
    messages
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok())
}
