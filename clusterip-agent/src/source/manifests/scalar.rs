//! What a plain word means, as Kubernetes' own YAML reader has it: YAML 1.1 truth values and octal numbers
//! included, so that a manifest means the same here and there.

/// A text, a number, a truth value or nothing; the text as it was written is kept for messages.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Scalar {
    raw: String,
    meaning: Meaning,
}

/// What a scalar means.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) enum Meaning {
    /// Nothing.
    Null,
    /// A truth value.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// Another number.
    Float(f64),
    /// The text itself.
    Text,
}

impl Scalar {
    /// A quoted text, or one that is tagged as a text.
    pub(super) const fn text(raw: String) -> Self {
        Self {
            raw,
            meaning: Meaning::Text,
        }
    }

    /// A word without quotes.
    pub(super) fn plain(raw: String) -> Self {
        let meaning = meaning(&raw);
        Self { raw, meaning }
    }

    /// As it was written, without quotes.
    pub(super) fn raw(&self) -> &str {
        &self.raw
    }

    /// What it means.
    pub(super) const fn meaning(&self) -> Meaning {
        self.meaning
    }

    /// The text, if it is one.
    pub(super) fn as_text(&self) -> Option<&str> {
        (self.meaning == Meaning::Text).then_some(self.raw.as_str())
    }

    /// True for nothing.
    pub(super) const fn is_null(&self) -> bool {
        matches!(self.meaning, Meaning::Null)
    }
}

fn meaning(word: &str) -> Meaning {
    match word {
        "" | "~" | "null" | "Null" | "NULL" => return Meaning::Null,
        "true" | "True" | "TRUE" | "yes" | "Yes" | "YES" | "on" | "On" | "ON" => {
            return Meaning::Bool(true);
        }
        "false" | "False" | "FALSE" | "no" | "No" | "NO" | "off" | "Off" | "OFF" => {
            return Meaning::Bool(false);
        }
        _ => {}
    }
    // Most words of a manifest are names: they are told from numbers by their first character.
    if !word.starts_with(|c: char| c.is_ascii_digit() || matches!(c, '+' | '-' | '.')) {
        return Meaning::Text;
    }
    let digits = word.replace('_', "");
    if let Some(number) = whole_number(&digits) {
        return Meaning::Int(number);
    }
    let is_decimal = digits.bytes().any(|b| b.is_ascii_digit())
        && digits
            .bytes()
            .all(|b| b.is_ascii_digit() || matches!(b, b'.' | b'e' | b'E' | b'+' | b'-'));
    match digits.parse() {
        Ok(number) if is_decimal => Meaning::Float(number),
        _ => Meaning::Text,
    }
}

fn whole_number(digits: &str) -> Option<i64> {
    let (negative, digits) = match digits.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, digits.strip_prefix('+').unwrap_or(digits)),
    };
    let (radix, digits) = match digits.as_bytes() {
        [b'0', b'x' | b'X', ..] => (16, digits.get(2..)?),
        [b'0', b'o' | b'O', ..] => (8, digits.get(2..)?),
        [b'0', b'b' | b'B', ..] => (2, digits.get(2..)?),
        [b'0', _, ..] => (8, digits.get(1..)?),
        _ => (10, digits),
    };
    if !digits.starts_with(|c: char| c.is_ascii_alphanumeric()) {
        return None;
    }
    let number = i64::from_str_radix(digits, radix).ok()?;
    if negative {
        number.checked_neg()
    } else {
        Some(number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plain_word_means_what_kubernetes_reads() {
        for (word, wanted) in [
            ("", Meaning::Null),
            ("~", Meaning::Null),
            ("yes", Meaning::Bool(true)),
            ("off", Meaning::Bool(false)),
            ("y", Meaning::Text),
            ("80", Meaning::Int(80)),
            ("-5", Meaning::Int(-5)),
            ("+5", Meaning::Int(5)),
            ("010", Meaning::Int(8)),
            ("0o10", Meaning::Int(8)),
            ("0x1F", Meaning::Int(31)),
            ("0b11", Meaning::Int(3)),
            ("1_000", Meaning::Int(1000)),
            ("0", Meaning::Int(0)),
            ("1.5", Meaning::Float(1.5)),
            ("1e3", Meaning::Float(1000.0)),
            ("089", Meaning::Float(89.0)),
            ("10.96.0.1", Meaning::Text),
            ("1.2.3.4", Meaning::Text),
            ("-", Meaning::Text),
            ("+-5", Meaning::Text),
            (".", Meaning::Text),
            ("2024-01-01T00:00:00Z", Meaning::Text),
            ("100m", Meaning::Text),
            ("eighty", Meaning::Text),
            ("fd00::1", Meaning::Text),
            ("99999999999999999999", Meaning::Float(1e20)),
        ] {
            assert_eq!(Scalar::plain(word.to_owned()).meaning(), wanted, "{word:?}");
        }
    }

    #[test]
    fn a_quoted_word_is_a_text() {
        assert_eq!(Scalar::text("80".to_owned()).as_text(), Some("80"));
    }
}
