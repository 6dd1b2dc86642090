//! What may not change while an object lives (rules H: immutable).

use super::{Faults, address};
use crate::model::{
    about::ServiceType,
    facts::{EndpointSlice, FamilyPolicy, Service, ServiceSpec, TrafficPolicy},
    problem::Fault,
};

/// The faults of a service as the successor of what it was. An address that is taken out of the object is not one: the
/// service keeps what it has.
#[must_use]
pub fn service_change(before: &Service, after: &Service) -> Vec<Fault> {
    let mut faults = Faults::default();
    let (Some(before), Some(after)) = (&before.spec, &after.spec) else {
        return faults.0;
    };
    let (was, is) = (before.service_type, after.service_type);
    // An ExternalName service has no address: it gives it back and gets one (G4).
    if was != ServiceType::ExternalName && is != ServiceType::ExternalName {
        addresses(&mut faults, before, after);
        families(&mut faults, before, after);
    }
    let class = |spec: &'_ ServiceSpec| spec.load_balancer_class.clone();
    let is_balancer = was == ServiceType::LoadBalancer && is == ServiceType::LoadBalancer;
    if is_balancer && class(before) != class(after) {
        faults.add(
            "spec.loadBalancerClass",
            class(after).unwrap_or_default(),
            format!(
                "may not change while the service lives, it is {:?}; {AGAIN}",
                class(before).unwrap_or_default()
            ),
        );
    }
    health_check(&mut faults, before, after);
    faults.0
}

/// A load balancer asks at the number that it was told at the beginning.
fn health_check(faults: &mut Faults, before: &ServiceSpec, after: &ServiceSpec) {
    let number = |spec: &ServiceSpec| {
        let is_asked = spec.service_type == ServiceType::LoadBalancer
            && spec.external_policy == TrafficPolicy::Local;
        spec.health_check_node_port.filter(|_| is_asked)
    };
    if let (Some(was), Some(is)) = (number(before), number(after))
        && was != is
    {
        faults.add(
            "spec.healthCheckNodePort",
            is,
            format!("may not change while the service lives, it is {was}; {AGAIN}"),
        );
    }
}

/// The faults of a slice as the successor of what it was.
#[must_use]
pub fn endpoint_slice_change(before: &EndpointSlice, after: &EndpointSlice) -> Vec<Fault> {
    let mut faults = Faults::default();
    if before.address_type != after.address_type {
        faults.add(
            "addressType",
            &after.address_type,
            format!(
                "may not change while the slice lives, it is {}; {AGAIN}",
                before.address_type
            ),
        );
    }
    faults.0
}

/// How to do it nevertheless.
const AGAIN: &str = "take the object away, save, and add it again";

/// The addresses an object names, first one first.
fn named(spec: &ServiceSpec) -> Vec<&str> {
    let list = if spec.cluster_ips.is_empty() {
        spec.cluster_ip.as_slice()
    } else {
        &spec.cluster_ips
    };
    list.iter().map(|text| &**text).collect()
}

fn addresses(faults: &mut Faults, before: &ServiceSpec, after: &ServiceSpec) {
    let has_list = !after.cluster_ips.is_empty();
    for (index, (was, is)) in named(before).into_iter().zip(named(after)).enumerate() {
        let is_same = was == is || matches!((address(was), address(is)), (Ok(a), Ok(b)) if a == b);
        if !is_same {
            let field = if has_list && after.cluster_ip.as_deref() != Some(is) {
                format!("spec.clusterIPs[{index}]")
            } else {
                "spec.clusterIP".to_owned()
            };
            faults.add(
                field,
                is,
                format!("may not change while the service lives, it is {was}; {AGAIN}"),
            );
        }
    }
}

