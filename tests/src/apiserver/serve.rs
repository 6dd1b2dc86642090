//! The answers.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use axum::{
    body::{Body, Bytes},
    extract::State,
    http::{
        Method, Request, Response, StatusCode,
        header::{AUTHORIZATION, CONTENT_TYPE, RETRY_AFTER},
    },
    response::IntoResponse as _,
};
use futures::{StreamExt as _, stream};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::{
    Shared, discovery,
    fault::{Answer, Streaming},
    resource::{Resource, Target},
    selector::Selector,
    store::Key,
    watch::{Watcher, line},
};

/// Bytes of an object at most.
const LARGEST: usize = 8 << 20;

type Reply = Response<Body>;

struct Asked {
    target: Target,
    query: BTreeMap<String, String>,
}

impl Asked {
    fn get(&self, name: &str) -> Option<&str> {
        self.query.get(name).map(String::as_str)
    }

    fn is(&self, name: &str) -> bool {
        matches!(self.get(name), Some("true" | "1"))
    }

    fn selector(&self) -> Selector {
        Selector::new(self.get("labelSelector"), self.get("fieldSelector"))
    }

    fn key(&self, name: &str) -> Key {
        Key {
            resource: self.target.resource.name.to_owned(),
            namespace: self.target.namespace.clone().unwrap_or_default(),
            name: name.to_owned(),
        }
    }
}

/// Answers a request.
pub(super) async fn answer(State(shared): State<Arc<Shared>>, request: Request<Body>) -> Reply {
    let (parts, body) = request.into_parts();
    let path = parts.uri.path();
    if let Some(document) = discovery::document(path) {
        return json_reply(StatusCode::OK, &document);
    }
    let Some(target) = Target::parse(path) else {
        return status(
            404,
            "NotFound",
            "the server could not find the requested resource",
        );
    };
    let asked = Asked {
        target,
        query: query(parts.uri.query().unwrap_or_default()),
    };
    let verb = verb(&parts.method, &asked);
    let resource = asked.target.called();
    shared.note(format!(
        "{verb} {resource} {}",
        parts.uri.query().unwrap_or_default()
    ));
    let given = parts
        .headers
        .get(AUTHORIZATION)
        .and_then(|it| it.to_str().ok());
    let token = shared.manners().token.clone();
    if token.is_some_and(|token| given != Some(&format!("Bearer {token}"))) {
        return status(401, "Unauthorized", "Unauthorized");
    }
    let fault = shared.manners().answer(verb, resource);
    let broken = match fault {
        Some(Answer::Nothing) => return std::future::pending().await,
        Some(Answer::Text(text)) => return (StatusCode::OK, text).into_response(),
        Some(Answer::Status {
            code,
            reason,
            message,
            again,
        }) => {
            let mut reply = status(code, reason, &message);
            if let Some(again) = again {
                reply.headers_mut().insert(RETRY_AFTER, again.into());
            }
            return reply;
        }
        Some(Answer::Broken(after)) => Some(after),
        None => None,
    };
    let content: Bytes = axum::body::to_bytes(body, LARGEST)
        .await
        .unwrap_or_default();
    let reply = match verb {
        "watch" => watch(&shared, &asked),
        "list" => list(&shared, &asked),
        "get" => get(&shared, &asked),
        "delete" => delete(&shared, &asked),
        verb => write(&shared, &asked, verb, &content),
    };
    match broken {
        Some(after) => cut(reply, after).await,
        None => reply,
    }
}

fn verb(method: &Method, asked: &Asked) -> &'static str {
    match (method.as_str(), asked.target.name.is_some()) {
        ("GET", false) if asked.is("watch") => "watch",
        ("GET", false) => "list",
        ("GET", true) => "get",
        ("POST", _) => "create",
        ("PUT", _) => "update",
        ("PATCH", _) => "patch",
        _ => "delete",
    }
}

fn list(shared: &Shared, asked: &Asked) -> Reply {
    let Target {
        resource,
        namespace,
        name: _,
        is_status: _,
    } = &asked.target;
    let limit = asked.get("limit").and_then(|text| text.parse().ok());
    let limit = shared.manners().page.or(limit).unwrap_or(usize::MAX).max(1);
    let mut store = shared.store();
    let (version, mut objects) = match asked.get("continue") {
        None => (
            store.version(),
            store.list(resource.name, namespace.as_deref(), &asked.selector()),
        ),
        Some(token) => match store.kept(token) {
            Some(kept) => kept,
            None => return expired(),
        },
    };
    let mut metadata = json!({"resourceVersion": version.to_string()});
    if objects.len() > limit {
        let rest = objects.split_off(limit);
        metadata["remainingItemCount"] = json!(rest.len());
        metadata["continue"] = json!(store.keep(version, rest));
    }
    // As the real one writes it: items have neither kind nor apiVersion.
    let items: Vec<Value> = objects.iter().map(|object| bare(object)).collect();
    json_reply(
        StatusCode::OK,
        &json!({"kind": format!("{}List", resource.kind), "apiVersion": resource.api_version, "metadata": metadata, "items": items}),
    )
}

