//! One round of writing: what is true now, what is reserved, and then the statuses.
//!
//! Two agents that give addresses out at once must not give one twice. So what is about to be written is written into one object
//! first, a Lease, which the server changes only for whoever knows its last version; and who has what is read anew between the two.
//! What another agent is about to write is thus either in a status, or reserved, or comes too late.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    net::IpAddr,
    time::Duration,
};

use hyper::{Response, StatusCode};
use k8s_openapi::{
    api::{
        coordination::v1::{Lease, LeaseSpec},
        core::v1::Service,
    },
    apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta},
    jiff::Timestamp,
};
use kube::client::Body;
use serde_json::{Value, json};

use super::Provider;
use crate::{
    model::{
        facts::{self, Names},
        object::ObjectName,
        provision::{Pool, Provision, Reserved},
        service::parse_address,
    },
    source::kubernetes::{
        Servers,
        decode::Page,
        failure::{Cause, explain},
        follow::refused,
        lines::whole,
    },
};

/// The one object, in the agent's own namespace.
const RECORD: &str = "clusterip-load-balancers";
/// What is reserved: `{"NAMESPACE/NAME": ["ADDRESS", ...]}`.
const RESERVED: &str = "clusterip.dev/reserved";
/// Services of one round: the record has its limits.
const BATCH: usize = 100;
/// How long an answer may go without a byte.
const PATIENCE: Duration = Duration::from_secs(30);

/// Why a round ended before its end.
#[derive(Debug)]
pub(super) enum Stop {
    /// Another agent was faster.
    Overtaken,
    Refused(Refusal),
}

/// What the server does not do.
#[derive(Debug)]
pub(super) struct Refusal {
    verb: &'static str,
    /// As a role has to name it.
    resource: &'static str,
    pub(super) cause: Cause,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            verb,
            resource,
            cause,
        } = self;
        write!(f, "cannot {verb} {resource}: {}", cause.why())?;
        if let Cause::Refused { code: 403, .. } = cause {
            write!(
                f,
                "; let the agent's account {verb} {resource} (the chart's loadBalancer.class does)"
            )?;
        }
        Ok(())
    }
}

/// For what and with which verb something is asked.
#[derive(Clone, Copy)]
struct Ask(&'static str, &'static str);

const SERVICES: &str = "services";
const STATUS: &str = "services/status";
const LEASES: &str = "leases.coordination.k8s.io";

impl Ask {
    const fn stop(self, cause: Cause) -> Stop {
        let Self(verb, resource) = self;
        Stop::Refused(Refusal {
            verb,
            resource,
            cause,
        })
    }

    async fn body(self, answer: Result<Response<Body>, Cause>) -> Result<Vec<u8>, Stop> {
        let response = answer.map_err(|cause| self.stop(cause))?;
        match response.status() {
            status if status.is_success() => {
                let body = whole(response.into_body(), PATIENCE).await;
                Ok(body.map_err(|cause| self.stop(cause))?.to_vec())
            }
            StatusCode::CONFLICT => Err(Stop::Overtaken),
            _ => Err(self.stop(refused(response).await)),
        }
    }

    fn json(self, value: &impl serde::Serialize) -> Result<Vec<u8>, Stop> {
        serde_json::to_vec(value).map_err(|error| self.nonsense(&error))
    }

    fn nonsense(self, error: &serde_json::Error) -> Stop {
        self.stop(Cause::Nonsense(explain(error)))
    }
}

/// A load balancer as the server has it at this moment.
struct Current {
    uid: String,
    version: String,
}

/// Writes what is lacking.
pub(super) async fn round(
    servers: &Servers,
    provider: &Provider,
    pool: &Pool,
    now: Timestamp,
) -> Result<(), Stop> {
    // The order matters: whatever was reserved and has left the record is in a status by now.
    let record = read(servers).await?;
    let (all, current) = list(servers, &provider.class).await?;
    let mut reserved = record.as_ref().map(reserved).unwrap_or_default();
    let outcome = pool.assign(&all, &reserved);
    // The rest is in its status, or asked for no more: who is late with it finds another version of the service.
    reserved.retain(|name, _| outcome.grants.contains_key(name));
    let due: Vec<(&ObjectName, &Vec<IpAddr>)> = outcome.grants.iter().take(BATCH).collect();
    for (name, addresses) in &due {
        let own = reserved.entry((*name).clone()).or_default();
        own.extend(addresses.iter().copied());
    }
    write(servers, &provider.node, record, &reserved, now).await?;
    let mut outcome = Ok(());
    for (name, addresses) in due {
        let Some(current) = current.get(name) else {
            continue;
        };
        match give(servers, name, addresses, current).await {
            // One that has changed meanwhile is looked at again.
            Ok(()) | Err(Stop::Overtaken) => {}
            // It may be this one's fault alone.
            Err(stop) => outcome = Err(stop),
        }
    }
    outcome
}

