//! From the text of a document to its tree, by the events of the YAML parser.

use std::{borrow::Cow, collections::HashMap, mem};

use granit_parser::{Event, Marker, Parser, ScalarStyle, ScanError, Span, Tag};

use super::{
    document::Document,
    scalar::Scalar,
    tree::{Entry, Flaw, Node, Value, index_path, key_path},
};
use crate::model::problem::Position;

/// Nodes a document may have after its aliases are expanded: an object of the API is far smaller, and a few lines
/// of aliases to aliases would otherwise fill the memory.
const MAX_NODES: usize = 1_000_000;

/// Levels a document may have; everything that walks the tree does so by recursion.
const MAX_DEPTH: usize = 100;

/// Reads one document. The tree is there even if keys are given twice (the first one is kept); it is not if the
/// text is no YAML.
///
/// # Errors
/// The flaw that made the text unreadable.
pub(super) fn build(document: &Document<'_>) -> Result<(Option<Node>, Vec<Flaw>), Flaw> {
    let mut builder = Builder {
        document,
        open: Vec::new(),
        root: None,
        anchors: HashMap::new(),
        nodes: 0,
        flaws: Vec::new(),
    };
    for next in Parser::new_from_str(document.text) {
        let (event, span) = next.map_err(|e| unreadable(document, &e))?;
        builder.take(event, span)?;
    }
    Ok((builder.root, builder.flaws))
}

fn unreadable(document: &Document<'_>, error: &ScanError) -> Flaw {
    Flaw {
        position: document.position(error.marker().line(), error.marker().col()),
        field: String::new(),
        value: String::new(),
        message: format!(
            "not YAML: {}; mend the text from here on, what this file defined before stays in force",
            error.kind()
        ),
    }
}

/// A collection that is not yet complete.
struct Open {
    position: Position,
    anchor: usize,
    path: String,
    content: Content,
}

enum Content {
    List(Vec<Node>),
    Map(Mapping),
}

/// A mapping that is not yet complete.
#[derive(Default)]
struct Mapping {
    entries: Vec<Entry>,
    /// The keys so far, with their lines.
    seen: HashMap<String, u32>,
    /// A key that waits for its value.
    key: Option<(String, Position)>,
    /// What `<<` brings in.
    merged: Vec<Node>,
}

impl Mapping {
    fn finish(mut self) -> Vec<Entry> {
        let merged = mem::take(&mut self.merged);
        self.merge(merged);
        self.entries
    }

    /// Keys given in the mapping itself win, then the first of several that are merged.
    fn merge(&mut self, merged: Vec<Node>) {
        for node in merged {
            match node.value {
                Value::Map(more) => {
                    for entry in more {
                        if !self.seen.contains_key(&entry.key) {
                            self.push(entry);
                        }
                    }
                }
                Value::List(items) => self.merge(items),
                Value::Scalar(_) | Value::Erased => {}
            }
        }
    }

    fn push(&mut self, entry: Entry) {
        self.seen.insert(entry.key.clone(), entry.position.line);
        self.entries.push(entry);
    }
}

struct Builder<'a, 'd> {
    document: &'a Document<'d>,
    open: Vec<Open>,
    root: Option<Node>,
    anchors: HashMap<usize, (Node, Extent)>,
    nodes: usize,
    flaws: Vec<Flaw>,
}

