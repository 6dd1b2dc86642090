//! The addresses that a service asks for, and their families.

use std::{collections::BTreeMap, net::IpAddr};

use k8s_openapi::api::core::v1::ServiceSpec;

use super::{Type, is_headless};
use crate::model::validate::{
    Faults,
    address::{address, reachable},
    given, names,
};

/// Names of the families in the API.
const FAMILIES: [&str; 2] = ["IPv4", "IPv6"];

pub(super) fn check(faults: &mut Faults, spec: &ServiceSpec, kind: Type) {
    if kind == Type::ExternalName {
        external_name(faults, spec);
    } else {
        families(faults, spec);
        policy(faults, spec);
        cluster_ips(faults, spec, kind);
    }
    for (index, text) in spec.external_ips.iter().flatten().enumerate() {
        let field = format!("spec.externalIPs[{index}]");
        if let Some(address) = faults.check(field.as_str(), text, address(text)) {
            faults.check(field, text, reachable(address));
        }
    }
}

fn external_name(faults: &mut Faults, spec: &ServiceSpec) {
    let field = "spec.externalName";
    match given(spec.external_name.as_deref()) {
        None => faults.add(
            field,
            "",
            "required: the DNS name that an ExternalName service stands for",
        ),
        // A dot at the end says that the name is complete.
        Some(name) => {
            let syntax = names::dns_name(name.strip_suffix('.').unwrap_or(name));
            faults.check(field, name, syntax);
        }
    }
    let address = given(spec.cluster_ip.as_deref());
    let addresses = spec.cluster_ips.as_deref().and_then(<[_]>::first);
    let family = spec.ip_families.as_deref().and_then(<[_]>::first);
    for (field, value) in [
        ("spec.clusterIP", address),
        ("spec.clusterIPs", addresses.map(String::as_str)),
        ("spec.ipFamilies", family.map(String::as_str)),
        (
            "spec.ipFamilyPolicy",
            given(spec.ip_family_policy.as_deref()),
        ),
    ] {
        if let Some(value) = value {
            faults.add(
                field,
                value,
                "may not be set for an ExternalName service: it has a name and no address; take it away",
            );
        }
    }
}

fn families(faults: &mut Faults, spec: &ServiceSpec) {
    let families = spec.ip_families.as_deref().unwrap_or_default();
    for (index, family) in families.iter().enumerate() {
        let field = format!("spec.ipFamilies[{index}]");
        if !FAMILIES.contains(&family.as_str()) {
            faults.add(field, family, "must be IPv4 or IPv6");
        } else if families.iter().take(index).any(|f| f == family) {
            faults.add(field, family, "must be unique: each family at most once");
        }
    }
}

fn policy(faults: &mut Faults, spec: &ServiceSpec) {
    let field = "spec.ipFamilyPolicy";
    let policy = given(spec.ip_family_policy.as_deref());
    let policies = ["SingleStack", "PreferDualStack", "RequireDualStack"];
    faults.one_of(field, policy, &policies);
    let is_single = match policy {
        Some(policy) => policy == "SingleStack",
        // A headless service without selector may have both families without saying so.
        None => !(is_headless(spec) && spec.selector.as_ref().is_none_or(BTreeMap::is_empty)),
    };
    let addresses = spec.cluster_ips.as_deref().unwrap_or_default();
    let families = spec.ip_families.as_deref().unwrap_or_default();
    for (list, what) in [(addresses, "clusterIPs"), (families, "ipFamilies")] {
        if is_single && list.len() == 2 {
            faults.add(
                field,
                policy.unwrap_or_default(),
                format!("must be PreferDualStack or RequireDualStack where there are two {what}"),
            );
        }
    }
}

fn cluster_ips(faults: &mut Faults, spec: &ServiceSpec, kind: Type) {
    let list = spec.cluster_ips.as_deref().unwrap_or_default();
    let first = given(spec.cluster_ip.as_deref());
    if is_headless(spec) && matches!(kind, Type::NodePort | Type::LoadBalancer) {
        faults.add(
            "spec.clusterIP",
            "None",
            "may not be None with `type: NodePort` or `type: LoadBalancer`: they need an address; take it away to get one",
        );
    }
    match (first, list.first()) {
        (None, Some(given)) => faults.add(
            "spec.clusterIPs",
            given,
            format!("must be empty where clusterIP is not set; write `clusterIP: {given}` as well"),
        ),
        (Some(first), Some(same)) if !is_same(first, same) => faults.add(
            "spec.clusterIPs[0]",
            same,
            format!("must be clusterIP, {first}; make them equal, or leave clusterIPs out"),
        ),
        (None | Some(_), None) | (Some(_), Some(_)) => {}
    }
    if list.len() > 2 {
        faults.add(
            "spec.clusterIPs",
            list.join(", "),
            "may have at most two addresses, one of each family",
        );
    }
    if list.len() > 1 && list.iter().any(|text| text == "None") {
        faults.add(
            "spec.clusterIPs",
            list.join(", "),
            "None must be the only one; take the others away, or None",
        );
        return;
    }
    let asked: Vec<Asked<'_>> = if list.is_empty() {
        let field = "spec.clusterIP".to_owned();
        first
            .map(|text| Asked::read(faults, field, text))
            .into_iter()
            .collect()
    } else {
        list.iter()
            .enumerate()
            .map(|(index, text)| Asked::read(faults, format!("spec.clusterIPs[{index}]"), text))
            .collect()
    };
    if let [a, b, ..] = asked.as_slice()
        && a.is_ipv4().is_some()
        && a.is_ipv4() == b.is_ipv4()
    {
        faults.add(
            &*b.field,
            b.text,
            "must be of the other family than the first: a service has one address of each family",
        );
        return;
    }
    match_families(faults, spec, &asked);
}

/// An address that a service asks for.
struct Asked<'a> {
    field: String,
    text: &'a str,
    /// None for `None`, which is allowed, and for what is no address.
    address: Option<IpAddr>,
}

impl<'a> Asked<'a> {
    fn read(faults: &mut Faults, field: String, text: &'a str) -> Self {
        let address = if text == "None" {
            None
        } else {
            let parsed = address(text).map_err(|allowed| {
                format!("{allowed}; or None for a headless service; or left out to get one")
            });
            faults.check(&*field, text, parsed)
        };
        Self {
            field,
            text,
            address,
        }
    }

    fn is_ipv4(&self) -> Option<bool> {
        self.address.map(|a| a.is_ipv4())
    }
}

fn is_same(a: &str, b: &str) -> bool {
    a == b || matches!((address(a), address(b)), (Ok(a), Ok(b)) if a == b)
}

/// Each address is of the family that `ipFamilies` has at the same place.
fn match_families(faults: &mut Faults, spec: &ServiceSpec, asked: &[Asked<'_>]) {
    let families = spec.ip_families.as_deref().unwrap_or_default();
    // Already a fault, of which this would only be the consequence.
    let is_repeated = |index, family| families.iter().take(index).any(|f| f == family);
    for (index, (asked, family)) in asked.iter().zip(families).enumerate() {
        let wants_ipv4 = family == "IPv4";
        if FAMILIES.contains(&family.as_str())
            && !is_repeated(index, family)
            && asked.is_ipv4().is_some_and(|is_ipv4| is_ipv4 != wants_ipv4)
        {
            faults.add(
                &*asked.field,
                asked.text,
                format!("must be an {family} address, as ipFamilies[{index}] says"),
            );
        }
    }
}