fn path(servers: &Servers) -> String {
    let namespace = servers.namespace();
    format!("/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases")
}

async fn read(servers: &Servers) -> Result<Option<Lease>, Stop> {
    let ask = Ask("get", LEASES);
    let answer = servers.get(&format!("{}/{RECORD}", path(servers))).await;
    if let Ok(response) = &answer
        && response.status() == StatusCode::NOT_FOUND
    {
        return Ok(None);
    }
    let body = ask.body(answer).await?;
    let lease = serde_json::from_slice(&body).map_err(|error| ask.nonsense(&error))?;
    Ok(Some(lease))
}

/// What the record says; what cannot be read is nobody's address.
fn reserved(record: &Lease) -> Reserved {
    let annotations = record.metadata.annotations.as_ref();
    let text = annotations.and_then(|all| all.get(RESERVED));
    let all: BTreeMap<String, BTreeSet<String>> = text
        .and_then(|text| serde_json::from_str(text).ok())
        .unwrap_or_default();
    let named = all.into_iter().filter_map(|(name, addresses)| {
        let (namespace, name) = name.split_once('/')?;
        let addresses = addresses.iter().filter_map(|text| parse_address(text));
        Some((ObjectName::new(namespace, name), addresses.collect()))
    });
    named.collect()
}

async fn write(
    servers: &Servers,
    node: &str,
    record: Option<Lease>,
    reserved: &Reserved,
    now: Timestamp,
) -> Result<(), Stop> {
    let is_new = record.is_none();
    let mut lease = record.unwrap_or_else(|| Lease {
        metadata: ObjectMeta {
            name: Some(RECORD.to_owned()),
            ..ObjectMeta::default()
        },
        ..Lease::default()
    });
    let names = reserved.iter().map(|(name, addresses)| {
        let addresses: Vec<String> = addresses.iter().map(ToString::to_string).collect();
        (name.to_string(), json!(addresses))
    });
    let text = Value::Object(names.collect()).to_string();
    let annotations = lease.metadata.annotations.get_or_insert_default();
    annotations.insert(RESERVED.to_owned(), text);
    let spec = lease.spec.get_or_insert_default();
    hold(spec, node, now);
    let answer = if is_new {
        let ask = Ask("create", LEASES);
        ask.body(servers.post(&path(servers), ask.json(&lease)?).await)
            .await
    } else {
        let ask = Ask("update", LEASES);
        let path = format!("{}/{RECORD}", path(servers));
        ask.body(servers.put(&path, ask.json(&lease)?).await).await
    };
    answer.map(drop)
}

/// For whoever looks: nothing here goes by it.
fn hold(spec: &mut LeaseSpec, node: &str, now: Timestamp) {
    if spec.holder_identity.as_deref() != Some(node) {
        let transitions = spec.lease_transitions;
        spec.lease_transitions = Some(transitions.map_or(0, |it| it.saturating_add(1)));
        spec.acquire_time = Some(MicroTime(now));
        spec.holder_identity = Some(node.to_owned());
    }
    spec.renew_time = Some(MicroTime(now));
}

type Listed = (
    BTreeMap<ObjectName, Provision>,
    BTreeMap<ObjectName, Current>,
);

