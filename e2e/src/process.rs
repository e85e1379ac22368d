//! Running a program to its end.

use std::process::Stdio;

use tokio::process::Command;

/// Why a program did not do its work.
#[derive(Debug, thiserror::Error)]
pub enum ProcessError {
    /// The program could not be started.
    #[error("cannot start `{program}`: {source}")]
    Start {
        /// What was to be started.
        program: String,
        /// The system's answer.
        source: std::io::Error,
    },
    /// The program ended with a failure.
    #[error("`{command}` failed ({status}): {output}")]
    Failed {
        /// The program and its arguments.
        command: String,
        /// How it ended.
        status: std::process::ExitStatus,
        /// The end of what it wrote.
        output: String,
    },
}

/// Characters of a failed program's output that an error repeats.
const TAIL: usize = 2000;

/// What Kubernetes' programs, which are of Go, are told: memory may grow to five times what is in use before it is
/// collected. At the usual twice they spend a third of their processor time on that.
pub const COLLECTS_SELDOM: (&str, &str) = ("GOGC", "400");

/// A command with the folders of system programs on its search path, which a plain user's lacks.
pub fn command(program: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = Command::new(program);
    command
        .env("PATH", search_path())
        .env(COLLECTS_SELDOM.0, COLLECTS_SELDOM.1)
        .stdin(Stdio::null())
        .kill_on_drop(true);
    command
}

/// `PATH` with the folders of system programs added.
pub fn search_path() -> String {
    let path = std::env::var("PATH").unwrap_or_default();
    format!("{path}:/usr/local/sbin:/usr/sbin:/sbin:/usr/bin:/bin")
}

/// Runs to the end and returns the standard output.
///
/// # Errors
/// The program cannot be started, or ends with a failure; the error then holds the end of its output.
pub async fn run(command: &mut Command) -> Result<String, ProcessError> {
    let output = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .output()
        .await
        .map_err(|source| ProcessError::Start {
            program: command
                .as_std()
                .get_program()
                .to_string_lossy()
                .into_owned(),
            source,
        })?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() {
        return Ok(text);
    }
    let all = format!("{text}{}", String::from_utf8_lossy(&output.stderr));
    Err(ProcessError::Failed {
        command: line(command),
        status: output.status,
        output: tail(all.trim(), TAIL).to_owned(),
    })
}

fn line(command: &Command) -> String {
    let std = command.as_std();
    std::iter::once(std.get_program())
        .chain(std.get_args())
        .map(|part| part.to_string_lossy().into_owned())
        .collect::<Vec<_>>()
        .join(" ")
}

/// The last `limit` bytes of a text, cut at a character.
pub fn tail(text: &str, limit: usize) -> &str {
    let mut from = text.len().saturating_sub(limit);
    while !text.is_char_boundary(from) {
        from += 1;
    }
    &text[from..]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn failure_repeats_the_output() {
        let error = run(command("sh").args(["-c", "echo why >&2; exit 3"]))
            .await
            .unwrap_err();
        assert!(error.to_string().contains("why"), "{error}");
        assert!(matches!(
            run(command("no-such-program").arg("x")).await,
            Err(ProcessError::Start { .. })
        ));
    }

    #[test]
    fn tail_cuts_at_a_character() {
        assert_eq!(tail("aé", 1), "");
        assert_eq!(tail("aéb", 1), "b");
        assert_eq!(tail("ab", 9), "ab");
    }
}
