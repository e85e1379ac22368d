//! Cargo's tests.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use super::report::Counts;

/// Unit and property tests of every package.
pub fn unit() -> Counts {
    cargo_test(&["test", "--workspace", "--lib", "--bins"])
}

/// Tests against a real kube-apiserver and etcd.
pub fn integration() -> Counts {
    cargo_test(&["test", "--workspace", "--test", "*"])
}

/// Run `cargo test …`, show its output as it comes, and count.
fn cargo_test(args: &[&str]) -> Counts {
    let child = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .args(args)
        .args(["--quiet", "--no-fail-fast"])
        .stdout(Stdio::piped())
        .spawn();
    let mut child = match child {
        Ok(child) => child,
        Err(e) => {
            eprintln!("cargo could not be started: {e}");
            return Counts::one(false);
        }
    };
    let mut output = String::new();
    if let Some(stdout) = child.stdout.take() {
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            println!("{line}");
            output.push_str(&line);
            output.push('\n');
        }
    }
    let succeeded = child.wait().is_ok_and(|status| status.success());
    Counts::of_cargo_test(&output, succeeded)
}
