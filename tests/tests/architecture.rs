//! What the compiler cannot refuse, refused here: which layer may know what.
//!
//! The rules are those of ARCHITECTURE.md. Each failure names the lines and says why the rule exists.
#![expect(unused_crate_dependencies, reason = "they are the library's")]
#![expect(
    clippy::tests_outside_test_module,
    clippy::unwrap_used,
    reason = "a test target is nothing but tests"
)]

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

/// Words that may stand in some places only.
struct Rule<'a> {
    /// Where the rule applies: files and folders below the workspace's root.
    within: &'a [&'a str],
    /// The words.
    words: &'a [&'a str],
    /// Files and folders that may have them.
    except: &'a [&'a str],
    /// Whether unit tests may have them too.
    tests_may: bool,
    /// Why the rule exists.
    why: &'a str,
}

const ALL: &[&str] = &[
    "clusterip-common",
    "clusterip-ebpf",
    "clusterip-agent",
    "tests",
    "xtask",
];

impl Rule<'_> {
    fn check(&self) {
        let sources = sources();
        let test_modules: Vec<String> = sources.iter().flat_map(Source::test_modules).collect();
        let test_modules: Vec<&str> = test_modules.iter().map(String::as_str).collect();
        let breaches: Vec<String> = sources
            .iter()
            .filter(|source| source.is_below(self.within) && !source.is_below(self.except))
            .filter(|source| !self.tests_may || !source.is_below(&test_modules))
            .flat_map(|source| source.lines_with(self.words, self.tests_may))
            .collect();
        assert!(breaches.is_empty(), "{}\n{}", self.why, breaches.join("\n"));
    }
}

struct Source {
    /// Path from the workspace's root, with `/`.
    path: String,
    text: String,
}

impl Source {
    fn is_below(&self, places: &[&str]) -> bool {
        places.iter().any(|place| {
            let rest = self.path.strip_prefix(place);
            rest.is_some_and(|rest| {
                rest.is_empty() || rest.starts_with('/') || place.ends_with('/')
            })
        })
    }

    /// Code lines that have one of `words` as a whole word, as `path:line: text`.
    fn lines_with(&self, words: &[&str], tests_may: bool) -> Vec<String> {
        let lines: Vec<&str> = self.text.lines().collect();
        let unit_tests = lines
            .windows(2)
            .position(|pair| matches!(pair, [gate, next] if is_gate(gate) && next.ends_with('{')));
        let end = unit_tests.filter(|_| tests_may).unwrap_or(lines.len());
        lines
            .iter()
            .enumerate()
            .take(end)
            .filter(|(_, line)| {
                let code = line.split("//").next().unwrap_or_default();
                words.iter().any(|word| has_word(code, word))
            })
            .map(|(index, line)| format!("{}:{}: {}", self.path, index + 1, line.trim()))
            .collect()
    }

    /// Places of the modules that this file declares for unit tests only.
    fn test_modules(&self) -> Vec<String> {
        let parent = match self.path.rsplit_once('/') {
            Some((folder, "mod.rs" | "lib.rs" | "main.rs")) => folder,
            _ => self.path.trim_end_matches(".rs"),
        };
        let lines: Vec<&str> = self.text.lines().collect();
        lines
            .windows(2)
            .filter_map(|pair| match pair {
                [gate, next] if is_gate(gate) => {
                    next.trim().strip_suffix(';')?.split("mod ").nth(1)
                }
                _ => None,
            })
            .flat_map(|module| {
                [
                    format!("{parent}/{module}.rs"),
                    format!("{parent}/{module}"),
                ]
            })
            .collect()
    }
}

fn is_gate(line: &str) -> bool {
    line.trim() == "#[cfg(test)]"
}

