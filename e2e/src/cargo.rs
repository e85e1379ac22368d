//! Cargo, asked for by a program that cargo itself runs.

use std::process::Command;

/// What cargo tells of the package whose program it runs.
const OF_THE_CALLER: [&str; 5] = [
    "CARGO_BIN_NAME",
    "CARGO_CRATE_NAME",
    "CARGO_MANIFEST_",
    "CARGO_PKG_",
    "CARGO_PRIMARY_PACKAGE",
];

/// A cargo command of this toolchain.
///
/// It does not hear which package the caller belongs to: build scripts ask to be run again when that changes
/// (ring's does), so that a test by hand and one from here would each build most crates anew.
pub fn command() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    for (name, _) in std::env::vars_os() {
        let shown = name.to_string_lossy();
        if OF_THE_CALLER.iter().any(|start| shown.starts_with(start)) {
            command.env_remove(&name);
        }
    }
    command
}
