//! SIGHUP: the options, as far as they can change while the agent runs.

use tokio::sync::watch;

use crate::{
    config::{Config, Flags, Forwarding, RUN, UplinkMode},
    interfaces::{Globs, Uplinks, Wanted},
    logging,
};

/// The options in force.
pub(super) struct Options {
    flags: Flags<RUN>,
    now: Config,
    interfaces: watch::Sender<Wanted>,
}

impl Options {
    /// Those that the agent was started with; `flags` is what was on its command line.
    pub(super) fn new(flags: Flags<RUN>, now: Config) -> (Self, watch::Receiver<Wanted>) {
        let (interfaces, seen) = watch::channel(devices_of(&now));
        let options = Self {
            flags,
            now,
            interfaces,
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
                self.interfaces.send_replace(devices_of(&self.now));
                true
            }
            "uplinks" => {
                self.now.uplinks.clone_from(&new.uplinks);
                self.interfaces.send_replace(devices_of(&self.now));
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

/// The devices that a configuration is about.
fn devices_of(config: &Config) -> Wanted {
    Wanted {
        pods: Globs::new(&config.pod_interfaces),
        uplinks: match config.uplink_mode {
            UplinkMode::Off => Uplinks::None,
            UplinkMode::Tc | UplinkMode::Auto if config.uplinks.is_empty() => {
                Uplinks::DefaultRoutes
            }
            UplinkMode::Tc | UplinkMode::Auto => Uplinks::Named(Globs::new(&config.uplinks)),
        },
        past_stack: config.forwarding == Forwarding::Redirect,
    }
}
