//! One file as objects and problems.

use std::sync::Arc;

use k8s_openapi::{
    Metadata,
    api::{
        core::v1::{Namespace, Node, Pod, Service},
        discovery::v1::EndpointSlice,
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use serde::de::DeserializeOwned;

use super::{
    Shared,
    build::build,
    document,
    kinds::{Known, known},
    tree,
    tree::{Flaw, Value},
    typed::{Typed, typed},
};
use crate::model::{
    facts::Names,
    object::{DEFAULT_NAMESPACE, Kind, Object, ObjectKey, ObjectName, Spec},
    problem::{Fault, Origin, Position, Problem},
    validate::{self, Rules},
};

/// What one file says.
#[derive(Clone, PartialEq, Default, Debug)]
pub(super) struct Content {
    /// Its objects, good and bad, by their keys; several of one key in the order of the text.
    pub(super) found: Vec<Found>,
    /// What is wrong with it.
    pub(super) problems: Vec<Problem>,
    /// Objects of kinds that have no effect here.
    pub(super) ignored: Vec<Ignored>,
    /// True if there is something of which it is not known which object it defines, so that an object which the file had
    /// before may still be meant to be there.
    pub(super) has_unidentified: bool,
}

impl Content {
    /// The definitions of an object.
    pub(super) fn of(&self, key: &ObjectKey) -> impl Iterator<Item = &Found> {
        let first = self.found.partition_point(|found| found.key < *key);
        let rest = self.found.get(first..).unwrap_or_default();
        rest.iter().take_while(move |found| found.key == *key)
    }
}

/// An object that a file defines.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Found {
    /// Which.
    pub(super) key: ObjectKey,
    /// Where it begins.
    pub(super) position: Position,
    /// The object; none if it is not valid.
    pub(super) object: Option<Arc<Object>>,
}

/// An object of a kind that has no effect here.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Ignored {
    /// Line at which it begins.
    pub(super) line: u32,
    /// apiVersion and kind.
    pub(super) kind: String,
}

/// Reads a file.
pub(super) fn read(file: &Arc<str>, text: &str, rules: &Rules, shared: &mut Shared) -> Content {
    let mut reader = Reader {
        file,
        rules,
        shared,
        content: Content::default(),
    };
    let (documents, flaw) = document::split(file, text);
    for document in &documents {
        match build(document) {
            Ok((Some(root), flaws)) if !root.is_null() => reader.visit(root, flaws, None),
            Ok((_, flaws)) => reader.report("", flaws),
            Err(flaw) => reader.unidentified("", flaw),
        }
    }
    if let Some(flaw) = flaw {
        reader.unidentified("", flaw);
    }
    let mut content = reader.content;
    content.found.sort_by(|a, b| a.key.cmp(&b.key));
    content.found.shrink_to_fit();
    content
}

/// A file that could not even be read.
pub(super) fn unreadable(file: &Arc<str>, message: String) -> Content {
    Content {
        problems: vec![Problem {
            file: file.clone(),
            line: 0,
            column: 0,
            object: String::new(),
            field: String::new(),
            value: String::new(),
            message,
        }],
        has_unidentified: true,
        ..Content::default()
    }
}

/// apiVersion and kind.
#[derive(Clone)]
struct TypeMeta {
    api_version: String,
    kind: String,
}

struct Reader<'a> {
    file: &'a Arc<str>,
    rules: &'a Rules,
    shared: &'a mut Shared,
    content: Content,
}

