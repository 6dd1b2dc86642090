//! Commands in a pod's network namespace.

use std::{fs::File, process::Stdio, sync::Arc, thread, time::Duration};

use nix::sched::{CloneFlags, setns};
use tokio::{process::Command, runtime, sync::oneshot, time::timeout};

/// Runs a command in a network namespace; its end after `limit` is its failure, and it is killed then.
///
/// # Errors
/// Why it is no success.
pub(super) async fn exec(
    netns: &Arc<str>,
    command: &Arc<[String]>,
    limit: Duration,
) -> Result<(), String> {
    let (netns, command) = (netns.clone(), command.clone());
    let (answer, result) = oneshot::channel();
    // A thread of its own, which ends with the command: a namespace is a property of a thread, and one of the
    // runtime's must not be left in it.
    let spawned = thread::Builder::new()
        .name("exec-probe".to_owned())
        .spawn(move || {
            // Nobody waits any more if the probe's time is over.
            drop(answer.send(run(&netns, &command, limit)));
        });
    spawned.map_err(|error| format!("start a thread: {error}"))?;
    result
        .await
        .unwrap_or_else(|_gone| Err("the command's thread ended".to_owned()))
}

fn run(netns: &str, command: &[String], limit: Duration) -> Result<(), String> {
    let file = File::open(netns).map_err(|error| format!("open {netns}: {error}"))?;
    setns(file, CloneFlags::CLONE_NEWNET).map_err(|error| format!("enter {netns}: {error}"))?;
    let [program, arguments @ ..] = command else {
        return Err("no command".to_owned());
    };
    let runtime = runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| format!("start a runtime: {error}"))?;
    runtime.block_on(async {
        let status = Command::new(program)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .status();
        match timeout(limit, status).await {
            Ok(Ok(status)) if status.success() => Ok(()),
            Ok(Ok(status)) => Err(format!("{program}: {status}")),
            Ok(Err(error)) => Err(format!("run {program}: {error}")),
            Err(_elapsed) => Err(format!("{program} did not end in {limit:?}")),
        }
    })
}
