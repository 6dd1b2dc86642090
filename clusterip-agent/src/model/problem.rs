//! What is wrong with the input, said so that it can be found and mended.

use std::{
    collections::{BTreeMap, HashSet},
    fmt,
    hash::Hash,
    sync::Arc,
};

use serde::{Deserialize, Serialize};

/// A place in a file; both count from 1, 0 is unknown.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Position {
    /// Line.
    pub line: u32,
    /// Column.
    pub column: u32,
}

/// Where an object came from.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Origin {
    /// File relative to the manifest directory; empty for other sources.
    pub file: Arc<str>,
    /// Where the document begins.
    pub start: Position,
    /// Where each field stands.
    pub fields: Fields,
}

/// Paths of fields in their order, as Kubernetes writes them: `spec.ports[0].port`.
type Shape = Arc<[Box<str>]>;

/// Where the fields of an object stand. Objects that are written alike share their paths, and those that are laid out alike
/// the places too: most of what an object takes otherwise.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Fields {
    shape: Shape,
    /// One for each path, its line counted from `line`.
    places: Arc<[Position]>,
    /// The line of the first one.
    line: u32,
}

impl Fields {
    /// Where the field of that very path stands.
    #[must_use]
    pub fn get(&self, path: &str) -> Option<Position> {
        let place = self.shape.binary_search_by(|known| (**known).cmp(path));
        let Position { line, column } = *self.places.get(place.ok()?)?;
        Some(Position {
            line: self.line + line,
            column,
        })
    }
}

/// The shapes that objects have.
#[derive(Debug, Default)]
pub struct Shapes {
    known: HashSet<Shape>,
    places: HashSet<Arc<[Position]>>,
    /// How many there were when the last look for those that nobody has any more was over.
    kept: usize,
}

impl Shapes {
    /// Below this number nothing is worth a look.
    const FEW: usize = 64;

    /// The same fields, sharing what others have already.
    #[must_use]
    pub fn share(&mut self, fields: BTreeMap<String, Position>) -> Fields {
        let line = fields.values().map(|it| it.line).min().unwrap_or_default();
        let mut paths = Vec::with_capacity(fields.len());
        let mut places = Vec::with_capacity(fields.len());
        for (path, position) in fields {
            paths.push(path.into_boxed_str());
            places.push(Position {
                line: position.line - line,
                ..position
            });
        }
        let shape = shared(&mut self.known, paths);
        let places = shared(&mut self.places, places);
        if self.known.len() + self.places.len() > Self::FEW.max(self.kept * 2) {
            self.known.retain(|shape| Arc::strong_count(shape) > 1);
            self.places.retain(|places| Arc::strong_count(places) > 1);
            self.kept = self.known.len() + self.places.len();
        }
        Fields {
            shape,
            places,
            line,
        }
    }
}

/// The one that is there already, else this one.
fn shared<T: Eq + Hash>(known: &mut HashSet<Arc<[T]>>, new: Vec<T>) -> Arc<[T]> {
    if let Some(known) = known.get(new.as_slice()) {
        return known.clone();
    }
    let new: Arc<[T]> = new.into();
    known.insert(new.clone());
    new
}

impl Origin {
    /// The position of a field, or of the nearest thing around it that is in the file.
    #[must_use]
    pub fn position(&self, field: &str) -> Position {
        let mut path = field;
        loop {
            if let Some(position) = self.fields.get(path) {
                return position;
            }
            match path.rfind(['.', '[']) {
                Some(cut) => path = path.get(..cut).unwrap_or_default(),
                None => return self.start,
            }
        }
    }
}

/// One thing that is wrong, in the form of `plan -o json` and `check -o json`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub struct Problem {
    /// File relative to the manifest directory.
    pub file: Arc<str>,
    /// Line, from 1.
    pub line: u32,
    /// Column, from 1.
    pub column: u32,
    /// `Kind namespace/name`; empty for a text that cannot be parsed.
    pub object: String,
    /// Path of the field as Kubernetes writes it; may be empty.
    pub field: String,
    /// The value found.
    pub value: String,
    /// What is wrong and what is allowed.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            file,
            line,
            column,
            object,
            field,
            value,
            message,
        } = self;
        // What no file defines has no place in one.
        if !file.is_empty() {
            write!(f, "{file}:{line}:{column}: ")?;
        }
        if !object.is_empty() {
            write!(f, "{object}: ")?;
        }
        if !field.is_empty() {
            write!(f, "{field}: ")?;
        }
        if !value.is_empty() {
            write!(f, "{value:?}: ")?;
        }
        f.write_str(message)
    }
}

/// A problem of one field of one object, before it is known where the object stands.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Fault {
    /// Path of the field.
    pub field: String,
    /// The value found.
    pub value: String,
    /// What is wrong and what is allowed.
    pub message: String,
}

impl Fault {
    /// The fault at its place.
    #[must_use]
    pub fn at(self, object: &super::object::ObjectKey, origin: &Origin) -> Problem {
        let Self {
            field,
            value,
            message,
        } = self;
        let Position { line, column } = origin.position(&field);
        Problem {
            file: origin.file.clone(),
            line,
            column,
            object: object.to_string(),
            field,
            value,
            message,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(paths: &[&str], line: u32) -> BTreeMap<String, Position> {
        let position = Position { line, column: 3 };
        let paths = paths.iter().map(|path| (*path).to_owned());
        paths.map(|path| (path, position)).collect()
    }

    #[test]
    fn a_field_or_the_nearest_thing_around_it_is_found() {
        let origin = Origin {
            start: Position { line: 1, column: 1 },
            fields: Shapes::default().share(fields(&["spec", "spec.ports[0]"], 7)),
            ..Origin::default()
        };
        assert_eq!(origin.position("spec.ports[0].port").line, 7);
        assert_eq!(origin.position("spec.type").line, 7);
        assert_eq!(origin.position("metadata.name").line, 1);
    }

    #[test]
    fn objects_that_are_written_alike_share_their_paths() {
        let mut shapes = Shapes::default();
        let [a, b, c] = [(1, "spec"), (9, "spec"), (9, "status")]
            .map(|(line, path)| shapes.share(fields(&["metadata", path], line)));
        assert!(Arc::ptr_eq(&a.shape, &b.shape));
        assert!(!Arc::ptr_eq(&a.shape, &c.shape));
        assert!(Arc::ptr_eq(&a.places, &b.places));
        assert_eq!(a.get("spec").map(|it| it.line), Some(1));
        assert_eq!(b.get("spec").map(|it| it.line), Some(9));
    }

    #[test]
    fn shapes_that_nobody_has_are_forgotten() {
        let mut shapes = Shapes::default();
        let kept = shapes.share(fields(&["kept"], 1));
        for number in 0..10_000 {
            drop(shapes.share(fields(&[&format!("field-{number}")], 1)));
        }
        let count = shapes.known.len() + shapes.places.len();
        assert!(count <= Shapes::FEW + 2, "{count}");
        assert!(shapes.known.contains(&kept.shape));
    }
}
