//! `docs/semantics.md` names below each rule the tests that quote it, and each rule has some.
//!
//! A test quotes a rule in its name (`c4_...`), in its comments and messages (`C4`), as a packet case in its list of rules,
//! and as a scenario in its comments. `UPDATE_EXPECT=1` rewrites the document.
#![expect(unused_crate_dependencies, reason = "they are the library's")]
#![expect(
    clippy::tests_outside_test_module,
    clippy::indexing_slicing,
    reason = "a test target is nothing but tests"
)]

use std::{
    collections::{BTreeMap, BTreeSet},
    env, fs,
    path::{Path, PathBuf},
};

use clusterip_tests::vectors;

/// Rules that no test quotes yet, and why not.
const WITHOUT_A_TEST: &[(&str, &str)] = &[];

/// Where tests are.
const FOLDERS: [&str; 4] = [
    "clusterip-common/src",
    "clusterip-agent/src",
    "clusterip-agent/tests",
    "tests/tests",
];

/// By place, the names of the tests.
type Places = BTreeMap<String, BTreeSet<String>>;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Files with an ending, below a folder, as their paths from the workspace's root.
fn files(folder: &str, ending: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(root().join(&folder)).expect(&folder) {
            let entry = entry.expect(&folder);
            let path = format!("{folder}/{}", entry.file_name().display());
            if entry.path().is_dir() {
                folders.push(path);
            } else if path.ends_with(ending) {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

/// The number of a rule that a word is.
fn rule(word: &str) -> Option<&str> {
    let digits = word.strip_prefix(|letter: char| ('A'..='K').contains(&letter))?;
    let is_number = (1..=2).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit());
    is_number.then_some(word)
}

/// The rules that a text speaks of.
fn rules(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
        .filter_map(rule)
}

/// The rules that a name begins with: `a1_c6_...`.
fn rules_of_name(name: &str) -> Vec<String> {
    name.split('_')
        .map(str::to_uppercase)
        .take_while(|word| rule(word).is_some())
        .collect()
}

/// A test function: its name, and the text from its comments to its end.
struct Test<'a> {
    name: &'a str,
    text: String,
}

/// The tests of a source file, as rustfmt lays it out.
fn tests(source: &str) -> Vec<Test<'_>> {
    let lines: Vec<&str> = source.lines().collect();
    let is_head = |line: &str| line.starts_with("///") || line.starts_with("#[");
    let mut found = Vec::new();
    for (at, line) in lines.iter().enumerate() {
        let code = line.trim_start();
        let words = code.trim_start_matches("async ");
        let Some(name) = words
            .strip_prefix("fn ")
            .and_then(|rest| rest.split('(').next())
        else {
            continue;
        };
        let heads = lines[..at]
            .iter()
            .rev()
            .take_while(|line| is_head(line.trim()));
        let heads: Vec<&str> = heads.copied().collect();
        let is_test =
            |line: &&str| line.trim() == "#[test]" || line.trim().starts_with("#[tokio::test");
        if !heads.iter().any(is_test) {
            continue;
        }
        let end = format!("{}}}", &line[..line.len() - code.len()]);
        let body = lines[at..].iter().take_while(|line| **line != end);
        let text: Vec<&str> = heads.iter().copied().chain(body.copied()).collect();
        let text = text.join("\n");
        found.push(Test { name, text });
    }
    found
}

/// By rule, who quotes it.
fn quoted() -> BTreeMap<String, Places> {
    let mut quoted = BTreeMap::<String, Places>::new();
    let mut add = |rule: &str, place: &str, name: String| {
        let places = quoted.entry(rule.to_owned()).or_default();
        places.entry(place.to_owned()).or_default().insert(name);
    };
    for path in FOLDERS.iter().flat_map(|folder| files(folder, ".rs")) {
        if path == "tests/tests/rules.rs" {
            continue;
        }
        let source = read(&root().join(&path));
        for Test { name, text } in tests(&source) {
            let shown = format!("`{name}`");
            for rule in rules_of_name(name) {
                add(&rule, &format!("`{path}`"), shown.clone());
            }
            for rule in rules(&text) {
                add(rule, &format!("`{path}`"), shown.clone());
            }
        }
    }
    for case in vectors::all() {
        for rule in rules(case.rules) {
            add(rule, "packet vectors", case.name.to_owned());
        }
    }
    for path in files("tests/scenarios", ".txt") {
        let text = read(&root().join(&path));
        let name = path.rsplit('/').next().unwrap_or_default();
        for line in text.lines().filter(|line| line.starts_with('#')) {
            for rule in rules(line) {
                add(rule, "scenarios", name.to_owned());
            }
        }
    }
    quoted
}

