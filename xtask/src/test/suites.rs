//! Cargo's tests.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use super::compile::{compile, each};
use super::report::Counts;
use mainstay_e2e::scenarios::set::Kind;

/// Test programs at a time: some wait for clocks, engines and servers while others compute.
const PROGRAMS: usize = 3;

/// How a program is run.
struct Manner {
    name: &'static str,
    /// It only computes, without servers of its own: it gives way to those with engines and elections, whose clocks go
    /// on.
    computes: bool,
    /// It runs engines or object stores, and has a good part of all the time: not for a fast run.
    engines: bool,
    /// How many of its tests run at once, where there is a server to wait for: as many more as they wait.
    at_once: &'static str,
}

/// Programs that take longest, which begin first: the others go on beside them.
const LONGEST: [Manner; 8] = [
    Manner {
        name: "postgres: backup",
        engines: true,
        at_once: "8",
        ..USUAL
    },
    Manner {
        name: "postgres: agent",
        engines: true,
        ..USUAL
    },
    Manner {
        name: "redis: agent",
        engines: true,
        ..USUAL
    },
    Manner {
        name: "redis: shards",
        engines: true,
        ..USUAL
    },
    Manner {
        name: "backup: repository",
        engines: true,
        ..USUAL
    },
    Manner {
        name: "backup: memory",
        engines: true,
        ..USUAL
    },
    Manner {
        name: "postgres: operator",
        computes: true,
        ..USUAL
    },
    Manner {
        name: "redis: operator",
        computes: true,
        ..USUAL
    },
];

const USUAL: Manner = Manner {
    name: "",
    computes: false,
    engines: false,
    at_once: "4",
};

/// Unit and property tests of every package.
pub fn unit(engine: Option<Kind>) -> Counts {
    run(
        &["--lib", "--bins"],
        |program| program.concerns(engine),
        |_| None,
    )
}

/// Tests against a real kube-apiserver and etcd, and those with real `engines` where they are asked for. Most of them
/// wait most of the time: more run at once than there are processors.
pub fn integration(engine: Option<Kind>, engines: bool) -> Counts {
    run(
        &["--test", "*"],
        |program| program.concerns(engine) && (engines || !program.manner().engines),
        |program| Some(program.manner().at_once),
    )
}

/// A test program as cargo built it.
#[derive(Debug, PartialEq, Eq)]
struct Program {
    name: String,
    path: PathBuf,
    /// The package's folder, where cargo would run it.
    folder: PathBuf,
}

impl Program {
    /// Its place among those that take longest; the others come after them.
    fn place(&self) -> usize {
        let found = LONGEST.iter().position(|manner| manner.name == self.name);
        found.unwrap_or(LONGEST.len())
    }

    /// Whether it is about that engine, or about all of them; without one it is wanted in any case.
    fn concerns(&self, engine: Option<Kind>) -> bool {
        let other = match engine {
            None => return true,
            Some(Kind::Postgres) => "redis:",
            Some(Kind::Redis | Kind::RedisCluster) => "postgres:",
        };
        !self.name.starts_with(other)
    }

    fn manner(&self) -> &'static Manner {
        LONGEST.get(self.place()).unwrap_or(&USUAL)
    }
}

/// Build the tests chosen so, and run so many of each wanted program at once, else as many as there are processors.
/// `cargo test` would run one program after the other.
fn run(
    chosen: &[&str],
    wanted: impl Fn(&Program) -> bool,
    at_once: fn(&Program) -> Option<&'static str>,
) -> Counts {
    let programs = match built(chosen) {
        Ok(programs) => programs.into_iter().filter(wanted).collect(),
        Err(why) => {
            eprintln!("{why}");
            return Counts::failed(&why);
        }
    };
    let waiting: Mutex<VecDeque<Program>> = Mutex::new(programs);
    let next = || {
        let mut waiting = waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.pop_front()
    };
    let counts = std::thread::scope(|scope| {
        let runners: Vec<_> = (0..PROGRAMS)
            .map(|_| {
                scope.spawn(|| {
                    let mut counts = Counts::default();
                    while let Some(program) = next() {
                        counts += tested(&program, at_once(&program));
                    }
                    counts
                })
            })
            .collect();
        let mut sum = Counts::default();
        for runner in runners {
            let counts = runner.join();
            sum += counts.unwrap_or_else(|_| Counts::failed("a thread that runs tests panicked"));
        }
        sum
    });
    // A program of a package may hold no test at all; all of them may not.
    if counts == Counts::default() {
        Counts::failed("there was no test")
    } else {
        counts
    }
}

