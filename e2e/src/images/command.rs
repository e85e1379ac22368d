//! Runs a program and keeps what it said for the error. I/O.

use std::process::{Command, Stdio};

/// Lines of a failed program's output that the error shows.
const LAST_LINES: usize = 20;

/// Why a program did not do its work.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It could not be started.
    #[error("cannot run {program}: {source}")]
    Start {
        /// Its name.
        program: String,
        /// The system's reason.
        source: std::io::Error,
    },
    /// It ended with a failure.
    #[error("{program} failed ({status}):\n{tail}")]
    Failed {
        /// Its name and first arguments.
        program: String,
        /// How it ended.
        status: String,
        /// The last lines it wrote.
        tail: String,
    },
}

/// Runs `command` without input and returns what it wrote to standard output.
pub fn output(command: &mut Command) -> Result<String, Error> {
    let program = describe(command);
    let output = command
        .stdin(Stdio::null())
        .output()
        .map_err(|source| Error::Start {
            program: program.clone(),
            source,
        })?;
    let stdout = String::from_utf8_lossy(&output.stdout);
    if output.status.success() {
        return Ok(stdout.into_owned());
    }
    let all = format!("{stdout}{}", String::from_utf8_lossy(&output.stderr));
    Err(Error::Failed {
        program,
        status: output.status.to_string(),
        tail: tail(&all),
    })
}

fn describe(command: &Command) -> String {
    let mut words = vec![command.get_program().to_string_lossy()];
    words.extend(command.get_args().take(4).map(|a| a.to_string_lossy()));
    words.join(" ")
}

fn tail(text: &str) -> String {
    let lines: Vec<_> = text.lines().collect();
    lines[lines.len().saturating_sub(LAST_LINES)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_shows_its_last_lines() {
        let mut command = Command::new("sh");
        command.args(["-c", "seq 1 30; echo reason >&2; exit 3"]);
        let error = output(&mut command).unwrap_err().to_string();
        assert!(error.contains("exit status: 3"), "{error}");
        assert!(error.ends_with("30\nreason"), "{error}");
        assert!(!error.contains("\n11\n"), "{error}");
    }
}