/// Lines that name the tests of a rule.
fn lines(places: &Places) -> Vec<String> {
    let line = |(place, names): (&String, &BTreeSet<String>)| {
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        format!("- {place}: {}", names.join("; "))
    };
    places.iter().map(line).collect()
}

/// The rule whose statement begins with this line.
fn stated(line: &str) -> Option<&str> {
    line.strip_prefix("**")?.split("**").next().and_then(rule)
}

/// The document with the tests as they are now.
fn renewed(document: &str, quoted: &BTreeMap<String, Places>) -> String {
    let written = document.lines().filter(|line| !line.starts_with("- "));
    let mut renewed: Vec<String> = Vec::new();
    let mut present = None;
    for line in written.chain([""]) {
        present = stated(line).or(present);
        let ends = line.is_empty() && present.is_some();
        // Of two empty lines one stood before the tests that were taken out.
        if line.is_empty() && renewed.last().is_some_and(String::is_empty) {
            continue;
        }
        renewed.push(line.to_owned());
        if !ends {
            continue;
        }
        if let Some(places) = present.take().and_then(|rule| quoted.get(rule)) {
            renewed.extend(lines(places));
            renewed.push(String::new());
        }
    }
    while renewed.last().is_some_and(String::is_empty) {
        renewed.pop();
    }
    renewed.join("\n") + "\n"
}

#[test]
fn the_document_names_the_tests_of_each_rule() {
    let path = root().join("docs/semantics.md");
    let document = read(&path);
    let renewed = renewed(&document, &quoted());
    if document == renewed {
        return;
    }
    if env::var_os("UPDATE_EXPECT").is_some() {
        fs::write(&path, renewed).unwrap();
        return;
    }
    let old: BTreeSet<&str> = document.lines().collect();
    let new: Vec<&str> = renewed.lines().filter(|line| !old.contains(line)).collect();
    panic!(
        "docs/semantics.md is not what the tests say. UPDATE_EXPECT=1 writes it. New lines:\n{}",
        new.join("\n")
    );
}

#[test]
fn each_rule_has_a_test() {
    let document = read(&root().join("docs/semantics.md"));
    let quoted = quoted();
    let stated: BTreeSet<&str> = document.lines().filter_map(stated).collect();
    assert!(stated.len() > 80, "only {} rules found", stated.len());
    // Network policies are not begun, nor is what is outside the cluster but for E1.
    let is_begun = |rule: &&str| rule.starts_with(|letter| ('A'..='J').contains(&letter));
    let is_later = |rule: &str| rule.starts_with('E') && rule != "E1";
    let known: BTreeMap<&str, &str> = WITHOUT_A_TEST.iter().copied().collect();
    let missing: Vec<&str> = stated
        .iter()
        .copied()
        .filter(is_begun)
        .filter(|rule| !is_later(rule) && !known.contains_key(rule) && !quoted.contains_key(*rule))
        .collect();
    assert!(missing.is_empty(), "no test quotes {missing:?}");
    let stale: Vec<&&str> = known
        .keys()
        .filter(|rule| quoted.contains_key(**rule))
        .collect();
    assert!(
        stale.is_empty(),
        "{stale:?} have tests now: take them out of the list"
    );
    let unknown: Vec<&String> = quoted
        .keys()
        .filter(|rule| !stated.contains(rule.as_str()))
        .collect();
    assert!(
        unknown.is_empty(),
        "tests quote {unknown:?}, which are no rules"
    );
}

#[test]
fn quotations_are_found() {
    let source = "mod tests {\n    /// Of A1.\n    #[test]\n    fn c4_d10_holds() {\n        assert!(x, \"B2: no\");\n    }\n\n    fn c5() {}\n}\n";
    let found = tests(source);
    assert_eq!(found.len(), 1);
    let Test { name, text } = &found[0];
    assert_eq!(rules_of_name(name), ["C4", "D10"]);
    assert_eq!(rules(text).collect::<Vec<_>>(), ["A1", "B2"]);
}
