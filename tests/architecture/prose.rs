//! Words that are not used in this repository, with what to write instead; and files that its texts name.

use std::fs;
use std::path::{Path, PathBuf};

/// A word or phrase, and what to write instead.
const WORDS: &[(&str, &str)] = &[
    ("anew", "again, re-created"),
    ("any more", "no longer"),
    ("behaviour", "behavior"),
    ("by itself", "automatically"),
    ("by themselves", "automatically"),
    ("catalogue", "table"),
    ("census", "count, usage"),
    ("colour", "color"),
    ("cure", "what to do"),
    ("cures", "what to do"),
    ("doorkeeper", "authentication"),
    ("heed", "honor, use"),
    ("heeds", "honors, uses"),
    ("honour", "honor"),
    ("honoured", "honored"),
    ("keeps books", "persists"),
    ("kinship", "relation"),
    ("lane", "account queue"),
    ("lanes", "account queues"),
    ("makings", "time to ready"),
    ("mend", "fix"),
    ("mended", "fixed"),
    ("mends", "fixes"),
    ("onlooker", "observer"),
    ("other hands", "an external change"),
    ("proof", "verification"),
    ("proofs", "verifications"),
    ("prove", "verify"),
    ("proved", "verified"),
    ("proves", "verifies"),
    ("reseal", "re-encrypt"),
    ("resealed", "re-encrypted"),
    ("rival", "conflicting resource"),
    ("rivals", "conflicting resources"),
    ("sightings", "observations"),
    ("stranger", "unauthenticated client, third party"),
    ("strangers", "unauthenticated clients, third parties"),
    ("tenure", "held lease"),
    ("told", "reported, logged, emitted"),
    ("way out", "egress"),
    ("whoever", "anyone who"),
];

/// Files and folders of files that people read.
const PLACES: [&str; 11] = [
    "src",
    "tests",
    "docs",
    "deploy",
    "examples",
    "tools",
    "README.md",
    "CONTRIBUTING.md",
    "SECURITY.md",
    "CHANGELOG.md",
    "Makefile",
];

/// This file, which contains the words, and names of files that do not exist.
const THIS_FILE: &str = "tests/architecture/prose.rs";

const KINDS: [&str; 7] = ["rs", "md", "yaml", "txt", "tpl", "toml", "py"];

/// Folders of this repository, as texts name their files.
const FOLDERS: [&str; 8] = ["crds/", "deploy/", "docs/", "examples/", "fuzz/", "src/", "tests/", "tools/"];

fn files(path: &Path, found: &mut Vec<PathBuf>) {
    if path.is_dir() {
        for entry in fs::read_dir(path).expect("the folder can be read") {
            files(&entry.expect("the folder can be read").path(), found);
        }
    } else if path.extension().is_none_or(|kind| KINDS.iter().any(|known| kind == *known)) {
        found.push(path.to_owned());
    }
}

/// The words of a text with one space between two. The parts of an identifier count as words.
fn words(text: &str) -> String {
    let mut words = String::from(" ");
    let mut before = ' ';
    for letter in text.chars() {
        if letter.is_ascii_uppercase() && before.is_ascii_lowercase() {
            words.push(' ');
        }
        if letter.is_alphabetic() {
            words.extend(letter.to_lowercase());
        } else if !words.ends_with(' ') {
            words.push(' ');
        }
        before = letter;
    }
    words.push(' ');
    words
}

/// The words of a text that are in the list.
fn listed_words(text: &str) -> Vec<&'static (&'static str, &'static str)> {
    let text = words(text);
    WORDS.iter().filter(|(word, _)| text.contains(&format!(" {word} "))).collect()
}

/// The files of this repository that a text names.
fn named_files(text: &str) -> impl Iterator<Item = &str> {
    let is_of_a_path = |letter: char| letter.is_ascii_alphanumeric() || "_-./".contains(letter);
    let paths = text.split(move |letter| !is_of_a_path(letter)).map(|path| path.trim_end_matches('.'));
    paths.filter(|path| {
        let kind = Path::new(path).extension().and_then(|kind| kind.to_str());
        FOLDERS.iter().any(|folder| path.starts_with(folder))
            && kind.is_some_and(|kind| KINDS.contains(&kind))
    })
}

/// All files that people read, except this one.
fn all_files(root: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for place in PLACES {
        files(&root.join(place), &mut found);
    }
    found.retain(|path| !path.ends_with(THIS_FILE));
    assert!(found.len() > 200, "{} files", found.len());
    found
}

#[test]
fn files_that_texts_name_exist() {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let mut missing = Vec::new();
    for path in all_files(&root) {
        let Ok(text) = fs::read_to_string(&path) else { continue };
        let folder = path.parent().unwrap_or(&root);
        let is_missing = |name: &&str| !root.join(name).exists() && !folder.join(name).exists();
        missing
            .extend(named_files(&text).filter(is_missing).map(|name| format!("{}: {name}", path.display())));
    }
    assert!(missing.is_empty(), "{}", missing.join("\n"));
}

#[test]
fn a_file_is_found_in_a_sentence() {
    let found = |text: &'static str| named_files(text).collect::<Vec<_>>();
    assert_eq!(found("See [it](docs/a/b.md#c), src/main.rs."), ["docs/a/b.md", "src/main.rs"]);
    assert_eq!(found("docs/ and https://example.com/docs/a.md and tests/kit"), Vec::<&str>::new());
}

#[test]
fn listed_words_are_in_no_file() {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let mut wrong = Vec::new();
    for path in all_files(&root) {
        let Ok(text) = fs::read_to_string(&path) else { continue };
        for (number, line) in text.lines().enumerate() {
            for (word, instead) in listed_words(line) {
                let path = path.strip_prefix(&root).unwrap_or(&path).display();
                wrong.push(format!("{path}:{}: {word:?}: write {instead}", number + 1));
            }
        }
    }
    assert!(wrong.is_empty(), "{} places:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn a_word_is_found_in_prose_and_in_identifiers() {
    let found = |text: &str| listed_words(text).iter().map(|(word, _)| *word).collect::<Vec<_>>();
    assert_eq!(found("It is made anew, by itself."), ["anew", "by itself"]);
    assert_eq!(found("struct LastProof;"), ["proof"]);
    assert_eq!(found("fn lane_of()"), ["lane"]);
    assert_eq!(found("renewed, a planet, proofread, secure"), Vec::<&str>::new());
}
