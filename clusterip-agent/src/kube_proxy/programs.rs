//! The machine's own programs that know the rules: `iptables-save`, `nft` and the like.

use std::{
    env,
    io::{self, Write as _},
    process::{Command, Stdio},
};

use super::{Chain, chains};

/// Where these programs are, whether or not the path says so: a user's often lacks some of them, and an image has none.
const FOLDERS: [&str; 4] = ["/usr/sbin", "/usr/bin", "/sbin", "/bin"];

/// Why a program did not do what it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum ProgramError {
    /// It is not installed.
    #[error("{0} is not installed here")]
    Missing(String),
    /// It could not be run.
    #[error("run {program}")]
    Run {
        /// Which.
        program: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It refused.
    #[error("{line}: {said}")]
    Refused {
        /// As one would type it.
        line: String,
        /// What it said.
        said: String,
    },
    /// It printed something else than it is known to.
    #[error("read what {program} prints")]
    Output {
        /// Which.
        program: String,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
}

/// Programs of a machine.
pub trait Programs {
    /// What one prints, given `input`.
    ///
    /// # Errors
    /// It is not installed, or failed.
    fn run(&self, program: &str, arguments: &[&str], input: &str) -> Result<String, ProgramError>;

    /// The chains of nftables, as the machine's kernel lists them without any program.
    ///
    /// # Errors
    /// The kernel has no nftables, or refuses.
    fn chains(&self) -> io::Result<Vec<Chain>>;
}

/// Those on the path.
#[derive(Clone, Copy, Debug)]
pub struct Installed;

impl Programs for Installed {
    fn run(&self, program: &str, arguments: &[&str], input: &str) -> Result<String, ProgramError> {
        let failed = |source: io::Error| match source.kind() {
            io::ErrorKind::NotFound => ProgramError::Missing(program.to_owned()),
            _ => ProgramError::Run {
                program: program.to_owned(),
                source,
            },
        };
        let path = env::var("PATH").unwrap_or_default();
        let path = [&[path.as_str()], FOLDERS.as_slice()].concat().join(":");
        let mut child = Command::new(program)
            .args(arguments)
            .env("PATH", path.trim_start_matches(':'))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(failed)?;
        // These programs read all of their input before they print: no pipe fills up meanwhile. One that ends before it has read
        // all says why.
        if let Some(mut stdin) = child.stdin.take() {
            drop(stdin.write_all(input.as_bytes()));
        }
        let output = child.wait_with_output().map_err(failed)?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            return Err(ProgramError::Refused {
                line: [&[program], arguments].concat().join(" "),
                said: said.trim().to_owned(),
            });
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    fn chains(&self) -> io::Result<Vec<Chain>> {
        chains::list()
    }
}
