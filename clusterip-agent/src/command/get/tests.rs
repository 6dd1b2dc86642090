//! What people see, from documents as the agent sends them.

use serde_json::{Value, json};

use super::{
    super::table::aligned, affinity, allocations, endpoints, flows, interfaces, ipvs, services,
};
use crate::view::{endpoints::Endpoints, listing::Listed, services::Services};

fn traffic(flows: u64, packets: u64) -> Value {
    json!({
        "flows": flows, "requestPackets": packets, "requestBytes": packets * 100,
        "replyPackets": packets, "replyBytes": packets * 1000,
    })
}

fn web() -> Value {
    json!({
        "namespace": "default", "name": "web", "type": "NodePort", "clusterIPs": ["10.96.0.10", "fd00:10:96::a"],
        "externalIPs": [], "externalName": "",
        "ports": [
            {"name": "http", "protocol": "TCP", "port": 80, "targetPort": "8080", "nodePort": 30080},
            {"name": "dns", "protocol": "UDP", "port": 53, "targetPort": "dns", "nodePort": null},
        ],
        "endpointsChosen": 1, "endpointsListed": 2, "algorithm": "maglev", "affinitySeconds": 60,
        "internalTrafficPolicy": "Local", "externalTrafficPolicy": "Cluster", "ageSeconds": 245, "problems": [],
        "traffic": traffic(12_345, 7),
        "balancers": [{
            "portName": "http", "protocol": "TCP", "family": "IPv4", "action": "balance", "programmed": true,
            "frontends": ["10.96.0.10:80"], "traffic": traffic(12_345, 7),
        }],
    })
}

fn empty(name: &str, kind: &str) -> Value {
    json!({
        "namespace": "shop", "name": name, "type": kind, "clusterIPs": [], "externalIPs": [], "externalName":
        if kind == "ExternalName" { "db.example" } else { "" }, "ports": [], "endpointsChosen": 0,
        "endpointsListed": 0, "algorithm": "round-robin", "affinitySeconds": 0, "internalTrafficPolicy": "Cluster",
        "externalTrafficPolicy": "Cluster", "ageSeconds": 5, "problems": [], "traffic": traffic(0, 0), "balancers": [],
    })
}

fn all() -> Services {
    let document = json!({"version": 1, "services": [web(), empty("a", "ClusterIP"), empty("b", "ExternalName")]});
    serde_json::from_value(document).expect("a document")
}

fn endpoint(address: &str, state: &str, probes: &Value) -> Value {
    json!({
        "namespace": "default", "service": "web", "portName": "http", "protocol": "TCP", "family": "IPv4",
        "address": address, "state": state, "weight": 3, "node": "node-a", "zone": "", "pod": "default/web-1",
        "probes": probes, "programmed": true, "activeFlows": 2, "inactiveFlows": 1, "traffic": traffic(4, 20_000),
    })
}

fn two() -> Endpoints {
    let probes = json!([
        {"container": "web", "probe": "readiness", "state": "fails", "reason": "10.1.0.3:8080 answers with status 500"},
        {"container": "web", "probe": "liveness", "state": "passes", "reason": ""},
    ]);
    let document = json!({"version": 1, "endpoints": [
        endpoint("10.1.0.2:8080", "active", &json!([])), endpoint("10.1.0.3:8080", "draining", &probes),
    ]});
    serde_json::from_value(document).expect("a document")
}

#[test]
fn services_read_like_those_of_kubectl() {
    let all: Vec<Listed> = all().services.iter().map(Listed::from).collect();
    assert_eq!(
        aligned(&services::narrow(&all, true)),
        "\
NAMESPACE  NAME  TYPE          CLUSTER-IP                PORT(S)              ENDPOINTS  AGE
default    web   NodePort      10.96.0.10,fd00:10:96::a  80:30080/TCP,53/UDP  1/2        4m5s
shop       a     ClusterIP     None                      -                    0/0        5s
shop       b     ExternalName  db.example                -                    0/0        5s
"
    );
}

#[test]
fn wide_adds_how_and_how_much() {
    let all = all();
    let web = all.services.first().expect("web");
    let rate = crate::view::Traffic {
        flows: 1,
        request_packets: 10_000,
        request_bytes: 2_000_000,
        reply_packets: 2,
        reply_bytes: 3,
    };
    assert_eq!(
        aligned(&services::wide(&[(web, Some(rate))], false)),
        "\
NAME  TYPE      CLUSTER-IP                PORT(S)              ENDPOINTS  ALGORITHM  AFFINITY  POLICY  EXTERNAL-IP  ANNOUNCED-BY  FLOWS  FLOWS/S  PACKETS/S  BYTES/S  AGE
web   NodePort  10.96.0.10,fd00:10:96::a  80:30080/TCP,53/UDP  1/2        maglev     60s       Local   -            -             12.3k  1        10.0k      2.0M     4m5s
"
    );
}

