//! A tree read by `serde`: where each value stands is known when it turns out to be of a wrong type.

use std::{cell::RefCell, fmt};

use serde::de::{self, DeserializeSeed, IntoDeserializer, MapAccess, SeqAccess, Visitor};

use super::{
    scalar::Meaning,
    tree::{Entry, Flaw, Node, Value, index_path, key_path},
};
use crate::model::problem::Position;

/// A value of a wrong type. The place is filled in by the innermost reader that sees the error.
#[derive(Debug)]
pub(super) struct Wrong {
    place: Option<(Position, String, String)>,
    message: String,
}

impl Wrong {
    fn new(message: impl Into<String>) -> Self {
        Self {
            place: None,
            message: message.into(),
        }
    }

    fn at(self, reader: &Reader<'_>) -> Self {
        let Self { place, message } = self;
        let here = || (reader.place, reader.path.clone(), reader.node.shown());
        Self {
            place: Some(place.unwrap_or_else(here)),
            message,
        }
    }

    /// The flaw at its place.
    pub(super) fn into_flaw(self, root: &Node) -> Flaw {
        let Self { place, message } = self;
        let (position, field, value) =
            place.unwrap_or_else(|| (root.position, String::new(), root.shown()));
        Flaw {
            position,
            field,
            value,
            message,
        }
    }
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Wrong {}

impl de::Error for Wrong {
    fn custom<T: fmt::Display>(message: T) -> Self {
        let message = message.to_string();
        Self::new(match message.strip_suffix("expected IntOrString") {
            Some(found) => format!("{found}expected a number or a name"),
            None => message,
        })
    }
}

/// Reads one node.
#[derive(Clone)]
pub(super) struct Reader<'a> {
    node: &'a Node,
    path: String,
    place: Position,
    unknown: &'a RefCell<Vec<Flaw>>,
}

impl<'a> Reader<'a> {
    /// A reader of a whole object; fields that its type does not have are put into `unknown`.
    pub(super) const fn new(node: &'a Node, unknown: &'a RefCell<Vec<Flaw>>) -> Self {
        Self {
            node,
            path: String::new(),
            place: node.position,
            unknown,
        }
    }

    fn whole<'de, V: Visitor<'de>>(
        &self,
        visitor: V,
        least: i64,
        most: i64,
    ) -> Result<V::Value, Wrong> {
        match &self.node.value {
            Value::Erased => visitor.visit_i64(0),
            Value::Scalar(scalar) => match scalar.meaning() {
                Meaning::Int(number) if (least..=most).contains(&number) => {
                    visitor.visit_i64(number)
                }
                Meaning::Text if scalar.raw().parse::<i64>().is_ok() => Err(Wrong::new(
                    "must be a whole number, not a text: take the quotes away",
                )),
                Meaning::Int(_)
                | Meaning::Null
                | Meaning::Bool(_)
                | Meaning::Float(_)
                | Meaning::Text => Err(self.not_whole(least, most)),
            },
            Value::List(_) | Value::Map(_) => Err(self.not_whole(least, most)),
        }
    }

    /// The type of a port is wider than what a port may be.
    fn not_whole(&self, least: i64, most: i64) -> Wrong {
        Wrong::new(if self.path.ends_with("ort") {
            "must be a port number from 1 to 65535".to_owned()
        } else {
            format!("must be a whole number from {least} to {most}")
        })
    }

    fn words<'de, V: Visitor<'de>>(&self, visitor: V, numbers: bool) -> Result<V::Value, Wrong> {
        match &self.node.value {
            Value::Erased => visitor.visit_str(""),
            Value::Scalar(scalar) => match scalar.meaning() {
                Meaning::Text => visitor.visit_str(scalar.raw()),
                Meaning::Int(_) | Meaning::Float(_) if numbers => visitor.visit_str(scalar.raw()),
                Meaning::Int(_) | Meaning::Float(_) => Err(Wrong::new(format!(
                    "must be a text, not a number: put it in quotes, \"{}\"",
                    scalar.raw()
                ))),
                Meaning::Bool(_) => Err(Wrong::new(format!(
                    "must be a text, not a truth value: put it in quotes, \"{}\"",
                    scalar.raw()
                ))),
                Meaning::Null => Err(Wrong::new("must be a text, not empty")),
            },
            Value::List(_) => Err(Wrong::new("must be a text, not a list")),
            Value::Map(_) => Err(Wrong::new("must be a text, not a mapping")),
        }
    }

    fn mapping<'de, V: Visitor<'de>>(&self, visitor: V) -> Result<V::Value, Wrong> {
        let entries = match &self.node.value {
            Value::Map(entries) => entries.as_slice(),
            Value::Erased => &[],
            Value::Scalar(_) | Value::List(_) => {
                return Err(Wrong::new("must be a mapping, `key: value` in each line"));
            }
        };
        visitor.visit_map(Entries {
            parent: self,
            rest: entries.iter(),
            current: None,
        })
    }

    fn list<'de, V: Visitor<'de>>(&self, visitor: V) -> Result<V::Value, Wrong> {
        let items = match &self.node.value {
            Value::List(items) => items.as_slice(),
            Value::Erased => &[],
            Value::Scalar(_) | Value::Map(_) => {
                return Err(Wrong::new("must be a list, `- ` before each item"));
            }
        };
        visitor.visit_seq(Items {
            parent: self,
            items: items.iter().enumerate(),
        })
    }

