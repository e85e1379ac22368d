//! Static binaries for images that hold nothing else. I/O.

use std::env::consts::ARCH;
use std::path::{Path, PathBuf};

use super::recipe::hash;
use super::{Error, cache, command};

/// Builds the binary called `program`, static, for this machine's architecture.
///
/// Cargo decides what is stale. Its target folder is in the cache and apart from the checkout's:
/// static linking has other flags, and each change of flags would build every crate again. Each checkout has its own:
/// Cargo goes by times of files, and would take what another one built last for its own.
pub fn build(program: &str, cache: &Path, progress: &dyn Fn(&str)) -> Result<PathBuf, Error> {
    progress(&format!("compiling {program} for its image"));
    let target = format!("{ARCH}-unknown-linux-gnu");
    let checkout = cache::repository();
    let checkout = checkout.as_os_str().as_encoded_bytes().to_vec();
    let folder = cache.join("target-image").join(hash(&[checkout]));
    // Naming the target keeps the flags away from build scripts and macros.
    let mut cargo = crate::cargo::command();
    cargo
        .current_dir(cache::repository())
        .env("CARGO_TARGET_DIR", &folder)
        .env("RUSTFLAGS", "-C target-feature=+crt-static")
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .args([
            "build",
            "--locked",
            "--profile",
            "image",
            "--target",
            &target,
        ])
        // All of them are named, so that what they are made of has the same features and is compiled once.
        .args(OWNERS.iter().flat_map(|owner| ["--package", *owner]))
        .args(["--bin", program]);
    command::output(&mut cargo)?;
    Ok(folder.join(target).join("image").join(program))
}

/// The workspace's packages whose binaries are in images.
const OWNERS: [&str; 4] = [
    "mainstay-postgres",
    "mainstay-redis",
    "mainstay-e2e",
    "mainstay-testkit",
];
