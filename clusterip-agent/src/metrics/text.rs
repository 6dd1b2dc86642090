//! Series as text.
//!
//! A node has a hundred thousand series or more, and a scrape must not take the processors from the packets: what is told
//! of services and backends is written straight, with the labels of a service made once for all of its series.

use std::fmt::{self, Display, Write as _};

use bytes::Bytes;
use tokio::sync::mpsc::UnboundedSender;

/// What a series is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    /// Only grows; its samples are named `..._total`.
    Counter,
    /// Goes up and down.
    Gauge,
}

impl Kind {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
        }
    }
}

/// A family of series.
#[derive(Clone, Copy, Debug)]
pub(super) struct Metric {
    /// Without the prefix of this program, and without the suffix of a counter's samples.
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    /// In their order.
    #[cfg_attr(
        not(test),
        expect(dead_code, reason = "the documentation is made of it")
    )]
    pub(super) labels: &'static [&'static str],
    pub(super) help: &'static str,
}

/// What the names of all families begin with.
pub(super) const PREFIX: &str = "clusterip_";

/// Bytes of a chunk: little enough that the memory of one is used again for the next but one.
const CHUNK: usize = 64 << 10;
/// More than a series takes.
const SERIES: usize = 1 << 10;

/// An exposition. What is written goes to whoever sends it a chunk at a time: with a hundred thousand series it would be some
/// ten megabytes of new memory for each scrape otherwise.
#[derive(Debug)]
pub(super) struct Page {
    text: String,
    chunks: UnboundedSender<Bytes>,
}

impl Page {
    /// One that is sent by way of a channel; if nobody takes the chunks they are lost.
    pub(super) fn new(chunks: UnboundedSender<Bytes>) -> Self {
        Self {
            text: String::with_capacity(CHUNK + SERIES),
            chunks,
        }
    }

    /// Begins a family; all of its series follow before the next one begins.
    pub(super) fn family(&mut self, metric: &Metric) -> Family<'_> {
        let Metric {
            name,
            kind,
            labels: _,
            help,
        } = metric;
        for part in [
            "# HELP ",
            PREFIX,
            name,
            " ",
            help,
            ".\n# TYPE ",
            PREFIX,
            name,
            " ",
            kind.name(),
            "\n",
        ] {
            self.text.push_str(part);
        }
        let suffix = match kind {
            Kind::Counter => "_total",
            Kind::Gauge => "",
        };
        Family {
            sample: format!("{PREFIX}{name}{suffix}"),
            page: self,
        }
    }

    /// Hands over what is there if it is enough for a chunk.
    fn hand_over(&mut self) {
        if self.text.len() >= CHUNK {
            self.flush();
        }
    }

    fn flush(&mut self) {
        let full = std::mem::replace(&mut self.text, String::with_capacity(CHUNK + SERIES));
        // Whoever asked may have gone.
        let _gone = self.chunks.send(Bytes::from(full));
    }
}

impl fmt::Write for Page {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.text.push_str(text);
        self.hand_over();
        Ok(())
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        self.flush();
    }
}

/// A family that is being written.
#[derive(Debug)]
pub(super) struct Family<'a> {
    page: &'a mut Page,
    sample: String,
}

impl Family<'_> {
    /// A series. Its labels are some that [`labels`] made, in parts.
    pub(super) fn add<'b>(
        &mut self,
        labels: impl IntoIterator<Item = &'b str>,
        value: impl Into<Value>,
    ) {
        let text = &mut self.page.text;
        text.push_str(&self.sample);
        let mut before = '{';
        for part in labels {
            text.push(std::mem::replace(&mut before, ','));
            text.push_str(part);
        }
        if before == ',' {
            text.push('}');
        }
        text.push(' ');
        match value.into() {
            Value::Count(count) => text.push_str(itoa::Buffer::new().format(count)),
            // Writing to a String does not fail.
            Value::Ratio(ratio) => drop(write!(text, "{ratio}")),
        }
        text.push('\n');
        self.page.hand_over();
    }
}

/// Of a series.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) enum Value {
    Count(u64),
    Ratio(f64),
}

impl From<u64> for Value {
    fn from(count: u64) -> Self {
        Self::Count(count)
    }
}

impl From<u32> for Value {
    fn from(count: u32) -> Self {
        Self::Count(count.into())
    }
}

