//! Pods that terminate, as the next agent finds them: their files are gone, so nobody else tells of them.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use k8s_openapi::{
    api::core::v1::{Container, ContainerPort, Pod, PodCondition, PodIP, PodSpec, PodStatus},
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time},
    jiff::{SignedDuration, Timestamp},
};
use serde::{Deserialize, Serialize};

use crate::{
    clock::Now,
    durable,
    model::{
        endpoints::WEIGHT_ANNOTATION,
        facts::{self, Phase, Written},
        object::{Kind, Object, ObjectKey, ObjectName, Spec},
    },
};

const FILE: &str = "terminating.json";
const VERSION: u32 = 1;

/// A pod that terminates.
#[derive(Clone, PartialEq, Debug)]
pub struct Leaver {
    /// As it is shown.
    pub object: Object,
    /// When it is gone.
    pub until: Timestamp,
}

impl Leaver {
    /// One that is gone when so much time has passed since the agent started.
    pub(super) fn new(object: &Object, ends: Duration, now: Now) -> Self {
        let left = ends.saturating_sub(now.elapsed);
        let until = SignedDuration::try_from(left)
            .ok()
            .and_then(|left| now.wall.checked_add(left).ok());
        Self {
            object: object.clone(),
            until: until.unwrap_or(now.wall),
        }
    }

    /// When it is gone, by the clock of this agent; none if it is. Never later than its whole time from now on: the clock on the
    /// wall may have been set back.
    pub(super) fn ends(&self, grace: Duration, now: Now) -> Option<Duration> {
        let left = self.until.duration_since(now.wall);
        let left = Duration::try_from(left).ok()?.min(grace);
        (!left.is_zero()).then(|| now.elapsed + left)
    }
}

/// Those there are, by name.
pub type Leavers = BTreeMap<ObjectName, Leaver>;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    version: u32,
    pods: Vec<Entry>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    until: Time,
    pod: Pod,
}

/// Where they are kept; without a directory nowhere.
#[derive(Debug, Default)]
pub struct Leaving {
    path: Option<PathBuf>,
    /// What is in the file.
    kept: Leavers,
    /// The last attempt to write it failed: said once.
    failed: bool,
}

impl Leaving {
    /// In the state directory.
    #[must_use]
    pub fn new(directory: &Path) -> Self {
        Self {
            path: Some(directory.join(FILE)),
            ..Self::default()
        }
    }

    /// The pods that an earlier agent left. A file that says something else is of no use to anybody: it is told, and written anew.
    #[must_use]
    pub fn load(&mut self) -> Leavers {
        let Some(path) = &self.path else {
            return Leavers::new();
        };
        let text = match fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Leavers::new(),
            Err(error) => {
                log::error!(file:% = path.display(), error:err; "pods that terminate are not known: they are gone");
                return Leavers::new();
            }
        };
        match parse(&text) {
            Ok(pods) => self.kept = pods,
            Err(reason) => log::error!(
                file:% = path.display(), reason:%;
                "pods that terminate are not known, the file is damaged: they are gone"
            ),
        }
        self.kept.clone()
    }

    /// Keeps these pods and no others.
    pub fn follow(&mut self, now: &Leavers) {
        let Some(path) = self.path.as_ref().filter(|_| *now != self.kept) else {
            return;
        };
        let written = text(now).map_err(io::Error::from).and_then(|text| {
            fs::create_dir_all(path.parent().unwrap_or(Path::new("/")))?;
            durable::replace_soon(path, &text)
        });
        match written {
            Ok(()) => {
                self.kept.clone_from(now);
                self.failed = false;
            }
            Err(error) => {
                if !std::mem::replace(&mut self.failed, true) {
                    log::error!(
                        file:% = path.display(), error:err;
                        "pods that terminate are not kept: after a restart they are gone at once"
                    );
                }
            }
        }
    }
}

fn parse(text: &str) -> Result<Leavers, String> {
    let document: Document = serde_json::from_str(text).map_err(|error| error.to_string())?;
    let Document { version, pods } = document;
    if version != VERSION {
        return Err(format!("version {version} is not {VERSION}"));
    }
    let leaver = |Entry { until, pod }: Entry| {
        let metadata = &pod.metadata;
        let (namespace, name) = metadata
            .namespace
            .as_deref()
            .zip(metadata.name.as_deref())?;
        Some(Leaver {
            object: Object {
                key: ObjectKey {
                    kind: Kind::Pod,
                    name: ObjectName::new(namespace, name),
                },
                spec: Spec::from(pod),
                origin: std::sync::Arc::default(),
            },
            until: until.0,
        })
    };
    let pods = pods.into_iter().map(leaver);
    let named = pods.map(|it| it.map(|it| (it.object.key.name.clone(), it)));
    named
        .collect::<Option<_>>()
        .ok_or_else(|| "a pod without a name".to_owned())
}

