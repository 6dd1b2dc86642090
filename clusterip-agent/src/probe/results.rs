//! Results of probes as a metric, under the kubelet's name.

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family},
    registry::Registry,
};

use super::definition::{Definition, Purpose};
use crate::model::object::ObjectName;

/// How often each probe succeeded and failed.
#[derive(Clone, Debug, Default)]
pub struct Results(Family<Labels, Counter>);

#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct Labels {
    probe_type: &'static str,
    result: &'static str,
    container: String,
    pod: String,
    namespace: String,
}

impl Results {
    /// Shows them; the registry has no prefix.
    pub fn register(&self, registry: &mut Registry) {
        let help = "Results of probes";
        registry.register("prober_probe", help, self.0.clone());
    }

    pub(super) fn count(&self, pod: &ObjectName, probe: &Definition, is_success: bool) {
        let labels = labels(pod, probe, is_success);
        self.0.get_or_create(&labels).inc();
    }

    /// The pod is gone, or has other probes: its series end.
    pub(super) fn forget(&self, pod: &ObjectName, probe: &Definition) {
        for is_success in [false, true] {
            self.0.remove(&labels(pod, probe, is_success));
        }
    }
}

#[cfg(test)]
impl Results {
    /// With a figure in each series.
    pub(crate) fn sampled() -> Self {
        let results = Self::default();
        let labels = Labels {
            probe_type: "Readiness",
            result: "successful",
            container: "main".to_owned(),
            pod: "web-1".to_owned(),
            namespace: "default".to_owned(),
        };
        results.0.get_or_create(&labels).inc();
        results
    }
}

fn labels(pod: &ObjectName, probe: &Definition, is_success: bool) -> Labels {
    Labels {
        probe_type: match probe.purpose {
            Purpose::Startup => "Startup",
            Purpose::Readiness => "Readiness",
            Purpose::Liveness => "Liveness",
        },
        result: if is_success { "successful" } else { "failed" },
        container: probe.container.to_string(),
        pod: pod.name.to_string(),
        namespace: pod.namespace.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::Pod;
    use prometheus_client::encoding::text::encode;
    use serde_json::json;

    use super::*;
    use crate::{model::facts, probe::definitions};

    #[test]
    fn results_are_counted_until_the_pod_is_gone() {
        let pod = serde_json::from_value::<Pod>(json!({
            "metadata": { "name": "web-1", "namespace": "shop" },
            "spec": { "containers": [{
                "name": "main",
                "readinessProbe": { "tcpSocket": { "port": 80 } },
                "livenessProbe": { "tcpSocket": { "port": 80 } },
            }] },
            "status": { "podIP": "10.1.0.1" },
        }));
        let pod = facts::Pod::of(&pod.unwrap(), &mut facts::Names::default());
        let name = ObjectName::new("shop", "web-1");
        let results = Results::default();
        let mut registry = Registry::default();
        results.register(&mut registry);
        let shown = || {
            let mut text = String::new();
            encode(&mut text, &registry).unwrap();
            let lines = text.lines().filter(|line| !line.starts_with('#'));
            let mut lines: Vec<String> = lines.map(str::to_owned).collect();
            lines.sort();
            lines
        };
        let probes = definitions(&pod, "node-a");
        for is_success in [true, true, false] {
            results.count(&name, &probes[0], is_success);
        }
        results.count(&name, &probes[1], true);
        let of = |kind: &str, result: &str, count: u8| {
            format!(
                r#"prober_probe_total{{probe_type="{kind}",result="{result}",container="main",pod="web-1",namespace="shop"}} {count}"#
            )
        };
        let wanted = [
            of("Liveness", "successful", 1),
            of("Readiness", "failed", 1),
            of("Readiness", "successful", 2),
        ];
        assert_eq!(shown(), wanted);
        results.forget(&name, &probes[0]);
        results.forget(&name, &probes[1]);
        assert_eq!(shown(), [""; 0]);
    }
}
