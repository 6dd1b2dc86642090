//! The socket: who may speak to the agent, and what becomes of a dead one's.

use std::{
    fs, io,
    os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use axum::Router;
use tokio::{
    net::{UnixListener, UnixStream},
    sync::Semaphore,
    time::sleep,
};

use super::conversation::{Patience, converse};

/// Root and its group.
const MODE: u32 = 0o660;
/// Clients at once. Each takes a descriptor, and memory for one answer.
const CLIENTS: usize = 256;
/// Before the next one is listened to, where one could not be.
const PAUSE: Duration = Duration::from_millis(100);

/// A socket that cannot be listened on.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// A living agent has it.
    #[error(
        "another agent answers at {}: stop it, or choose another place with --socket", path.display()
    )]
    Taken {
        /// Where.
        path: PathBuf,
    },
    /// Something else is there.
    #[error(
        "{} is there and is no socket: remove it, or choose another place with --socket", path.display()
    )]
    NoSocket {
        /// Where.
        path: PathBuf,
    },
    /// A file operation.
    #[error("{operation} {}; --socket chooses another place, --socket '' none", path.display())]
    Io {
        /// What was tried.
        operation: &'static str,
        /// On what.
        path: PathBuf,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
}

/// A socket that is listened on. Its file goes with it.
#[derive(Debug)]
pub struct Socket {
    listener: UnixListener,
    file: SocketFile,
}

/// A file, as long as it is the one that was made.
#[derive(Debug)]
struct SocketFile {
    path: PathBuf,
    mark: Option<Mark>,
}

/// Which file it is: number and time of its making, as a number may be given again at once.
type Mark = (u64, i64, i64);

impl Drop for SocketFile {
    fn drop(&mut self) {
        // A new agent may have put its own in the place.
        if self.mark.is_some() && mark(&self.path) == self.mark {
            let _gone = fs::remove_file(&self.path);
        }
    }
}

fn mark(path: &Path) -> Option<Mark> {
    let found = fs::symlink_metadata(path).ok()?;
    Some((found.ino(), found.ctime(), found.ctime_nsec()))
}

impl Socket {
    /// Listens at a path; makes its directory, and takes the place of a dead agent's socket.
    ///
    /// # Errors
    /// A living agent has it, something else is there, or the file system refuses.
    pub async fn bind(path: &Path) -> Result<Self, SocketError> {
        let fail = |operation| {
            move |source| SocketError::Io {
                operation,
                path: path.to_owned(),
                source,
            }
        };
        if let Some(directory) = path.parent() {
            fs::create_dir_all(directory).map_err(fail("make the directory of"))?;
        }
        remove_dead(path).await?;
        let listener = UnixListener::bind(path).map_err(fail("listen on"))?;
        // Until here the umask keeps others out: who may not write cannot connect.
        fs::set_permissions(path, fs::Permissions::from_mode(MODE))
            .map_err(fail("set the mode of"))?;
        let file = SocketFile {
            path: path.to_owned(),
            mark: mark(path),
        };
        Ok(Self { listener, file })
    }

    /// Serves until it is dropped. Each client has a task of its own: a slow one makes nobody wait, and a stuck one is let
    /// go after a while. Where there are too many, further ones wait until others have gone.
    pub async fn serve(self, routes: Router) {
        let Self { listener, file } = self;
        let places = Arc::new(Semaphore::new(CLIENTS));
        // It is never closed.
        while let Ok(place) = Arc::clone(&places).acquire_owned().await {
            match listener.accept().await {
                Ok((stream, _address)) => {
                    let routes = routes.clone();
                    tokio::spawn(async move {
                        converse(stream, routes, Patience::default()).await;
                        drop(place);
                    });
                }
                Err(error) => {
                    log::warn!(socket:% = file.path.display(), error:err; "a client of the API is not heard");
                    // Mostly there are too many open files: others have to close theirs.
                    sleep(PAUSE).await;
                }
            }
        }
    }
}

async fn remove_dead(path: &Path) -> Result<(), SocketError> {
    let Ok(found) = fs::symlink_metadata(path) else {
        return Ok(());
    };
    if !found.file_type().is_socket() {
        return Err(SocketError::NoSocket {
            path: path.to_owned(),
        });
    }
    match UnixStream::connect(path).await {
        Ok(_somebody) => Err(SocketError::Taken {
            path: path.to_owned(),
        }),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path)
            .map_err(|source| SocketError::Io {
                operation: "remove a dead agent's",
                path: path.to_owned(),
                source,
            }),
        // A full queue too means that somebody is there.
        Err(source) => Err(SocketError::Io {
            operation: "find out whether somebody answers at",
            path: path.to_owned(),
            source,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_living_agents_socket_is_left_alone_and_a_dead_ones_replaced() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("new/agent.sock");
        let first = Socket::bind(&path).await.expect("the first");
        let mode = fs::metadata(&path).expect("a file").permissions().mode();
        assert_eq!(mode & 0o777, MODE);
        let error = Socket::bind(&path).await.expect_err("it is taken");
        assert!(matches!(error, SocketError::Taken { .. }), "{error}");
        // As a crash leaves it: the file without a listener.
        let Socket { listener, file } = first;
        drop(listener);
        let second = Socket::bind(&path).await.expect("the dead one's place");
        drop(file);
        assert!(
            path.exists(),
            "the first one's end leaves the second one's alone"
        );
        drop(second);
        assert!(!path.exists(), "it goes with its agent");
    }

    #[tokio::test]
    async fn what_is_no_socket_is_not_removed() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("agent.sock");
        fs::write(&path, "precious").expect("a file");
        let error = Socket::bind(&path).await.expect_err("it is no socket");
        assert!(matches!(error, SocketError::NoSocket { .. }), "{error}");
        assert_eq!(fs::read_to_string(&path).expect("a file"), "precious");
    }
}