    const fn child(&self, node: &'a Node, path: String, place: Position) -> Self {
        Self {
            node,
            path,
            place,
            unknown: self.unknown,
        }
    }
}

/// Errors get their place here, after the innermost reader has failed.
fn located<'a, T>(
    reader: &Reader<'a>,
    read: impl FnOnce(Reader<'a>) -> Result<T, Wrong>,
) -> Result<T, Wrong> {
    read(reader.clone()).map_err(|error| error.at(reader))
}

macro_rules! whole_numbers {
    ($($method:ident: $type:ty),*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
            self.whole(
                visitor,
                i64::try_from(<$type>::MIN).unwrap_or(i64::MIN),
                i64::try_from(<$type>::MAX).unwrap_or(i64::MAX),
            )
        }
    )*};
}

impl<'de> de::Deserializer<'de> for Reader<'_> {
    type Error = Wrong;

    whole_numbers! {
        deserialize_i8: i8, deserialize_i16: i16, deserialize_i32: i32, deserialize_i64: i64,
        deserialize_u8: u8, deserialize_u16: u16, deserialize_u32: u32, deserialize_u64: u64
    }

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        match &self.node.value {
            Value::Scalar(scalar) => match scalar.meaning() {
                Meaning::Null => visitor.visit_unit(),
                Meaning::Bool(value) => visitor.visit_bool(value),
                Meaning::Int(value) => visitor.visit_i64(value),
                Meaning::Float(value) => visitor.visit_f64(value),
                Meaning::Text => visitor.visit_str(scalar.raw()),
            },
            Value::List(_) => self.list(visitor),
            Value::Map(_) => self.mapping(visitor),
            // The types of the API that take anything take a text.
            Value::Erased => visitor.visit_str(""),
        }
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        match &self.node.value {
            Value::Erased => visitor.visit_bool(false),
            Value::Scalar(scalar) => match scalar.meaning() {
                Meaning::Bool(value) => visitor.visit_bool(value),
                Meaning::Null | Meaning::Int(_) | Meaning::Float(_) | Meaning::Text => {
                    Err(Wrong::new("must be true or false, without quotes"))
                }
            },
            Value::List(_) | Value::Map(_) => Err(Wrong::new("must be true or false")),
        }
    }

    fn deserialize_f64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        match &self.node.value {
            Value::Erased => visitor.visit_f64(0.0),
            Value::Scalar(scalar) => match scalar.meaning() {
                Meaning::Float(value) => visitor.visit_f64(value),
                Meaning::Int(value) => visitor.visit_i64(value),
                Meaning::Null | Meaning::Bool(_) | Meaning::Text => {
                    Err(Wrong::new("must be a number"))
                }
            },
            Value::List(_) | Value::Map(_) => Err(Wrong::new("must be a number")),
        }
    }

    fn deserialize_f32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        self.deserialize_f64(visitor)
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        self.words(visitor, false)
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        self.words(visitor, false)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        if self.node.is_null() || self.node.value == Value::Erased {
            visitor.visit_none()
        } else {
            visitor.visit_some(self)
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Wrong> {
        // `cpu: 1` is as good as `cpu: "1"`.
        if name == "Quantity"
            && let Value::Scalar(scalar) = &self.node.value
            && matches!(scalar.meaning(), Meaning::Int(_) | Meaning::Float(_))
        {
            return visitor.visit_newtype_struct(scalar.raw().into_deserializer());
        }
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        self.list(visitor)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        self.mapping(visitor)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Wrong> {
        self.mapping(visitor)
    }

    /// The types of the API skip the fields that they do not have: this is how they are noticed.
    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        self.unknown.borrow_mut().push(Flaw {
            position: self.place,
            field: self.path,
            value: self.node.shown(),
            message: "unknown field, it has no effect; is it misspelt or in the wrong place?"
                .to_owned(),
        });
        visitor.visit_unit()
    }

    serde::forward_to_deserialize_any! {
        i128 u128 char bytes byte_buf unit unit_struct tuple tuple_struct enum identifier
    }
}

struct Entries<'a, 'p> {
    parent: &'p Reader<'a>,
    rest: std::slice::Iter<'a, Entry>,
    current: Option<&'a Entry>,
}

impl<'de> MapAccess<'de> for Entries<'_, '_> {
    type Error = Wrong;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Wrong> {
        self.current = self.rest.next();
        self.current
            .map(|entry| seed.deserialize(entry.key.as_str().into_deserializer()))
            .transpose()
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Wrong> {
        let Some(entry) = self.current.take() else {
            return Err(Wrong::new("a value without a key"));
        };
        let path = key_path(&self.parent.path, &entry.key);
        let reader = self.parent.child(&entry.node, path, entry.place());
        located(&reader, |reader| seed.deserialize(reader))
    }
}

struct Items<'a, 'p> {
    parent: &'p Reader<'a>,
    items: std::iter::Enumerate<std::slice::Iter<'a, Node>>,
}

impl<'de> SeqAccess<'de> for Items<'_, '_> {
    type Error = Wrong;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, Wrong> {
        let Some((index, node)) = self.items.next() else {
            return Ok(None);
        };
        let path = index_path(&self.parent.path, index);
        let reader = self.parent.child(node, path, node.position);
        located(&reader, |reader| seed.deserialize(reader)).map(Some)
    }

    /// Lists take the room they need and no more.
    fn size_hint(&self) -> Option<usize> {
        Some(self.items.len())
    }
}
