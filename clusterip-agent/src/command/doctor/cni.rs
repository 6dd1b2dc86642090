//! Which network plugin gives the pods their devices, and what these are called.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{Finding, machine::Machine};
use crate::interfaces::Globs;

/// Where a kubelet's container runtime looks for the configuration: usually, and in k3s.
const FOLDERS: [&str; 2] = ["/etc/cni/net.d", "/var/lib/rancher/k3s/agent/etc/cni/net.d"];

/// How a plugin joins pods to the node.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Devices {
    /// By a device on the node's side of such a name.
    Named(&'static str),
    /// Without one: packets do not pass through the node's network namespace as a pod's.
    None,
    /// It is a service proxy by itself.
    Proxy(&'static str),
}

/// Plugins by the `type` of their configuration. Those that only add to what another one has made (portmap, bandwidth, tuning,
/// firewall and so on) are not here. docs/kubernetes.md has the same table.
const PLUGINS: [(&str, Devices); 16] = [
    ("bridge", Devices::Named("veth*")),
    ("ptp", Devices::Named("veth*")),
    ("flannel", Devices::Named("veth*")),
    ("cni-kindnet", Devices::Named("knet*")),
    ("calico", Devices::Named("cali*")),
    ("canal", Devices::Named("cali*")),
    ("weave-net", Devices::Named("veth*")),
    ("aws-cni", Devices::Named("eni*")),
    ("azure-vnet", Devices::Named("azv*")),
    ("cilium-cni", Devices::Proxy("lxc*")),
    ("ovn-k8s-cni-overlay", Devices::Proxy("*_*")),
    ("host-device", Devices::None),
    ("macvlan", Devices::None),
    ("ipvlan", Devices::None),
    ("sriov", Devices::None),
    ("vlan", Devices::None),
];

/// The plugin of this machine, beside the globs of `--pod-interfaces`.
pub(super) fn finding(machine: &Machine, globs: &[String]) -> Finding {
    let check = "network plugin";
    let Some((file, types)) = configuration(machine) else {
        return Finding::good(
            check,
            format!(
                "no configuration in {}: not a Kubernetes node, or not ready",
                FOLDERS[0]
            ),
        );
    };
    let table: BTreeMap<&str, Devices> = PLUGINS.into_iter().collect();
    let known = types
        .iter()
        .find_map(|it| Some((it, *table.get(it.as_str())?)));
    let Some((plugin, devices)) = known else {
        return Finding::good(
            check,
            format!(
                "{} ({file}): how it names pods' devices is not known here; see `ip link` and --pod-interfaces",
                types.join(", ")
            ),
        );
    };
    match devices {
        Devices::Named(glob) if fits(globs, glob) => {
            Finding::good(check, format!("{plugin} ({file}): its devices are {glob}"))
        }
        Devices::Named(glob) => Finding::bad(
            check,
            format!(
                "{plugin} ({file}) names pods' devices {glob}, and --pod-interfaces is {}",
                globs.join(",")
            ),
            format!("--pod-interfaces '{glob}'"),
        ),
        Devices::Proxy(glob) => Finding::bad(
            check,
            format!("{plugin} ({file}) serves services by itself, unless that was turned off"),
            format!(
                "one service proxy to a node: turn its own off (docs/kubernetes.md says how) and take --pod-interfaces '{glob}'"
            ),
        ),
        Devices::None => Finding::bad(
            check,
            format!("{plugin} ({file}) gives pods devices that have no side on the node"),
            "pods reach services by their sockets only: --socket-lb all (docs/socket-lb.md)",
        ),
    }
}

/// Whether every device of a plugin's is one of the pods': its glob is among them, or its names are covered by one.
fn fits(globs: &[String], glob: &str) -> bool {
    let sample = glob.replace('*', "0a1b2c3d");
    Globs::new(globs).fit(&sample)
}

/// The first file by name, as runtimes choose it, and the plugins in it.
fn configuration(machine: &Machine) -> Option<(String, Vec<String>)> {
    let files = FOLDERS.iter().flat_map(|folder| {
        let names = machine.list(folder).into_iter();
        names.map(move |name| format!("{folder}/{name}"))
    });
    let mut files = files.filter(|file| {
        let endings = [".conflist", ".conf", ".json"];
        endings.iter().any(|ending| file.ends_with(ending))
    });
    files.find_map(|file| {
        let parsed: Value = serde_json::from_str(&machine.read(&file)?).ok()?;
        let of = |plugin: &Value| Some(plugin.get("type")?.as_str()?.to_owned());
        let types: Vec<String> = match parsed.get("plugins").and_then(Value::as_array) {
            Some(plugins) => plugins.iter().filter_map(of).collect(),
            None => of(&parsed).into_iter().collect(),
        };
        (!types.is_empty()).then_some((file, types))
    })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// A machine with these files of configuration.
    fn node(files: &[(&str, &str)]) -> (tempfile::TempDir, Machine) {
        let root = tempfile::tempdir().expect("a folder");
        for (path, text) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
            fs::write(path, text).expect("a file");
        }
        let machine = Machine::of_files(root.path(), &[]);
        (root, machine)
    }

    fn look(text: &str, globs: &[&str]) -> Finding {
        let (_root, machine) = node(&[("etc/cni/net.d/10-x.conflist", text)]);
        let globs: Vec<String> = globs.iter().map(|it| (*it).to_owned()).collect();
        finding(&machine, &globs)
    }

    fn list(plugin: &str) -> String {
        format!(
            r#"{{"cniVersion": "1.0.0", "plugins": [{{"type": "{plugin}"}}, {{"type": "portmap"}}]}}"#
        )
    }

    #[test]
    fn the_devices_of_the_usual_plugins_are_found_by_default() {
        let default = ["veth*", "cali*"];
        for plugin in ["bridge", "ptp", "flannel", "calico", "weave-net"] {
            let found = look(&list(plugin), &default);
            assert!(found.good && found.found.contains(plugin), "{found:?}");
        }
        for (plugin, hint) in [
            ("aws-cni", "--pod-interfaces 'eni*'"),
            ("cni-kindnet", "--pod-interfaces 'knet*'"),
            ("cilium-cni", "turn its own off"),
            ("macvlan", "--socket-lb all"),
        ] {
            let found = look(&list(plugin), &default);
            assert!(!found.good && found.hint.contains(hint), "{found:?}");
        }
        assert!(look(&list("aws-cni"), &["eni*"]).good);
        assert!(
            look(&list("aws-cni"), &["e*"]).good,
            "a wider one covers it"
        );
        assert!(!look(&list("aws-cni"), &["eni?"]).good);
    }

    #[test]
    fn a_plugin_that_is_not_known_and_a_machine_without_one_are_no_faults() {
        let found = look(r#"{"type": "of-our-own"}"#, &["veth*"]);
        assert!(
            found.good && found.found.starts_with("of-our-own (/etc/cni"),
            "{found:?}"
        );
        let (_root, machine) = node(&[]);
        let found = finding(&machine, &["veth*".to_owned()]);
        assert!(
            found.good && found.found.starts_with("no configuration"),
            "{found:?}"
        );
    }

    #[test]
    fn the_first_file_that_can_be_read_counts() {
        let (_root, machine) = node(&[
            ("etc/cni/net.d/00-broken.conflist", "{"),
            ("etc/cni/net.d/05-notes.txt", &list("macvlan")),
            ("etc/cni/net.d/10-calico.conflist", &list("calico")),
            ("etc/cni/net.d/20-bridge.conf", r#"{"type": "bridge"}"#),
        ]);
        let found = finding(&machine, &["veth*".to_owned()]);
        assert_eq!(found.hint, "--pod-interfaces 'cali*'", "{found:?}");
        let k3s = "var/lib/rancher/k3s/agent/etc/cni/net.d/10-flannel.conflist";
        let (_root, machine) = node(&[(k3s, &list("flannel"))]);
        let found = finding(&machine, &["veth*".to_owned()]);
        assert!(found.good && found.found.contains("k3s"), "{found:?}");
    }
}