#[test]
fn ipvs_has_its_own_form() {
    assert_eq!(
        ipvs::table(&all(), &two()),
        "\
Prot LocalAddress:Port Scheduler Flags
  -> RemoteAddress:Port           Forward Weight ActiveConn InActConn
TCP  10.96.0.10:80 mh persistent 60
  -> 10.1.0.2:8080                Masq    3      2          1
  -> 10.1.0.3:8080                Masq    0      2          1
"
    );
}

#[test]
fn endpoints_show_state_probes_and_traffic() {
    assert_eq!(
        endpoints::table(&two(), false, false),
        "\
SERVICE  PORT      ADDRESS        STATE     PROBES                           WEIGHT  ACTIVE  INACTIVE  PACKETS  BYTES
web      http/TCP  10.1.0.2:8080  active    -                                3       2       1         40.0k    22.0M
web      http/TCP  10.1.0.3:8080  draining  readiness:fails,liveness:passes  3       2       1         40.0k    22.0M
"
    );
    let wide = endpoints::table(&two(), true, true);
    assert!(wide.starts_with("NAMESPACE"), "{wide}");
    assert!(
        wide.contains("  default/web-1  node-a  -     10.1.0.3:8080 answers with status 500\n"),
        "{wide}"
    );
}

#[test]
fn flows_are_listed_with_names() {
    let flow = json!({
        "namespace": "default", "service": "web", "portName": "http", "protocol": "TCP", "client": "10.1.0.9:40000",
        "clientPod": "default/client", "frontend": "10.96.0.10:80", "backend": "10.1.0.2:8080", "backendPod": "",
        "clientPort": 40000, "state": "established", "answered": true, "idleSeconds": 3,
    });
    let document = json!({"version": 1, "total": 5, "flows": [flow]});
    let document = serde_json::from_value(document).expect("a document");
    assert_eq!(
        flows::table(&document, false),
        "\
PROTO  STATE        IDLE  CLIENT                           SERVICE           FRONTEND       BACKEND
TCP    established  3s    10.1.0.9:40000 (default/client)  default/web:http  10.96.0.10:80  10.1.0.2:8080
"
    );
    let wide = flows::table(&document, true);
    assert!(
        wide.contains("default/client  -            40000        yes"),
        "{wide}"
    );
}

#[test]
fn clients_devices_and_allocations_have_their_tables() {
    let document = json!({"version": 1, "clients": [{
        "namespace": "default", "service": "web", "portName": "", "protocol": "TCP", "client": "10.1.0.9", "clientPod":
        "", "backend": "10.1.0.2:8080", "backendPod": "default/web-1", "expiresSeconds": 90,
    }]});
    let document = serde_json::from_value(document).expect("a document");
    assert_eq!(
        affinity::table(&document),
        "\
SERVICE          CLIENT    BACKEND                        EXPIRES
default/web:TCP  10.1.0.9  10.1.0.2:8080 (default/web-1)  90s
"
    );
    let document = json!({"version": 1, "interfaces": [{"index": 7, "name": "veth7", "role": "pod", "mode": "tcx"}]});
    let document = serde_json::from_value(document).expect("a document");
    assert_eq!(
        interfaces::table(&document),
        "INDEX  NAME   ROLE  MODE  FORWARDING  DRIVER\n7      veth7  pod   tcx   stack       -\n"
    );
    let blank = json!({
        "kind": "ClusterIP", "address": "10.96.0.10", "nodePort": null, "port": "", "namespace": "default", "service":
        "web", "how": "automatic", "ageSeconds": 60, "note": "",
    });
    let mut resting = blank.clone();
    resting["address"] = json!("10.96.0.11");
    resting["how"] = json!("resting");
    resting["note"] = json!("free for others soon");
    let mut port = blank.clone();
    port["kind"] = json!("NodePort");
    port["address"] = Value::Null;
    port["nodePort"] = json!(30080);
    port["port"] = json!("80/TCP");
    port["how"] = json!("static");
    let document = json!({"version": 1, "allocations": [blank, resting, port]});
    let document = serde_json::from_value(document).expect("a document");
    assert_eq!(
        allocations::table(&document),
        "\
ALLOCATION  KIND       SERVICE      PORT    HOW        SINCE  NOTE
10.96.0.10  ClusterIP  default/web  -       automatic  60s
10.96.0.11  ClusterIP  default/web  -       resting    -      free for others soon
30080       NodePort   default/web  80/TCP  static     60s
"
    );
}
