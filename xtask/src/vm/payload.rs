//! What runs in a machine.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::Stdio,
};

use anyhow::{Context as _, ensure};

use crate::{
    process::{cargo, line},
    run::{Profile, binaries},
};

/// A test program and what it is started with.
struct Run {
    target: &'static str,
    arguments: &'static str,
    proves: &'static str,
}

/// What is smallest comes first. Of the namespaces' tests, those that meet the kernel, but for what is much work and the same
/// everywhere.
const RUNS: [Run; 3] = [
    Run {
        target: "verifier",
        arguments: "--nocapture",
        proves: "every program loads",
    },
    Run {
        target: "kernel",
        arguments: "",
        proves: "each packet vector gives its frame",
    },
    Run {
        target: "netns",
        arguments: "dataplane:: lifecycle:: traffic:: sockets:: sctp:: ipvs:: --skip a_thousand",
        proves: "connections go through, of pods and of the node's own processes",
    },
];

/// A part of that.
#[derive(Debug, Default)]
pub(crate) struct Selection {
    /// One test program alone.
    pub(crate) test: Option<String>,
    /// Arguments in the place of the usual ones.
    pub(crate) arguments: Vec<String>,
}

impl Selection {
    /// What the programs of the selection prove.
    pub(crate) fn proves(&self) -> String {
        let wanted = |run: &&Run| self.test.as_ref().is_none_or(|test| test == run.target);
        let words: Vec<&str> = RUNS.iter().filter(wanted).map(|run| run.proves).collect();
        words.join(", ")
    }

    /// Each program with its arguments.
    ///
    /// # Errors
    /// When the one that is wanted is none of them.
    fn runs(&self) -> anyhow::Result<Vec<(&'static str, String)>> {
        let own = (!self.arguments.is_empty()).then(|| self.arguments.join(" "));
        let runs: Vec<_> = RUNS
            .iter()
            .filter(|run| self.test.as_ref().is_none_or(|test| test == run.target))
            .map(|run| {
                (
                    run.target,
                    own.clone().unwrap_or_else(|| run.arguments.to_owned()),
                )
            })
            .collect();
        let known = RUNS.map(|run| run.target).join(", ");
        ensure!(
            !runs.is_empty(),
            "no such test runs in a machine; there are {known}"
        );
        Ok(runs)
    }
}

/// Programs that are built, and how they are started.
#[derive(Debug)]
pub(crate) struct Payload {
    runs: Vec<(&'static str, String)>,
    files: BTreeMap<String, PathBuf>,
}

impl Payload {
    /// Builds it, and the agent and the first program besides.
    ///
    /// # Errors
    /// When the selection is empty, or something does not build.
    pub(crate) fn build(workspace: &Path, selection: &Selection) -> anyhow::Result<Self> {
        let runs = selection.runs()?;
        binaries(workspace, Profile::Dev)?;
        let mut test = cargo(workspace);
        test.args(["test", "--locked", "--no-run", "-p", "clusterip-tests"]);
        for (target, _) in &runs {
            test.args(["--test", target]);
        }
        test.arg("--message-format=json-render-diagnostics")
            .stderr(Stdio::inherit());
        println!("$ {}", line(&test));
        let output = test
            .output()
            .with_context(|| format!("start {}", line(&test)))?;
        ensure!(
            output.status.success(),
            "{}: {}",
            line(&test),
            output.status
        );
        let messages = String::from_utf8_lossy(&output.stdout);
        let files = messages.lines().filter_map(executable).collect();
        Ok(Self { runs, files })
    }

    /// The test programs, by name.
    ///
    /// # Errors
    /// When cargo did not build one of them.
    pub(crate) fn programs(&self) -> anyhow::Result<Vec<(&'static str, &Path)>> {
        let find = |target: &'static str| {
            let file = self.files.get(target);
            let file = file.with_context(|| format!("cargo built no test {target}"))?;
            Ok((target, file.as_path()))
        };
        self.runs.iter().map(|(target, _)| find(target)).collect()
    }

    /// A line for each program: its name and arguments.
    pub(crate) fn lines(&self) -> String {
        let lines = self.runs.iter();
        let lines: Vec<_> = lines
            .map(|(target, arguments)| format!("{target} {arguments}"))
            .collect();
        lines.join("\n")
    }
}

/// The target and the file of a test program that cargo's message speaks of.
fn executable(message: &str) -> Option<(String, PathBuf)> {
    let (_, rest) = message.split_once("\"executable\":\"")?;
    let (path, _) = rest.split_once('"')?;
    let file = path.rsplit('/').next()?;
    let (target, _hash) = file.rsplit_once('-')?;
    Some((target.to_owned(), path.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn selection(test: &str, arguments: &[&str]) -> Selection {
        Selection {
            test: (!test.is_empty()).then(|| test.to_owned()),
            arguments: arguments.iter().map(|word| (*word).to_owned()).collect(),
        }
    }

    #[test]
    fn one_test_may_be_chosen_with_arguments_of_its_own() {
        assert_eq!(selection("", &[]).runs().unwrap().len(), RUNS.len());
        let runs = selection("netns", &["c1_", "--nocapture"]).runs().unwrap();
        assert_eq!(runs, [("netns", "c1_ --nocapture".to_owned())]);
        let error = selection("pigs", &[]).runs().unwrap_err().to_string();
        assert!(error.contains("verifier, kernel, netns"), "{error}");
    }

    #[test]
    fn test_programs_are_found_in_cargos_messages() {
        let path = "/w/target/debug/deps/netns-0a1b";
        let message =
            format!(r#"{{"reason":"compiler-artifact","executable":"{path}","fresh":true}}"#);
        assert_eq!(executable(&message), Some(("netns".into(), path.into())));
        assert_eq!(executable(r#"{"executable":null,"fresh":true}"#), None);
        assert_eq!(executable(r#"{"executable":"/w/target/debug/demo"}"#), None);
    }
}
