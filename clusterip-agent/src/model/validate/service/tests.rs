//! Each rule of section H: a service that keeps it and one that breaks it.

use serde_json::{Value, json};

use super::*;

fn faults(spec: &Value) -> Vec<Fault> {
    let object = json!({"metadata": {"name": "web", "namespace": "default"}, "spec": spec});
    let object: Service = serde_json::from_value(object).expect("a service");
    service(&object, &Rules::default())
}

fn fields(spec: &Value) -> Vec<String> {
    faults(spec).into_iter().map(|fault| fault.field).collect()
}

/// A service with one port and these fields besides.
fn with(more: &Value) -> Value {
    let mut spec = json!({"ports": [{"port": 80}]});
    let fields = spec.as_object_mut().expect("an object");
    fields.extend(more.as_object().expect("an object").clone());
    spec
}

#[track_caller]
fn good(spec: &Value) {
    assert_eq!(faults(spec), [], "{spec}");
}

#[track_caller]
fn bad(spec: &Value, field: &str) {
    let faults = faults(spec);
    let found: Vec<&str> = faults.iter().map(|fault| fault.field.as_str()).collect();
    assert_eq!(found, [field], "{spec}");
    assert!(faults.iter().all(|fault| !fault.message.is_empty()));
}

#[test]
fn h_ports_are_required_unless_headless_or_external_name() {
    bad(&json!({}), "spec.ports");
    bad(&json!({"ports": []}), "spec.ports");
    good(&json!({"clusterIP": "None"}));
    good(&json!({"type": "ExternalName", "externalName": "db.example.com"}));
    let object: Service = serde_json::from_value(json!({"metadata": {"name": "web"}})).expect("ok");
    assert_eq!(service(&object, &Rules::default()).len(), 1);
}

#[test]
fn h_port_names_are_required_and_unique_when_there_is_more_than_one() {
    good(&json!({"ports": [{"port": 80}]}));
    good(&json!({"ports": [{"name": "a", "port": 80}, {"name": "b", "port": 81}]}));
    bad(
        &json!({"ports": [{"name": "a", "port": 80}, {"port": 81}]}),
        "spec.ports[1].name",
    );
    bad(
        &json!({"ports": [{"name": "a", "port": 80}, {"name": "a", "port": 81}]}),
        "spec.ports[1].name",
    );
    bad(
        &json!({"ports": [{"name": "A_b", "port": 80}]}),
        "spec.ports[0].name",
    );
}

#[test]
fn h_port_is_1_to_65535() {
    for port in [1, 65_535] {
        good(&json!({"ports": [{"port": port}]}));
    }
    for port in [0, -1, 65_536] {
        bad(&json!({"ports": [{"port": port}]}), "spec.ports[0].port");
    }
}

#[test]
fn h_protocol_is_tcp_udp_or_sctp() {
    for protocol in ["TCP", "UDP", "SCTP", ""] {
        good(&json!({"ports": [{"port": 80, "protocol": protocol}]}));
    }
    for protocol in ["tcp", "ICMP"] {
        bad(
            &json!({"ports": [{"port": 80, "protocol": protocol}]}),
            "spec.ports[0].protocol",
        );
    }
}

#[test]
fn h_target_port_is_a_number_or_a_name() {
    for target in [
        json!(8080),
        json!("http"),
        json!("abcdefghijklmno"),
        json!(0),
        json!(""),
    ] {
        good(&json!({"ports": [{"port": 80, "targetPort": target}]}));
    }
    for target in [
        json!(65_536),
        json!(-1),
        json!("a--b"),
        json!("8080"),
        json!("abcdefghijklmnop"),
    ] {
        bad(
            &json!({"ports": [{"port": 80, "targetPort": target}]}),
            "spec.ports[0].targetPort",
        );
    }
}

#[test]
fn h_protocol_and_port_are_unique() {
    let ports = |second: &str| json!({"ports": [{"name": "a", "port": 53}, {"name": "b", "port": 53, "protocol": second}]});
    good(&ports("UDP"));
    bad(&ports("TCP"), "spec.ports[1].port");
}

#[test]
fn h_node_port_only_for_node_port_and_load_balancer() {
    let node_port =
        |kind: &str, port: i32| json!({"type": kind, "ports": [{"port": 80, "nodePort": port}]});
    good(&node_port("NodePort", 30_080));
    good(&node_port("LoadBalancer", 30_080));
    good(&node_port("ClusterIP", 0));
    bad(&node_port("ClusterIP", 30_080), "spec.ports[0].nodePort");
    bad(&node_port("NodePort", 80), "spec.ports[0].nodePort");
    let twice = |protocol: &str| {
        json!({"type": "NodePort", "ports": [
            {"name": "a", "port": 80, "nodePort": 30_080},
            {"name": "b", "port": 81, "nodePort": 30_080, "protocol": protocol}]})
    };
    bad(&twice("TCP"), "spec.ports[1].nodePort");
    good(&twice("UDP"));
}

