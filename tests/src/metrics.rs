//! The agent's counters, as its metrics endpoint tells them.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    str::Chars,
};

use anyhow::{Context as _, Result, ensure};

use crate::{Namespace, client::Connection};

/// Where the agent answers, inside its node.
const ADDRESS: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 10249);

/// One line of the text format.
#[derive(Clone, PartialEq, Debug)]
pub struct Sample {
    /// Name of the metric.
    pub name: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its value.
    pub value: f64,
}

/// A service port and the address that clients call.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Frontend {
    /// Whose port it is.
    pub port: ServicePort,
    /// VIP and service port.
    pub address: SocketAddr,
}

/// One port of one service.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct ServicePort {
    /// `namespace/name`
    pub service: String,
    /// Name of the port; mostly empty.
    pub name: String,
    /// `TCP` or `UDP`
    pub protocol: String,
}

impl ServicePort {
    /// A port of a service in the namespace `default`.
    #[must_use]
    pub fn new(service: &str, name: &str, protocol: &str) -> Self {
        Self {
            service: format!("default/{service}"),
            name: name.to_owned(),
            protocol: protocol.to_owned(),
        }
    }

    fn of(sample: &Sample) -> Option<Self> {
        Some(Self {
            service: sample.labels.get("service")?.clone(),
            name: sample.labels.get("port")?.clone(),
            protocol: sample.labels.get("protocol")?.to_ascii_uppercase(),
        })
    }
}

/// All samples of one moment.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Metrics {
    samples: Vec<Sample>,
}

impl Metrics {
    /// Asks the agent in a node.
    ///
    /// # Errors
    /// It does not answer, or not with metrics.
    pub fn fetch(node: &Namespace) -> Result<Self> {
        let response = node.run(|| Connection::open(ADDRESS)?.http("/metrics"));
        let response = response.with_context(|| format!("ask the agent's metrics at {ADDRESS}"))?;
        let status = response.status;
        ensure!(
            status == 200,
            "the agent's metrics at {ADDRESS} answered with status {status}"
        );
        Self::parse(&response.body)
    }

    /// Reads the text format.
    ///
    /// # Errors
    /// A line that is not of it.
    pub fn parse(text: &str) -> Result<Self> {
        let lines = text
            .lines()
            .filter(|line| !line.is_empty() && !line.starts_with('#'));
        let samples =
            lines.map(|line| sample(line).with_context(|| format!("metric line {line:?}")));
        Ok(Self {
            samples: samples.collect::<Result<_>>()?,
        })
    }

    /// All samples.
    #[must_use]
    pub fn samples(&self) -> &[Sample] {
        &self.samples
    }

    /// The samples of one metric.
    pub fn named<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Sample> {
        self.samples
            .iter()
            .filter(move |sample| sample.name == name)
    }

    /// How often something ended in an outcome.
    #[must_use]
    pub fn outcome(&self, name: &str) -> u64 {
        let samples = self.named("clusterip_outcome_packets_total");
        samples
            .filter(|sample| {
                sample
                    .labels
                    .get("outcome")
                    .is_some_and(|found| found == name)
            })
            .map(count)
            .sum()
    }

    /// How many packets went on by a way, where there is a choice.
    #[must_use]
    pub fn forwarded(&self, way: &str) -> u64 {
        let samples = self.named("clusterip_forwarded_packets_total");
        samples
            .filter(|sample| sample.labels.get("way").is_some_and(|found| found == way))
            .map(count)
            .sum()
    }

    /// Every service port and its addresses, in order.
    #[must_use]
    pub fn frontends(&self) -> Vec<Frontend> {
        let frontend = |sample: &Sample| {
            let ip: IpAddr = sample.labels.get("address")?.parse().ok()?;
            let number = sample.labels.get("service_port")?.parse().ok()?;
            Some(Frontend {
                port: ServicePort::of(sample)?,
                address: SocketAddr::new(ip, number),
            })
        };
        let mut all: Vec<_> = self
            .named("clusterip_frontend_info")
            .filter_map(frontend)
            .collect();
        all.sort();
        all
    }

    /// New flows that a service port has had; families together.
    #[must_use]
    pub fn service_flows(&self, port: &ServicePort) -> u64 {
        let samples = self.named("clusterip_service_flows_total");
        samples
            .filter(|sample| ServicePort::of(sample).as_ref() == Some(port))
            .map(count)
            .sum()
    }

    /// New flows that each backend of a service port has had, backends without any included.
    #[must_use]
    pub fn backend_flows(&self, port: &ServicePort) -> BTreeMap<SocketAddr, u64> {
        let samples = self.named("clusterip_backend_flows_total");
        let mine = samples.filter(|sample| ServicePort::of(sample).as_ref() == Some(port));
        let mut flows = BTreeMap::new();
        for sample in mine {
            if let Some(Ok(address)) = sample.labels.get("backend").map(|text| text.parse()) {
                *flows.entry(address).or_default() += count(sample);
            }
        }
        flows
    }
}

