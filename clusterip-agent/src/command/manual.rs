//! `clusterip completion` and `clusterip man`: what follows from the declaration of the commands.

use std::{fs, path::Path};

use anyhow::Context as _;
use clap::Command;
use clap_complete::{Shell, generate};
use clap_mangen::Man;

use super::output;

/// The completions of a shell.
pub(super) fn completion(mut command: Command, shell: Shell) -> anyhow::Result<String> {
    let mut text = Vec::new();
    let name = command.get_name().to_owned();
    generate(shell, &mut command, name, &mut text);
    String::from_utf8(text).context("write completions")
}

/// Prints the page of the whole, or writes one for each command into a directory.
pub(super) fn man(mut command: Command, to: Option<&Path>) -> anyhow::Result<()> {
    let Some(directory) = to else {
        return output::print(&page(command)?);
    };
    fs::create_dir_all(directory).with_context(|| format!("make {}", directory.display()))?;
    command.build();
    write_all(&command, directory)
}

/// A command's page, then those of its own commands: `clusterip-get-services.1`.
fn write_all(command: &Command, directory: &Path) -> anyhow::Result<()> {
    let name = command.get_display_name().unwrap_or(command.get_name());
    let path = directory.join(format!("{name}.1"));
    let text = page(command.clone())?;
    fs::write(&path, text).with_context(|| format!("write {}", path.display()))?;
    let own = command.get_subcommands();
    own.filter(|it| it.get_name() != "help")
        .try_for_each(|it| write_all(it, directory))
}

fn page(command: Command) -> anyhow::Result<String> {
    let mut text = Vec::new();
    Man::new(command)
        .render(&mut text)
        .context("write the manual page")?;
    String::from_utf8(text).context("write the manual page")
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::{super::Cli, *};

    #[test]
    fn every_shell_has_completions_and_every_command_a_page() {
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            let text = completion(Cli::command(), shell).expect("a text");
            assert!(text.contains("allocations"), "{shell}");
        }
        let folder = tempfile::tempdir().expect("a folder");
        man(Cli::command(), Some(folder.path())).expect("pages");
        for name in ["clusterip", "clusterip-run", "clusterip-get-services"] {
            let text = fs::read_to_string(folder.path().join(format!("{name}.1")));
            assert!(text.expect(name).contains(".TH"), "{name}");
        }
    }

    #[test]
    fn the_declaration_of_the_commands_is_sound() {
        Cli::command().debug_assert();
    }
}
