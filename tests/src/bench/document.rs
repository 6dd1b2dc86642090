//! The tables of a run as files: text, JSON and a plot of each, below `target/bench`.

use std::{fmt::Write as _, fs, path::Path, thread};

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use super::{plot, table::Table};

/// Where they are, below the folder that this is started in.
pub const FOLDER: &str = "target/bench";

/// What was measured at once.
#[derive(Clone, Debug)]
pub struct Document<'a> {
    /// Name of its files, without the ending.
    pub name: &'a str,
    /// Whether it was only to see whether all of it runs.
    pub is_quick: bool,
    /// Its tables.
    pub tables: &'a [Table],
}

impl Document<'_> {
    /// As `docs/schemas/bench.json` has it.
    #[must_use]
    pub fn json(&self) -> Value {
        json!({
            "version": 1,
            "name": self.name,
            "quick": self.is_quick,
            "machine": machine(),
            "tables": self.tables.iter().map(Table::json).collect::<Vec<_>>(),
        })
    }

    /// As it is printed.
    #[must_use]
    pub fn text(&self) -> String {
        let tables: Vec<String> = self.tables.iter().map(Table::text).collect();
        tables.join("\n")
    }

    /// As a part of a document, with the plots that lie in `plots`.
    #[must_use]
    pub fn markdown(&self, plots: &str) -> String {
        let mut text = String::new();
        for table in self.tables {
            text.push_str(&table.markdown());
            let _ = write!(text, "\n![{}]({plots}/{}.svg)\n\n", table.title, table.name);
        }
        let quick = if self.is_quick {
            ", a quick run: no figures"
        } else {
            ""
        };
        let _ = writeln!(text, "Measured on {}{quick}.", machine_words());
        text
    }

    /// Writes all of it.
    ///
    /// # Errors
    /// The file system refused.
    pub fn save(&self, folder: &Path) -> Result<()> {
        fs::create_dir_all(folder).with_context(|| format!("make {}", folder.display()))?;
        let write = |ending: &str, text: String| {
            let path = folder.join(format!("{}.{ending}", self.name));
            fs::write(&path, text).with_context(|| format!("write {}", path.display()))
        };
        write("json", format!("{:#}\n", self.json()))?;
        write("txt", self.text())?;
        write("md", self.markdown("performance"))?;
        for table in self.tables {
            let path = folder.join(format!("{}.svg", table.name));
            fs::write(&path, plot::svg(table))
                .with_context(|| format!("write {}", path.display()))?;
        }
        Ok(())
    }
}

/// What it was measured on.
fn machine() -> Value {
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let processors = thread::available_parallelism().map_or(0, std::num::NonZero::get);
    json!({"kernel": kernel.trim(), "processor": processor(), "processors": processors, "optimised": !cfg!(debug_assertions)})
}

fn machine_words() -> String {
    let machine = machine();
    let word = |name: &str| {
        machine
            .get(name)
            .and_then(Value::as_str)
            .unwrap_or("?")
            .to_owned()
    };
    let number = machine
        .get("processors")
        .and_then(Value::as_u64)
        .unwrap_or_default();
    format!("{number} x {}, Linux {}", word("processor"), word("kernel"))
}

fn processor() -> String {
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let line = text.lines().find(|line| line.starts_with("model name"));
    let name = line.and_then(|line| line.split_once(':'));
    name.map_or("unknown", |(_, name)| name.trim()).to_owned()
}
