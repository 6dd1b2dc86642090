//! `cargo xtask mutate`: breaks each rule on purpose, one at a time, and looks whether the tests see it.
//!
//! In a copy of the tree, with a target directory of its own: nothing of what is built or written elsewhere changes.

mod breach;
mod breaches;
mod outside;
mod report;

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use anyhow::{Context as _, bail, ensure};

use self::{
    breach::{Breach, Seen},
    breaches::ALL,
    outside::OUTSIDE,
    report::{Failures, Finding},
};
use crate::{
    process::{Privilege, cargo, line},
    run::AGENT,
    setup::{self, Purpose},
};

/// What needs no kernel. The properties, which say less of what is wrong, are left to themselves: they take longest.
const HOST: [&str; 3] = ["host", "flows", "sockets"];
/// What does.
const NAMESPACES: [&str; 2] = ["netns", "flood"];

/// On the host the eBPF program is not started, and building it would take longest.
const NO_PROGRAM: &str = "//! Of `cargo xtask mutate`: no program is needed.\nfn main() {\n    \
    let out = std::env::var_os(\"OUT_DIR\").expect(\"cargo sets it\");\n    \
    std::fs::write(std::path::Path::new(&out).join(\"clusterip\"), b\"\").expect(\"it is cargo's\");\n}\n";
const BUILD_SCRIPT: &str = "clusterip-agent/build.rs";
/// Cargo builds a package's programs for its tests, whether they start them or not: five to compile and link for each breach.
const MANIFEST: &str = "tests/Cargo.toml";

fn everything() -> impl Iterator<Item = &'static Breach> {
    ALL.iter().chain(OUTSIDE)
}

/// Breaks the rules that are named, or all of them; those that show in namespaces only if `all` is set.
///
/// # Errors
/// When a breach is not seen, or does not build, or the tests fail without one.
pub(crate) fn command(workspace: &Path, rules: &[String], all: bool) -> anyhow::Result<()> {
    let is_wanted = |breach: &&Breach| {
        let is_named = rules.is_empty()
            || rules
                .iter()
                .any(|rule| rule.eq_ignore_ascii_case(breach.rule));
        is_named && (all || breach.seen == Seen::Host)
    };
    let wanted: Vec<&Breach> = everything().filter(is_wanted).collect();
    ensure!(!wanted.is_empty(), "no such rule is broken here");
    setup::ensure(workspace, Purpose::Run)?;
    if wanted.iter().any(|breach| breach.seen != Seen::Host)
        && let Err(why) = Privilege::obtain()
    {
        bail!("namespaces need root: {why}");
    }
    let tree = Tree::copy(workspace)?;
    tree.spare(workspace)?;
    println!("== as it is");
    let sound = tree.judge(Seen::Host)?;
    ensure!(
        matches!(&sound, Finding::Ran(failures) if failures.is_empty()),
        "the tests fail without any breach: {sound}"
    );
    let mut rows = Vec::new();
    for breach in wanted {
        println!("== {}: {}", breach.rule, breach.what);
        let finding = tree.try_out(workspace, breach)?;
        println!("   {}", finding.of(breach.rule));
        rows.push((breach, finding));
    }
    println!("\n| rule | broken | seen by |\n|---|---|---|");
    for (Breach { rule, what, .. }, finding) in &rows {
        println!("| {rule} | {what} | {} |", finding.of(rule));
    }
    let unseen = rows
        .iter()
        .filter(|(breach, finding)| !finding.shows(breach.rule));
    let unseen: Vec<&str> = unseen.map(|(breach, _)| breach.what).collect();
    ensure!(
        unseen.is_empty(),
        "not seen by a test of its number: {}",
        unseen.join("; ")
    );
    Ok(())
}

/// A copy of the workspace.
struct Tree {
    root: PathBuf,
    target: PathBuf,
    path: std::ffi::OsString,
}

impl Tree {
    /// Copies what git knows and what it would add, as it stands.
    fn copy(workspace: &Path) -> anyhow::Result<Self> {
        let folder = workspace.join("target/mutate");
        let root = folder.join("tree");
        if root.exists() {
            fs::remove_dir_all(&root).with_context(|| format!("remove {}", root.display()))?;
        }
        let mut git = Command::new("git");
        git.current_dir(workspace).args([
            "ls-files",
            "-z",
            "--cached",
            "--others",
            "--exclude-standard",
        ]);
        let listed = git
            .output()
            .with_context(|| format!("start {}", line(&git)))?;
        ensure!(listed.status.success(), "{}: {}", line(&git), listed.status);
        let names =
            String::from_utf8(listed.stdout).context("a file has a name that is no text")?;
        for name in names.split('\0').filter(|name| !name.is_empty()) {
            let (from, to) = (workspace.join(name), root.join(name));
            // Of what was removed git knows still.
            if !from.is_file() {
                continue;
            }
            let parent = to.parent().context("a file is in a folder")?;
            fs::create_dir_all(parent).with_context(|| format!("make {}", parent.display()))?;
            fs::copy(&from, &to).with_context(|| format!("copy {name}"))?;
        }
        // The linker of `setup` is in a folder that git does not know.
        let tools = std::iter::once(workspace.join(".tools/bin"));
        let path = env::var_os("PATH").unwrap_or_default();
        let path =
            env::join_paths(tools.chain(env::split_paths(&path))).context("join the path")?;
        Ok(Self {
            root,
            target: folder.join("target"),
            path,
        })
    }

