//! Asks a running agent.

use std::{
    fmt::Write as _,
    io,
    ops::ControlFlow,
    path::{Path, PathBuf},
    time::Duration,
};

use http_body_util::{BodyExt as _, Collected, Empty};
use hyper::{
    Request, Response,
    body::{Bytes, Incoming},
    client::conn::http1::handshake,
    header::HOST,
};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use tokio::{net::UnixStream, task::JoinHandle, time::timeout};

use super::refusal::ErrorDocument;

/// The longest answers take a fraction of a second; an agent that is stopped (SIGSTOP) would keep us for ever.
const PATIENCE: Duration = Duration::from_secs(20);

/// An answer that did not come.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// There is no socket, or nobody listens.
    #[error(
        "no agent answers at {}: start it (clusterip run ...), or name its socket with --socket", path.display()
    )]
    NotRunning {
        /// Where.
        path: PathBuf,
    },
    /// The socket is not for us.
    #[error(
        "the socket {} is not for this user: be root, or of the group that owns it", path.display()
    )]
    Permission {
        /// Where.
        path: PathBuf,
    },
    /// The connection failed otherwise.
    #[error("connect to the agent at {}", path.display())]
    Connect {
        /// Where.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It took too long.
    #[error("the agent at {} did not answer in {PATIENCE:?}", path.display())]
    TooLong {
        /// Where.
        path: PathBuf,
    },
    /// The conversation broke off.
    #[error("ask the agent for {question}")]
    Http {
        /// What.
        question: String,
        /// Why.
        #[source]
        source: hyper::Error,
    },
    /// The question cannot be put into a request.
    #[error("ask the agent for {question}")]
    Question {
        /// What.
        question: String,
        /// Why.
        #[source]
        source: hyper::http::Error,
    },
    /// The agent says no.
    #[error("{message}")]
    Refused {
        /// What it says.
        message: String,
    },
    /// The agent cannot say yet.
    #[error("{message}")]
    Unready {
        /// What it says.
        message: String,
    },
    /// The answer is not the document that was expected.
    #[error(
        "the answer to {question} cannot be read; is the agent of another version? `clusterip version` tells"
    )]
    Document {
        /// What was asked.
        question: String,
        /// What is wrong with it.
        #[source]
        source: serde_json::Error,
    },
}

/// Asks the agent at a socket for a document: `/v1/services?namespace=default`.
///
/// # Errors
/// Nobody answers, the agent refuses, or the answer is not such a document.
pub async fn ask<T: DeserializeOwned>(socket: &Path, question: &str) -> Result<T, ClientError> {
    let (status, body) = timeout(PATIENCE, fetch(socket, question))
        .await
        .unwrap_or_else(|_elapsed| {
            Err(ClientError::TooLong {
                path: socket.to_owned(),
            })
        })?;
    if !status.is_success() {
        return Err(refused(question, status, &body));
    }
    serde_json::from_slice(&body).map_err(|source| ClientError::Document {
        question: question.to_owned(),
        source,
    })
}

/// Asks for a stream of lines, and hands each one out as it comes; ends when the agent does, or `each` has had enough.
///
/// # Errors
/// Nobody answers, or the agent refuses. That it ends later on is none.
pub async fn listen(
    socket: &Path,
    question: &str,
    mut each: impl FnMut(&[u8]) -> ControlFlow<()>,
) -> Result<ControlFlow<()>, ClientError> {
    let (response, connection) = timeout(PATIENCE, send(socket, question))
        .await
        .unwrap_or_else(|_elapsed| {
            Err(ClientError::TooLong {
                path: socket.to_owned(),
            })
        })?;
    let _connection = AbortOnDrop(connection);
    let status = response.status();
    let mut body = response.into_body();
    if !status.is_success() {
        let refusal = body.collect().await.map(Collected::to_bytes);
        return Err(refused(question, status, &refusal.unwrap_or_default()));
    }
    let mut rest = Vec::new();
    while let Some(Ok(frame)) = body.frame().await {
        let Ok(data) = frame.into_data() else {
            continue;
        };
        rest.extend_from_slice(&data);
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = rest.drain(..=end).collect();
            if each(&line).is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
    }
    Ok(ControlFlow::Continue(()))
}

