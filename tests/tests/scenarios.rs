//! Every file in `scenarios/`: over maps in memory, over maps of which one write in ten fails, and over the kernel's.
#![expect(
    unused_crate_dependencies,
    reason = "the library of this package uses them"
)]

#[cfg(test)]
mod tests {
    use std::{
        collections::BTreeSet,
        fmt::Write as _,
        fs,
        path::{Path, PathBuf},
    };

    use clusterip_agent::{
        dataplane::{
            Dataplane, DataplaneError, Faulty, Memory,
            bpf::Bpf,
            endpoints::Endpoints,
            load::{LoadOptions, load},
        },
        plan::{Limits, Op, Tables},
    };
    use clusterip_common::wire::{Addr, Be16};
    use clusterip_tests::{
        require_root,
        scenario::{Checked, run},
    };

    fn files() -> Vec<PathBuf> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios");
        let mut files: Vec<PathBuf> = fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.extension().is_some_and(|extension| extension == "txt"))
            .collect();
        files.sort();
        assert!(!files.is_empty(), "there are no scenarios");
        files
    }

    fn check<D: Dataplane>(may_update: bool, mut make: impl FnMut(Limits) -> anyhow::Result<D>) {
        let mut wrong = Vec::new();
        for path in files() {
            let expected = fs::read_to_string(&path).unwrap();
            let actual = match run(&path, &expected, &mut make) {
                Ok(actual) => actual,
                Err(error) => {
                    wrong.push(format!("{error:#}"));
                    continue;
                }
            };
            if actual == expected {
                continue;
            }
            if may_update && std::env::var_os("UPDATE_EXPECT").is_some() {
                fs::write(&path, actual).unwrap();
                continue;
            }
            wrong.push(format!(
                "{}\n{}",
                path.display(),
                differences(&expected, &actual)
            ));
        }
        assert!(
            wrong.is_empty(),
            "{}\nUPDATE_EXPECT=1 rewrites the expectations",
            wrong.join("\n")
        );
    }

    /// Lines that are only in one of two texts, in their order.
    fn differences(expected: &str, actual: &str) -> String {
        let (old, new): (Vec<&str>, Vec<&str>) =
            (expected.lines().collect(), actual.lines().collect());
        // Lengths of the longest common subsequences of the ends.
        let mut common = vec![vec![0_usize; new.len() + 1]; old.len() + 1];
        for i in (0..old.len()).rev() {
            for j in (0..new.len()).rev() {
                common[i][j] = if old[i] == new[j] {
                    common[i + 1][j + 1] + 1
                } else {
                    common[i + 1][j].max(common[i][j + 1])
                };
            }
        }
        let (mut i, mut j, mut text) = (0, 0, String::new());
        while i < old.len() || j < new.len() {
            if i < old.len() && j < new.len() && old[i] == new[j] {
                (i, j) = (i + 1, j + 1);
            } else if j == new.len() || (i < old.len() && common[i + 1][j] >= common[i][j + 1]) {
                writeln!(text, "{:4} - {}", i + 1, old[i]).unwrap();
                i += 1;
            } else {
                writeln!(text, "     + {}", new[j]).unwrap();
                j += 1;
            }
        }
        text
    }

    #[test]
    fn scenarios_over_memory() {
        check(true, |limits| Ok(Checked(Memory::new(limits))));
    }

    #[test]
    fn scenarios_when_one_write_in_ten_fails() {
        for seed in [1, 0x9e37_79b9_7f4a_7c15, 0xdead_beef] {
            check(false, |limits| {
                Ok(Faulty::new(Checked(Memory::new(limits)), seed))
            });
        }
    }

    fn kernel(limits: Limits) -> anyhow::Result<Bpf> {
        let mut loaded = load(&LoadOptions {
            max_services: limits.services,
            max_backends: limits.backends,
            max_flows: 64,
            ..LoadOptions::default()
        })?;
        Ok(Bpf::new(&mut loaded)?)
    }

    #[test]
    fn scenarios_over_the_kernels_maps() -> anyhow::Result<()> {
        require_root!();
        check(false, |limits| Ok(Checked(kernel(limits)?)));
        Ok(())
    }

    /// The kernel's maps, of which nothing is read back while operations are carried out.
    struct Ported {
        maps: Bpf,
        /// What the maps hold by now.
        mirror: Tables,
        /// Every endpoint that a backend ever had.
        seen: BTreeSet<(Addr, Be16)>,
    }

    impl Ported {
        /// Each backend that is not free has its bit.
        fn check_endpoints(&self) -> Result<(), DataplaneError> {
            let endpoints = Endpoints::of(&self.mirror);
            for (address, port) in &self.seen {
                let is_there = self.maps.has_endpoint(*address, *port)?
                    || !endpoints.contains(*address, *port);
                assert!(is_there, "{address} {port:?}\n{}", self.mirror);
            }
            Ok(())
        }
    }

    impl Dataplane for Ported {
        fn dump(&mut self) -> Result<Tables, DataplaneError> {
            // Before it is read, which would mend it.
            self.check_endpoints()?;
            self.maps.dump()
        }

        fn apply(&mut self, ops: &[Op]) -> Result<(), DataplaneError> {
            for op in ops {
                if let Op::PutBackend(_, backend) = op {
                    self.seen.insert((backend.address, backend.port));
                }
                self.maps.apply(std::slice::from_ref(op))?;
                self.mirror.apply(*op);
                self.check_endpoints()?;
            }
            Ok(())
        }
    }

    #[test]
    fn scenarios_keep_the_bitmap_of_ports() -> anyhow::Result<()> {
        require_root!();
        check(false, |limits| {
            Ok(Ported {
                maps: kernel(limits)?,
                mirror: Tables::default(),
                seen: BTreeSet::new(),
            })
        });
        Ok(())
    }
}