impl Reader<'_> {
    /// An object or a list of them; `listed` is what the list says of its items.
    fn visit(&mut self, node: tree::Node, flaws: Vec<Flaw>, listed: Option<TypeMeta>) {
        let Some(TypeMeta { api_version, kind }) = self.type_meta(&node, listed) else {
            self.report("", flaws);
            return;
        };
        if let Some(item) = kind.strip_suffix("List") {
            let listed = (!item.is_empty()).then(|| TypeMeta {
                api_version,
                kind: item.to_owned(),
            });
            self.list(node, flaws, listed.as_ref());
            return;
        }
        match known(&api_version, &kind) {
            Known::Kind(kind) => self.object(node, flaws, kind),
            Known::Ignored => self.content.ignored.push(Ignored {
                line: node.position.line,
                kind: format!("{api_version} {kind}"),
            }),
            Known::Wrong {
                field,
                value,
                message,
            } => {
                let position = node.get(field).map_or(node.position, |n| n.position);
                let flaw = Flaw {
                    position,
                    field: field.to_owned(),
                    value,
                    message,
                };
                self.unidentified(&kind, flaw);
                self.report(&kind, flaws);
            }
        }
    }

    fn type_meta(&mut self, node: &tree::Node, listed: Option<TypeMeta>) -> Option<TypeMeta> {
        if !matches!(node.value, Value::Map(_)) {
            self.unidentified(
                "",
                Flaw {
                    position: node.position,
                    field: String::new(),
                    value: node.shown(),
                    message: "not an object: it must begin with apiVersion and kind".to_owned(),
                },
            );
            return None;
        }
        let (mut api_version, mut kind) = listed.map_or((None, None), |t| {
            let TypeMeta { api_version, kind } = t;
            (Some(api_version), Some(kind))
        });
        for (field, slot, example) in [
            ("apiVersion", &mut api_version, "v1"),
            ("kind", &mut kind, "Service"),
        ] {
            match node.get(field) {
                Some(value) if !value.is_null() => {
                    *slot = value.text().filter(|t| !t.is_empty()).map(str::to_owned);
                }
                _ => {}
            }
            if slot.is_none() {
                let given = node.get(field);
                self.unidentified(
                    "",
                    Flaw {
                        position: given.map_or(node.position, |n| n.position),
                        field: field.to_owned(),
                        value: given.map(tree::Node::shown).unwrap_or_default(),
                        message: format!(
                            "required, a text: without it nobody knows what this is; for a service write `{field}: {example}`"
                        ),
                    },
                );
                return None;
            }
        }
        Some(TypeMeta {
            api_version: api_version?,
            kind: kind?,
        })
    }

    fn list(&mut self, node: tree::Node, flaws: Vec<Flaw>, listed: Option<&TypeMeta>) {
        let Value::Map(entries) = node.value else {
            return;
        };
        let mut flaws = flaws;
        for entry in entries {
            if entry.key != "items" {
                continue;
            }
            match entry.node.value {
                Value::List(items) => {
                    for (index, item) in items.into_iter().enumerate() {
                        let prefix = tree::index_path("items", index);
                        let (mine, others) = flaws
                            .into_iter()
                            .partition(|flaw| is_within(&flaw.field, &prefix));
                        flaws = others;
                        self.visit(item, relative(mine, &prefix), listed.cloned());
                    }
                }
                Value::Scalar(scalar) if scalar.is_null() => {}
                Value::Scalar(_) | Value::Map(_) | Value::Erased => self.unidentified(
                    "List",
                    Flaw {
                        position: entry.position,
                        field: "items".to_owned(),
                        value: String::new(),
                        message: "must be a list of objects".to_owned(),
                    },
                ),
            }
        }
        if !flaws.is_empty() {
            self.content.has_unidentified = true;
            self.report("List", flaws);
        }
    }

    fn object(&mut self, node: tree::Node, flaws: Vec<Flaw>, kind: Kind) {
        let metadata = node.get("metadata");
        let name = metadata.and_then(|m| m.get("name"));
        let Some(name) = name.and_then(tree::Node::text).filter(|n| !n.is_empty()) else {
            let flaw = Flaw {
                position: name
                    .or(metadata)
                    .map_or(node.position, |n| n.position),
                field: "metadata.name".to_owned(),
                value: name.map(tree::Node::shown).unwrap_or_default(),
                message: "required, a text: an object is known by its name (generateName is not enough, nobody would generate it)"
                    .to_owned(),
            };
            self.unidentified(&kind.to_string(), flaw);
            self.report(&kind.to_string(), flaws);
            return;
        };
        let namespace = match kind {
            Kind::Node | Kind::Namespace => "",
            Kind::Service | Kind::EndpointSlice | Kind::Pod => metadata
                .and_then(|m| m.get("namespace"))
                .and_then(tree::Node::text)
                .filter(|n| !n.is_empty())
                .unwrap_or(DEFAULT_NAMESPACE),
        };
        let key = ObjectKey {
            kind,
            name: ObjectName {
                namespace: self.shared.names.share(namespace),
                name: name.into(),
            },
        };
        let rules = self.rules;
        match kind {
            Kind::Service => {
                let known = |s: Service, names: &mut Names| Spec::service(&s, names);
                self.typed(key, node, flaws, known, |s| validate::service(s, rules));
            }
            Kind::Pod => {
                let known = |p: Pod, names: &mut Names| Spec::pod(&p, names);
                self.typed(key, node, flaws, known, validate::pod);
            }
            Kind::EndpointSlice => {
                let known = |s: EndpointSlice, names: &mut Names| Spec::endpoint_slice(&s, names);
                self.typed(key, node, flaws, known, validate::endpoint_slice);
            }
            Kind::Node => {
                let known = |n: Node, _: &mut Names| Spec::from(n);
                self.typed(key, node, flaws, known, validate::node);
            }
            Kind::Namespace => {
                let known = |n: Namespace, _: &mut Names| Spec::from(n);
                self.typed(key, node, flaws, known, validate::namespace);
            }
        }
    }

    fn typed<T: DeserializeOwned + Metadata<Ty = ObjectMeta>>(
        &mut self,
        key: ObjectKey,
        node: tree::Node,
        mut flaws: Vec<Flaw>,
        known: impl FnOnce(T, &mut Names) -> Spec,
        faults: impl FnOnce(&T) -> Vec<Fault>,
    ) {
        let position = node.position;
        let origin = Arc::new(Origin {
            file: self.file.clone(),
            start: position,
            fields: self.shared.shapes.share(node.fields()),
        });
        let Typed {
            object,
            wrong,
            unknown,
        } = typed::<T>(node);
        let mut object = object;
        if let Some(object) = &mut object
            && !key.name.namespace.is_empty()
        {
            object.metadata_mut().namespace = Some(key.name.namespace.as_ref().to_owned());
        }
        // A value that was taken out has been reported already.
        let faults: Vec<Fault> = object
            .as_ref()
            .map(faults)
            .unwrap_or_default()
            .into_iter()
            .filter(|fault| !wrong.iter().any(|w| is_within(&fault.field, &w.field)))
            .collect();
        let is_good = flaws.is_empty() && wrong.is_empty() && faults.is_empty();
        flaws.extend(wrong);
        flaws.extend(unknown);
        self.report(&key.to_string(), flaws);
        let faults = faults.into_iter().map(|fault| fault.at(&key, &origin));
        self.content.problems.extend(faults);
        let names = &mut self.shared.names;
        self.content.found.push(Found {
            object: object.filter(|_| is_good).map(|object| {
                Arc::new(Object {
                    key: key.clone(),
                    spec: known(object, names),
                    origin,
                })
            }),
            key,
            position,
        });
    }

    fn unidentified(&mut self, object: &str, flaw: Flaw) {
        self.content.has_unidentified = true;
        self.report(object, vec![flaw]);
    }

    fn report(&mut self, object: &str, flaws: Vec<Flaw>) {
        for flaw in flaws {
            let Flaw {
                position,
                field,
                value,
                message,
            } = flaw;
            self.content.problems.push(Problem {
                file: self.file.clone(),
                line: position.line,
                column: position.column,
                object: object.to_owned(),
                field,
                value,
                message,
            });
        }
    }
}

/// True for a path and everything below it.
fn is_within(field: &str, path: &str) -> bool {
    field
        .strip_prefix(path)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
}

fn relative(flaws: Vec<Flaw>, prefix: &str) -> Vec<Flaw> {
    flaws
        .into_iter()
        .map(|mut flaw| {
            if let Some(rest) = flaw.field.strip_prefix(prefix) {
                flaw.field = rest.trim_start_matches('.').to_owned();
            }
            flaw
        })
        .collect()
}
