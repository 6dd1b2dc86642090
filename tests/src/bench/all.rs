//! Everything in one run: each subject's tables as text, JSON and plots, and the document that shows them.

use std::{
    fmt::Write as _,
    fs,
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};

use super::{
    agent, dns,
    document::{Document, FOLDER},
    frames::Frames,
    outside, packet,
    path::{self, Parts},
    socket,
    table::Table,
    uplink,
};

/// The document, and where its plots are.
const DOCUMENT: &str = "docs/performance.md";
const PLOTS: &str = "docs/performance";
/// What stands before and after a part of the document that a run writes: the subject's name follows.
const BEGIN: &str = "<!-- begin: cargo xtask bench --docs writes this: ";
const END: &str = "<!-- end -->";

type Measure = fn(&Path, bool) -> Result<Vec<Table>>;

/// The subjects that give tables; those of the agent, which save theirs, come after.
const SUBJECTS: [(&str, Measure); 6] = [
    ("packet", |_, is_quick| {
        packet::tables(if is_quick { 1 } else { 9 })
    }),
    ("socket", |_, is_quick| {
        socket::tables(if is_quick { 1 } else { 21 })
    }),
    ("path", |program, is_quick| {
        let scale = if is_quick {
            path::Scale::quick()
        } else {
            path::Scale::full(11)
        };
        let parts = Parts {
            rates: true,
            firsts: true,
        };
        path::tables(program, &scale, parts)
    }),
    ("uplink", |_, is_quick| {
        let scale = if is_quick {
            Frames::QUICK
        } else {
            uplink::FULL
        };
        Ok(vec![uplink::table(scale)?])
    }),
    ("outside", |_, is_quick| {
        let scale = if is_quick {
            Frames::QUICK
        } else {
            outside::FULL
        };
        Ok(vec![outside::table(scale)?])
    }),
    ("dns", |_, is_quick| {
        if is_there("dnsperf") {
            dns::tables(if is_quick { 1 } else { 2 })
        } else {
            Ok(Vec::new())
        }
    }),
];

/// Measures everything, prints it, and writes it below [`FOLDER`]. `program` is this one.
///
/// # Errors
/// Those of the subjects; the others are measured all the same.
#[expect(clippy::print_stdout, reason = "the tables are the purpose")]
pub fn run(program: &Path, is_quick: bool) -> Result<()> {
    let start = Instant::now();
    let mut failures = Vec::new();
    for (name, measure) in SUBJECTS {
        let begin = Instant::now();
        let told = measure(program, is_quick).and_then(|tables| {
            let document = Document {
                name,
                is_quick,
                tables: &tables,
            };
            println!("== {name}\n{}", document.text());
            document.save(Path::new(FOLDER))
        });
        note(name, told, begin.elapsed(), &mut failures);
    }
    for name in ["agent", "sight"] {
        println!("== {name}");
        let begin = Instant::now();
        let told = if name == "agent" {
            agent::run(3, is_quick, "")
        } else {
            agent::sight::run(3, is_quick)
        };
        note(name, told, begin.elapsed(), &mut failures);
    }
    println!("All of it took {:.0} s.", start.elapsed().as_secs_f64());
    ensure!(failures.is_empty(), "{}", failures.join("\n"));
    Ok(())
}

#[expect(clippy::print_stdout, reason = "a command for a terminal")]
fn note(name: &str, told: Result<()>, time: Duration, failures: &mut Vec<String>) {
    println!("-- {name}: {:.0} s\n", time.as_secs_f64());
    if let Err(error) = told {
        println!("{name} failed: {error:#}\n");
        failures.push(format!("{name}: {error:#}"));
    }
}

fn is_there(program: &str) -> bool {
    Command::new(program).arg("-h").output().is_ok()
}

/// Puts what the last run wrote into the document, and its plots beside it.
///
/// # Errors
/// The document has no place for it, or there was no run.
pub fn write_document() -> Result<()> {
    let text = fs::read_to_string(DOCUMENT).with_context(|| format!("read {DOCUMENT}"))?;
    let mut plots = Vec::new();
    let text = filled(&text, |name| {
        let path = Path::new(FOLDER).join(format!("{name}.md"));
        let part = fs::read_to_string(&path);
        let part = part.with_context(|| format!("read {}: run {name} first", path.display()))?;
        plots.extend(pictures(&part));
        Ok(part)
    })?;
    fs::create_dir_all(PLOTS).with_context(|| format!("make {PLOTS}"))?;
    for plot in plots {
        let (from, to) = (Path::new(FOLDER).join(&plot), Path::new(PLOTS).join(&plot));
        fs::copy(&from, &to).with_context(|| format!("copy {}", from.display()))?;
    }
    fs::write(DOCUMENT, text).with_context(|| format!("write {DOCUMENT}"))
}

/// The text with its parts written anew.
fn filled(text: &str, mut part: impl FnMut(&str) -> Result<String>) -> Result<String> {
    let mut rest = text;
    let mut new = String::new();
    while let Some((before, after)) = rest.split_once(BEGIN) {
        let (name, old) = after.split_once(" -->").context("a mark without an end")?;
        let (_, after) = old
            .split_once(END)
            .with_context(|| format!("the part {name} has no end"))?;
        let written = part(name)?;
        write!(new, "{before}{BEGIN}{name} -->\n{}\n{END}", written.trim())?;
        rest = after;
    }
    ensure!(!new.is_empty(), "no part is marked");
    Ok(new + rest)
}

/// Files of the plots that a part shows.
fn pictures(part: &str) -> Vec<String> {
    let links = part.lines().filter(|line| line.starts_with("!["));
    let files = links.filter_map(|line| line.rsplit_once('/')?.1.strip_suffix(')'));
    files.map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marked_parts_are_written_anew_and_nothing_else() {
        let old = format!("a\n{BEGIN}x -->\nold\n{END}\nb\n{BEGIN}y -->\n{END}\nc\n");
        let new = filled(&old, |name| Ok(format!("new {name}\n"))).unwrap();
        let wanted = format!("a\n{BEGIN}x -->\nnew x\n{END}\nb\n{BEGIN}y -->\nnew y\n{END}\nc\n");
        assert_eq!(new, wanted);
        assert_eq!(
            filled(&new, |name| Ok(format!("new {name}"))).unwrap(),
            wanted
        );
        assert!(filled("nothing", |_| Ok(String::new())).is_err());
        assert!(filled(&format!("{BEGIN}x -->\n"), |_| Ok(String::new())).is_err());
        assert_eq!(
            pictures("![T](performance/path-udp.svg)\ntext"),
            ["path-udp.svg"]
        );
    }
}
