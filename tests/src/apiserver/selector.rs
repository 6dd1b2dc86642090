//! Label and field selectors, as far as anybody asks this server with them.

use serde_json::Value;

/// What a request selects.
#[derive(Clone, Default, Debug)]
pub(super) struct Selector {
    labels: Vec<Term>,
    fields: Vec<(String, String)>,
}

#[derive(Clone, Debug)]
enum Term {
    Has(String),
    HasNot(String),
    Is(String, String),
    IsNot(String, String),
}

impl Selector {
    /// Of the two parameters of a request.
    pub(super) fn new(labels: Option<&str>, fields: Option<&str>) -> Self {
        let items = |text: Option<&str>| -> Vec<String> {
            let items = text.unwrap_or_default().split(',');
            items
                .filter(|item| !item.is_empty())
                .map(str::to_owned)
                .collect()
        };
        let fields = items(fields);
        Self {
            labels: items(labels).iter().map(|item| Term::new(item)).collect(),
            fields: fields
                .iter()
                .filter_map(|item| item.split_once('='))
                .map(|(field, value)| (field.to_owned(), value.trim_start_matches('=').to_owned()))
                .collect(),
        }
    }

    pub(super) fn selects(&self, object: &Value) -> bool {
        let label = |name: &str| object["metadata"]["labels"][name].as_str();
        let labels = self.labels.iter().all(|term| match term {
            Term::Has(name) => label(name).is_some(),
            Term::HasNot(name) => label(name).is_none(),
            Term::Is(name, value) => label(name) == Some(value),
            Term::IsNot(name, value) => label(name) != Some(value),
        });
        labels
            && self.fields.iter().all(|(field, value)| {
                let pointer = format!("/{}", field.replace('.', "/"));
                object.pointer(&pointer).and_then(Value::as_str) == Some(value)
            })
    }
}

impl Term {
    fn new(text: &str) -> Self {
        if let Some(name) = text.strip_prefix('!') {
            return Self::HasNot(name.to_owned());
        }
        if let Some((name, value)) = text.split_once("!=") {
            return Self::IsNot(name.to_owned(), value.to_owned());
        }
        match text.split_once('=') {
            Some((name, value)) => {
                Self::Is(name.to_owned(), value.trim_start_matches('=').to_owned())
            }
            None => Self::Has(text.to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn labels_and_fields_select() {
        let object = json!({"metadata": {"name": "a", "labels": {"x": "1"}}});
        for (labels, fields, wanted) in [
            (None, None, true),
            (Some("x"), None, true),
            (Some("!x"), None, false),
            (Some("!y,x=1"), None, true),
            (Some("x!=1"), None, false),
            (Some("x==2"), None, false),
            (None, Some("metadata.name=a"), true),
            (None, Some("metadata.name=b"), false),
        ] {
            let selector = Selector::new(labels, fields);
            assert_eq!(selector.selects(&object), wanted, "{labels:?} {fields:?}");
        }
    }
}