/// A family of series, as `docs/metrics.md` has it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Documented {
    /// counter, gauge or histogram.
    pub kind: String,
    /// Names of its labels.
    pub labels: BTreeSet<String>,
}

/// The families of `docs/metrics.md`, by the name of their samples; that of a histogram has no suffix.
#[must_use]
pub fn documented() -> BTreeMap<String, Documented> {
    let text = include_str!("../../docs/metrics.md");
    let rows = text.lines().filter_map(|line| {
        let mut cells = line.strip_prefix("| `")?.split(" | ");
        let name = cells.next()?.trim_end_matches('`').to_owned();
        let kind = cells.next()?.to_owned();
        let labels = cells.next()?.split_whitespace();
        let labels = labels.map(|label| label.trim_matches('`').to_owned());
        Some((
            name,
            Documented {
                kind,
                labels: labels.collect(),
            },
        ))
    });
    rows.collect()
}

/// The samples that are not 0, a line each.
impl fmt::Display for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for Sample {
            name,
            labels,
            value,
        } in &self.samples
        {
            if *value != 0.0 {
                writeln!(f, "{name} {labels:?} {value}")?;
            }
        }
        Ok(())
    }
}

/// A counter's value: whole and not negative.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "counters are whole, not negative and below 2^53; anything else becomes a wrong number that a test shows"
)]
const fn count(sample: &Sample) -> u64 {
    sample.value as u64
}

fn sample(line: &str) -> Option<Sample> {
    let name_end = line.find(['{', ' '])?;
    let (name, rest) = line.split_at(name_end);
    let mut labels = BTreeMap::new();
    let mut rest = rest.chars();
    if let Some(inside) = rest.as_str().strip_prefix('{') {
        rest = inside.chars();
        while let Some((label, value)) = label(&mut rest) {
            labels.insert(label, value);
        }
    }
    // A time stamp may follow.
    let value = rest.as_str().split_whitespace().next()?.parse().ok()?;
    Some(Sample {
        name: name.to_owned(),
        labels,
        value,
    })
}

/// `name="value",` or the closing brace, which ends the labels.
fn label(rest: &mut Chars<'_>) -> Option<(String, String)> {
    let mut name = String::new();
    loop {
        match rest.next()? {
            '}' => return None,
            '=' => break,
            ',' | ' ' => {}
            letter => name.push(letter),
        }
    }
    rest.next().filter(|quote| *quote == '"')?;
    let mut value = String::new();
    loop {
        match rest.next()? {
            '"' => return Some((name, value)),
            '\\' => match rest.next()? {
                'n' => value.push('\n'),
                other => value.push(other),
            },
            letter => value.push(letter),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = r#"# HELP clusterip_service_flows New flows.
# TYPE clusterip_service_flows counter
clusterip_service_flows_total{service="default/web",port="",protocol="TCP"} 7
clusterip_service_flows_total{service="default/web",port="dns",protocol="UDP"} 2
clusterip_backend_flows_total{service="default/web",port="",protocol="TCP",backend="10.244.0.11:8080"} 7
clusterip_backend_flows_total{service="default/web",port="",protocol="TCP",backend="[fd00::11]:8080"} 0
clusterip_frontend_info{service="default/web",port="",protocol="TCP",address="10.96.0.10",service_port="80"} 1
clusterip_odd{text="a \"b\" {c}, d\\e\n"} 1.5 1700000000
up 1
# EOF
"#;

    #[test]
    fn the_text_format_is_read() {
        let metrics = Metrics::parse(TEXT).unwrap();
        let web = ServicePort::new("web", "", "TCP");
        assert_eq!(metrics.service_flows(&web), 7);
        assert_eq!(
            metrics.service_flows(&ServicePort::new("web", "dns", "UDP")),
            2
        );
        let backends: Vec<_> = metrics.backend_flows(&web).into_values().collect();
        assert_eq!(backends, [7, 0]);
        let frontend = Frontend {
            port: web,
            address: "10.96.0.10:80".parse().unwrap(),
        };
        assert_eq!(metrics.frontends(), [frontend]);
        let odd = metrics.named("clusterip_odd").next().unwrap();
        assert_eq!(odd.labels["text"], "a \"b\" {c}, d\\e\n");
        assert_eq!(metrics.named("up").count(), 1);
    }

    #[test]
    fn a_line_of_another_format_is_refused() {
        let error = Metrics::parse("<html>").unwrap_err();
        assert!(format!("{error:#}").contains("<html>"));
    }
}
