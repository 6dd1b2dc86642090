//! Series as text.
//!
//! A node has a hundred thousand series or more, and a scrape must not take the processors from the packets: what is told
//! of services and backends is written straight, with the labels of a service made once for all of its series.

use std::fmt::Write as _;

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

/// A part of an exposition.
#[derive(Debug, Default)]
pub(super) struct Page(String);

impl Page {
    /// One that has room for so many bytes: some ten megabytes are not copied each time that they grow.
    pub(super) fn with_room(bytes: usize) -> Self {
        Self(String::with_capacity(bytes))
    }

    /// Begins a family; all of its series follow before the next one begins.
    pub(super) fn family(&mut self, metric: &Metric) -> Family<'_> {
        let Metric {
            name,
            kind,
            labels: _,
            help,
        } = metric;
        let text = &mut self.0;
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
            text.push_str(part);
        }
        let suffix = match kind {
            Kind::Counter => "_total",
            Kind::Gauge => "",
        };
        Family {
            sample: format!("{PREFIX}{name}{suffix}"),
            text,
        }
    }

    pub(super) fn into_text(self) -> String {
        self.0
    }
}

/// A family that is being written.
#[derive(Debug)]
pub(super) struct Family<'a> {
    text: &'a mut String,
    sample: String,
}

impl Family<'_> {
    /// A series. Its labels are some that [`labels`] made, in parts.
    pub(super) fn add<'b>(
        &mut self,
        labels: impl IntoIterator<Item = &'b str>,
        value: impl Into<Value>,
    ) {
        let text = &mut *self.text;
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
pub(super) fn labels(pairs: &[(&str, &str)]) -> String {
    let mut text = String::new();
    for (name, value) in pairs {
        if !text.is_empty() {
            text.push(',');
        }
        text.push_str(name);
        text.push_str("=\"");
        if !value.contains(['\\', '"', '\n']) {
            text.push_str(value);
            text.push('"');
            continue;
        }
        for letter in value.chars() {
            match letter {
                '\\' => text.push_str("\\\\"),
                '"' => text.push_str("\\\""),
                '\n' => text.push_str("\\n"),
                other => text.push(other),
            }
        }
        text.push('"');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_as_open_metrics_has_it() {
        let flows = Metric {
            name: "service_flows",
            kind: Kind::Counter,
            labels: &["service", "port"],
            help: "Flows that were opened",
        };
        let mut page = Page::default();
        let mut family = page.family(&flows);
        let base = labels(&[("service", "default/web")]);
        let port = labels(&[("port", "a\"b\\\n")]);
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
        assert_eq!(
            page.into_text(),
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
}
