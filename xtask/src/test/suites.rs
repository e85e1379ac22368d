//! Cargo's tests.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use super::report::Counts;

/// Unit and property tests of every package.
pub fn unit() -> Counts {
    cargo_test(&["test", "--workspace", "--lib", "--bins"], None)
}

/// Tests against a real kube-apiserver and etcd. Most of them wait most of the time: more run at once than
/// there are processors.
pub fn integration() -> Counts {
    cargo_test(&["test", "--workspace", "--test", "*"], Some("5"))
}

/// Run `cargo test …` with so many tests of a binary at once, show its output as it comes, and count.
fn cargo_test(args: &[&str], at_once: Option<&str>) -> Counts {
    let child = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .args(args)
        .args(["--quiet", "--no-fail-fast"])
        .envs(at_once.map(|number| ("RUST_TEST_THREADS", number)))
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
