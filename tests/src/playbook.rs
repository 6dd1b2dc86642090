//! `docs/operations.md` as something to be played: its commands, and what they printed.

use std::{
    env, fs,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use anyhow::{Context as _, Result, ensure};

use crate::{agent, lab::Lab, wait};

/// Where the manifests are in the document.
const MANIFESTS: &str = "/etc/clusterip/manifests";
const HEADING: &str = "## ";
const BLOCK: &str = "```console";
const END: &str = "```";

/// A command, and its output as the document has it.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Step {
    command: String,
    output: String,
}

fn path() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/operations.md")
}

fn read() -> Result<String> {
    let path = path();
    fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))
}

/// Headings of the sections that have commands.
///
/// # Errors
/// The document is not there.
pub fn headings() -> Result<Vec<String>> {
    let text = read()?;
    let sections = text.split("\n## ").skip(1);
    let with_commands = sections.filter(|section| section.contains(BLOCK));
    let headings = with_commands.filter_map(|section| section.lines().next());
    Ok(headings.map(str::to_owned).collect())
}

/// The commands of a section.
fn steps(text: &str, heading: &str) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    let (mut is_here, mut is_inside) = (false, false);
    for line in text.lines() {
        if let Some(other) = line.strip_prefix(HEADING) {
            is_here = other == heading;
        } else if is_here && line == BLOCK {
            is_inside = true;
        } else if line == END {
            is_inside = false;
        } else if is_here && is_inside {
            match (line.strip_prefix("$ "), steps.last_mut()) {
                (Some(command), _) => steps.push(Step {
                    command: command.to_owned(),
                    output: String::new(),
                }),
                (None, Some(step)) => step.output = format!("{}{line}\n", step.output),
                (None, None) => {}
            }
        }
    }
    steps
}

/// The document with other outputs in a section.
fn rewritten(text: &str, heading: &str, steps: &[Step]) -> String {
    let mut new = String::new();
    let mut steps = steps.iter();
    let (mut is_here, mut is_inside) = (false, false);
    for line in text.lines() {
        if let Some(other) = line.strip_prefix(HEADING) {
            is_here = other == heading;
        }
        is_inside = match line {
            BLOCK => true,
            END => false,
            _ => is_inside,
        };
        if is_here && is_inside && line != BLOCK {
            if line.starts_with("$ ")
                && let Some(step) = steps.next()
            {
                for part in ["$ ", &step.command, "\n", &step.output] {
                    new.push_str(part);
                }
            }
        } else {
            new.push_str(line);
            new.push('\n');
        }
    }
    new
}

/// Plays a section: each of its commands in the node prints what the document says, but for numbers, and then ends with
/// one of the codes that it may end with, 0 and 1. `UPDATE_EXPECT=1` writes the outputs into the document instead.
///
/// # Errors
/// The section has no commands, or one of them prints something else.
pub fn play(lab: &Lab, heading: &str) -> Result<()> {
    let steps = steps(&read()?, heading);
    ensure!(
        !steps.is_empty(),
        "docs/operations.md has no commands for {heading:?}"
    );
    if env::var_os("UPDATE_EXPECT").is_some() {
        return update(lab, heading, &steps);
    }
    for step in &steps {
        let mut last = String::new();
        let same = wait::until(&format!("the output of {:?}", step.command), || {
            last = output(lab, &step.command).ok()?;
            (without_numbers(&last) == without_numbers(&step.output)).then_some(())
        });
        same.with_context(|| {
            format!(
                "docs/operations.md says\n{}\nand it says\n{last}",
                step.output
            )
        })?;
    }
    Ok(())
}

fn update(lab: &Lab, heading: &str, steps: &[Step]) -> Result<()> {
    /// Sections are played side by side.
    static WRITING: Mutex<()> = Mutex::new(());
    let run = |step: &Step| -> Result<Step> {
        Ok(Step {
            command: step.command.clone(),
            output: output(lab, &step.command)?,
        })
    };
    let steps: Vec<Step> = steps.iter().map(run).collect::<Result<_>>()?;
    let _turn = WRITING.lock().unwrap_or_else(PoisonError::into_inner);
    let text = rewritten(&read()?, heading, &steps);
    fs::write(path(), text).context("write docs/operations.md")
}

/// What a command of the shell prints in the node, errors too.
fn output(lab: &Lab, command: &str) -> Result<String> {
    let place = lab.manifests.path().display().to_string();
    let program = agent::binary()?
        .parent()
        .context("a folder of the program")?;
    let paths = env::var("PATH").unwrap_or_default();
    let mut shell = lab.node.namespace().command("sh");
    shell
        .arg("-c")
        .arg(format!(
            "{{ {}; }} 2>&1",
            command.replace(MANIFESTS, &place)
        ))
        .env("PATH", format!("{}:{paths}", program.display()));
    let output = shell.output().context("run sh")?;
    let code = output.status.code();
    ensure!(matches!(code, Some(0 | 1)), "{command}: {output:?}");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    Ok(text.replace(&place, MANIFESTS))
}

/// Numbers are others in each run, and columns as wide as they are.
fn without_numbers(text: &str) -> Vec<String> {
    let line = |line: &str| {
        let mut plain = String::new();
        for letter in line.chars() {
            let letter = if letter.is_ascii_digit() { '#' } else { letter };
            if !(letter == '#' && plain.ends_with('#')) {
                plain.push(letter);
            }
        }
        let words: Vec<&str> = plain.split_whitespace().collect();
        words.join(" ")
    };
    text.lines().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "# x\n\n## One\n\ntext\n\n```console\n$ a b\nsays 12\nand\n$ c\n```\n\n## Two\n\n```console\n$ d\n```\n";

    #[test]
    fn a_section_is_read_and_written_anew() {
        let mut one = steps(TEXT, "One");
        let step = |command: &str, output: &str| Step {
            command: command.to_owned(),
            output: output.to_owned(),
        };
        assert_eq!(one, [step("a b", "says 12\nand\n"), step("c", "")]);
        assert_eq!(rewritten(TEXT, "One", &one), TEXT);
        one[1].output = "new\n".to_owned();
        let new = rewritten(TEXT, "One", &one);
        assert_eq!(new, TEXT.replace("$ c\n", "$ c\nnew\n"));
        assert_eq!(steps(&new, "Two"), [step("d", "")]);
    }

    #[test]
    fn numbers_and_widths_do_not_count() {
        assert_eq!(
            without_numbers("web  10.96.0.1:80   3m5s\n"),
            without_numbers("web 10.96.0.25:8080 12m0s")
        );
        assert_ne!(without_numbers("a 1"), without_numbers("b 1"));
    }
}