fn bare(object: &Value) -> Value {
    let mut object = object.clone();
    if let Some(fields) = object.as_object_mut() {
        fields.remove("kind");
        fields.remove("apiVersion");
    }
    object
}

fn watch(shared: &Arc<Shared>, asked: &Asked) -> Reply {
    let Target {
        resource,
        namespace,
        name: _,
        is_status: _,
    } = &asked.target;
    let streaming = shared.manners().streaming;
    let lists = asked.is("sendInitialEvents");
    if lists && streaming == Streaming::Refused {
        let message = "sendInitialEvents: Forbidden: sendInitialEvents is forbidden for watch unless the WatchList feature \
                       gate is enabled";
        return status(422, "Invalid", message);
    }
    let asked_version = asked
        .get("resourceVersion")
        .filter(|text| !text.is_empty() && *text != "0");
    let store = shared.store();
    let now = store.version();
    let (version, found) = match asked_version.map(str::parse::<u64>) {
        None => (
            now,
            store.list(resource.name, namespace.as_deref(), &asked.selector()),
        ),
        Some(Ok(version)) if store.remembers(version) => (version, Vec::new()),
        Some(Ok(version)) if version > now => {
            return status(504, "Timeout", "Too large resource version");
        }
        Some(_) => {
            // Most servers say it in the stream.
            let gone = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "Expired", "code": 410,
                              "message": "too old resource version"});
            return (StatusCode::OK, line("ERROR", &gone)).into_response();
        }
    };
    drop(store);
    let seconds = asked
        .get("timeoutSeconds")
        .and_then(|text| text.parse().ok());
    let mut watcher = Watcher {
        shared: shared.clone(),
        resource: resource.name.to_owned(),
        kind: resource.kind,
        api_version: resource.api_version,
        namespace: namespace.clone(),
        selector: asked.selector(),
        version,
        ready: found.iter().map(|object| line("ADDED", object)).collect(),
        signals: shared.signals(),
        end: Instant::now() + Duration::from_secs(seconds.unwrap_or(600)),
        pause: shared.manners().pause,
    };
    if lists && streaming == Streaming::Supported {
        let end = watcher.bookmark(true);
        watcher.ready.push_back(end);
    }
    let body = Body::from_stream(watcher.stream().boxed());
    ([(CONTENT_TYPE, "application/json")], body).into_response()
}

fn get(shared: &Shared, asked: &Asked) -> Reply {
    let name = asked.target.name.as_deref().unwrap_or_default();
    match shared.store().get(&asked.key(name)) {
        Some(object) => json_reply(StatusCode::OK, &object),
        None => not_found(asked.target.resource, name),
    }
}

fn delete(shared: &Shared, asked: &Asked) -> Reply {
    let name = asked.target.name.as_deref().unwrap_or_default();
    let removed = shared.change(|store| store.remove(&asked.key(name)));
    match removed {
        Some(object) => json_reply(StatusCode::OK, &object),
        None => not_found(asked.target.resource, name),
    }
}

