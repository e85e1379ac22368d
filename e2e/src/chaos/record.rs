//! Runs are kept in a file of the project, for one version of the election: a change of its sources
//! begins a new count. The engine's agent around it, which changes with every feature, does not: the short
//! form in every test run is for that.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};
use mainstay_workload::terms::Loss;

use super::Run;
use super::readers::Reads;
use crate::figures::Spread;
use crate::images::recipe::hash;
use crate::scenarios::set::Kind;

/// Runs by fault; none for one that did not end, of which nothing is known.
pub type Runs = BTreeMap<String, Vec<Option<Run>>>;

/// In place of the numbers of a run that did not end.
const UNENDED: &str = ",did not end";
/// Of a `Postgres`, whose acknowledgements are all worth the same: what is lost where commits wait for nobody is no
/// promise.
const COLUMNS: &str = "fault,gap ms,whole ms,acknowledged,lost,refused but there,second writer,read gap ms,shown less,others ran,lost bytes,of at most";

/// Its name: each kind of set has its own.
pub fn name(kind: Kind) -> &'static str {
    match kind {
        Kind::Postgres => "docs/chaos.csv",
        Kind::Redis => "docs/chaos-redis.csv",
        Kind::RedisCluster => "docs/chaos-redis-cluster.csv",
    }
}

/// The file.
pub fn file(kind: Kind) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("..")
        .join(name(kind))
}

/// The line above the runs. Of a Redis some acknowledgements are promises and others are not, so there is one
/// column more; of a cluster one for how long two wrote.
fn columns(kind: Kind) -> String {
    match kind {
        Kind::Postgres => COLUMNS.to_owned(),
        Kind::Redis => format!("{COLUMNS},lost unconfirmed"),
        Kind::RedisCluster => format!("{COLUMNS},lost unconfirmed,two writers ms"),
    }
}