fn refused(question: &str, status: hyper::StatusCode, body: &[u8]) -> ClientError {
    let document: Result<ErrorDocument, _> = serde_json::from_slice(body);
    let message = document.map_or_else(
        |_| format!("the agent answers {question} with status {status}"),
        |document| document.error,
    );
    if status == hyper::StatusCode::SERVICE_UNAVAILABLE {
        return ClientError::Unready { message };
    }
    ClientError::Refused { message }
}

async fn fetch(socket: &Path, question: &str) -> Result<(hyper::StatusCode, Bytes), ClientError> {
    let (response, connection) = send(socket, question).await?;
    let _connection = AbortOnDrop(connection);
    let status = response.status();
    let body = response.into_body().collect().await;
    let body = body.map_err(|source| ClientError::Http {
        question: question.to_owned(),
        source,
    })?;
    Ok((status, body.to_bytes()))
}

/// What drives a connection.
type Driver = JoinHandle<hyper::Result<()>>;

/// Ends it together with who reads.
struct AbortOnDrop(Driver);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn send(socket: &Path, question: &str) -> Result<(Response<Incoming>, Driver), ClientError> {
    let stream = UnixStream::connect(socket).await;
    let stream = stream.map_err(|source| connect_error(socket, source))?;
    let broken = |source| ClientError::Http {
        question: question.to_owned(),
        source,
    };
    let (mut sender, connection) = handshake(TokioIo::new(stream)).await.map_err(broken)?;
    let connection = tokio::spawn(connection);
    let request = Request::get(question)
        .header(HOST, "clusterip")
        .body(Empty::<Bytes>::new());
    let request = request.map_err(|source| ClientError::Question {
        question: question.to_owned(),
        source,
    })?;
    let response = sender.send_request(request).await.map_err(broken)?;
    Ok((response, connection))
}

fn connect_error(socket: &Path, source: io::Error) -> ClientError {
    let path = socket.to_owned();
    match source.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
            ClientError::NotRunning { path }
        }
        io::ErrorKind::PermissionDenied => ClientError::Permission { path },
        _ => ClientError::Connect { path, source },
    }
}

/// `path?key=value&...` of those that have a value.
#[must_use]
pub fn question(path: &str, values: &[(&str, Option<&str>)]) -> String {
    let mut text = path.to_owned();
    let mut mark = '?';
    for (key, value) in values {
        let Some(value) = value else { continue };
        text.push(std::mem::replace(&mut mark, '&'));
        text.push_str(key);
        text.push('=');
        for byte in value.bytes() {
            if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
                text.push(char::from(byte));
            } else {
                // Writing to a String does not fail.
                let _written = write!(text, "%{byte:02X}");
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_carries_any_text() {
        let text = question(
            "/v1/x",
            &[("a", None), ("b", Some("c d&é")), ("e", Some("f-1.g"))],
        );
        assert_eq!(text, "/v1/x?b=c%20d%26%C3%A9&e=f-1.g");
    }

    #[tokio::test]
    async fn without_an_agent_it_says_what_to_do() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("agent.sock");
        let error = ask::<ErrorDocument>(&path, "/v1/status").await;
        let error = error.expect_err("nobody is there").to_string();
        assert!(error.contains("start it (clusterip run"), "{error}");
        // A dead agent's socket is there still.
        drop(std::os::unix::net::UnixListener::bind(&path).expect("a socket"));
        let error = ask::<ErrorDocument>(&path, "/v1/status").await;
        let error = error.expect_err("nobody listens").to_string();
        assert!(error.contains("no agent answers at"), "{error}");
    }
}
