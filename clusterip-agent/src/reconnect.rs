//! Keeps connected UDP sockets with a backend that serves (C8).
//!
//! A socket that is not connected chooses anew by itself. Of one that is, the kernel asks no program when it sends: so the
//! agent connects it to its service again.

use std::time::Duration;

use tokio::{sync::watch, task::spawn_blocking, time::sleep};

use crate::{
    dataplane::{
        DataplaneError,
        borrow::{self, Outcome},
        sockets::SocketMaps,
    },
    reconcile::Published,
};

/// A look without a change: what failed before, and writes that a retry made.
const AGAIN: Duration = Duration::from_secs(30);

/// Looks after each change of the model, until that ends. With `everywhere`, also in other network namespaces.
pub async fn keep(
    mut maps: SocketMaps,
    everywhere: bool,
    mut published: watch::Receiver<Published>,
) {
    let mut known_out_of_reach = 0;
    loop {
        let work = spawn_blocking(move || {
            let result = sweep(&mut maps, everywhere);
            (maps, result)
        });
        let Ok((returned, result)) = work.await else {
            return;
        };
        maps = returned;
        match result {
            Ok(Swept {
                moved,
                out_of_reach,
            }) => {
                if moved > 0 {
                    log::info!(sockets = moved; "connected UDP sockets have another backend");
                }
                if out_of_reach > known_out_of_reach {
                    log::warn!(
                        sockets = out_of_reach;
                        "connected UDP sockets keep a backend that left: their processes cannot be seen from here \
                         (hostPID) or entered (CAP_SYS_PTRACE)"
                    );
                }
                known_out_of_reach = out_of_reach;
            }
            Err(error) => log::warn!(error:err; "connected UDP sockets are not looked after"),
        }
        tokio::select! {
            change = published.changed() => if change.is_err() { return },
            () = sleep(AGAIN) => {}
        }
    }
}

struct Swept {
    moved: usize,
    out_of_reach: usize,
}

fn sweep(maps: &mut SocketMaps, everywhere: bool) -> Result<Swept, DataplaneError> {
    let mut swept = Swept {
        moved: 0,
        out_of_reach: 0,
    };
    let stranded = maps.stranded()?;
    if stranded.is_empty() {
        return Ok(swept);
    }
    for (socket, outcome) in stranded
        .iter()
        .zip(borrow::reconnect(&stranded, everywhere))
    {
        match outcome {
            Outcome::Moved => swept.moved += 1,
            Outcome::OutOfReach => swept.out_of_reach += 1,
            Outcome::Waits => {}
            Outcome::Free => maps.forget(socket)?,
        }
    }
    Ok(swept)
}
