//! Questions of DNS and what is said to them, as text: one table for the pure function and for the wire.

use std::process::Output;

use anyhow::{Context as _, Result, bail, ensure};
use clusterip_agent::dns::{answer::Answer, reply::Reply};
use hickory_proto::rr::Record;

use crate::Namespace;

/// A question and what is said to it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Exchange {
    /// What stands before it.
    pub comments: Vec<String>,
    /// The name that is asked for.
    pub name: String,
    /// The type of record.
    pub kind: String,
    /// The code, then the records of each section.
    pub said: Vec<String>,
}

impl Exchange {
    /// Whether somebody else is to answer.
    #[must_use]
    pub fn is_elsewhere(&self) -> bool {
        self.said.iter().any(|line| line.starts_with("elsewhere "))
    }
}

/// Reads a table: `?` begins a question, `#` a comment.
///
/// # Errors
/// A question without a type.
pub fn table(text: &str) -> Result<Vec<Exchange>> {
    let mut all: Vec<Exchange> = Vec::new();
    let mut comments = Vec::new();
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
        if line.starts_with('#') {
            comments.push(line.to_owned());
        } else if let Some(question) = line.strip_prefix("? ") {
            let (name, kind) = question.split_once(' ').context(question.to_owned())?;
            all.push(Exchange {
                comments: std::mem::take(&mut comments),
                name: name.to_owned(),
                kind: kind.to_owned(),
                said: Vec::new(),
            });
        } else {
            let last = all.last_mut().context("an answer before any question")?;
            last.said.push(line.to_owned());
        }
    }
    Ok(all)
}

/// Writes a table.
#[must_use]
pub fn written(all: &[Exchange]) -> String {
    let mut blocks = Vec::new();
    for exchange in all {
        let Exchange {
            comments,
            name,
            kind,
            said,
        } = exchange;
        let question = [format!("? {name} {kind}")];
        let lines: Vec<&str> = comments
            .iter()
            .chain(&question)
            .chain(said)
            .map(String::as_str)
            .collect();
        blocks.push(lines.join("\n"));
    }
    blocks.join("\n\n") + "\n"
}

/// What the pure function says.
#[must_use]
pub fn of_answer(answer: &Answer) -> Vec<String> {
    match answer {
        Answer::Reply(reply) => of_reply(reply),
        Answer::Elsewhere { aliases, question } => {
            let mut said = section("answer", aliases);
            let (name, kind) = (question.name(), question.query_type());
            said.insert(0, format!("elsewhere {name} {kind}"));
            said
        }
    }
}

fn of_reply(reply: &Reply) -> Vec<String> {
    let Reply {
        code,
        authoritative,
        answers,
        authorities,
        additionals,
    } = reply;
    let code = format!("{code:?}").to_uppercase();
    let mut said = vec![if *authoritative {
        format!("{code} aa")
    } else {
        code
    }];
    said.extend(section("answer", answers));
    said.extend(section("authority", authorities));
    said.extend(section("additional", additionals));
    said
}

fn section(name: &str, records: &[Record]) -> Vec<String> {
    let texts = records.iter().map(ToString::to_string);
    lines(name, texts)
}

/// The records of a section: aliases in their order, then the others by their text.
fn lines(section: &str, records: impl Iterator<Item = String>) -> Vec<String> {
    let (aliases, mut others): (Vec<String>, Vec<String>) = records
        .map(|record| format!("{section} {}", plain(&record)))
        .partition(|line| line.contains(" IN CNAME "));
    others.sort();
    [aliases, others].concat()
}

/// Words with one blank between them, without quotes, and without the serial number of an SOA.
fn plain(record: &str) -> String {
    let mut words: Vec<&str> = record.split_whitespace().collect();
    if words.get(3) == Some(&"SOA")
        && let Some(serial) = words.get_mut(6)
    {
        *serial = "*";
    }
    words.join(" ").replace('"', "")
}

/// Asks a server by `dig` from a namespace; `options` as dig has them.
///
/// # Errors
/// dig is not installed, or there was no answer.
pub fn dig(from: &Namespace, options: &str, name: &str, kind: &str) -> Result<Vec<String>> {
    let mut command = from.command("dig");
    command.args(options.split_whitespace());
    command.args([
        "+noall",
        "+comments",
        "+answer",
        "+authority",
        "+additional",
    ]);
    let output = command.args([name, kind]).output();
    let output = output.context("run dig (Debian package dnsutils)")?;
    of_dig(&output).with_context(|| format!("dig {options} {name} {kind}"))
}

/// What a server says, as dig writes it.
fn of_dig(output: &Output) -> Result<Vec<String>> {
    let text = String::from_utf8_lossy(&output.stdout);
    ensure!(
        output.status.success(),
        "dig: {}\n{text}{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    let after = |mark: &str| {
        let line = text.lines().find_map(|line| line.split_once(mark));
        line.map(|(_, rest)| rest.split([',', ';']).next().unwrap_or_default().trim())
    };
    let Some(code) = after("status: ") else {
        bail!("no answer: {text}");
    };
    let flags = after(";; flags: ").unwrap_or_default();
    let mut said = vec![code.to_owned()];
    for flag in ["aa", "tc"] {
        if flags.split(' ').any(|it| it == flag) {
            said = vec![format!("{} {flag}", said.concat())];
        }
    }
    for (mark, name) in [
        (";; ANSWER SECTION:", "answer"),
        (";; AUTHORITY SECTION:", "authority"),
        (";; ADDITIONAL SECTION:", "additional"),
    ] {
        let records = text.lines().skip_while(|line| *line != mark).skip(1);
        let records = records.take_while(|line| !line.trim().is_empty() && !line.starts_with(';'));
        said.extend(lines(name, records.map(ToOwned::to_owned)));
    }
    Ok(said)
}
