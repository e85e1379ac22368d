//! No word of any engine stands here.

use std::fs;
use std::path::{Path, PathBuf};

/// Words of engines. Nothing in this folder but this file has them, tests and comments included.
const WORDS: [&str; 11] = [
    "postgres",
    "pgbouncer",
    "pooler",
    "psql",
    "pg_",
    "wal",
    "redis",
    "valkey",
    "sentinel",
    "aof",
    "rdb",
];

fn files(folder: &Path, all: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, all);
        } else {
            all.push(path);
        }
    }
}

/// Whether `line` has `word`: as a word of its own where it is short, else anywhere.
fn has(line: &str, word: &str) -> bool {
    let line = line.to_lowercase();
    if word.len() > 4 || word.ends_with('_') {
        return line.contains(word);
    }
    line.split(|c: char| !c.is_alphanumeric())
        .any(|w| w == word)
}

#[test]
fn no_word_of_an_engine_stands_in_the_operator() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/operator");
    let mut all = Vec::new();
    files(&folder, &mut all);
    assert!(all.len() > 20, "where are they: {all:?}");
    let mut found = Vec::new();
    for path in all.iter().filter(|p| !p.ends_with("words.rs")) {
        let text = fs::read_to_string(path).unwrap();
        for (number, line) in text.lines().enumerate() {
            if WORDS.iter().any(|word| has(line, word)) {
                found.push(format!("{}:{}: {line}", path.display(), number + 1));
            }
        }
    }
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn words_are_found() {
    assert!(has("the Postgres of it", "postgres"));
    assert!(has("of the WAL.", "wal"));
    assert!(!has("walks on", "wal"));
}
