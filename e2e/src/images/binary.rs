//! Static binaries for images that hold nothing else. I/O.

use std::env::consts::ARCH;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::recipe::hash;
use super::{Error, cache, command};

/// Builds the binary called `program`, static, for this machine's architecture.
///
/// Cargo decides what is stale. Its target folder is in the cache and apart from the checkout's:
/// static linking has other flags, and each change of flags would build every crate again. Each checkout has its own:
/// Cargo goes by times of files, and would take what another one built last for its own.
pub fn build(program: &str, cache: &Path, progress: &dyn Fn(&str)) -> Result<PathBuf, Error> {
    progress(&format!("compiling {program} for its image"));
    let checkout = cache::repository();
    let checkout = checkout.as_os_str().as_encoded_bytes().to_vec();
    let folder = cache.join("target-image").join(hash(&[checkout]));
    seed(&folder);
    // Naming the target keeps the flags away from build scripts and macros.
    let mut cargo = crate::cargo::command();
    cargo
        .current_dir(cache::repository())
        .env("CARGO_TARGET_DIR", &folder)
        .env("RUSTFLAGS", "-C target-feature=+crt-static")
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        // Lints are for what is tested.
        .env("RUSTC_WORKSPACE_WRAPPER", "")
        .args([
            "build",
            "--locked",
            "--profile",
            "image",
            "--target",
            &target(),
        ])
        // All of them are named, so that what they are made of has the same features and is compiled once.
        .args(OWNERS.iter().flat_map(|owner| ["--package", *owner]))
        .args(["--bin", program]);
    command::output(&mut cargo)?;
    let [image, _] = profiles(&folder);
    Ok(image.join(program))
}

/// A checkout that has compiled nothing yet begins with what another one has of other people's crates: Cargo tells these by
/// their versions, wherever they lie. Nothing of ours is taken, which it tells by times of files. Where that fails, all is
/// compiled: the other one may be at work.
fn seed(folder: &Path) {
    let others = folder.parent().and_then(|all| fs::read_dir(all).ok());
    let (false, Some(others)) = (folder.exists(), others) else {
        return;
    };
    let used = |other: &PathBuf| {
        let fingerprints = profiles(other).into_iter().next()?.join(FINGERPRINTS);
        fs::metadata(fingerprints).ok()?.modified().ok()
    };
    let others = others.flatten().map(|entry| entry.path());
    // One without an ending: others are copies that are being made, or were given up.
    let whole = others.filter(|other| other.extension().is_none() && used(other).is_some());
    let Some(last) = whole.max_by_key(used) else {
        return;
    };
    let copy = folder.with_extension(std::process::id().to_string());
    let copied = command::output(Command::new("cp").arg("-a").arg(last).arg(&copy)).is_ok();
    let taken = copied
        && profiles(&copy)
            .iter()
            .all(|profile| forget_ours(profile).is_ok())
        && fs::rename(&copy, folder).is_ok();
    if !taken {
        // It may not be there at all.
        let _ = fs::remove_dir_all(&copy);
    }
}

/// For which machine images are built.
fn target() -> String {
    format!("{ARCH}-unknown-linux-gnu")
}

/// Where Cargo notes what is built.
const FINGERPRINTS: &str = ".fingerprint";

/// The folders of what runs in images, and of what runs while it is compiled.
fn profiles(folder: &Path) -> [PathBuf; 2] {
    [folder.join(target()).join("image"), folder.join("image")]
}

fn forget_ours(profile: &Path) -> std::io::Result<()> {
    for entry in fs::read_dir(profile.join(FINGERPRINTS))
        .into_iter()
        .flatten()
    {
        let entry = entry?;
        if entry
            .file_name()
            .as_encoded_bytes()
            .starts_with(b"mainstay")
        {
            fs::remove_dir_all(entry.path())?;
        }
    }
    match fs::remove_dir_all(profile.join("incremental")) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// The workspace's packages whose binaries are in images.
const OWNERS: [&str; 4] = [
    "mainstay-postgres",
    "mainstay-redis",
    "mainstay-workload",
    "mainstay-testkit",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_checkout_begins_with_other_people_s_crates_that_another_one_has_compiled() {
        let all = tempfile::tempdir().unwrap();
        let [one, two] = ["one", "two"].map(|name| all.path().join(name));
        seed(&one);
        assert!(!one.exists(), "there is nothing to begin with");
        for profile in profiles(&one) {
            for made in [
                ".fingerprint/serde-1",
                ".fingerprint/mainstay-crds-1",
                "incremental/a",
            ] {
                fs::create_dir_all(profile.join(made)).unwrap();
            }
        }
        // Somebody has given this one up.
        fs::create_dir_all(all.path().join("three.17")).unwrap();
        seed(&two);
        for profile in profiles(&two) {
            assert!(profile.join(".fingerprint/serde-1").exists());
            assert!(!profile.join(".fingerprint/mainstay-crds-1").exists());
            assert!(!profile.join("incremental").exists());
            fs::remove_dir_all(profile.join(".fingerprint")).unwrap();
        }
        seed(&two);
        let [first, _] = profiles(&two);
        assert!(!first.join(".fingerprint").exists(), "it has its own");
    }
}