#[test]
fn h_cluster_ip_none_not_with_node_port_or_load_balancer() {
    for kind in ["NodePort", "LoadBalancer"] {
        bad(
            &with(&json!({"type": kind, "clusterIP": "None"})),
            "spec.clusterIP",
        );
    }
    good(&with(&json!({"clusterIP": "None"})));
    good(&with(&json!({"clusterIP": "None", "clusterIPs": ["None"]})));
}

#[test]
fn h_cluster_ips_are_at_most_two_one_per_family_first_is_cluster_ip() {
    let dual = |more: &Value| {
        let mut spec = with(&json!({"ipFamilyPolicy": "PreferDualStack"}));
        let fields = spec.as_object_mut().expect("an object");
        fields.extend(more.as_object().expect("an object").clone());
        spec
    };
    let ips = |ip: &str, ips: &[&str]| dual(&json!({"clusterIP": ip, "clusterIPs": ips}));
    good(&with(&json!({"clusterIP": "10.96.0.10"})));
    good(&ips("10.96.0.10", &["10.96.0.10"]));
    good(&ips("10.96.0.10", &["10.96.0.10", "fd00::10"]));
    good(&ips("10.96.0.10", &["::ffff:10.96.0.10"]));
    bad(
        &with(&json!({"clusterIPs": ["10.96.0.10"]})),
        "spec.clusterIPs",
    );
    bad(&ips("10.96.0.10", &["10.96.0.11"]), "spec.clusterIPs[0]");
    bad(
        &ips("10.96.0.10", &["10.96.0.10", "10.96.0.11"]),
        "spec.clusterIPs[1]",
    );
    bad(
        &ips("10.96.0.10", &["10.96.0.10", "fd00::1", "fd00::2"]),
        "spec.clusterIPs",
    );
    bad(
        &ips("10.96.0.10", &["10.96.0.10", "None"]),
        "spec.clusterIPs",
    );
    bad(
        &ips("10.96.0.10", &["10.96.0.10", "x"]),
        "spec.clusterIPs[1]",
    );
}

#[test]
fn a15_an_address_that_is_none_is_refused() {
    for text in ["10.96.0.010", "10.96.0", "none", "10.96.0.0/16"] {
        bad(&with(&json!({"clusterIP": text})), "spec.clusterIP");
    }
    good(&with(
        &json!({"clusterIP": "::ffff:10.96.0.10", "ipFamilies": ["IPv4"]}),
    ));
}

#[test]
fn h_affinity_timeout_only_with_client_ip() {
    let timeout = |affinity: &str, seconds: i32| {
        with(&json!({"sessionAffinity": affinity,
            "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": seconds}}}))
    };
    good(&with(&json!({"sessionAffinity": "ClientIP"})));
    for seconds in [1, 86_400] {
        good(&timeout("ClientIP", seconds));
    }
    for seconds in [0, -1, 86_401] {
        bad(
            &timeout("ClientIP", seconds),
            "spec.sessionAffinityConfig.clientIP.timeoutSeconds",
        );
    }
    bad(&timeout("None", 10), "spec.sessionAffinityConfig");
    bad(
        &with(&json!({"sessionAffinity": "Cookie"})),
        "spec.sessionAffinity",
    );
}

#[test]
fn h_external_name_is_a_dns_name_and_has_no_cluster_ip() {
    let name = |more: &Value| {
        let mut spec = json!({"type": "ExternalName", "externalName": "db.example.com"});
        let fields = spec.as_object_mut().expect("an object");
        fields.extend(more.as_object().expect("an object").clone());
        spec
    };
    good(&name(&json!({"externalName": "db.example.com."})));
    bad(&name(&json!({"externalName": ""})), "spec.externalName");
    bad(
        &name(&json!({"externalName": "db_1.example.com"})),
        "spec.externalName",
    );
    bad(&name(&json!({"clusterIP": "10.96.0.1"})), "spec.clusterIP");
    bad(&name(&json!({"clusterIP": "None"})), "spec.clusterIP");
    bad(&name(&json!({"ipFamilies": ["IPv4"]})), "spec.ipFamilies");
    bad(
        &name(&json!({"ipFamilyPolicy": "SingleStack"})),
        "spec.ipFamilyPolicy",
    );
    bad(
        &name(&json!({"externalTrafficPolicy": "Local"})),
        "spec.externalTrafficPolicy",
    );
}

