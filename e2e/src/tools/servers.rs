//! Servers of Redis and Valkey as Debian's releases have them, for tests outside a container: with their own libraries,
//! so that a machine of another release runs them.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::debian::{Need, redis, require};
use super::{ToolError, at, cache, once};
use crate::process;

/// What takes packages apart.
const NEEDS: &[Need] = &[Need {
    program: "mmdebstrap",
    package: "mmdebstrap",
}];

/// A server that tests run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Server {
    /// Redis 7.0, of bookworm.
    Redis7,
    /// Redis 8.0, of trixie.
    Redis8,
    /// Valkey 8.1, of trixie.
    Valkey8,
}

impl Server {
    /// Its version, as resources have it.
    pub fn version(self) -> &'static str {
        match self {
            Self::Redis7 => "7.0",
            Self::Redis8 => "8.0",
            Self::Valkey8 => "8.1",
        }
    }

    /// What its program is called.
    pub fn program(self) -> &'static str {
        match self {
            Self::Redis7 | Self::Redis8 => "redis-server",
            Self::Valkey8 => "valkey-server",
        }
    }

    /// The program in the packages of tools that does the same: it does what it is called.
    fn twin(self) -> &'static str {
        match self {
            Self::Redis7 | Self::Redis8 => "redis-check-rdb",
            Self::Valkey8 => "valkey-check-rdb",
        }
    }

    /// The release of Debian, and the packages that are taken from it.
    fn packages(self) -> (&'static str, &'static str) {
        match self {
            Self::Redis7 => ("bookworm", "redis-tools"),
            Self::Redis8 | Self::Valkey8 => ("trixie", "redis-tools,valkey-tools"),
        }
    }
}

/// Puts the server's program into `folder`, with what else of the machine's own tests use beside it.
///
/// # Errors
/// As [`require`]; or what was fetched is not as expected, or the folder cannot be written.
pub async fn server(folder: &Path, server: Server) -> Result<(), ToolError> {
    redis(folder).await?;
    let program = folder.join(server.program());
    if server == Server::Redis7 {
        let said = process::run(process::command(&program).arg("--version")).await?;
        if said.contains("v=7.0.") {
            return Ok(());
        }
    }
    let tree = fetched(server).await?;
    let libraries = libraries(&tree)?;
    let twin = tree.join("usr/bin").join(server.twin());
    let loader = libraries.join(loader(&libraries)?);
    let mut list = process::command(&loader);
    list.arg("--library-path").arg(&libraries);
    let said = process::run(list.arg("--list").arg(&twin)).await?;

    let (release, _) = server.packages();
    let own = folder.join(release);
    fs::create_dir_all(&own).map_err(at(&own))?;
    let needed = said.lines().filter_map(|line| {
        let path = line.split_once("=> ")?.1;
        Some(PathBuf::from(path.split(" (").next()?))
    });
    for file in needed.chain([loader.clone(), twin.clone()]) {
        let copy = own.join(file.file_name().unwrap_or_default());
        if !copy.exists() {
            fs::copy(&file, &copy).map_err(at(&file))?;
        }
    }
    let copied = |path: &Path| own.join(path.file_name().unwrap_or_default());
    let script = format!(
        "#!/bin/sh\nexec {} --argv0 {} --library-path {} {} \"$@\"\n",
        copied(&loader).display(),
        server.program(),
        own.display(),
        copied(&twin).display()
    );
    if program.is_symlink() {
        fs::remove_file(&program).map_err(at(&program))?;
    }
    fs::write(&program, script).map_err(at(&program))?;
    let rights = fs::Permissions::from_mode(0o755);
    fs::set_permissions(&program, rights).map_err(at(&program))
}

/// The packages of the server's release, taken apart.
async fn fetched(server: Server) -> Result<PathBuf, ToolError> {
    let (release, packages) = server.packages();
    let path = cache().join("servers").join(release);
    let make = |draft: PathBuf| async move {
        require(NEEDS).await?;
        // What another run has left that was ended.
        if draft.exists() {
            fs::remove_dir_all(&draft).map_err(at(&draft))?;
        }
        let mut fetch = process::command("mmdebstrap");
        fetch.arg("--variant=extract");
        fetch.arg(format!("--include={packages}"));
        process::run(fetch.arg(release).arg(&draft)).await?;
        Ok(())
    };
    once(&path, make).await
}

/// The folder of libraries, which is called after the processor.
fn libraries(tree: &Path) -> Result<PathBuf, ToolError> {
    let folder = tree.join("usr/lib");
    let found = entries(&folder)?.find(|name| name.ends_with("-linux-gnu"));
    found
        .map(|name| folder.join(name))
        .ok_or_else(|| absent(&folder))
}

/// The program that loads others.
fn loader(libraries: &Path) -> Result<String, ToolError> {
    let mut names = entries(libraries)?;
    let found = names.find(|name| name.starts_with("ld-linux") && name.contains(".so."));
    found.ok_or_else(|| absent(libraries))
}

fn entries(folder: &Path) -> Result<impl Iterator<Item = String>, ToolError> {
    let entries = fs::read_dir(folder).map_err(at(folder))?;
    Ok(entries
        .flatten()
        .map(|e| e.file_name().to_string_lossy().into_owned()))
}

fn absent(folder: &Path) -> ToolError {
    at(folder)(std::io::Error::other(
        "the packages hold no C library there",
    ))
}