fn text(leavers: &Leavers) -> serde_json::Result<Vec<u8>> {
    let entry = |leaver: &Leaver| {
        let Spec::Pod(known) = &leaver.object.spec else {
            return None;
        };
        Some(Entry {
            until: Time(leaver.until),
            pod: pod(&leaver.object.key.name, known),
        })
    };
    let document = Document {
        version: VERSION,
        pods: leavers.values().filter_map(entry).collect(),
    };
    let mut text = serde_json::to_vec_pretty(&document)?;
    text.push(b'\n');
    Ok(text)
}

/// A pod that says what is known of it; its probes are not asked any more.
fn pod(name: &ObjectName, known: &facts::Pod) -> Pod {
    let facts::Pod {
        uid,
        deleted,
        labels,
        weight,
        netns: _,
        node,
        on_host,
        hostname,
        subdomain,
        grace_seconds,
        containers,
        phase,
        addresses,
        is_listed,
        ready,
        passes_gates,
    } = known;
    // Its gates are not told any more: what they make of it is.
    let ready = match ready {
        None if *passes_gates => None,
        _ => Some(known.is_serving()),
    };
    let text = |text: &Option<std::sync::Arc<str>>| text.as_deref().map(str::to_owned);
    let weight = text(weight).map(|weight| (WEIGHT_ANNOTATION.to_owned(), weight));
    let pairs = labels.iter();
    let mut addresses = addresses.iter().filter_map(Written::address);
    let single = (!is_listed).then(|| addresses.next()).flatten();
    let listed: Vec<PodIP> = addresses.map(|ip| PodIP { ip: ip.to_string() }).collect();
    Pod {
        metadata: ObjectMeta {
            namespace: Some(name.namespace.to_string()),
            name: Some(name.name.to_string()),
            uid: text(uid),
            deletion_timestamp: deleted.map(Time),
            labels: Some(
                pairs
                    .map(|(key, value)| (key.to_string(), value.to_string()))
                    .collect(),
            ),
            annotations: weight.map(|pair| [pair].into()),
            ..ObjectMeta::default()
        },
        spec: Some(PodSpec {
            node_name: Some(node.to_string()).filter(|node| !node.is_empty()),
            host_network: on_host.then_some(true),
            hostname: text(hostname),
            subdomain: text(subdomain),
            termination_grace_period_seconds: *grace_seconds,
            containers: containers.iter().map(container).collect(),
            ..PodSpec::default()
        }),
        status: Some(PodStatus {
            phase: (*phase == Phase::Running).then(|| "Running".to_owned()),
            pod_ip: single.map(|ip| ip.to_string()),
            pod_ips: Some(listed),
            conditions: ready.map(|ready| {
                vec![PodCondition {
                    type_: "Ready".to_owned(),
                    status: if ready { "True" } else { "False" }.to_owned(),
                    ..PodCondition::default()
                }]
            }),
            ..PodStatus::default()
        }),
    }
}

fn container(known: &facts::Container) -> Container {
    let port = |port: &facts::ContainerPort| {
        Some(ContainerPort {
            name: Some(port.name.to_string()).filter(|name| !name.is_empty()),
            protocol: Some(port.protocol?.name().to_owned()),
            container_port: port.number?.into(),
            ..ContainerPort::default()
        })
    };
    Container {
        name: known.name.to_string(),
        ports: Some(known.ports.iter().filter_map(port).collect()),
        ..Container::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::objects_for_tests::pod;

    fn leavers(names: &[&str]) -> Leavers {
        let leaver = |name: &&str| Leaver {
            object: pod(name, "web", "10.1.0.1"),
            until: Timestamp::from_second(1_800_000_000).unwrap(),
        };
        let all = names.iter().map(leaver);
        all.map(|it| (it.object.key.name.clone(), it)).collect()
    }

    #[test]
    fn what_is_known_of_a_pod_is_kept() {
        let directory = tempfile::tempdir().unwrap();
        let mut leaving = Leaving::new(directory.path());
        assert_eq!(leaving.load(), Leavers::new());
        for names in [&["a", "b"][..], &[]] {
            let all = leavers(names);
            leaving.follow(&all);
            assert_eq!(Leaving::new(directory.path()).load(), all);
        }
    }

    #[test]
    fn a_damaged_file_is_written_anew() {
        let directory = tempfile::tempdir().unwrap();
        for text in [
            "",
            "{",
            r#"{"version":2,"pods":[]}"#,
            r#"{"version":1,"pods":[{}]}"#,
        ] {
            fs::write(directory.path().join(FILE), text).unwrap();
            let mut leaving = Leaving::new(directory.path());
            assert_eq!(leaving.load(), Leavers::new(), "{text}");
            leaving.follow(&leavers(&["a"]));
            assert_eq!(Leaving::new(directory.path()).load(), leavers(&["a"]));
        }
    }
}