#[test]
fn h_external_addresses_are_not_unspecified_loopback_or_link_local() {
    good(&with(&json!({"externalIPs": ["192.0.2.1", "2001:db8::1"]})));
    for text in [
        "0.0.0.0",
        "127.0.0.1",
        "169.254.0.1",
        "fe80::1",
        "::ffff:127.0.0.1",
        "x",
    ] {
        bad(
            &with(&json!({"externalIPs": ["192.0.2.1", text]})),
            "spec.externalIPs[1]",
        );
    }
}

#[test]
fn h_source_ranges_are_cidrs_and_only_on_load_balancer() {
    let ranges =
        |kind: &str, range: &str| with(&json!({"type": kind, "loadBalancerSourceRanges": [range]}));
    good(&ranges("LoadBalancer", " 10.0.0.0/8 "));
    bad(
        &ranges("LoadBalancer", "10.0.0.0"),
        "spec.loadBalancerSourceRanges[0]",
    );
    bad(
        &ranges("NodePort", "10.0.0.0/8"),
        "spec.loadBalancerSourceRanges",
    );
    let annotated = |kind: &str, value: &str| {
        let object = json!({"metadata": {"name": "web", "annotations": {
            "service.beta.kubernetes.io/load-balancer-source-ranges": value}},
            "spec": {"type": kind, "ports": [{"port": 80}]}});
        let object: Service = serde_json::from_value(object).expect("a service");
        service(&object, &Rules::default()).len()
    };
    assert_eq!(annotated("LoadBalancer", "10.0.0.0/8, fd00::/8"), 0);
    assert_eq!(annotated("LoadBalancer", "10.0.0.0/8, x"), 1);
    assert_eq!(annotated("ClusterIP", "10.0.0.0/8"), 1);
}

#[test]
fn h_names_selectors_labels_and_annotation_keys_have_their_syntax() {
    good(&with(
        &json!({"selector": {"app": "web", "app.kubernetes.io/name": ""}}),
    ));
    bad(
        &with(&json!({"selector": {"app": "a b"}})),
        "spec.selector.app",
    );
    bad(
        &with(&json!({"selector": {"a/b/c": "x"}})),
        "spec.selector[a/b/c]",
    );
    for (metadata, field) in [
        (json!({"name": "Web"}), "metadata.name"),
        (json!({"name": "a".repeat(64)}), "metadata.name"),
        (
            json!({"name": "web", "namespace": "a.b"}),
            "metadata.namespace",
        ),
        (
            json!({"name": "web", "labels": {"a b": "x"}}),
            "metadata.labels.a b",
        ),
        (
            json!({"name": "web", "annotations": {"x.io/-": "x"}}),
            "metadata.annotations[x.io/-]",
        ),
        (
            json!({"name": "web", "annotations": {"a": "x".repeat(262_144)}}),
            "metadata.annotations",
        ),
    ] {
        let object = json!({"metadata": metadata, "spec": {"ports": [{"port": 80}]}});
        let object: Service = serde_json::from_value(object).expect("a service");
        let faults = service(&object, &Rules::default());
        let found: Vec<_> = faults.into_iter().map(|fault| fault.field).collect();
        assert_eq!(found, [field]);
    }
}

#[test]
fn h_external_traffic_policy_and_health_check_node_port_only_where_they_have_a_meaning() {
    for kind in ["NodePort", "LoadBalancer"] {
        good(&with(
            &json!({"type": kind, "externalTrafficPolicy": "Local"}),
        ));
    }
    good(&with(
        &json!({"externalIPs": ["192.0.2.1"], "externalTrafficPolicy": "Local"}),
    ));
    bad(
        &with(&json!({"externalTrafficPolicy": "Cluster"})),
        "spec.externalTrafficPolicy",
    );
    bad(
        &with(&json!({"type": "NodePort", "externalTrafficPolicy": "Near"})),
        "spec.externalTrafficPolicy",
    );
    let health = |kind: &str, policy: &str, port: i32| {
        with(&json!({"type": kind, "externalTrafficPolicy": policy, "healthCheckNodePort": port}))
    };
    good(&health("LoadBalancer", "Local", 30_100));
    bad(
        &health("LoadBalancer", "Local", 80),
        "spec.healthCheckNodePort",
    );
    bad(
        &health("LoadBalancer", "Cluster", 30_100),
        "spec.healthCheckNodePort",
    );
    bad(
        &health("NodePort", "Local", 30_100),
        "spec.healthCheckNodePort",
    );
}

