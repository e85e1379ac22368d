//! Runs are kept in a file of the project, for one version of the election and of what drives it: a
//! change of those sources begins a new count.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};

use super::{Run, upper_bound};
use crate::figures::Spread;
use crate::images::recipe::hash;

/// Runs by fault; none for one that did not end, of which nothing is known.
pub type Runs = BTreeMap<String, Vec<Option<Run>>>;

/// In place of the numbers of a run that did not end.
const UNENDED: &str = ",did not end";
const COLUMNS: &str = "fault,gap ms,whole ms,acknowledged,lost,refused but there";

/// The file.
pub fn file() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/chaos.csv")
}

/// Identifies the sources of the election.
///
/// # Errors
/// They cannot be read.
pub fn version() -> Result<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut sources = BTreeMap::new();
    for folder in [
        "shared/src/election",
        "shared/src/agent/election",
        "operators/postgres/src/agent",
    ] {
        collect(&root, &root.join(folder), &mut sources)?;
    }
    let parts: Vec<Vec<u8>> = sources
        .into_iter()
        .flat_map(|(name, content)| [name.into_bytes(), content])
        .collect();
    Ok(hash(&parts))
}

fn collect(root: &Path, folder: &Path, into: &mut BTreeMap<String, Vec<u8>>) -> Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            collect(root, &path, into)?;
        } else {
            let name = path.strip_prefix(root)?.display().to_string();
            into.insert(name, std::fs::read(&path)?);
        }
    }
    Ok(())
}

/// The runs that the text keeps of that version; none of another.
///
/// # Errors
/// A line that is none of ours.
pub fn read(text: &str, version: &str) -> Result<Runs> {
    let mut runs = Runs::new();
    let mut lines = text.lines();
    if lines.next() != Some(&heading(version)) {
        return Ok(runs);
    }
    for line in lines.filter(|l| !l.is_empty() && *l != COLUMNS) {
        let run = parse(line).with_context(|| format!("{line:?}"))?;
        runs.entry(run.0).or_default().push(run.1);
    }
    Ok(runs)
}

fn parse(line: &str) -> Option<(String, Option<Run>)> {
    let mut words = line.split(',');
    let fault = words.next()?.to_owned();
    if line.ends_with(UNENDED) {
        return Some((fault, None));
    }
    let mut number = || words.next()?.parse::<u64>().ok();
    let run = Run {
        gap: Duration::from_millis(number()?),
        whole: Duration::from_millis(number()?),
        acknowledged: number()?.try_into().ok()?,
        lost: number()?.try_into().ok()?,
        resurrected: number()?.try_into().ok()?,
    };
    Some((fault, Some(run)))
}

fn heading(version: &str) -> String {
    format!("# election {version}; made by: cargo xtask chaos --record")
}

/// The runs as text.
pub fn write(runs: &Runs, version: &str) -> String {
    let mut text = format!("{}\n{COLUMNS}\n", heading(version));
    for (fault, runs) in runs {
        for run in runs {
            let Some(run) = run else {
                text.push_str(fault);
                text.push_str(UNENDED);
                text.push('\n');
                continue;
            };
            // Writing to a String cannot fail.
            let _ = writeln!(
                text,
                "{fault},{},{},{},{},{}",
                run.gap.as_millis(),
                run.whole.as_millis(),
                run.acknowledged,
                run.lost,
                run.resurrected
            );
        }
    }
    text
}

/// The result table.
pub fn table(runs: &Runs) -> String {
    let mut text = String::from(
        "| fault | write gap, s (min / median / max) | whole again, s | acknowledged | lost | refused but there | did not end | at most, 95 % |\n|---|---|---|---|---|---|---|---|\n",
    );
    let spread = |runs: &[Run], of: fn(&Run) -> Duration| {
        let values: Vec<f64> = runs.iter().map(|r| of(r).as_secs_f64()).collect();
        Spread::of(&values).map_or_else(String::new, |s| s.to_string())
    };
    for (fault, all) in runs {
        let runs: Vec<Run> = all.iter().flatten().cloned().collect();
        let runs = runs.as_slice();
        let sum = |of: fn(&Run) -> usize| runs.iter().map(of).sum::<usize>();
        let (lost, there) = (sum(|r| r.lost), sum(|r| r.resurrected));
        let bound = if lost + there == 0 {
            format!("{:.1} % of runs", upper_bound(runs.len()) * 100.0)
        } else {
            "a promise was broken".to_owned()
        };
        let _ = writeln!(
            text,
            "| {fault} | {} | {} | {} | {lost} | {there} | {} | {bound} |",
            spread(runs, |r| r.gap),
            spread(runs, |r| r.whole),
            sum(|r| r.acknowledged),
            all.len() - runs.len(),
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_are_read_as_they_were_written_and_of_one_version_only() {
        let run = |gap| Run {
            gap: Duration::from_millis(gap),
            whole: Duration::from_millis(9000),
            acknowledged: 1234,
            lost: 0,
            resurrected: 0,
        };
        let runs: Runs = [
            ("a".to_owned(), vec![Some(run(10)), None, Some(run(20))]),
            ("b".to_owned(), vec![Some(run(5))]),
        ]
        .into();
        let text = write(&runs, "v1");
        assert_eq!(read(&text, "v1").unwrap(), runs);
        assert_eq!(read(&text, "v2").unwrap(), Runs::new());
        assert!(read(&format!("{text}nonsense\n"), "v1").is_err());
        let table = table(&runs);
        assert!(table.contains("| a | 0.0 / 0.0 / 0.0 (n=2) |"), "{table}");
    }

    #[test]
    fn what_was_broken_is_not_bounded() {
        let broken = Run {
            gap: Duration::ZERO,
            whole: Duration::ZERO,
            acknowledged: 10,
            lost: 1,
            resurrected: 0,
        };
        let table = table(&[("a".to_owned(), vec![Some(broken)])].into());
        assert!(
            table.contains("| 1 | 0 | 0 | a promise was broken |"),
            "{table}"
        );
    }
}
