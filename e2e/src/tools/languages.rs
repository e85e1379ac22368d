//! Programs of other languages than Rust, with libraries from those languages' registries: clients in tests.
//!
//! Each is a folder with its source and a file that pins what it needs, by digests. What is fetched and compiled is kept
//! as other tools are; who is in a network of its own gets it before.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use sha2::{Digest, Sha256};

use super::debian::{Need, require};
use super::{ToolError, at, cache, hex, key, once};
use crate::process;

/// What a program in Python needs: `pip`, which there is in many ways.
const PYTHON: &[Need] = &[Need {
    program: "pip3",
    package: "python3-pip",
}];
const NODE: &[Need] = &[
    Need {
        program: "node",
        package: "nodejs",
    },
    Need {
        program: "npm",
        package: "npm",
    },
];
const JAVA: &[Need] = &[
    Need {
        program: "javac",
        package: "default-jdk-headless",
    },
    Need {
        program: "mvn",
        package: "maven",
    },
];
/// What has Maven fetch jars.
const FETCH: &str = "org.apache.maven.plugins:maven-dependency-plugin:2.8:copy-dependencies";
/// Names of jars and their digests.
const JARS: &str = "jars.sha256";

/// A program that is ready to run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Program {
    /// What runs it.
    with: &'static str,
    arguments: Vec<OsString>,
    environment: Option<(&'static str, PathBuf)>,
}

impl Program {
    /// To be started, with its own arguments added.
    pub fn command(&self) -> std::process::Command {
        let mut command = std::process::Command::new(self.with);
        command
            .args(&self.arguments)
            .envs(self.environment.clone())
            .env("PATH", process::search_path())
            .stdin(Stdio::null());
        command
    }
}

/// `main.py` of a folder, with what its `requirements.txt` names.
///
/// # Errors
/// Python is not to be had, or a package; or one is another than is pinned.
pub async fn python(folder: &Path) -> Result<Program, ToolError> {
    let pins = folder.join("requirements.txt");
    let made = prepared("python", &[&pins], |draft| async move {
        require(PYTHON).await?;
        process::run(
            process::command("python3")
                .args(["-m", "pip", "install", "--quiet", "--no-deps"])
                .args(["--require-hashes", "--only-binary", ":all:"])
                .arg("--target")
                .arg(&draft)
                .arg("--requirement")
                .arg(folder.join("requirements.txt")),
        )
        .await?;
        Ok(())
    })
    .await?;
    Ok(Program {
        with: "python3",
        arguments: vec![folder.join("main.py").into()],
        environment: Some(("PYTHONPATH", made)),
    })
}

/// `main.js` of a folder, with what its `package-lock.json` names.
///
/// # Errors
/// Node.js or npm is not to be had, or a package; or one is another than is pinned.
pub async fn node(folder: &Path) -> Result<Program, ToolError> {
    let pins = ["package.json", "package-lock.json"].map(|name| folder.join(name));
    let [package, lock] = &pins;
    let made = prepared("node", &[package, lock], |draft| async move {
        require(NODE).await?;
        for file in [package, lock] {
            copy(file, &draft)?;
        }
        process::run(
            process::command("npm")
                .args(["ci", "--silent", "--ignore-scripts", "--no-audit"])
                .arg("--no-fund")
                .current_dir(&draft),
        )
        .await?;
        Ok(())
    })
    .await?;
    Ok(Program {
        with: "node",
        arguments: vec![folder.join("main.js").into()],
        environment: Some(("NODE_PATH", made.join("node_modules"))),
    })
}

