//! What PostgreSQL says while it recovers. Pure.

use std::collections::VecDeque;

/// Lines that are remembered.
const LINES: usize = 60;

/// The lines of its log that tell how a recovery goes.
#[derive(Clone, Debug, Default)]
pub struct Words {
    lines: VecDeque<String>,
    /// Why it stopped where it did: `recovery stopping …`.
    pub stopping: Option<String>,
    /// Where the last record of the log is that was replayed.
    pub done: Option<String>,
    /// What made it end.
    pub fatal: Option<String>,
    /// When the last transaction was committed that was replayed.
    pub last_commit: Option<String>,
}

impl Words {
    /// Takes a line.
    pub fn take(&mut self, line: &str) {
        if let Some(said) = line.strip_prefix("LOG:") {
            let said = said.trim();
            if said.starts_with("recovery stopping") {
                self.stopping = Some(said.to_owned());
            } else if let Some(at) = said.strip_prefix("redo done at ") {
                self.done = at.split_whitespace().next().map(str::to_owned);
            } else if let Some(at) =
                said.strip_prefix("last completed transaction was at log time ")
            {
                self.last_commit = Some(at.to_owned());
            }
        }
        for serious in ["FATAL:", "PANIC:"] {
            if let Some(said) = line.strip_prefix(serious) {
                let said = said.trim();
                // Those who knock too early are no news.
                if !said.contains("the database system is") {
                    self.fatal.get_or_insert_with(|| said.to_owned());
                }
            }
        }
        if self.lines.len() == LINES {
            self.lines.pop_front();
        }
        self.lines.push_back(line.to_owned());
    }

    /// Why it ended before it had reached what was asked for, in a sentence.
    pub fn failure(&self) -> String {
        let mut lines = self.lines.iter().rev();
        let last = || lines.find(|line| !line.trim().is_empty());
        let said = self.fatal.as_ref().or_else(last);
        let said = said.map_or("it said nothing", String::as_str);
        let mut why = format!("PostgreSQL ended: {said}");
        if let Some(done) = &self.done {
            why.push_str("; the log was replayed up to ");
            why.push_str(done);
        }
        if let Some(last) = &self.last_commit {
            why.push_str(", the last transaction that was replayed was committed at ");
            why.push_str(last);
        }
        why
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_reached_is_told() {
        let mut words = Words::default();
        for line in [
            "LOG:  starting point-in-time recovery to 2026-01-01 00:00:00+00",
            "FATAL:  the database system is starting up",
            "LOG:  redo done at 0/5000148 system usage: CPU: user: 0.00 s",
            "LOG:  last completed transaction was at log time 2025-12-31 23:00:00+00",
            "FATAL:  recovery ended before configured recovery target was reached",
            "LOG:  startup process (PID 7) exited with exit code 1",
        ] {
            words.take(line);
        }
        assert_eq!(
            words.failure(),
            "PostgreSQL ended: recovery ended before configured recovery target was reached; the log was \
             replayed up to 0/5000148, the last transaction that was replayed was committed at 2025-12-31 23:00:00+00"
        );
        words.take("LOG:  recovery stopping before commit of transaction 742, time 2026-01-01");
        assert!(words.stopping.unwrap().contains("742"));
    }
}