/// Whether `code` has `word`, not as a part of a longer name.
fn has_word(code: &str, word: &str) -> bool {
    let part_of_name = |c: char| c.is_alphanumeric() || c == '_';
    let begins_name = word.starts_with(part_of_name);
    let ends_name = word.ends_with(part_of_name);
    code.match_indices(word).any(|(at, _)| {
        let before = code[..at].chars().next_back();
        let after = code[at + word.len()..].chars().next();
        let is_part = begins_name && before.is_some_and(part_of_name)
            || ends_name && after.is_some_and(part_of_name);
        !is_part
    })
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Every Rust file of the five crates, but this one, whose rules quote what they refuse.
fn sources() -> Vec<Source> {
    let mut found = Vec::new();
    for folder in ALL {
        collect(&root().join(folder), folder, &mut found);
    }
    found.retain(|source| source.path != "tests/tests/architecture.rs");
    assert!(found.len() > 20, "only {} files found", found.len());
    found
}

fn collect(folder: &Path, name: &str, found: &mut Vec<Source>) {
    for entry in fs::read_dir(folder).expect(name) {
        let path = entry.expect(name).path();
        let name = format!("{name}/{}", path.file_name().unwrap().display());
        if path.is_dir() {
            collect(&path, &name, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).expect(&name);
            found.push(Source { path: name, text });
        }
    }
}

#[test]
fn only_the_dataplane_imports_aya() {
    Rule {
        within: &["clusterip-agent", "clusterip-common"],
        words: &["aya", "aya_log", "aya_obj"],
        except: &["clusterip-agent/src/dataplane"],
        tests_may: false,
        why: "Left of `diff` nothing knows BPF: what decides must run without a kernel, in any test.",
    }
    .check();
}

#[test]
fn only_wire_converts_byte_order() {
    Rule {
        within: ALL,
        words: &[
            "to_be_bytes", "from_be_bytes", "to_le_bytes", "from_le_bytes", "to_be", "from_be", "to_le", "from_le",
            "swap_bytes", "htons", "ntohs", "htonl", "ntohl",
        ],
        except: &["clusterip-common/src/wire.rs"],
        tests_may: false,
        why: "A port converted twice, or in one place of two, is a bug nobody sees: bytes that travel have the types \
              of wire.rs, and that file alone converts.",
    }
    .check();
}

#[test]
fn model_and_plan_are_pure() {
    Rule {
        within: &[
            "clusterip-agent/src/model",
            "clusterip-agent/src/plan",
            "clusterip-agent/src/dns/access.rs",
            "clusterip-agent/src/dns/answer.rs",
            "clusterip-agent/src/dns/message.rs",
            "clusterip-agent/src/dns/records.rs",
            "clusterip-agent/src/dns/reverse.rs",
            "clusterip-agent/src/dns/zone.rs",
        ],
        words: &["tokio", "std::time", "SystemTime", "Instant", "std::fs", "std::net::Tcp", "std::process", "rand"],
        except: &[],
        tests_may: false,
        why: "Model and plan are functions of values: the same objects must give the same maps, now and in a test. \
              Time and randomness come in as arguments.",
    }
    .check();
}

#[test]
fn nothing_right_of_diff_knows_kubernetes() {
    Rule {
        within: &["clusterip-agent/src/plan", "clusterip-agent/src/dataplane", "clusterip-common", "clusterip-ebpf"],
        words: &["k8s_openapi", "kube"],
        except: &[],
        tests_may: false,
        why: "The tables are the whole of what the dataplane knows; a Kubernetes type there would be a second model.",
    }
    .check();
}

#[test]
fn only_sources_and_configuration_read_yaml() {
    Rule {
        within: &["clusterip-agent/src"],
        words: &["serde_saphyr", "saphyr"],
        except: &[
            "clusterip-agent/src/source",
            "clusterip-agent/src/config",
            "clusterip-agent/src/config.rs",
            // `-o yaml` writes it.
            "clusterip-agent/src/command",
        ],
        tests_may: false,
        why: "Where objects come from is the source's affair: the same model is fed by files and by the API.",
    }
    .check();
}

#[test]
fn anyhow_stays_at_the_top() {
    Rule {
        within: &["clusterip-agent", "clusterip-common"],
        words: &["anyhow"],
        except: &["clusterip-agent/src/main.rs", "clusterip-agent/src/command"],
        tests_may: true,
        why: "A module's error names the operation and the object, so that its caller can tell one from another.",
    }
    .check();
}

#[test]
fn unsafe_code_is_in_few_files() {
    Rule {
        within: ALL,
        words: &["unsafe {", "unsafe fn", "unsafe impl", "unsafe trait", "unsafe extern"],
        except: &[
            // Views of headers in a packet, and the marker trait that says which types may be one.
            "clusterip-common/src/packet/frame.rs",
            "clusterip-common/src/packet/parse.rs",
            // The kernel's helpers and maps.
            "clusterip-ebpf/src",
            // Calls of bpf(2) that aya lacks.
            "clusterip-agent/src/dataplane",
            // The one call that gives free memory back.
            "clusterip-agent/src/heap.rs",
            // The lease that tells whether a file is being written, which nix lacks.
            "clusterip-agent/src/source/manifests/lease.rs",
            // Entering namespaces between fork and exec.
            "tests/src/sys.rs",
            // An allocator that counts: what a change copies shows in nothing else.
            "tests/tests/complexity.rs",
        ],
        tests_may: false,
        why: "Each of these files can be reviewed by itself; add one to the list here only with the reason.",
    }
    .check();
}

#[test]
fn nothing_that_runs_panics_on_purpose() {
    Rule {
        within: &["clusterip-common/src", "clusterip-agent/src", "clusterip-ebpf/src"],
        words: &[".unwrap()", ".expect(", "panic!", "unreachable!", "todo!", "unimplemented!"],
        except: &[],
        tests_may: true,
        why: "An agent that panics stops programming its node, and a panic in a program is refused by the verifier.",
    }
    .check();
}

#[test]
fn lints_are_expected_with_a_reason_never_allowed() {
    Rule {
        within: ALL,
        words: &["#[allow(", "#![allow("],
        except: &[],
        tests_may: false,
        why: "`expect` goes away with its cause; `allow` stays for ever.",
    }
    .check();
}

#[test]
fn files_stay_readable_and_have_names_of_the_field() {
    let vague = [
        "utils.rs",
        "util.rs",
        "helpers.rs",
        "helper.rs",
        "manager.rs",
        "misc.rs",
        "handler.rs",
    ];
    let breaches: Vec<String> = sources()
        .iter()
        .filter_map(|source| {
            let lines = source.text.lines().count();
            let file = source.path.rsplit('/').next().unwrap_or_default();
            (lines > 500 || vague.contains(&file))
                .then(|| format!("{}: {lines} lines", source.path))
        })
        .collect();
    assert!(
        breaches.is_empty(),
        "Past 500 lines, or under a vague name, a noun of the field is hiding: find it and give it a file.\n{}",
        breaches.join("\n")
    );
}

#[test]
fn each_crate_depends_on_what_its_layer_may_know() {
    let allowed = [
        ("clusterip-common", vec!["network-types", "zerocopy"]),
        (
            "clusterip-ebpf",
            vec![
                "aya-ebpf",
                "aya-log-ebpf",
                "clusterip-common",
                "network-types",
            ],
        ),
        ("xtask", vec!["anyhow", "clap"]),
    ];
    for (package, allowed) in allowed {
        let manifest = fs::read_to_string(root().join(package).join("Cargo.toml")).expect(package);
        let found = dependencies(&manifest);
        assert!(
            !found.is_empty(),
            "{package} has no dependency this test can read"
        );
        let more: Vec<_> = found
            .iter()
            .filter(|name| !allowed.contains(&name.as_str()))
            .collect();
        assert!(
            more.is_empty(),
            "{package} depends on {more:?}. The packet code runs in the kernel, and xtask must build before set-up: \
             they know no more than {allowed:?}."
        );
    }
}

/// Names in every table of dependencies but those of tests.
fn dependencies(manifest: &str) -> BTreeSet<String> {
    let mut inside = false;
    let mut names = BTreeSet::new();
    for line in manifest.lines().map(str::trim) {
        if line.starts_with('[') {
            inside = line.ends_with("dependencies]") && !line.contains("dev-dependencies");
        } else if inside && !line.starts_with('#') {
            let name = line.split(['.', '=', ' ']).next().unwrap_or_default();
            names.extend((!name.is_empty()).then(|| name.to_owned()));
        }
    }
    names
}

#[test]
fn the_rules_see_what_they_are_for() {
    let source = Source {
        path: "clusterip-agent/src/model/x.rs".into(),
        text: "// use aya::Ebpf;\nuse aya::Ebpf;\nuse ayahuasca;\n\
               #[cfg(test)]\nmod samples;\n#[cfg(test)]\nmod tests {\nuse aya;\n}\n"
            .into(),
    };
    assert_eq!(
        source.test_modules(),
        [
            "clusterip-agent/src/model/x/samples.rs",
            "clusterip-agent/src/model/x/samples"
        ]
    );
    assert!(source.is_below(&["clusterip-agent/src/model"]));
    assert!(!source.is_below(&["clusterip-agent/src/mod"]));
    assert_eq!(source.lines_with(&["aya"], true).len(), 1);
    assert_eq!(source.lines_with(&["aya"], false).len(), 2);
}
