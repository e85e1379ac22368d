//! Programs that come as Debian packages.

use std::path::Path;

use super::{ToolError, at};
use crate::process;

/// A program and the Debian package that holds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Need {
    /// The program's name on the search path, or an absolute path.
    pub program: &'static str,
    /// The package.
    pub package: &'static str,
}

const fn need(program: &'static str, package: &'static str) -> Need {
    Need { program, package }
}

/// What a local cluster needs.
pub const CLUSTER: &[Need] = &[
    need("containerd", "containerd"),
    need("ctr", "containerd"),
    need("runc", "runc"),
    need("/usr/lib/cni/ptp", "containernetworking-plugins"),
    need("ip", "iproute2"),
    need("nft", "nftables"),
    need("nsenter", "util-linux"),
    need("losetup", "mount"),
    need("mkfs.xfs", "xfsprogs"),
    need("conntrack", "conntrack"),
    need("tar", "tar"),
];

/// What the engine test images need.
pub const IMAGES: &[Need] = &[need("buildah", "buildah"), need("mmdebstrap", "mmdebstrap")];

/// What tests of agents outside a container need.
pub const POSTGRES: &[Need] = &[
    need("/usr/lib/postgresql", "postgresql"),
    need("ip", "iproute2"),
];

/// What tests of Redis' agents outside a container need. The package of the server would start one; its program is
/// the same as that which looks at snapshots, and does what it is called.
pub const REDIS: &[Need] = &[
    need("redis-check-rdb", "redis-tools"),
    need("ip", "iproute2"),
];

/// Where Debian's packages of PostgreSQL are told not to make and start a database of their own.
const NO_DATABASE: &str = "/etc/postgresql-common/createcluster.conf";

/// PostgreSQL's programs, without a database that nobody asked for.
///
/// # Errors
/// As [`require`].
pub async fn postgres() -> Result<(), ToolError> {
    let file = Path::new(NO_DATABASE);
    let absent = !found(POSTGRES[0].program, "") && !file.exists();
    if absent && rustix::process::geteuid().is_root() {
        let folder = file.parent().unwrap_or(file);
        std::fs::create_dir_all(folder).map_err(at(folder))?;
        std::fs::write(file, "create_main_cluster = false\n").map_err(at(file))?;
    }
    require(POSTGRES).await
}

/// A folder with `redis-server`, `redis-cli` and `redis-benchmark`, made in `folder`.
///
/// # Errors
/// As [`require`], or the folder cannot be written.
pub async fn redis(folder: &Path) -> Result<(), ToolError> {
    require(REDIS).await?;
    for (name, program) in [
        ("redis-server", "/usr/bin/redis-check-rdb"),
        ("redis-cli", "/usr/bin/redis-cli"),
        ("redis-benchmark", "/usr/bin/redis-benchmark"),
    ] {
        let link = folder.join(name);
        if !link.exists() {
            std::os::unix::fs::symlink(program, &link).map_err(at(&link))?;
        }
    }
    Ok(())
}

/// Seconds that apt waits for another one that installs something.
const PATIENCE: &str = "DPkg::Lock::Timeout=600";

/// Makes sure that every program is there; as root on Debian, missing ones are installed, by one process at a time: apt
/// fails where another one reads its lists.
///
/// # Errors
/// [`ToolError::Missing`] names the programs and packages where they cannot be installed.
pub async fn require(needs: &[Need]) -> Result<(), ToolError> {
    let path = process::search_path();
    if missing(needs, &path).is_empty() {
        return Ok(());
    }
    let folder = super::cache();
    std::fs::create_dir_all(&folder).map_err(at(&folder))?;
    let lock = folder.join("packages.lock");
    let _one = super::lock(&lock).await.map_err(at(&lock))?;
    // Another one may have installed them meanwhile.
    let wanted = missing(needs, &path);
    if wanted.is_empty() {
        return Ok(());
    }
    if !rustix::process::geteuid().is_root() || !found("apt-get", &path) {
        return Err(absent(&wanted));
    }
    let apt = || {
        let mut command = process::command("apt-get");
        command.env("DEBIAN_FRONTEND", "noninteractive");
        command.args(["-o", PATIENCE]);
        command
    };
    process::run(apt().args(["-q", "update"])).await?;
    process::run(
        apt()
            .args(["-q", "install", "--yes", "--no-install-recommends"])
            .args(packages(&wanted)),
    )
    .await?;
    let missing = missing(needs, &path);
    if missing.is_empty() {
        Ok(())
    } else {
        Err(absent(&missing))
    }
}

fn missing(needs: &[Need], path: &str) -> Vec<Need> {
    let all = needs.iter().copied();
    all.filter(|need| !found(need.program, path)).collect()
}

fn found(program: &str, path: &str) -> bool {
    if program.starts_with('/') {
        return Path::new(program).exists();
    }
    path.split(':')
        .any(|folder| Path::new(folder).join(program).is_file())
}

fn packages(needs: &[Need]) -> Vec<&'static str> {
    let mut packages: Vec<_> = needs.iter().map(|need| need.package).collect();
    packages.sort_unstable();
    packages.dedup();
    packages
}

fn absent(needs: &[Need]) -> ToolError {
    let programs = needs
        .iter()
        .map(|need| need.program)
        .collect::<Vec<_>>()
        .join(", ");
    let remedy = format!(
        "On Debian, run as root or install them with: apt-get install {}",
        packages(needs).join(" ")
    );
    ToolError::Missing { programs, remedy }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_by_name_and_by_path() {
        assert!(found("sh", "/nowhere:/bin"));
        assert!(found("/bin/sh", ""));
        assert!(!found("sh", "/nowhere"));
    }

    #[test]
    fn absent_names_each_package_once() {
        let text = absent(&CLUSTER[..2]).to_string();
        assert_eq!(
            text,
            "missing: containerd, ctr. On Debian, run as root or install them with: apt-get install containerd"
        );
    }
}
