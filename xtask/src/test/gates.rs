//! Checks that need no test runner: formatting, licences, spelling, scripts, charts.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::report::Counts;

/// A gate: a name and a command that must succeed.
pub struct Gate {
    /// As the table shows it.
    pub name: &'static str,
    command: fn() -> Result<Command, String>,
}

/// Every gate, cheapest first.
pub const ALL: &[Gate] = &[
    Gate {
        name: "formatting",
        command: formatting,
    },
    Gate {
        name: "spelling (typos)",
        command: spelling,
    },
    Gate {
        name: "scripts (shellcheck)",
        command: scripts,
    },
    Gate {
        name: "licences, sources, bans (cargo-deny)",
        command: deny,
    },
    Gate {
        name: "charts (helm lint)",
        command: charts,
    },
];

impl Gate {
    /// Run it; its output goes to the terminal.
    pub fn run(&self) -> Counts {
        let held = (self.command)().and_then(|mut command| {
            command
                .status()
                .map_err(|e| format!("{command:?} could not be started: {e}"))
        });
        match held {
            Ok(status) => Counts::one("see above", status.success()),
            Err(why) => {
                eprintln!("{why}");
                Counts::failed(&why)
            }
        }
    }
}

/// A cargo command with `args`.
fn cargo(args: &[&str]) -> Command {
    let mut command = mainstay_e2e::cargo::command();
    command.args(args);
    command
}

#[allow(clippy::unnecessary_wraps)] // All gates have one type.
fn formatting() -> Result<Command, String> {
    Ok(cargo(&["fmt", "--all", "--check"]))
}

/// Version of typos; its wheel on `PyPI` holds the binary.
const TYPOS: &str = "1.52.0";

fn spelling() -> Result<Command, String> {
    let home = tool_folder(&format!("typos-{TYPOS}"));
    let program = home.join("bin/typos");
    if !program.exists() {
        quietly(Command::new("python3").args(["-m", "venv"]).arg(&home))?;
        quietly(Command::new(home.join("bin/pip")).args([
            "install",
            "-q",
            &format!("typos=={TYPOS}"),
        ]))?;
    }
    let mut command = Command::new(program);
    command.args(["--config", "typos.toml"]);
    Ok(command)
}

/// Version of cargo-deny; built once.
const DENY: &str = "0.20.2";

fn deny() -> Result<Command, String> {
    let home = tool_folder(&format!("cargo-deny-{DENY}"));
    let program = home.join("bin/cargo-deny");
    if !program.exists() {
        quietly(
            cargo(&[
                "install",
                "--quiet",
                "--locked",
                "cargo-deny",
                "--version",
                DENY,
                "--root",
            ])
            .arg(&home)
            // It runs for seconds: to build it as it is released takes four minutes.
            .env("CARGO_PROFILE_RELEASE_LTO", "off")
            .env("CARGO_PROFILE_RELEASE_OPT_LEVEL", "1")
            .env("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "16"),
        )?;
    }
    let mut command = Command::new(program);
    // The advisory database is a repository of its own and is checked where that can be reached.
    command.args([
        "--log-level",
        "error",
        "check",
        "licenses",
        "bans",
        "sources",
    ]);
    Ok(command)
}

fn scripts() -> Result<Command, String> {
    let mut command = Command::new("shellcheck");
    command
        .arg(".ci/run")
        .args(files_ending(Path::new("."), ".sh"));
    if command_exists("shellcheck") {
        Ok(command)
    } else {
        quietly(Command::new("apt-get").args(["install", "-y", "-q", "shellcheck"]))?;
        Ok(command)
    }
}

fn charts() -> Result<Command, String> {
    let runtime = crate::runtime().map_err(|e| e.to_string())?;
    let helm = runtime
        .block_on(mainstay_e2e::tools::helm())
        .map_err(|e| e.to_string())?;
    let mut command = Command::new(helm);
    command.args([
        "lint",
        "--quiet",
        "--strict",
        "helm/mainstay-crds",
        "helm/mainstay",
    ]);
    Ok(command)
}

/// A folder for a tool of this version, outside the checkout.
fn tool_folder(name: &str) -> PathBuf {
    mainstay_e2e::tools::cache().join("tools").join(name)
}

fn command_exists(name: &str) -> bool {
    std::env::var_os("PATH")
        .is_some_and(|path| std::env::split_paths(&path).any(|dir| dir.join(name).is_file()))
}

/// Run a preparing command; its output is shown only when it fails.
fn quietly(command: &mut Command) -> Result<(), String> {
    let output = command
        .output()
        .map_err(|e| format!("{command:?} could not be started: {e}"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!(
        "{command:?} failed:\n{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    ))
}

/// Files below `folder` with this ending, build output left out.
fn files_ending(folder: &Path, ending: &str) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return Vec::new();
    };
    let mut found = Vec::new();
    for entry in entries.flatten() {
        let path = entry.path();
        let name = entry.file_name();
        if path.is_dir() && name != "target" && name != ".git" {
            found.extend(files_ending(&path, ending));
        } else if name.to_string_lossy().ends_with(ending) {
            found.push(path);
        }
    }
    found
}
