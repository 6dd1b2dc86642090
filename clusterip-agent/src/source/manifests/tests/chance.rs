//! Whatever a file holds, nothing panics.

use proptest::prelude::*;

use super::*;

/// Pieces of manifests, so that chance gets past the first line.
fn piece() -> impl Strategy<Value = String> {
    let known = [
        "apiVersion: v1\n",
        "kind: Service\n",
        "kind: List\n",
        "metadata: {name: a}\n",
        "spec:\n",
        "  ports:\n",
        "  - port: 80\n",
        "items:\n",
        "- ",
        "---\n",
        "...\n",
        "&a ",
        "*a",
        "<<: ",
        "\t",
        "\"",
        "'",
        "|\n",
        "? ",
        ": ",
        "{",
        "}",
        "[",
        "]",
        ",",
        "!!str ",
        "%YAML 1.2\n",
        "\u{feff}",
        "\r\n",
    ];
    prop_oneof![
        4 => proptest::sample::select(known.to_vec()).prop_map(str::to_owned),
        1 => ".{0,6}",
    ]
}

proptest! {
    #[test]
    fn no_text_makes_it_panic(text in "\\PC*") {
        problems_of("a.yaml", &text);
        problems_of("a.json", &text);
    }

    #[test]
    fn no_row_of_pieces_makes_it_panic(pieces in prop::collection::vec(piece(), 0..40)) {
        let text = pieces.concat();
        problems_of("a.yaml", &text);
        problems_of("a.json", &text);
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let directory = tempfile::tempdir().expect("a directory");
        std::fs::write(directory.path().join("a.yaml"), &bytes).expect("a file");
        once(directory.path(), Rules::default()).expect("a directory");
    }

    /// A file cut off anywhere (half written) removes nothing that was before the cut, and puts nothing that was not in it.
    #[test]
    fn a_file_cut_off_anywhere_breaks_nothing_else(cut in 0usize..300) {
        let mut source = source();
        let other = service("other", 80);
        let text = format!("{}---\n{}", service("a", 80), service("b", 80));
        source.update(listing(&[("a.yaml", &text), ("other.yaml", &other)]));
        let half = text.get(..cut.min(text.len())).unwrap_or_default();
        let events = source.update(listing(&[("a.yaml", half), ("other.yaml", &other)]));
        for event in &shown(&events) {
            prop_assert!(!event.contains("other"), "{event}");
        }
        source.update(listing(&[("a.yaml", &text), ("other.yaml", &other)]));
        prop_assert!(source.update(listing(&[("a.yaml", &text), ("other.yaml", &other)])).is_empty());
    }
}