/// Identifies the sources of the election.
///
/// # Errors
/// They cannot be read.
pub fn version() -> Result<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut sources = BTreeMap::new();
    for folder in ["shared/src/election", "shared/src/agent/election"] {
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

/// The runs that the text keeps of that version; none of another, and none that were judged by less.
///
/// # Errors
/// A line that is none of ours.
pub fn read(text: &str, kind: Kind, version: &str) -> Result<Runs> {
    let mut runs = Runs::new();
    let mut lines = text.lines();
    if lines.next() != Some(&heading(kind, version)) || lines.next() != Some(&columns(kind)) {
        return Ok(runs);
    }
    for line in lines.filter(|l| !l.is_empty()) {
        let run = parse(line, kind).with_context(|| format!("{line:?}"))?;
        runs.entry(run.0).or_default().push(run.1);
    }
    Ok(runs)
}

fn parse(line: &str, kind: Kind) -> Option<(String, Option<Run>)> {
    let mut words = line.split(',');
    let fault = words.next()?.to_owned();
    if line.ends_with(UNENDED) {
        return Some((fault, None));
    }
    let mut number = || words.next()?.parse::<u64>().ok();
    let mut run = Run {
        gap: Duration::from_millis(number()?),
        whole: Duration::from_millis(number()?),
        acknowledged: number()?.try_into().ok()?,
        lost: number()?.try_into().ok()?,
        unpromised: 0,
        resurrected: number()?.try_into().ok()?,
        violations: number()?.try_into().ok()?,
        window: Duration::ZERO,
        reads: Reads {
            gap: Duration::from_millis(number()?),
            back: number()?.try_into().ok()?,
        },
        beside: match words.next()? {
            "yes" => true,
            "no" => false,
            _ => return None,
        },
        loss: match (words.next()?, words.next()?) {
            ("", "") => None,
            (bytes, bound) => Some(Loss {
                bytes: bytes.parse().ok()?,
                bound: bound.parse().ok()?,
            }),
        },
    };
    match kind {
        Kind::Postgres if run.loss.is_some() => {
            run.unpromised = std::mem::take(&mut run.lost);
        }
        Kind::Postgres => {}
        Kind::Redis => run.unpromised = words.next()?.parse().ok()?,
        Kind::RedisCluster => {
            run.unpromised = words.next()?.parse().ok()?;
            run.window = Duration::from_millis(words.next()?.parse().ok()?);
        }
    }
    words.next().is_none().then_some((fault, Some(run)))
}

fn heading(kind: Kind, version: &str) -> String {
    let engine = match kind {
        Kind::Postgres => "",
        Kind::Redis => " --engine redis",
        Kind::RedisCluster => " --engine redis-cluster",
    };
    format!("# election {version}; made by: cargo xtask chaos{engine} --record")
}

/// The runs as text.
pub fn write(runs: &Runs, kind: Kind, version: &str) -> String {
    let mut text = format!("{}\n{}\n", heading(kind, version), columns(kind));
    for (fault, runs) in runs {
        for run in runs {
            let Some(run) = run else {
                text.push_str(fault);
                text.push_str(UNENDED);
                text.push('\n');
                continue;
            };
            let mut loss = run.loss.map_or_else(
                || ",".to_owned(),
                |loss| format!("{},{}", loss.bytes, loss.bound),
            );
            let gone = match kind {
                Kind::Postgres => run.lost + run.unpromised,
                Kind::Redis | Kind::RedisCluster => {
                    // Writing to a String cannot fail.
                    let _ = write!(loss, ",{}", run.unpromised);
                    if kind == Kind::RedisCluster {
                        let _ = write!(loss, ",{}", run.window.as_millis());
                    }
                    run.lost
                }
            };
            // Writing to a String cannot fail.
            let _ = writeln!(
                text,
                "{fault},{},{},{},{},{},{},{},{},{},{loss}",
                run.gap.as_millis(),
                run.whole.as_millis(),
                run.acknowledged,
                gone,
                run.resurrected,
                run.violations,
                run.reads.gap.as_millis(),
                run.reads.back,
                if run.beside { "yes" } else { "no" },
            );
        }
    }
    text
}

/// The highest rate of failure that none in so many runs leaves possible, with 95 % confidence.
pub fn upper_bound(runs: usize) -> f64 {
    let runs = u32::try_from(runs.max(1)).unwrap_or(u32::MAX);
    1.0 - 0.05_f64.powf(1.0 / f64::from(runs))
}

/// The result table. Times are of runs beside which no others were done; all others count.
pub fn table(runs: &Runs) -> String {
    let mut text = String::from(
        "| fault | write gap, s (min / median / max) | whole again, s | acknowledged | lost | refused but there | P1 violations | no reads for, s | shown less | did not end | at most, 95 % |\n|---|---|---|---|---|---|---|---|---|---|---|\n",
    );
    let spread = |runs: &[Run], of: fn(&Run) -> Duration| {
        let apart = runs.iter().filter(|run| !run.beside);
        let values: Vec<f64> = apart.map(|r| of(r).as_secs_f64()).collect();
        Spread::of(&values).map_or_else(String::new, |s| s.to_string())
    };
    for (fault, all) in runs {
        let runs: Vec<Run> = all.iter().flatten().cloned().collect();
        let runs = runs.as_slice();
        let sum = |of: fn(&Run) -> usize| runs.iter().map(of).sum::<usize>();
        let bound = if runs.iter().any(Run::broken) {
            "a promise was broken".to_owned()
        } else {
            format!(
                "{:.1} % of {} runs",
                upper_bound(runs.len()) * 100.0,
                runs.len()
            )
        };
        let _ = writeln!(
            text,
            "| {fault} | {} | {} | {} | {} | {} | {} | {} | {} | {} | {bound} |",
            spread(runs, |r| r.gap),
            spread(runs, |r| r.whole),
            sum(|r| r.acknowledged),
            lost(runs),
            sum(|r| r.resurrected),
            sum(|r| r.violations),
            spread(runs, |r| r.reads.gap),
            sum(|r| r.reads.back),
            all.len() - runs.len(),
        );
    }
    text
}

/// How many writes were lost, and of those that were no promise how many, with the largest loss of a run and what
/// it may be.
fn lost(runs: &[Run]) -> String {
    let lost: usize = runs.iter().map(|run| run.lost).sum();
    let unpromised: usize = runs.iter().map(|run| run.unpromised).sum();
    let largest = runs
        .iter()
        .filter_map(|run| run.loss)
        .max_by_key(|l| l.bytes);
    largest.map_or_else(
        || lost.to_string(),
        |loss| {
            format!(
                "{lost}; not promised {unpromised}, {} of at most {} KiB",
                loss.bytes.div_ceil(1024),
                loss.bound / 1024
            )
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(gap: u64) -> Run {
        Run {
            gap: Duration::from_millis(gap),
            whole: Duration::from_secs(9),
            reads: Reads {
                gap: Duration::from_millis(300),
                back: 0,
            },
            acknowledged: 1234,
            ..Run::default()
        }
    }

    #[test]
    fn runs_are_read_as_they_were_written_and_of_one_version_only() {
        let beside = Run {
            beside: true,
            violations: 2,
            unpromised: 3,
            loss: Some(Loss { bytes: 5, bound: 7 }),
            ..run(9000)
        };
        let runs: Runs = [
            (
                "a".to_owned(),
                vec![Some(run(10)), None, Some(run(20)), Some(beside)],
            ),
            ("b".to_owned(), vec![Some(run(5))]),
        ]
        .into();
        let kind = Kind::Postgres;
        let text = write(&runs, kind, "v1");
        assert_eq!(read(&text, kind, "v1").unwrap(), runs);
        assert_eq!(read(&text, kind, "v2").unwrap(), Runs::new());
        let less = text.replace(",second writer", "");
        assert_eq!(read(&less, kind, "v1").unwrap(), Runs::new());
        assert!(read(&format!("{text}nonsense\n"), kind, "v1").is_err());
        assert!(
            read(
                &format!("{text}b,5,9000,1234,0,0,0,0,0,perhaps,,\n"),
                kind,
                "v1"
            )
            .is_err()
        );
        // The gap of the run that was not alone is in no figure, what it broke is.
        let table = table(&runs);
        let row = "| a | 0.0 / 0.0 / 0.0 (n=2) | 9.0 / 9.0 / 9.0 (n=2) | 3702 | 0; not promised 3, 1 of at most 0 KiB | 0 | 2 | 0.3 / 0.3 / 0.3 (n=2) | 0 | 1 | a promise was broken |";
        assert!(table.contains(row), "{table}");
        assert!(
            table.contains("| 0 | 0 | 0 | 0.3 / 0.3 / 0.3 (n=1) | 0 | 0 | 95.0 % of 1 runs |"),
            "{table}"
        );
    }

    #[test]
    fn of_a_redis_what_was_confirmed_and_what_was_not_are_told_apart() {
        let both = Run {
            lost: 1,
            unpromised: 3,
            loss: Some(Loss { bytes: 5, bound: 7 }),
            ..run(10)
        };
        let runs: Runs = [("a".to_owned(), vec![Some(run(5)), Some(both), None])].into();
        let text = write(&runs, Kind::Redis, "v1");
        assert_eq!(read(&text, Kind::Redis, "v1").unwrap(), runs);
        assert_eq!(read(&text, Kind::Postgres, "v1").unwrap(), Runs::new());
        let table = table(&runs);
        assert!(
            table.contains("| 1; not promised 3, 1 of at most 0 KiB |"),
            "{table}"
        );
        assert!(table.contains("a promise was broken"), "{table}");
    }

    #[test]
    fn of_a_cluster_it_is_told_for_how_long_two_wrote() {
        let two = Run {
            unpromised: 3,
            window: Duration::from_millis(1700),
            ..run(10)
        };
        let runs: Runs = [("a".to_owned(), vec![Some(run(5)), Some(two), None])].into();
        let text = write(&runs, Kind::RedisCluster, "v1");
        assert!(text.contains("--engine redis-cluster --record"), "{text}");
        assert_eq!(read(&text, Kind::RedisCluster, "v1").unwrap(), runs);
        assert_eq!(read(&text, Kind::Redis, "v1").unwrap(), Runs::new());
    }

    #[test]
    fn what_was_broken_is_not_bounded() {
        let broken = Run { lost: 1, ..run(0) };
        let table = table(&[("a".to_owned(), vec![Some(broken)])].into());
        assert!(
            table.contains("| 1 | 0 | 0 | 0.3 / 0.3 / 0.3 (n=1) | 0 | 0 | a promise was broken |"),
            "{table}"
        );
    }

    #[test]
    fn sixty_runs_without_a_failure_leave_five_percent() {
        assert!((upper_bound(59) - 0.05).abs() < 0.001);
        assert!(upper_bound(1) > 0.9);
    }
}
