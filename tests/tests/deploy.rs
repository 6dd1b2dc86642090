//! What is in `deploy/`: the YAML for `kubectl apply` is what the chart gives, its objects are such as the API has them, and they
//! fit the agent.
//!
//! Whether the chart still gives the YAML, Helm itself says where it is there (`HELM`, or `helm` on the path). Where it is not, a
//! sum over the chart's files stands in: a chart that was changed without rendering it again is a failure all the same.
//! `UPDATE_EXPECT=1` renders again.
#![expect(unused_crate_dependencies, reason = "they are the library's")]
#![expect(
    clippy::tests_outside_test_module,
    reason = "a test target is nothing but tests"
)]

use std::{
    collections::{BTreeMap, BTreeSet},
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail, ensure};
use clap::{Args as _, FromArgMatches as _};
use clusterip_agent::config::{Config, Flags, RUN, Source};
use clusterip_tests::require;
use k8s_openapi::api::{
    apps::v1::DaemonSet,
    core::v1::{ConfigMap, Container, Service, ServiceAccount},
    rbac::v1::{ClusterRole, ClusterRoleBinding, Role, RoleBinding},
};
use serde_json::{Value, json};

/// Values below `tests/deploy/`, and what the chart makes of them.
const RENDERED: [(&str, &str); 4] = [
    ("default", "deploy/kubernetes/clusterip.yaml"),
    ("monitored", "deploy/kubernetes/clusterip-monitored.yaml"),
    (
        "load-balancer",
        "deploy/kubernetes/clusterip-load-balancer.yaml",
    ),
    ("everything", "tests/deploy/everything.yaml"),
];
const CHART: &str = "deploy/chart/clusterip";

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn read(path: &str) -> Result<String> {
    fs::read_to_string(root().join(path)).with_context(|| format!("read {path}"))
}

fn values(name: &str) -> String {
    format!("tests/deploy/{name}.values.yaml")
}

