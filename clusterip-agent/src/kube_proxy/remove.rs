//! Taking away what kube-proxy left, and nothing else.

use super::{DEVICE, Leftovers, ProgramError, Programs, rules};

/// One call of a program.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Step {
    /// Which.
    pub program: String,
    /// Its arguments.
    pub arguments: Vec<String>,
    /// Its input; empty if it has none.
    pub input: String,
}

impl Step {
    fn new(program: &str, arguments: &[&str], input: String) -> Self {
        Self {
            program: program.to_owned(),
            arguments: arguments.iter().map(|it| (*it).to_owned()).collect(),
            input,
        }
    }

    /// As one would type it.
    #[must_use]
    pub fn line(&self) -> String {
        [std::slice::from_ref(&self.program), &self.arguments]
            .concat()
            .join(" ")
    }
}

/// What is to be done, in order: sets go after the rules that look into them.
#[must_use]
pub fn steps(found: &Leftovers) -> Vec<Step> {
    let Leftovers {
        rule_sets,
        tables,
        virtual_services,
        sets,
        device,
        listed: _,
        unseen: _,
    } = found;
    let mut steps = Vec::new();
    for set in rule_sets.iter().filter(|set| !set.is_all_kept()) {
        let program = format!("{}-restore", set.program);
        // Others may hold the lock of the legacy back end for a moment.
        let arguments = ["--noflush", "--wait", "5"];
        steps.push(Step::new(&program, &arguments, rules::removal(&set.tables)));
    }
    for (family, _rules) in tables {
        let arguments = ["delete", "table", family, "kube-proxy"];
        steps.push(Step::new("nft", &arguments, String::new()));
    }
    for service in virtual_services {
        let arguments = ["-D", &service.flag, &service.address];
        steps.push(Step::new("ipvsadm", &arguments, String::new()));
    }
    for name in sets {
        steps.push(Step::new("ipset", &["destroy", name], String::new()));
    }
    if *device {
        let arguments = ["link", "delete", "dev", DEVICE];
        steps.push(Step::new("ip", &arguments, String::new()));
    }
    steps
}

/// Does them all: one that fails does not keep the others from being done.
#[must_use]
pub fn remove(programs: &impl Programs, steps: &[Step]) -> Vec<ProgramError> {
    let done = steps.iter().map(|step| {
        let arguments: Vec<&str> = step.arguments.iter().map(String::as_str).collect();
        programs.run(&step.program, &arguments, &step.input)
    });
    done.filter_map(Result::err).collect()
}