impl Builder<'_, '_> {
    fn take(&mut self, event: Event<'_>, span: Span) -> Result<(), Flaw> {
        let position = self.position(span.start);
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                let value = Value::Scalar(scalar(text, style, tag.as_deref()));
                self.node(Node { position, value }, anchor)
            }
            Event::SequenceStart(_, anchor, _) => {
                self.begin(position, anchor, Content::List(Vec::new()))
            }
            Event::MappingStart(_, anchor, _) => {
                self.begin(position, anchor, Content::Map(Mapping::default()))
            }
            Event::SequenceEnd | Event::MappingEnd => self.end(),
            Event::Alias(id) => self.alias(id, position),
            // Without a document the tree stays empty; the other events carry no data.
            _ => Ok(()),
        }
    }

    fn position(&self, marker: Marker) -> Position {
        self.document.position(marker.line(), marker.col())
    }

    fn begin(&mut self, position: Position, anchor: usize, content: Content) -> Result<(), Flaw> {
        self.count(Extent { nodes: 1, depth: 1 }, position)?;
        let path = self.child_path();
        self.open.push(Open {
            position,
            anchor,
            path,
            content,
        });
        Ok(())
    }

    fn end(&mut self) -> Result<(), Flaw> {
        let Some(open) = self.open.pop() else {
            return Ok(());
        };
        let Open {
            position,
            anchor,
            path: _,
            content,
        } = open;
        let value = match content {
            Content::List(items) => Value::List(items),
            Content::Map(mapping) => Value::Map(mapping.finish()),
        };
        self.place(Node { position, value }, anchor)
    }

    fn alias(&mut self, id: usize, position: Position) -> Result<(), Flaw> {
        let Some((node, extent)) = self.anchors.get(&id).cloned() else {
            return Err(self.limit(
                position,
                "this alias stands inside its own anchor".to_owned(),
            ));
        };
        self.count(extent, position)?;
        self.place(node, 0)
    }

    fn node(&mut self, node: Node, anchor: usize) -> Result<(), Flaw> {
        self.count(Extent { nodes: 1, depth: 0 }, node.position)?;
        self.place(node, anchor)
    }

    /// Puts a complete node where it belongs: the root, a list, a key, or the value of a key.
    fn place(&mut self, node: Node, anchor: usize) -> Result<(), Flaw> {
        if anchor != 0 {
            let extent = extent(&node);
            self.anchors.insert(anchor, (node.clone(), extent));
        }
        let Some(open) = self.open.last_mut() else {
            self.root = Some(node);
            return Ok(());
        };
        match &mut open.content {
            Content::List(items) => items.push(node),
            Content::Map(mapping) => match mapping.key.take() {
                None => {
                    let Value::Scalar(scalar) = &node.value else {
                        return Err(Flaw {
                            position: node.position,
                            field: open.path.clone(),
                            value: node.shown(),
                            message: "a key must be one word or text, not a list or a mapping"
                                .to_owned(),
                        });
                    };
                    mapping.key = Some((scalar.raw().to_owned(), node.position));
                }
                Some((name, _)) if name == "<<" => mapping.merged.push(node),
                Some((name, position)) => match mapping.seen.get(&name) {
                    Some(line) => self.flaws.push(Flaw {
                        position,
                        field: key_path(&open.path, &name),
                        value: node.shown(),
                        message: format!(
                            "given twice, the first time in line {line}; keep one of them"
                        ),
                    }),
                    None => mapping.push(Entry {
                        key: name,
                        position,
                        node,
                    }),
                },
            },
        }
        Ok(())
    }

    /// The path of what comes next.
    fn child_path(&self) -> String {
        match self.open.last() {
            None => String::new(),
            Some(open) => match &open.content {
                Content::List(items) => index_path(&open.path, items.len()),
                Content::Map(mapping) => mapping
                    .key
                    .as_ref()
                    .map_or_else(|| open.path.clone(), |(key, _)| key_path(&open.path, key)),
            },
        }
    }

    fn count(&mut self, more: Extent, position: Position) -> Result<(), Flaw> {
        let Extent { nodes, depth } = more;
        if self.open.len() + depth > MAX_DEPTH {
            return Err(self.limit(
                position,
                format!("nested deeper than {MAX_DEPTH} levels; no object of the API is"),
            ));
        }
        self.nodes = self.nodes.saturating_add(nodes);
        if self.nodes > MAX_NODES {
            return Err(self.limit(
                position,
                format!(
                    "more than {MAX_NODES} values, aliases expanded; divide it into several objects"
                ),
            ));
        }
        Ok(())
    }

    fn limit(&self, position: Position, message: String) -> Flaw {
        Flaw {
            position,
            field: self.child_path(),
            value: String::new(),
            message,
        }
    }
}

/// How much an alias to a node brings in.
#[derive(Clone, Copy)]
struct Extent {
    nodes: usize,
    depth: usize,
}

fn extent(node: &Node) -> Extent {
    let (nodes, depth) = match &node.value {
        Value::Scalar(_) | Value::Erased => (0, 0),
        Value::List(items) => total(items.iter()),
        Value::Map(entries) => total(entries.iter().map(|e| &e.node)),
    };
    Extent {
        nodes: nodes + 1,
        depth: depth + 1,
    }
}

fn total<'a>(nodes: impl Iterator<Item = &'a Node>) -> (usize, usize) {
    nodes.map(extent).fold((0, 0), |(nodes, depth), more| {
        (nodes + more.nodes, depth.max(more.depth))
    })
}

fn scalar(text: Cow<'_, str>, style: ScalarStyle, tag: Option<&Tag>) -> Scalar {
    let text = text.into_owned();
    let plain = style == ScalarStyle::Plain;
    match tag.and_then(Tag::core_suffix) {
        Some("str") => Scalar::text(text),
        Some("int" | "float" | "bool" | "null") => Scalar::plain(text),
        _ if plain => Scalar::plain(text),
        _ => Scalar::text(text),
    }
}