/// create, update, patch
fn write(shared: &Shared, asked: &Asked, verb: &str, content: &[u8]) -> Reply {
    let Target {
        resource,
        namespace,
        name,
        is_status,
    } = &asked.target;
    let Ok(given) = serde_json::from_slice::<Value>(content) else {
        return status(400, "BadRequest", "the body is no JSON (is it a protobuf?)");
    };
    let name = name
        .clone()
        .or_else(|| given["metadata"]["name"].as_str().map(str::to_owned));
    let Some(name) = name else {
        return status(
            422,
            "Invalid",
            "metadata.name: Required value: name or generateName is required",
        );
    };
    let key = asked.key(&name);
    let written = shared.change(|store| {
        let old = store.get(&key);
        let mut object = match (verb, old) {
            ("create", Some(_)) => {
                let message = format!("{} \"{name}\" already exists", resource.name);
                return Err(Box::new(status(409, "AlreadyExists", &message)));
            }
            ("update" | "patch", None) => return Err(Box::new(not_found(resource, &name))),
            (_, Some(old)) if is_stale(&given, &old) => {
                let message = format!(
                    "Operation cannot be fulfilled on {} \"{name}\": the object has been modified; please apply your \
                     changes to the latest version and try again",
                    resource.name
                );
                return Err(Box::new(status(409, "Conflict", &message)));
            }
            (verb, Some(old)) => written(verb, given, &old, *is_status),
            (_, None) => given,
        };
        object["kind"] = json!(resource.kind);
        object["apiVersion"] = json!(resource.api_version);
        if let Some(namespace) = namespace {
            object["metadata"]["namespace"] = json!(namespace);
        }
        Ok(store.put(key, object))
    });
    match written {
        Ok(object) if verb == "create" => json_reply(StatusCode::CREATED, &object),
        Ok(object) => json_reply(StatusCode::OK, &object),
        Err(reply) => *reply,
    }
}

/// Somebody has seen another version than the last one, or another object of that name.
fn is_stale(given: &Value, old: &Value) -> bool {
    ["resourceVersion", "uid"].into_iter().any(|field| {
        let seen = &given["metadata"][field];
        !seen.is_null() && *seen != old["metadata"][field]
    })
}

/// An object after an update or a patch: the status of a Service, and all the rest of it, are written by different paths.
fn written(verb: &str, given: Value, old: &Value, is_status: bool) -> Value {
    let mut new = if verb == "patch" {
        let mut merged = old.clone();
        merge(&mut merged, given);
        merged
    } else {
        given
    };
    if is_status {
        let status = new["status"].take();
        new = old.clone();
        new["status"] = status;
    } else if old["kind"] == "Service" && !old["status"].is_null() {
        new["status"] = old["status"].clone();
    }
    new
}

/// RFC 7386, which is what a strategic merge comes to where no list is merged by a key.
fn merge(into: &mut Value, patch: Value) {
    let Value::Object(patch) = patch else {
        *into = patch;
        return;
    };
    if !into.is_object() {
        *into = json!({});
    }
    for (name, value) in patch {
        // What kubectl says about the order of lists is no field.
        if name.starts_with('$') {
            continue;
        }
        if value.is_null() {
            if let Some(fields) = into.as_object_mut() {
                fields.remove(&name);
            }
        } else {
            merge(&mut into[name], value);
        }
    }
}

/// The beginning of a reply, after which the connection breaks.
async fn cut(reply: Reply, after: usize) -> Reply {
    let (parts, body) = reply.into_parts();
    let mut body = body.into_data_stream();
    let mut begin = Vec::new();
    while begin.len() < after
        && let Some(Ok(bytes)) = body.next().await
    {
        begin.extend_from_slice(&bytes);
    }
    begin.truncate(after);
    let ends = [
        Ok(Bytes::from(begin)),
        Err(std::io::Error::other("cut off")),
    ];
    let mut reply = Response::from_parts(parts, Body::from_stream(stream::iter(ends)));
    reply
        .headers_mut()
        .remove(axum::http::header::CONTENT_LENGTH);
    reply
}

fn json_reply(code: StatusCode, value: &Value) -> Reply {
    (
        code,
        [(CONTENT_TYPE, "application/json")],
        value.to_string(),
    )
        .into_response()
}

fn expired() -> Reply {
    status(410, "Expired", "The provided continue parameter is too old")
}

fn not_found(resource: &Resource, name: &str) -> Reply {
    status(
        404,
        "NotFound",
        &format!("{} \"{name}\" not found", resource.name),
    )
}

fn status(code: u16, reason: &str, message: &str) -> Reply {
    let body = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "code": code,
                      "reason": reason, "message": message});
    json_reply(
        StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR),
        &body,
    )
}

/// A query string, decoded.
fn query(text: &str) -> BTreeMap<String, String> {
    let pairs = text.split('&').filter_map(|pair| pair.split_once('='));
    pairs
        .map(|(name, value)| (decoded(name), decoded(value)))
        .collect()
}

fn decoded(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        let hex = |byte: Option<u8>| char::from(byte?).to_digit(16);
        bytes.push(match byte {
            b'%' => match (hex(rest.next()), hex(rest.next())) {
                (Some(high), Some(low)) => u8::try_from(high * 16 + low).unwrap_or(b'?'),
                _ => b'?',
            },
            b'+' => b' ',
            byte => byte,
        });
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
