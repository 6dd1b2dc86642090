//! SIGHUP: the options, as far as they can change while the agent runs.

use tokio::sync::watch;

use crate::{
    config::{Config, Flags, RUN},
    logging,
};

/// The options in force.
pub(super) struct Options {
    flags: Flags<RUN>,
    now: Config,
    pod_interfaces: watch::Sender<Vec<String>>,
}

impl Options {
    /// Those that the agent was started with; `flags` is what was on its command line.
    pub(super) fn new(flags: Flags<RUN>, now: Config) -> (Self, watch::Receiver<Vec<String>>) {
        let (pod_interfaces, seen) = watch::channel(now.pod_interfaces.clone());
        let options = Self {
            flags,
            now,
            pod_interfaces,
        };
        (options, seen)
    }

    /// Reads them again. What cannot change now keeps its old value, and says so; a configuration that is wrong changes
    /// nothing at all.
    pub(super) fn reload(&mut self) {
        let new = match Config::load(&self.flags, super::variable) {
            Ok(new) => new,
            Err(error) => {
                let cause = std::error::Error::source(&error).map(ToString::to_string);
                log::error!(error:%, cause:?; "the configuration is wrong: the old one stays in force");
                return;
            }
        };
        let mut changed = self.now.differences(&new);
        changed.retain(|flag| match *flag {
            "verbose" | "log-format" => {
                self.now.verbose = new.verbose;
                self.now.log_format = new.log_format;
                true
            }
            "pod-interfaces" => {
                self.now.pod_interfaces.clone_from(&new.pod_interfaces);
                self.pod_interfaces.send_replace(new.pod_interfaces.clone());
                true
            }
            option => {
                log::warn!(option; "this setting changes at the next start only: its old value stays in force");
                false
            }
        });
        logging::start(self.now.log_format, false, self.now.verbose);
        log::info!(changed:? = changed; "reloaded");
    }
}