/// `Main.java` of a folder, compiled, with the jars that its `jars.sha256` names and its `pom.xml` has Maven find.
///
/// # Errors
/// A JDK or Maven is not to be had, or a jar; or one is another than is pinned; or the program does not compile.
pub async fn java(folder: &Path) -> Result<Program, ToolError> {
    let pins = ["pom.xml", JARS, "Main.java"].map(|name| folder.join(name));
    let [pom, sums, source] = &pins;
    let made = prepared("java", &[pom, sums, source], |draft| async move {
        require(JAVA).await?;
        let jars = draft.join("jars");
        let mut output = OsString::from("-DoutputDirectory=");
        output.push(&jars);
        process::run(
            process::command("mvn")
                .args(["-q", "-B", "-f"])
                .arg(pom)
                .arg(FETCH)
                .arg(output),
        )
        .await?;
        same(sums, &jars)?;
        process::run(
            process::command("javac")
                .arg("-d")
                .arg(draft.join("classes"))
                .arg("-cp")
                .arg(jars.join("*"))
                .arg(source),
        )
        .await?;
        Ok(())
    })
    .await?;
    let mut path = OsString::from(made.join("classes"));
    path.push(":");
    path.push(made.join("jars/*"));
    // It runs for seconds.
    let quick = ["-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-cp"];
    let mut arguments: Vec<OsString> = quick.map(OsString::from).into();
    arguments.extend([path, "Main".into()]);
    Ok(Program {
        with: "java",
        arguments,
        environment: None,
    })
}

/// A folder that `make` fills, for these files as they are.
async fn prepared<F>(
    language: &str,
    files: &[&Path],
    make: impl FnOnce(PathBuf) -> F,
) -> Result<PathBuf, ToolError>
where
    F: Future<Output = Result<(), ToolError>>,
{
    let read = |file: &&Path| std::fs::read(file).map_err(at(file));
    let parts: Vec<Vec<u8>> = files.iter().map(read).collect::<Result<_, _>>()?;
    let name = format!("{language}-{}", key(parts.iter().map(Vec::as_slice)));
    once(&cache().join("tools").join(name), |draft| async move {
        // Of one that did not succeed.
        if draft.exists() {
            std::fs::remove_dir_all(&draft).map_err(at(&draft))?;
        }
        std::fs::create_dir_all(&draft).map_err(at(&draft))?;
        make(draft).await
    })
    .await
}

fn copy(file: &Path, folder: &Path) -> Result<(), ToolError> {
    let target = folder.join(file.file_name().unwrap_or_default());
    std::fs::copy(file, &target).map_err(at(file))?;
    Ok(())
}

/// Whether the files of a folder are those that a list of digests names, and no others.
fn same(list: &Path, folder: &Path) -> Result<(), ToolError> {
    let wanted = std::fs::read_to_string(list).map_err(at(list))?;
    let mut found = Vec::new();
    for file in std::fs::read_dir(folder).map_err(at(folder))?.flatten() {
        let path = file.path();
        let content = std::fs::read(&path).map_err(at(&path))?;
        let name = file.file_name().to_string_lossy().into_owned();
        found.push(format!("{}  {name}", hex(&Sha256::digest(content))));
    }
    let mut wanted: Vec<&str> = wanted.lines().collect();
    wanted.sort_unstable();
    found.sort_unstable();
    if wanted == found {
        return Ok(());
    }
    Err(ToolError::Other {
        list: list.to_owned(),
        found: found.join("\n"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_another_or_one_more_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let (list, files) = (folder.path().join("list"), folder.path().join("files"));
        std::fs::create_dir(&files).unwrap();
        std::fs::write(files.join("b.jar"), "b").unwrap();
        std::fs::write(files.join("a.jar"), "a").unwrap();
        let line = |text: &str, name: &str| format!("{}  {name}\n", hex(&Sha256::digest(text)));
        std::fs::write(&list, line("a", "a.jar") + &line("b", "b.jar")).unwrap();
        same(&list, &files).unwrap();
        std::fs::write(files.join("c.jar"), "c").unwrap();
        assert!(same(&list, &files).is_err(), "one more");
        std::fs::remove_file(files.join("c.jar")).unwrap();
        std::fs::write(files.join("b.jar"), "x").unwrap();
        let error = same(&list, &files).unwrap_err().to_string();
        assert!(error.contains(&line("x", "b.jar")), "{error}");
    }
}