/// All load balancers, as they are now.
async fn list(servers: &Servers, class: &str) -> Result<Listed, Stop> {
    let ask = Ask("list", SERVICES);
    let path = "/api/v1/services";
    let mut answer = servers
        .get(&format!("{path}?fieldSelector=spec.type%3DLoadBalancer"))
        .await;
    if let Ok(response) = &answer
        && response.status() == StatusCode::BAD_REQUEST
    {
        // A server that does not know this selector.
        answer = servers.get(path).await;
    }
    let body = ask.body(answer).await?;
    let page: Page<'_> = serde_json::from_slice(&body).map_err(|error| ask.nonsense(&error))?;
    let mut names = Names::default();
    let (mut all, mut current) = Listed::default();
    for item in page.items.unwrap_or_default() {
        let Ok(service) = serde_json::from_str::<Service>(item.get()) else {
            all.extend(unreadable(item.get()));
            continue;
        };
        let ObjectMeta {
            namespace,
            name,
            uid,
            resource_version,
            ..
        } = &service.metadata;
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        let name = ObjectName::new(&text(namespace), &text(name));
        let facts = facts::Service::of(&service, &mut names);
        if let Some(provision) = Provision::of(&facts, class) {
            let (uid, version) = (text(uid), text(resource_version));
            current.insert(name.clone(), Current { uid, version });
            all.insert(name, provision);
        }
    }
    Ok((all, current))
}

/// The addresses that an object has which is none: they are taken all the same.
fn unreadable(text: &str) -> Option<(ObjectName, Provision)> {
    let value: Value = serde_json::from_str(text).ok()?;
    let word = |place| value.pointer(place).and_then(Value::as_str);
    let name = ObjectName::new(word("/metadata/namespace")?, word("/metadata/name")?);
    let ingress = value.pointer("/status/loadBalancer/ingress")?.as_array()?;
    let addresses = ingress
        .iter()
        .filter_map(|it| parse_address(it.get("ip")?.as_str()?));
    Some((name, Provision::unreadable(addresses.collect())))
}

async fn give(
    servers: &Servers,
    name: &ObjectName,
    addresses: &[IpAddr],
    current: &Current,
) -> Result<(), Stop> {
    let ask = Ask("patch", STATUS);
    let ingress: Vec<Value> = addresses
        .iter()
        .map(|it| json!({ "ip": it.to_string() }))
        .collect();
    let Current { uid, version } = current;
    let change = json!({
        "metadata": { "uid": uid, "resourceVersion": version },
        "status": { "loadBalancer": { "ingress": ingress } },
    });
    let ObjectName {
        namespace,
        name: last,
    } = name;
    let path = format!("/api/v1/namespaces/{namespace}/services/{last}/status");
    let answer = servers.patch(&path, ask.json(&change)?).await;
    if let Ok(response) = &answer
        && response.status() == StatusCode::NOT_FOUND
    {
        // It has gone.
        return Ok(());
    }
    ask.body(answer).await?;
    let addresses: Vec<String> = addresses.iter().map(ToString::to_string).collect();
    log::info!(service:% = name, addresses:? = addresses; "load balancer has its addresses");
    Ok(())
}

/// A role that lacks a verb.
#[cfg(test)]
pub(super) fn refusal_for_tests() -> Refusal {
    Refusal {
        verb: "patch",
        resource: STATUS,
        cause: Cause::Refused {
            code: 403,
            message: "Forbidden".to_owned(),
            again: None,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_reserved_is_read_as_it_was_written_and_nonsense_reserves_nothing() {
        let lease = |text: &str| Lease {
            metadata: ObjectMeta {
                annotations: Some([(RESERVED.to_owned(), text.to_owned())].into()),
                ..ObjectMeta::default()
            },
            ..Lease::default()
        };
        let read = reserved(&lease(
            r#"{"default/web":["203.0.113.7","2001:db8::7"],"nameless":["203.0.113.8"],"a/b":["x"]}"#,
        ));
        let web = ["203.0.113.7", "2001:db8::7"].map(|it| it.parse().unwrap());
        assert_eq!(read[&ObjectName::new("default", "web")], web.into());
        assert_eq!(read[&ObjectName::new("a", "b")], BTreeSet::new());
        assert_eq!(read.len(), 2);
        assert_eq!(reserved(&lease("[]")), Reserved::new());
        assert_eq!(reserved(&Lease::default()), Reserved::new());
    }

    #[test]
    fn who_holds_the_record_is_counted_when_it_is_somebody_else() {
        let (mut spec, now) = (LeaseSpec::default(), Timestamp::UNIX_EPOCH);
        let mut transitions = Vec::new();
        for node in ["a", "a", "b", "a"] {
            hold(&mut spec, node, now);
            transitions.push(spec.lease_transitions.unwrap());
        }
        assert_eq!(transitions, [0, 0, 1, 2]);
        assert_eq!(spec.holder_identity.as_deref(), Some("a"));
    }
}
