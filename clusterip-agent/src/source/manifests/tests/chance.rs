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

    /// F5: what a changed file means does not depend on whether the others were read again.
    #[test]
    fn files_that_are_the_same_need_not_be_read_again(
        steps in prop::collection::vec(prop::collection::btree_map(0..3_usize, 0..9_usize, 0..4), 1..8)
    ) {
        let texts = [
            service("a", 80),
            service("a", 81),
            service("b", 80),
            format!("{}---\n{}", service("a", 80), service("b", 82)),
            format!("{}---\n{}", service("a", 80), service("a", 83)),
            format!("{}  clusterIP: 10.96.0.7\n", service("a", 80)),
            format!("{}  clusterIP: 10.96.0.8\n", service("a", 80)),
            format!("{}---\n: : :\n", service("b", 80)),
            service("a", 0),
        ];
        let (mut whole, mut part) = (source(), source());
        let mut before = std::collections::BTreeMap::new();
        for step in steps {
            let file = |(name, text): (&usize, &usize)| {
                (format!("{name}.yaml").into(), Ok(texts[*text].as_str().into()))
            };
            let (same, changed): (Vec<_>, Vec<_>) =
                step.iter().partition(|(name, text)| before.get(*name) == Some(*text));
            let scan = Scan {
                read: changed.into_iter().map(file).collect(),
                same: same.into_iter().map(file).map(|(name, _): (_, Result<Arc<str>, String>)| name).collect(),
                again: None,
            };
            let all: Listing = step.iter().map(file).collect();
            prop_assert_eq!(whole.update(all), part.update(scan));
            before = step;
        }
    }
}