#[test]
fn h_ip_families_and_policy() {
    good(&with(&json!({"ipFamilies": ["IPv6"]})));
    good(&with(
        &json!({"ipFamilies": ["IPv4", "IPv6"], "ipFamilyPolicy": "RequireDualStack"}),
    ));
    bad(
        &with(&json!({"ipFamilies": ["IPv5"]})),
        "spec.ipFamilies[0]",
    );
    bad(
        &with(&json!({"ipFamilies": ["IPv4", "IPv4"], "ipFamilyPolicy": "PreferDualStack"})),
        "spec.ipFamilies[1]",
    );
    bad(
        &with(&json!({"ipFamilyPolicy": "DualStack"})),
        "spec.ipFamilyPolicy",
    );
    bad(
        &with(&json!({"ipFamilies": ["IPv4", "IPv6"]})),
        "spec.ipFamilyPolicy",
    );
    bad(
        &with(&json!({"clusterIP": "fd00::1", "ipFamilies": ["IPv4"]})),
        "spec.clusterIP",
    );
    bad(
        &with(
            &json!({"clusterIP": "fd00::1", "clusterIPs": ["fd00::1", "10.96.0.1"],
            "ipFamilies": ["IPv6", "IPv6"], "ipFamilyPolicy": "PreferDualStack"}),
        ),
        "spec.ipFamilies[1]",
    );
    good(&json!({"clusterIP": "None", "ipFamilies": ["IPv4", "IPv6"]}));
}

#[test]
fn h_load_balancer_class_app_protocol_and_traffic_distribution() {
    good(&with(
        &json!({"type": "LoadBalancer", "loadBalancerClass": "example.com/lb"}),
    ));
    bad(
        &with(&json!({"type": "LoadBalancer", "loadBalancerClass": "a b"})),
        "spec.loadBalancerClass",
    );
    bad(
        &with(&json!({"loadBalancerClass": "lb"})),
        "spec.loadBalancerClass",
    );
    bad(
        &with(&json!({"allocateLoadBalancerNodePorts": false})),
        "spec.allocateLoadBalancerNodePorts",
    );
    good(&json!({"ports": [{"port": 80, "appProtocol": "kubernetes.io/h2c"}]}));
    bad(
        &json!({"ports": [{"port": 80, "appProtocol": "h 2"}]}),
        "spec.ports[0].appProtocol",
    );
    for distribution in ["PreferClose", "PreferSameZone", "PreferSameNode"] {
        good(&with(&json!({"trafficDistribution": distribution})));
    }
    bad(
        &with(&json!({"trafficDistribution": "Prefer"})),
        "spec.trafficDistribution",
    );
    bad(
        &with(&json!({"internalTrafficPolicy": "Near"})),
        "spec.internalTrafficPolicy",
    );
    bad(&with(&json!({"type": "Clusterip"})), "spec.type");
    bad(
        &json!({"type": "LoadBalancer", "ports": [{"port": 10_250}]}),
        "spec.ports[0].port",
    );
}

#[test]
fn e5_what_a_load_balancer_reports_is_an_address_or_a_name() {
    let found = |ingress: Value| {
        let object = json!({"metadata": {"name": "web"}, "spec": {"type": "LoadBalancer", "ports": [{"port": 80}]},
            "status": {"loadBalancer": {"ingress": [ingress]}}});
        let object: Service = serde_json::from_value(object).expect("a service");
        service(&object, &Rules::default()).len()
    };
    assert_eq!(found(json!({"ip": "192.0.2.1", "ipMode": "Proxy"})), 0);
    assert_eq!(found(json!({"hostname": "lb.example.com"})), 0);
    assert_eq!(found(json!({"ip": "192.0.2"})), 1);
    assert_eq!(found(json!({"ip": "192.0.2.1", "ipMode": "proxy"})), 1);
    assert_eq!(found(json!({"ipMode": "VIP"})), 1);
    assert_eq!(found(json!({"hostname": "192.0.2.1"})), 1);
}

#[test]
fn h_every_fault_names_the_value_and_what_is_allowed() {
    let fault = faults(&json!({"ports": [{"port": 70_000}]})).remove(0);
    assert_eq!(fault.value, "70000");
    assert_eq!(fault.message, "must be a port number from 1 to 65535");
    assert_eq!(
        fields(&json!({"ports": [{"port": 0, "protocol": "x"}], "type": "y"})),
        ["spec.type"]
    );
}
