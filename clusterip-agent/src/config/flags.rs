//! Flags of the command line, made of the table of options.

use std::{collections::BTreeMap, path::PathBuf};

use clap::{Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches};

use super::{OPTIONS, variable};

/// `clusterip run`.
pub const RUN: u8 = 1;
/// `clusterip plan`.
pub const PLAN: u8 = 2;
/// `clusterip check`.
pub const CHECK: u8 = 4;

const CONFIG: &str = "config";
const WRITE_CONFIG_TO: &str = "write-config-to";
const VERBOSE: &str = "verbose";
/// Options that may be given several times, each time with more values.
const REPEATABLE: [&str; 2] = ["dns-listen", "dns-stub"];

/// What was given on the command line of a command: the options that have an effect on it.
#[derive(Clone, Debug, Default)]
pub struct Flags<const COMMAND: u8> {
    values: BTreeMap<&'static str, String>,
    config: Option<String>,
    write_config_to: Option<PathBuf>,
}

impl<const COMMAND: u8> Flags<COMMAND> {
    pub(super) const fn values(&self) -> &BTreeMap<&'static str, String> {
        &self.values
    }

    pub(super) fn config(&self) -> Option<&str> {
        self.config.as_deref()
    }

    /// Whether an option was given, by its flag.
    #[must_use]
    pub fn has(&self, flag: &str) -> bool {
        self.values.contains_key(flag) || flag == CONFIG && self.config.is_some()
    }

    /// Where the effective configuration is to be written instead of being used.
    #[must_use]
    pub fn write_config_to(&self) -> Option<PathBuf> {
        self.write_config_to.clone()
    }

    fn read(matches: &ArgMatches) -> Self {
        let mut values = BTreeMap::new();
        for option in OPTIONS.iter().filter(|o| o.commands & COMMAND != 0) {
            let value = if option.flag == VERBOSE {
                Some(matches.get_count(VERBOSE))
                    .filter(|count| *count > 0)
                    .map(|count| count.to_string())
            } else {
                let all = matches.get_many::<String>(option.flag);
                all.map(|all| all.map(String::as_str).collect::<Vec<_>>().join(","))
            };
            if let Some(value) = value {
                values.insert(option.flag, value);
            }
        }
        let write_config_to = (COMMAND == RUN)
            .then(|| matches.get_one::<PathBuf>(WRITE_CONFIG_TO).cloned())
            .flatten();
        Self {
            values,
            config: matches.get_one::<String>(CONFIG).cloned(),
            write_config_to,
        }
    }
}

impl<const COMMAND: u8> FromArgMatches for Flags<COMMAND> {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        Ok(Self::read(matches))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::read(matches);
        Ok(())
    }
}

impl<const COMMAND: u8> Args for Flags<COMMAND> {
    fn augment_args(command: Command) -> Command {
        let declared = OPTIONS.iter().filter(|o| o.commands & COMMAND != 0);
        let command = declared.fold(command, |command, option| {
            let mut help = format!("{} [env: {}]", option.help.trim(), variable(option.flag));
            if let Some(default) = option.default.filter(|d| !d.is_empty()) {
                help = format!("{help} [default: {default}]");
            }
            let arg = Arg::new(option.flag).long(option.flag).help(help);
            let arg = match option.flag {
                VERBOSE => arg.short('v').action(ArgAction::Count),
                "allow-external-ips" | "expose-cluster-ips" | "in-cluster" => arg
                    .value_name(option.value)
                    .num_args(0..=1)
                    .require_equals(true)
                    .default_missing_value("on"),
                "node-name" => arg.value_name(option.value).visible_alias("node"),
                flag if REPEATABLE.contains(&flag) => {
                    arg.value_name(option.value).action(ArgAction::Append)
                }
                _ => arg.value_name(option.value),
            };
            command.arg(arg)
        });
        let command = command.arg(
            Arg::new(CONFIG)
                .long(CONFIG)
                .value_name("FILE")
                .help("File with options in it [env: CLUSTERIP_CONFIG]"),
        );
        if COMMAND != RUN {
            return command;
        }
        command.arg(
            Arg::new(WRITE_CONFIG_TO)
                .long(WRITE_CONFIG_TO)
                .value_name("FILE")
                .value_parser(clap::value_parser!(PathBuf))
                .help("Write the effective options to a file and end"),
        )
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}