/// A sum over the chart and some values: FNV-1a, as it is enough to see a change, and needs nothing.
fn sum(name: &str) -> Result<String> {
    let mut files = vec![values(name)];
    let mut folders = vec![CHART.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(root().join(&folder)).with_context(|| folder.clone())? {
            let entry = entry?;
            let path = format!("{folder}/{}", entry.file_name().display());
            if entry.file_type()?.is_dir() {
                folders.push(path);
            } else if !path.ends_with("NOTES.txt") {
                files.push(path);
            }
        }
    }
    files.sort();
    let mut sum: u64 = 0xcbf2_9ce4_8422_2325;
    for file in files {
        for byte in format!("{file}\n{}", read(&file)?).bytes() {
            sum = (sum ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
    Ok(format!("{sum:016x}"))
}

fn header(name: &str) -> Result<String> {
    let sum = sum(name)?;
    Ok(format!(
        "# What Helm makes of {CHART} with {} (sum {sum}).\n\
         # Not to be edited: UPDATE_EXPECT=1 cargo test -p clusterip-tests --test deploy\n",
        values(name)
    ))
}

/// What Helm makes of the chart; none if there is no Helm.
fn render(name: &str) -> Result<Option<String>> {
    let helm = env::var("HELM").unwrap_or_else(|_| "helm".to_owned());
    let mut words = helm.split_whitespace();
    let mut command = Command::new(words.next().unwrap_or("helm"));
    command.current_dir(root()).args(words);
    command.args(["template", "clusterip", CHART, "--namespace", "kube-system"]);
    let output = match command.args(["--values", &values(name)]).output() {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        output => output.with_context(|| format!("run {helm}"))?,
    };
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{helm}: {said}");
    Ok(Some(String::from_utf8(output.stdout)?))
}

/// A word in an object.
fn word(object: &Value, place: &str) -> String {
    let word = object.pointer(place).and_then(Value::as_str);
    word.unwrap_or_default().to_owned()
}

/// The objects of a text, by kind and name.
fn objects(text: &str) -> Result<BTreeMap<(String, String), Value>> {
    let documents: Vec<Value> = serde_saphyr::from_multiple(text)?;
    let named = documents.into_iter().map(|document| {
        let key = (word(&document, "/kind"), word(&document, "/metadata/name"));
        (key, document)
    });
    Ok(named.collect())
}

#[test]
fn the_yaml_is_what_helm_makes_of_the_chart() -> Result<()> {
    let is_update = env::var_os("UPDATE_EXPECT").is_some();
    for (name, file) in RENDERED {
        let header = header(name)?;
        let Some(rendered) = render(name)? else {
            ensure!(
                !is_update,
                "without Helm nothing is rendered (HELM=\"python3 tests/helm.py\")"
            );
            require::loudly(&format!(
                "NOTE {file}: no helm here, so only the sum over the chart was compared"
            ));
            ensure!(
                read(file)?.starts_with(&header),
                "{CHART} has changed since {file} was made: UPDATE_EXPECT=1 with Helm renders it again"
            );
            continue;
        };
        if is_update {
            fs::write(root().join(file), format!("{header}{rendered}"))?;
        }
        let written = read(file)?;
        ensure!(
            written.starts_with(&header),
            "{file} is of another chart: UPDATE_EXPECT=1"
        );
        let (written, rendered) = (objects(&written)?, objects(&rendered)?);
        assert_eq!(written, rendered, "{file}");
    }
    Ok(())
}

/// An object after it has been read as what it is: a field that its kind does not have is lost.
fn as_typed(object: &Value) -> Result<Value> {
    fn typed<T: serde::de::DeserializeOwned + serde::Serialize>(object: &Value) -> Result<Value> {
        Ok(serde_json::to_value(serde_json::from_value::<T>(
            object.clone(),
        )?)?)
    }
    match word(object, "/kind").as_str() {
        "ServiceAccount" => typed::<ServiceAccount>(object),
        "ConfigMap" => typed::<ConfigMap>(object),
        "ClusterRole" => typed::<ClusterRole>(object),
        "ClusterRoleBinding" => typed::<ClusterRoleBinding>(object),
        "Role" => typed::<Role>(object),
        "RoleBinding" => typed::<RoleBinding>(object),
        "Service" => typed::<Service>(object),
        "DaemonSet" => typed::<DaemonSet>(object),
        // The Prometheus operator's.
        "PodMonitor" => Ok(object.clone()),
        kind => bail!("{kind}?"),
    }
}

#[test]
fn every_object_has_only_fields_that_its_kind_has() -> Result<()> {
    for (_, file) in RENDERED {
        for ((kind, name), object) in objects(&read(file)?)? {
            let typed = as_typed(&object).with_context(|| format!("{file}: {kind} {name}"))?;
            assert_eq!(typed, object, "{file}: {kind} {name}");
        }
    }
    Ok(())
}

/// What one YAML comes to.
struct Deployment {
    file: &'static str,
    objects: BTreeMap<(String, String), Value>,
    daemon_set: DaemonSet,
    config: String,
}

impl Deployment {
    fn all() -> Result<Vec<Self>> {
        RENDERED
            .iter()
            .map(|(_, file)| {
                let objects = objects(&read(file)?)?;
                let object = |kind: &str| {
                    let object = objects.get(&(kind.to_owned(), "clusterip".to_owned()));
                    object
                        .with_context(|| format!("{file}: {kind} clusterip"))
                        .cloned()
                };
                let config = word(&object("ConfigMap")?, "/data/config.yaml");
                Ok(Self {
                    file,
                    daemon_set: serde_json::from_value(object("DaemonSet")?)?,
                    config,
                    objects,
                })
            })
            .collect()
    }

    fn container(&self) -> Result<&Container> {
        let pod = self
            .daemon_set
            .spec
            .as_ref()
            .and_then(|it| it.template.spec.as_ref());
        let containers = pod.map_or(&[][..], |it| &it.containers);
        let [container] = containers else {
            bail!("{}: {} containers", self.file, containers.len());
        };
        Ok(container)
    }

    /// The configuration as the agent reads it: its command line, its environment and the file.
    fn config(&self) -> Result<Config> {
        let file = tempfile::NamedTempFile::new()?;
        fs::write(file.path(), &self.config)?;
        let container = self.container()?;
        let mounted = "/etc/clusterip/config.yaml";
        let path = file.path().display().to_string();
        let words = container.args.iter().flatten();
        let words: Vec<String> = words.map(|word| word.replace(mounted, &path)).collect();
        let run = Flags::<RUN>::augment_args(clap::Command::new("run"));
        let flags = Flags::<RUN>::from_arg_matches(&run.try_get_matches_from(words)?)?;
        let environment = container.env.iter().flatten();
        // As the kubelet fills them in.
        let environment: BTreeMap<&str, String> = environment
            .map(|it| {
                let given = it.value.clone().unwrap_or_else(|| "node-a".to_owned());
                (it.name.as_str(), given.replace("$(HOST_IP)", "192.0.2.1"))
            })
            .collect();
        let config = Config::load(&flags, |variable| environment.get(variable).cloned());
        config.with_context(|| format!("{}\n{}", self.file, self.config))
    }
}

#[test]
fn the_agent_reads_its_configuration_and_the_pod_has_what_is_in_it() -> Result<()> {
    for deployment in Deployment::all()? {
        let file = deployment.file;
        let config = deployment.config()?;
        assert_eq!(config.source(), Source::InCluster, "{file}");
        assert_eq!(config.node_name, "node-a", "{file}");
        let container = deployment.container()?;
        let ports: BTreeMap<_, _> = container
            .ports
            .iter()
            .flatten()
            .map(|it| (it.name.clone(), it.container_port))
            .collect();
        let healthz = config.healthz_bind_address.context("healthz")?.port();
        assert_eq!(
            ports.get(&Some("healthz".to_owned())),
            Some(&healthz.into()),
            "{file}"
        );
        let metrics = config.metrics_bind_address.context("metrics")?;
        let exposed = ports.get(&Some("metrics".to_owned())).copied();
        let wanted = (!metrics.ip().is_loopback()).then_some(i32::from(metrics.port()));
        assert_eq!(
            exposed, wanted,
            "{file}: what is exposed answers, and nothing else"
        );
        for probe in [
            &container.startup_probe,
            &container.liveness_probe,
            &container.readiness_probe,
        ] {
            let get = probe
                .as_ref()
                .and_then(|it| it.http_get.as_ref())
                .context("a probe")?;
            assert_eq!(json!(get.port), json!("healthz"), "{file}");
        }
        // What the agent writes is on a volume; all the rest of its file system is read-only.
        let mounts: BTreeSet<PathBuf> = container
            .volume_mounts
            .iter()
            .flatten()
            .map(|it| it.mount_path.clone().into())
            .collect();
        let is_mounted = |path: &Path| path.ancestors().any(|it| mounts.contains(it));
        let socket = config.socket.context("a socket")?;
        let cgroup = config
            .cgroup
            .context("a cgroup: the root of all does not look like it in a container")?;
        if file.starts_with("tests/") {
            let all = ["https://192.0.2.1:6443", "https://[2001:db8::1]:6443"];
            assert_eq!(config.kube_api_servers, all);
            assert_eq!(
                config.dns_listen,
                ["192.0.2.1:53".parse::<std::net::SocketAddr>()?]
            );
        }
        for path in [&config.bpffs, &config.state_dir, &socket, &cgroup] {
            assert!(
                is_mounted(path),
                "{file}: {} is on no volume",
                path.display()
            );
        }
    }
    Ok(())
}

#[test]
fn the_pod_may_do_what_the_agent_does_and_no_more() -> Result<()> {
    for deployment in Deployment::all()? {
        let (file, container) = (deployment.file, deployment.container()?);
        let context = container.security_context.as_ref().context(file)?;
        let capabilities = context.capabilities.as_ref().context(file)?;
        assert_eq!(capabilities.drop, Some(vec!["ALL".to_owned()]), "{file}");
        let added: Vec<&str> = capabilities
            .add
            .iter()
            .flatten()
            .map(String::as_str)
            .collect();
        let config = deployment.config()?;
        let provides = config.load_balancer_class.is_some();
        assert_eq!(provides, !config.load_balancer_pool.is_empty(), "{file}");
        let mut own = vec!["BPF", "PERFMON", "NET_ADMIN"];
        if !config.dns_listen.is_empty() {
            own.push("NET_BIND_SERVICE");
        }
        if provides {
            own.push("NET_RAW");
        }
        if file.starts_with("tests/") {
            own.push("SYS_ADMIN");
        }
        assert_eq!(added, own, "{file}");
        assert_eq!(context.privileged, None, "{file}");
        assert_eq!(context.read_only_root_filesystem, Some(true), "{file}");
        assert_eq!(context.allow_privilege_escalation, Some(false), "{file}");
        let pod = deployment
            .daemon_set
            .spec
            .as_ref()
            .and_then(|it| it.template.spec.as_ref())
            .context(file)?;
        assert_eq!(pod.host_network, Some(true), "{file}");
        assert_eq!(
            pod.priority_class_name.as_deref(),
            Some("system-node-critical"),
            "{file}"
        );
        assert!(pod.host_pid.is_none() && pod.host_ipc.is_none(), "{file}");
        let tolerations = json!(pod.tolerations);
        assert_eq!(tolerations, json!([{"operator": "Exists"}]), "{file}");

        let role = &deployment.objects[&("ClusterRole".to_owned(), "clusterip".to_owned())];
        let mut wanted = vec![
            json!({"apiGroups": [""], "resources": ["services"], "verbs": ["get", "list", "watch"]}),
            json!({"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": ["get", "list", "watch"]}),
            json!({"apiGroups": [""], "resources": ["nodes"], "verbs": ["list", "watch"]}),
            json!({"apiGroups": [""], "resources": ["events"], "verbs": ["create"]}),
        ];
        let record = deployment
            .objects
            .get(&("Role".to_owned(), "clusterip".to_owned()));
        if provides {
            wanted.push(
                json!({"apiGroups": [""], "resources": ["services/status"], "verbs": ["patch"]}),
            );
            let wanted = json!([
                {"apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "verbs": ["create"]},
                {"apiGroups": ["coordination.k8s.io"], "resources": ["leases"],
                 "resourceNames": ["clusterip-load-balancers"], "verbs": ["get", "update"]},
            ]);
            assert_eq!(record.context(file)?["rules"], wanted, "{file}");
        } else {
            assert_eq!(record, None, "{file}");
        }
        assert_eq!(role["rules"], json!(wanted), "{file}");
    }
    Ok(())
}

#[test]
fn what_selects_pods_selects_the_agents() -> Result<()> {
    for deployment in Deployment::all()? {
        let spec = deployment
            .daemon_set
            .spec
            .as_ref()
            .context("a specification")?;
        let labels = spec
            .template
            .metadata
            .as_ref()
            .and_then(|it| it.labels.clone());
        let labels = labels.unwrap_or_default();
        let mut selectors = vec![json!(spec.selector.match_labels)];
        for ((kind, _), object) in &deployment.objects {
            match kind.as_str() {
                "Service" => selectors.push(object["spec"]["selector"].clone()),
                "PodMonitor" => selectors.push(object["spec"]["selector"]["matchLabels"].clone()),
                _ => {}
            }
        }
        for selector in selectors {
            let selector: BTreeMap<String, String> = serde_json::from_value(selector)?;
            assert!(!selector.is_empty());
            for (key, value) in selector {
                assert_eq!(labels.get(&key), Some(&value), "{}: {key}", deployment.file);
            }
        }
    }
    Ok(())
}

/// systemd itself reads the unit, where it is there: a setting that it does not know is ignored, and only said.
#[test]
fn systemd_knows_every_setting_of_the_unit() -> Result<()> {
    let unit = read("deploy/systemd/clusterip.service")?;
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("clusterip.service");
    // A program that is there.
    fs::write(&file, unit.replace("/usr/local/bin/clusterip", "/bin/true"))?;
    let output = Command::new("systemd-analyze")
        .args(["verify", "--man=no"])
        .arg(&file)
        .output();
    let output = match output {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            require::loudly("NOTE deploy/systemd/clusterip.service: no systemd-analyze here");
            return Ok(());
        }
        output => output.context("run systemd-analyze")?,
    };
    let said = String::from_utf8_lossy(&output.stderr);
    let own: Vec<&str> = said
        .lines()
        .filter(|it| it.contains("clusterip.service"))
        .collect();
    assert!(output.status.success() && own.is_empty(), "{said}");
    Ok(())
}
