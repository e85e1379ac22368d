//! docs/repository.md, done as it stands there: by `age`, `zstd`, `jq` and curl, without code of ours.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use age::secrecy::ExposeSecret as _;
use bytes::Bytes;
use mainstay_backup::crypto::Keyring;
use mainstay_backup::layout;
use mainstay_backup::pieces::PieceKind;
use mainstay_backup::repository::{Content, PieceOutcome};
use mainstay_e2e::tools::{Need, require};

use crate::kit::{Kit, LOCKS, PLAIN, TestEngine, Where, back_up, content, encrypted};
use crate::log::label;

const DOCUMENT: &str = include_str!("../../../../docs/repository.md");

/// A script of the document, without the indentation of its list.
fn script(name: &str) -> String {
    let (_, rest) = DOCUMENT
        .split_once(&format!("<!-- {name} -->"))
        .expect("the script's mark");
    let (_, rest) = rest.split_once("```bash\n").expect("the script");
    let (text, _) = rest.split_once("```").expect("its end");
    let lines: Vec<&str> = text
        .lines()
        .map(|line| line.strip_prefix("   ").unwrap_or(line))
        .collect();
    lines.join("\n")
}

fn bash(folder: &Path, script: &str, variables: &[(&str, &str)]) -> std::process::Output {
    Command::new("bash")
        .args(["-c", script])
        .current_dir(folder)
        .envs(variables.iter().copied())
        .output()
        .unwrap()
}

fn succeeds(folder: &Path, script: &str, variables: &[(&str, &str)]) {
    let output = bash(folder, script, variables);
    assert!(
        output.status.success(),
        "{script}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

pub async fn other_programs_restore(kit: Kit) {
    let need = |program, package| Need { program, package };
    let needs = ["age", "zstd", "jq", "curl", "openssl", "bash"].map(|name| need(name, name));
    require(&needs).await.unwrap();
    let escrow = age::x25519::Identity::generate();
    let protection = encrypted(
        Keyring::generate([3; 32]),
        &[escrow.to_public().to_string()],
    );
    let (repository, owned) = kit.owned(protection).await;
    let writer = repository.writer(owned);
    let keys = writer.keep_keys().await.unwrap().unwrap();
    let engine = TestEngine::with(&[
        ("base/large file", content(1, 10 << 20)),
        ("empty", Vec::new()),
        ("words", b"in the end\n".to_vec()),
    ]);
    let manifest = back_up(&writer, &engine, None).await.unwrap();
    let piece = Content::Bytes(Bytes::from_static(b"the log\n"));
    let outcome = writer
        .put_piece(&label("1"), &label("0001"), PieceKind::Whole, piece)
        .await
        .unwrap();
    let PieceOutcome::Stored(piece) = outcome else {
        panic!("{outcome:?}");
    };

    // From here on nothing of ours.
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    let store = kit.server.store();
    let of_bucket = |bucket: &str| {
        format!(
            "curl --silent --fail --config '{}' '{}/{bucket}/{}/'\"$1\"",
            store.curl.display(),
            store.endpoint,
            kit.prefix
        )
    };
    let fetch = match kit.place {
        Where::Path => format!("cat '{}/'\"$1\"", kit.files().display()),
        Where::S3 => of_bucket(PLAIN),
        Where::Locks => of_bucket(LOCKS),
    };
    std::fs::write(here.join("fetch.sh"), format!("fetch() {{ {fetch}; }}\n")).unwrap();
    std::fs::write(here.join("escrow.key"), escrow.to_string().expose_secret()).unwrap();
    std::fs::set_permissions(
        here.join("escrow.key"),
        std::fs::Permissions::from_mode(0o600),
    )
    .unwrap();
    let get_keys = "set -euo pipefail; . ./fetch.sh; fetch \"$KEYS\" | age --decrypt --identity escrow.key > instance.key";
    succeeds(here, get_keys, &[("KEYS", &keys)]);
    succeeds(
        here,
        &script("restore.sh"),
        &[("BACKUP", manifest.id.as_str()), ("OUT", "restored")],
    );
    for (name, expected) in &engine.files {
        let back = std::fs::read(here.join("restored").join(name)).unwrap();
        assert!(
            back == *expected,
            "{name} came back as {} bytes",
            back.len()
        );
    }
    succeeds(here, &script("seal.sh"), &[]);
    let key = layout::piece(&piece);
    let log = "set -euo pipefail; . ./fetch.sh; fetch \"$KEY\" | age --decrypt --identity instance.key | zstd --decompress > piece";
    succeeds(here, log, &[("KEY", &key)]);
    assert_eq!(std::fs::read(here.join("piece")).unwrap(), b"the log\n");

    // The checks by hand are checks: a changed manifest, and a changed object.
    let text = std::fs::read_to_string(here.join("manifest.json")).unwrap();
    std::fs::write(
        here.join("manifest.json"),
        text.replacen("words", "wards", 1),
    )
    .unwrap();
    assert!(
        !bash(here, &script("seal.sh"), &[]).status.success(),
        "a changed manifest has a good seal"
    );
    let object = kit.files().join(&manifest.files[0].objects[0].key);
    let mut bytes = std::fs::read(&object).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&object, bytes).unwrap();
    let output = bash(
        here,
        &script("restore.sh"),
        &[("BACKUP", manifest.id.as_str()), ("OUT", "again")],
    );
    assert!(!output.status.success(), "a changed object was restored");
}