fn families(faults: &mut Faults, before: &ServiceSpec, after: &ServiceSpec) {
    let (was, is) = (&before.ip_families, &after.ip_families);
    for (index, (was, is)) in was.iter().zip(is).enumerate() {
        if was != is {
            faults.add(
                format!("spec.ipFamilies[{index}]"),
                is,
                format!("may not change while the service lives, it is {was}; {AGAIN}"),
            );
        }
    }
    let policy = after.ip_family_policy.or(before.ip_family_policy);
    let policy = policy.unwrap_or(FamilyPolicy::Single);
    let is_reduced = |was: usize, is: usize| was == 2 && is == 1;
    let reduced = if is_reduced(named(before).len(), named(after).len()) {
        Some("address")
    } else if is_reduced(was.len(), is.len()) {
        Some("family")
    } else {
        None
    };
    if let Some(what) = reduced
        && policy != FamilyPolicy::Single
    {
        faults.add(
            "spec.ipFamilyPolicy",
            policy.name(),
            format!("must be SingleStack to give the second {what} back"),
        );
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::model::facts::Names;

    fn fields(before: &Value, after: &Value) -> Vec<String> {
        let service = |spec: &Value| -> Service {
            let object = json!({"metadata": {"name": "web"}, "spec": spec});
            let object = serde_json::from_value(object).expect("a service");
            Service::of(&object, &mut Names::default())
        };
        let faults = service_change(&service(before), &service(after));
        faults.into_iter().map(|fault| fault.field).collect()
    }

    #[test]
    fn h_cluster_ips_are_immutable() {
        for (before, after, field) in [
            (
                json!({"clusterIP": "10.96.0.1"}),
                json!({"clusterIP": "10.96.0.2"}),
                "spec.clusterIP",
            ),
            (
                json!({"clusterIP": "10.96.0.1"}),
                json!({"clusterIP": "None"}),
                "spec.clusterIP",
            ),
            (
                json!({"clusterIP": "None"}),
                json!({"clusterIP": "10.96.0.1"}),
                "spec.clusterIP",
            ),
            (
                json!({"clusterIP": "10.96.0.1", "clusterIPs": ["10.96.0.1", "fd00::1"]}),
                json!({"clusterIP": "10.96.0.1", "clusterIPs": ["10.96.0.1", "fd00::2"]}),
                "spec.clusterIPs[1]",
            ),
        ] {
            assert_eq!(fields(&before, &after), [field], "{before} {after}");
        }
    }

    #[test]
    fn g4_an_update_keeps_the_address_and_external_name_gives_it_back() {
        let given = json!({"clusterIP": "10.96.0.1"});
        let none = json!({});
        let name = json!({"type": "ExternalName", "externalName": "a.b"});
        assert!(fields(&given, &none).is_empty());
        assert!(fields(&none, &given).is_empty());
        assert!(fields(&given, &name).is_empty());
        assert!(fields(&name, &given).is_empty());
        assert!(
            fields(&given, &json!({"clusterIP": "::ffff:10.96.0.1"})).is_empty(),
            "A15"
        );
    }

    #[test]
    fn g5_a_second_address_may_be_added_and_is_given_back_with_single_stack() {
        let one = json!({"clusterIP": "10.96.0.1", "clusterIPs": ["10.96.0.1"], "ipFamilyPolicy": "PreferDualStack"});
        let two = json!({"clusterIP": "10.96.0.1", "clusterIPs": ["10.96.0.1", "fd00::1"], "ipFamilyPolicy": "PreferDualStack"});
        let single = json!({"clusterIP": "10.96.0.1", "clusterIPs": ["10.96.0.1"], "ipFamilyPolicy": "SingleStack"});
        assert!(fields(&one, &two).is_empty());
        assert!(fields(&two, &single).is_empty());
        assert_eq!(fields(&two, &one), ["spec.ipFamilyPolicy"]);
        assert_eq!(
            fields(
                &json!({"ipFamilies": ["IPv4"]}),
                &json!({"ipFamilies": ["IPv6"]})
            ),
            ["spec.ipFamilies[0]"]
        );
    }

    #[test]
    fn h_a_load_balancer_class_is_immutable() {
        let class = |class: &str| json!({"type": "LoadBalancer", "loadBalancerClass": class});
        assert_eq!(fields(&class("a"), &class("b")), ["spec.loadBalancerClass"]);
        assert!(fields(&class("a"), &json!({"type": "ClusterIP"})).is_empty());
    }

    #[test]
    fn h_a_health_check_node_port_is_immutable_while_it_is_asked() {
        let number = |policy: &str, number: i32| json!({"type": "LoadBalancer", "externalTrafficPolicy": policy, "healthCheckNodePort": number});
        let before = number("Local", 30_001);
        assert_eq!(
            fields(&before, &number("Local", 30_002)),
            ["spec.healthCheckNodePort"]
        );
        for after in [
            number("Local", 30_001),
            number("Local", 0),
            number("Cluster", 0),
            json!({"type": "ClusterIP"}),
        ] {
            assert!(fields(&before, &after).is_empty(), "{after}");
        }
        assert!(fields(&number("Local", 0), &before).is_empty());
    }

    #[test]
    fn the_type_of_a_slice_is_immutable() {
        let slice = |kind: &str| EndpointSlice {
            address_type: kind.into(),
            ..EndpointSlice::default()
        };
        assert_eq!(
            endpoint_slice_change(&slice("IPv4"), &slice("IPv6")).len(),
            1
        );
        assert!(endpoint_slice_change(&slice("IPv4"), &slice("IPv4")).is_empty());
    }
}