impl From<usize> for Value {
    fn from(count: usize) -> Self {
        Self::Count(u64::try_from(count).unwrap_or(u64::MAX))
    }
}

impl From<f64> for Value {
    fn from(ratio: f64) -> Self {
        Self::Ratio(ratio)
    }
}

/// `service="default/web",port="http"`
pub(super) fn labels(pairs: &[(&str, &dyn Display)]) -> String {
    let mut text = String::with_capacity(LABELS);
    write_labels(&mut text, pairs);
    text
}

/// The same behind another text.
pub(super) fn write_labels(text: &mut String, pairs: &[(&str, &dyn Display)]) {
    let mut before = "";
    for (name, value) in pairs {
        text.push_str(before);
        text.push_str(name);
        text.push_str("=\"");
        // Writing to a String does not fail.
        let _always = write!(Escaped(text), "{value}");
        text.push('"');
        before = ",";
    }
}

/// Bytes that the labels of a series have, more or less.
const LABELS: usize = 96;

/// A label's value.
struct Escaped<'a>(&'a mut String);

impl fmt::Write for Escaped<'_> {
    fn write_str(&mut self, value: &str) -> fmt::Result {
        let Self(text) = self;
        if !value.contains(['\\', '"', '\n']) {
            text.push_str(value);
            return Ok(());
        }
        for letter in value.chars() {
            match letter {
                '\\' => text.push_str("\\\\"),
                '"' => text.push_str("\\\""),
                '\n' => text.push_str("\\n"),
                other => text.push(other),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc::unbounded_channel;

    use super::*;

    #[test]
    fn a_page_is_as_open_metrics_has_it() {
        let flows = Metric {
            name: "service_flows",
            kind: Kind::Counter,
            labels: &["service", "port"],
            help: "Flows that were opened",
        };
        let (sender, mut chunks) = unbounded_channel();
        let mut page = Page::new(sender);
        let mut family = page.family(&flows);
        let base = labels(&[("service", &"default/web")]);
        let port = labels(&[("port", &"a\"b\\\n")]);
        family.add([&*base, &port], 7_u64);
        family.add([], u64::MAX);
        family.add([], 0_u64);
        family.add([], 1020_usize);
        let programmed = Metric {
            name: "programmed",
            kind: Kind::Gauge,
            labels: &[],
            help: "Whether",
        };
        page.family(&programmed).add([], 0.5);
        drop(page);
        let text = chunks.try_recv().expect("one chunk");
        assert!(chunks.try_recv().is_err(), "a small page is one chunk");
        assert_eq!(
            String::from_utf8_lossy(&text),
            "# HELP clusterip_service_flows Flows that were opened.\n\
             # TYPE clusterip_service_flows counter\n\
             clusterip_service_flows_total{service=\"default/web\",port=\"a\\\"b\\\\\\n\"} 7\n\
             clusterip_service_flows_total 18446744073709551615\n\
             clusterip_service_flows_total 0\n\
             clusterip_service_flows_total 1020\n\
             # HELP clusterip_programmed Whether.\n\
             # TYPE clusterip_programmed gauge\n\
             clusterip_programmed 0.5\n"
        );
    }

    #[test]
    fn a_large_page_comes_in_chunks() {
        let metric = Metric {
            name: "some",
            kind: Kind::Gauge,
            labels: &["number"],
            help: "Some",
        };
        let (sender, mut chunks) = unbounded_channel();
        let mut page = Page::new(sender);
        let mut family = page.family(&metric);
        let mut expected =
            String::from("# HELP clusterip_some Some.\n# TYPE clusterip_some gauge\n");
        for number in 0..10_000_u64 {
            family.add([&*labels(&[("number", &number)])], number);
            writeln!(expected, "clusterip_some{{number=\"{number}\"}} {number}").expect("a text");
        }
        drop(page);
        let (mut text, mut count) = (Vec::new(), 0);
        while let Ok(chunk) = chunks.try_recv() {
            assert!(chunk.len() <= CHUNK + SERIES, "{} bytes", chunk.len());
            text.extend_from_slice(&chunk);
            count += 1;
        }
        assert_eq!(String::from_utf8_lossy(&text), expected);
        assert_eq!(count, expected.len().div_ceil(CHUNK), "chunks");
    }
}
