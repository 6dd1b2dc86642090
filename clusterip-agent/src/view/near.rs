//! Names near one that is not known.

use crate::model::{object::ObjectName, snapshot::Snapshot};

use super::Selection;

/// More suggestions help nobody.
const MOST: usize = 3;
/// What to say of a selection that names a service which is not there; None if it is there, or none was named.
#[must_use]
pub fn unknown(snapshot: &Snapshot, selection: &Selection) -> Option<String> {
    let name = selection.name.as_deref()?;
    let all = || snapshot.services.keys();
    if all().any(|service| selection.has(service)) {
        return None;
    }
    let within = match &selection.namespace {
        Some(namespace) => format!(" in namespace {namespace}"),
        None => String::new(),
    };
    let mut text = format!("there is no service {name}{within}");
    let elsewhere: Vec<&ObjectName> = all().filter(|it| &*it.name == name).take(MOST).collect();
    if let [first, ..] = elsewhere.as_slice() {
        let more = format!("; there is {}: -n {}", list(&elsewhere), first.namespace);
        text.push_str(&more);
        return Some(text);
    }
    let is_near_by = |it: &&ObjectName| {
        let namespace = selection.namespace.as_deref();
        namespace.is_none_or(|namespace| namespace == &*it.namespace)
    };
    let mut scored: Vec<(usize, &ObjectName)> = all()
        .filter(is_near_by)
        .map(|it| (distance(name, &it.name), it))
        .filter(|(distance, _)| *distance <= 1 + name.len() / 4)
        .collect();
    scored.sort();
    let near: Vec<&ObjectName> = scored.into_iter().map(|(_, it)| it).take(MOST).collect();
    if !near.is_empty() {
        let more = format!("; did you mean {}?", list(&near));
        text.push_str(&more);
    }
    Some(text)
}

/// The name that another one may be a slip for.
#[must_use]
pub fn nearest<'a>(asked: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let scored = names.map(|name| (distance(asked, name), name));
    let near = scored.filter(|(distance, _)| *distance <= 1 + asked.len() / 4);
    near.min().map(|(_, name)| name)
}

/// Letters that are another, missing, too many or swapped; none where one text is the beginning of the other.
fn distance(asked: &str, name: &str) -> usize {
    if name.starts_with(asked) {
        0
    } else {
        strsim::osa_distance(asked, name)
    }
}

fn list(names: &[&ObjectName]) -> String {
    let texts: Vec<String> = names.iter().map(ToString::to_string).collect();
    texts.join(" or ")
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::model::service::ResolvedService;

    #[test]
    fn what_is_near_is_suggested_and_what_is_elsewhere_found() {
        let mut snapshot = Snapshot::default();
        for (namespace, name) in [
            ("default", "web"),
            ("default", "web-admin"),
            ("shop", "cart"),
            ("shop", "database"),
        ] {
            let name = ObjectName::new(namespace, name);
            let service = ResolvedService::nothing(name.clone());
            snapshot.set_service(&name, Some(Arc::new(service)));
        }
        let ask = |namespace: Option<&str>, name: &str| {
            let selection = Selection {
                namespace: namespace.map(str::to_owned),
                name: Some(name.to_owned()),
            };
            unknown(&snapshot, &selection).unwrap_or_default()
        };
        assert_eq!(ask(Some("default"), "web"), "");
        assert_eq!(ask(None, "cart"), "");
        for (namespace, name, wanted) in [
            (
                Some("default"),
                "wbe",
                "there is no service wbe in namespace default; did you mean default/web?",
            ),
            (
                None,
                "web-",
                "there is no service web-; did you mean default/web-admin or default/web?",
            ),
            (
                Some("default"),
                "cart",
                "there is no service cart in namespace default; there is shop/cart: -n shop",
            ),
            (
                None,
                "datbaase",
                "there is no service datbaase; did you mean shop/database?",
            ),
            (None, "xyzzy", "there is no service xyzzy"),
        ] {
            assert_eq!(ask(namespace, name), wanted);
        }
    }
}
