//! The forms in which objects may be written.

use super::*;

#[test]
fn kinds_without_effect_are_no_problem() {
    let text = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: a}\n---\napiVersion: v1\nkind: ConfigMap\n---\napiVersion: serving.knative.dev/v1\nkind: Service\nmetadata: {name: a}\n---\n# nothing\n---\n";
    assert_eq!(
        shown(&source().update(listing(&[("a.yaml", text)]))),
        ["reset", "synced", "problems 0"]
    );
}

#[test]
fn lists_are_lists_of_objects() {
    let text = "apiVersion: v1\nkind: List\nitems:\n- apiVersion: v1\n  kind: Namespace\n  metadata: {name: prod}\n- apiVersion: v1\n  kind: List\n  items:\n  - apiVersion: v1\n    kind: Node\n    metadata: {name: n}\n- apiVersion: v1\n  kind: Service\n  metadata: {name: bad}\n  spec: {ports: [{port: 0}]}\n---\napiVersion: v1\nkind: PodList\nitems:\n- metadata: {name: p}\n- metadata: {name: q, name: r}\n";
    let events = source().update(listing(&[("a.yaml", text)]));
    assert_eq!(
        shown(&events),
        [
            "reset",
            "put Namespace prod",
            "put Node n",
            "put Pod default/p",
            "synced",
            "problems 2"
        ]
    );
    let problems = shown_problems(&events);
    assert!(
        problems[0].starts_with("a.yaml:16:25: Service default/bad: spec.ports[0].port: \"0\""),
        "{problems:?}"
    );
    assert!(
        problems[1].starts_with("a.yaml:22:23: Pod default/q: metadata.name: \"r\": given twice"),
        "{problems:?}"
    );
}

#[test]
fn json_is_read_with_tabs_escapes_and_several_values() {
    let text = "{\n\t\"apiVersion\": \"v1\", \"kind\": \"Service\",\n\t\"metadata\": {\"name\": \"a\", \"annotations\": {\"x\": \"\\u00e9\\ud83d\\ude00\\/\"}},\n\t\"spec\": {\"ports\": [{\"port\": 80}]}\n}\n{\"apiVersion\":\"v1\",\"kind\":\"Service\",\"metadata\":{\"name\":\"b\"},\"spec\":{\"ports\":[{\"port\":0}]}}";
    let events = source().update(listing(&[("a.json", text)]));
    assert_eq!(
        shown(&events),
        ["reset", "put Service default/a", "synced", "problems 1"]
    );
    assert!(
        shown_problems(&events)[0]
            .starts_with("a.json:6:86: Service default/b: spec.ports[0].port"),
        "{events:?}"
    );
    assert!(problems_of("a.json", "{\"a\": 1,}")[0].starts_with("a.json:1:9: not JSON: "));
}

#[test]
fn aliases_and_merges_mean_what_they_say_within_bounds() {
    let text = "apiVersion: v1\nkind: Service\nmetadata: {name: a, labels: &l {app: web}}\nspec:\n  selector:\n    <<: *l\n    tier: front\n  ports: [&p {port: 80, name: x}, {<<: *p, port: 81, name: y}]\n";
    let events = source().update(listing(&[("a.yaml", text)]));
    assert_eq!(shown_problems(&events), [""; 0]);
    let Some(Event::Put(object)) = events.get(1) else {
        panic!("{events:?}")
    };
    let Spec::Service(service) = &object.spec else {
        panic!("{object:?}")
    };
    let selector = service.spec.as_ref().map(|spec| spec.selector.iter());
    assert_eq!(selector.map(Iterator::count), Some(2));
    // A billion laughs.
    let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for n in 1..10 {
        let items = vec![format!("*a{}", n - 1); 10].join(", ");
        bomb = format!("{bomb}a{n}: &a{n} [{items}]\n");
    }
    assert!(problems_of("a.yaml", &bomb)[0].contains("more than 1000000 values"));
}

#[test]
fn words_and_quantities_are_read_as_kubernetes_does() {
    let text = "apiVersion: v1\nkind: Pod\nmetadata: {name: a, creationTimestamp: null}\nspec:\n  containers:\n  - name: c\n    resources: {limits: {cpu: 1, memory: 1Gi}}\n    ports: [{containerPort: 0x50}]\n  hostNetwork: yes\nstatus: {startTime: 2024-01-01T00:00:00Z}\n";
    assert_eq!(problems_of("a.yaml", text), [""; 0]);
}

#[test]
fn lines_may_end_as_on_windows_and_begin_with_a_byte_order_mark() {
    let text =
        format!("\u{feff}{}---\n{}", service("a", 80), service("b", 0)).replace('\n', "\r\n");
    let events = source().update(listing(&[("a.yaml", &text)]));
    assert_eq!(
        shown(&events),
        ["reset", "put Service default/a", "synced", "problems 1"]
    );
    assert!(
        shown_problems(&events)[0].starts_with("a.yaml:15:13: Service default/b"),
        "{events:?}"
    );
}
