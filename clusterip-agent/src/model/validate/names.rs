//! The syntax of names. Each function says what is allowed if the name is not.

/// Characters of a DNS label.
const LABEL: usize = 63;
/// Characters of a DNS name.
const NAME: usize = 253;

/// RFC 1123 label: names of services, namespaces and ports.
pub(super) fn dns_label(name: &str) -> Result<(), String> {
    if name.len() <= LABEL && is_label(name) {
        Ok(())
    } else {
        Err(format!(
            "must be a DNS label: at most {LABEL} characters, lower-case letters, digits and '-', with a letter or digit first and last"
        ))
    }
}

/// RFC 1123 name: labels joined by dots.
///
/// # Errors
/// What is allowed, if it is none.
pub fn dns_name(name: &str) -> Result<(), String> {
    if name.len() <= NAME && name.split('.').all(is_label) {
        Ok(())
    } else {
        Err(format!(
            "must be a DNS name: at most {NAME} characters, labels of lower-case letters, digits and '-' joined by dots, with a letter or digit first and last in each"
        ))
    }
}

/// RFC 6335 service name: the name of a container's port.
pub(super) fn port_name(name: &str) -> Result<(), String> {
    let is_valid = (1..=15).contains(&name.len())
        && is_label(name)
        && !name.contains("--")
        && name.bytes().any(|b| b.is_ascii_lowercase());
    if is_valid {
        Ok(())
    } else {
        Err("must be a port number or a port name: at most 15 characters, lower-case letters, digits and single '-', at least one letter, with a letter or digit first and last".to_owned())
    }
}

/// `[prefix/]name`: keys of labels and annotations, and what is written like them.
///
/// # Errors
/// What is allowed.
pub fn qualified_name(name: &str) -> Result<(), String> {
    let (prefix, name) = match name.split_once('/') {
        Some((prefix, name)) => (Some(prefix), name),
        None => (None, name),
    };
    if prefix.is_none_or(|p| dns_name(p).is_ok()) && !name.is_empty() && is_word(name) {
        Ok(())
    } else {
        Err(format!(
            "must be [PREFIX/]NAME: NAME at most {LABEL} characters, letters, digits, '-', '_' and '.', with a letter or digit first and last; PREFIX a DNS name"
        ))
    }
}

/// The value of a label.
pub(super) fn label_value(value: &str) -> Result<(), String> {
    if is_word(value) {
        Ok(())
    } else {
        Err(format!(
            "must be empty or at most {LABEL} characters, letters, digits, '-', '_' and '.', with a letter or digit first and last"
        ))
    }
}

fn is_label(label: &str) -> bool {
    let is_end = |b: Option<&u8>| b.is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    let bytes = label.as_bytes();
    is_end(bytes.first())
        && is_end(bytes.last())
        && bytes
            .iter()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || *b == b'-')
}

fn is_word(word: &str) -> bool {
    let is_end = |b: Option<&u8>| b.is_none_or(u8::is_ascii_alphanumeric);
    let bytes = word.as_bytes();
    bytes.len() <= LABEL
        && is_end(bytes.first())
        && is_end(bytes.last())
        && bytes
            .iter()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn h_names_are_dns_labels_of_at_most_63_characters() {
        let longest = "a".repeat(63);
        for good in ["a", "0", "web-1", "1web", longest.as_str()] {
            assert!(dns_label(good).is_ok(), "{good}");
        }
        let too_long = "a".repeat(64);
        for bad in [
            "",
            "Web",
            "web.a",
            "-web",
            "web-",
            "w_b",
            "wéb",
            too_long.as_str(),
        ] {
            assert!(dns_label(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn h_a_port_name_has_15_characters_at_most_one_letter_at_least_and_no_double_dash() {
        for good in ["http", "a", "1a", "abcdefghijklmno", "a-b-c"] {
            assert!(port_name(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "80",
            "abcdefghijklmnop",
            "a--b",
            "-a",
            "a-",
            "Http",
            "a_b",
            "1-2",
        ] {
            assert!(port_name(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn h_selectors_labels_and_annotation_keys_have_their_syntax() {
        for good in ["app", "app.kubernetes.io/name", "a_b.c-d", "A"] {
            assert!(qualified_name(good).is_ok(), "{good}");
        }
        for bad in ["", "/a", "a/", "a/b/c", "-a", "a b", "A.io/x"] {
            assert!(qualified_name(bad).is_err(), "{bad}");
        }
        for good in ["", "web", "a_b.C-d"] {
            assert!(label_value(good).is_ok(), "{good}");
        }
        for bad in ["a b", "-a", "a/b"] {
            assert!(label_value(bad).is_err(), "{bad}");
        }
        assert!(dns_name("a.b-c.d").is_ok());
        assert!(dns_name("a..b").is_err());
        assert!(dns_name(&"a.".repeat(127)).is_err());
    }
}