    fn write(&self, file: &str, text: &str) -> anyhow::Result<()> {
        fs::write(self.root.join(file), text).with_context(|| format!("write {file}"))
    }

    /// Puts a breach in, runs the tests that must see it, and takes it out again.
    fn try_out(&self, workspace: &Path, breach: &Breach) -> anyhow::Result<Finding> {
        let text = read(workspace, breach.file)?;
        self.write(breach.file, &broken(breach, &text)?)?;
        if breach.seen == Seen::Host {
            let finding = self.judge(breach.seen);
            self.write(breach.file, &text)?;
            return finding;
        }
        for file in [BUILD_SCRIPT, MANIFEST] {
            self.write(file, &read(workspace, file)?)?;
        }
        let finding = self.judge(breach.seen);
        self.write(breach.file, &text)?;
        self.spare(workspace)?;
        finding
    }

    /// Leaves out what the tests of the host do without.
    fn spare(&self, workspace: &Path) -> anyhow::Result<()> {
        self.write(BUILD_SCRIPT, NO_PROGRAM)?;
        self.write(MANIFEST, &without_programs(&read(workspace, MANIFEST)?))
    }

    fn judge(&self, seen: Seen) -> anyhow::Result<Finding> {
        let (targets, filter): (&[&str], Option<&str>) = match seen {
            Seen::Host => (&HOST, None),
            Seen::Netns(tests) => (&NAMESPACES, Some(tests)),
        };
        if seen != Seen::Host {
            let built = self.cargo(&[
                "build",
                "--locked",
                "--bins",
                "-p",
                "clusterip-agent",
                "-p",
                "clusterip-tests",
            ])?;
            if !built.status.success() {
                return Ok(Finding::unbuilt(&built));
            }
        }
        let mut arguments = vec![
            "test",
            "--locked",
            "--no-fail-fast",
            "-p",
            "clusterip-tests",
        ];
        for target in targets {
            arguments.extend(["--test", *target]);
        }
        let built = self.cargo(&[&arguments[..], &["--no-run"]].concat())?;
        if !built.status.success() {
            return Ok(Finding::unbuilt(&built));
        }
        arguments.extend(filter);
        let ran = self.cargo(&arguments)?;
        let text = String::from_utf8_lossy(&ran.stdout);
        let failures = Failures::of(&text);
        // A test program that dies names no test.
        ensure!(
            ran.status.success() == failures.is_empty(),
            "{} of the tests, which name no failure:\n{text}\n{}",
            ran.status,
            String::from_utf8_lossy(&ran.stderr)
        );
        Ok(Finding::Ran(failures))
    }

    fn cargo(&self, arguments: &[&str]) -> anyhow::Result<Output> {
        let mut command = cargo(&self.root);
        command
            .args(arguments)
            .env("CARGO_TARGET_DIR", &self.target)
            .env("PATH", &self.path)
            .env(AGENT, self.target.join("debug/clusterip"))
            // Once it is seen that is enough.
            .env("PROPTEST_MAX_SHRINK_ITERS", "0")
            .env("RUST_BACKTRACE", "0");
        command
            .output()
            .with_context(|| format!("start {}", line(&command)))
    }
}

fn read(root: &Path, file: &str) -> anyhow::Result<String> {
    fs::read_to_string(root.join(file)).with_context(|| format!("read {file}"))
}

/// A manifest without the programs of its package.
fn without_programs(manifest: &str) -> String {
    let parts: Vec<&str> = manifest
        .split("\n\n")
        .filter(|part| !part.starts_with("[[bin]]"))
        .collect();
    parts
        .join("\n\n")
        .replacen("[package]\n", "[package]\nautobins = false\n", 1)
}

/// The file with the breach in it.
fn broken(breach: &Breach, text: &str) -> anyhow::Result<String> {
    let Breach {
        rule,
        file,
        text: place,
        instead,
        ..
    } = breach;
    let count = text.matches(place).count();
    ensure!(
        count == 1,
        "{rule}: {file} has {count} times, not once: {place}"
    );
    Ok(text.replace(place, instead))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_programs_of_the_tests_are_left_out() {
        let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let manifest = read(&workspace, MANIFEST).unwrap();
        assert!(manifest.contains("[[bin]]"));
        let spared = without_programs(&manifest);
        assert!(!spared.contains("[[bin]]"), "{spared}");
        assert!(spared.starts_with("[package]\nautobins = false\n"));
        let tests = |text: &str| text.matches("[[test]]").count();
        assert_eq!(tests(&spared), tests(&manifest));
    }

    #[test]
    fn each_breach_has_its_place() {
        let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let mut wrong = Vec::new();
        for breach in everything() {
            let text = read(&workspace, breach.file).unwrap();
            match broken(breach, &text) {
                Ok(changed) => assert_ne!(changed, text, "{}", breach.what),
                Err(error) => wrong.push(error.to_string()),
            }
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    }
}