/// Run one program and show what it says once it has ended.
fn tested(program: &Program, at_once: Option<&str>) -> Counts {
    let begun = Instant::now();
    let output = Command::new("nice")
        .args(["-n", if program.manner().computes { "10" } else { "0" }])
        .arg(&program.path)
        .arg("--quiet")
        .current_dir(&program.folder)
        .env("CARGO_MANIFEST_DIR", &program.folder)
        .envs(at_once.map(|number| ("RUST_TEST_THREADS", number)))
        .stdin(Stdio::null())
        .output();
    match output {
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stdout);
            let besides = String::from_utf8_lossy(&output.stderr);
            let took = begun.elapsed().as_secs();
            println!("{}, {took} s:{said}{besides}", program.name);
            Counts::of_tests(&program.name, &said, output.status.success())
        }
        Err(error) => {
            let why = format!("{} could not be started: {error}", program.path.display());
            eprintln!("{why}");
            Counts::failed(&why)
        }
    }
}

/// The programs of the tests chosen so, built if they are not.
fn built(chosen: &[&str]) -> Result<Vec<Program>, String> {
    let tests: &[&str] = &["test", "--workspace", "--no-run"];
    let format: &[&str] = &["--message-format=json-render-diagnostics"];
    let (true, messages) = compile(&[tests, format, chosen].concat())? else {
        return Err("the tests could not be built".to_owned());
    };
    let mut programs = programs(&messages);
    // Who links most starts most: the longest should not come last.
    programs.sort_by_key(|program| {
        let size = std::fs::metadata(&program.path).map_or(0, |file| file.len());
        (program.place(), std::cmp::Reverse(size))
    });
    if programs.is_empty() {
        return Err("there is no test".to_owned());
    }
    Ok(programs)
}

/// The test programs in cargo's messages, one message a line.
fn programs(messages: &str) -> Vec<Program> {
    let found = each(messages).filter_map(|message| {
        let is_test = message["profile"]["test"].as_bool()?;
        let path = message["executable"].as_str().filter(|_| is_test)?;
        let folder = Path::new(message["manifest_path"].as_str()?).parent()?;
        let package = folder.file_name()?.to_string_lossy().into_owned();
        let target = message["target"]["name"].as_str()?;
        Some(Program {
            name: format!("{package}: {target}"),
            path: path.into(),
            folder: folder.to_owned(),
        })
    });
    found.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_those_of_tests() {
        let messages = r#"
            {"reason":"compiler-artifact","manifest_path":"/w/shared/Cargo.toml","target":{"name":"apply"},"profile":{"test":true},"executable":"/t/apply-1"}
            {"reason":"compiler-artifact","manifest_path":"/w/e2e/Cargo.toml","target":{"name":"workload"},"profile":{"test":false},"executable":"/t/workload"}
            {"reason":"compiler-artifact","manifest_path":"/w/shared/Cargo.toml","target":{"name":"lib"},"profile":{"test":true},"executable":null}
            {"reason":"build-finished","success":true}"#;
        let found = programs(messages);
        let expected = Program {
            name: "shared: apply".into(),
            path: "/t/apply-1".into(),
            folder: "/w/shared".into(),
        };
        assert_eq!(found, [expected]);
        let of = |name: &str| Program {
            name: name.to_owned(),
            path: "/t".into(),
            folder: "/w".into(),
        };
        let asked = [None, Some(Kind::Postgres), Some(Kind::Redis)];
        let concerns = |name| asked.map(|engine| of(name).concerns(engine));
        assert_eq!(concerns("postgres: agent"), [true, true, false]);
        assert_eq!(concerns("redis: agent"), [true, false, true]);
        assert_eq!(concerns("shared: lead"), [true; 3]);
    }
}
