//! Carries probes out.

use std::{net::SocketAddr, time::Duration};

use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

use super::{definition::Check, exec, grpc, tls};

/// A status line is shorter.
const STATUS_LINE: usize = 128;

/// Asks once.
///
/// # Errors
/// Why it is no success, for people.
pub(super) async fn check(check: &Check, limit: Duration) -> Result<(), String> {
    let ask = async {
        match check {
            Check::Http {
                to,
                request,
                secure: false,
            } => http(connect(*to).await?, *to, request).await,
            Check::Http {
                to,
                request,
                secure: true,
            } => http(tls::over(connect(*to).await?, *to).await?, *to, request).await,
            Check::Tcp { to } => connect(*to).await.map(drop),
            Check::Grpc { to, request } => {
                let answer = grpc::ask(connect(*to).await?, request).await;
                answer.map_err(|reason| format!("{to}: {reason}"))
            }
            Check::Exec { netns, command } => exec::exec(netns, command, limit).await,
            Check::Impossible { reason } => Err(reason.to_string()),
        }
    };
    match timeout(limit, ask).await {
        Ok(result) => result,
        Err(_elapsed) => Err(format!("no answer in {limit:?}")),
    }
}

async fn connect(to: SocketAddr) -> Result<TcpStream, String> {
    let stream = TcpStream::connect(to).await;
    stream.map_err(|error| format!("connect to {to}: {error}"))
}

async fn http(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    to: SocketAddr,
    request: &str,
) -> Result<(), String> {
    let failed = |error: std::io::Error| format!("ask {to}: {error}");
    stream.write_all(request.as_bytes()).await.map_err(failed)?;
    let mut answer = Vec::with_capacity(STATUS_LINE);
    while answer.len() < STATUS_LINE && !answer.contains(&b'\n') {
        let count = stream.read_buf(&mut answer).await.map_err(failed)?;
        if count == 0 {
            break;
        }
    }
    let status = status(&answer).ok_or_else(|| format!("{to} does not answer in HTTP/1"))?;
    if (200..400).contains(&status) {
        Ok(())
    } else {
        Err(format!("{to} answers with status {status}"))
    }
}

/// The number in `HTTP/1.1 200 OK`.
fn status(answer: &[u8]) -> Option<u16> {
    let line = answer.split(|byte| *byte == b'\n').next()?;
    let line = std::str::from_utf8(line).ok()?;
    let mut words = line.strip_prefix("HTTP/1.")?.split_ascii_whitespace();
    words.nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::status;

    #[test]
    fn a_status_line_is_read_and_nothing_else() {
        for (answer, wanted) in [
            ("HTTP/1.1 200 OK\r\nA: b\r\n", Some(200)),
            ("HTTP/1.0 404 Not Found\r\n", Some(404)),
            ("HTTP/1.1 204\r\n", Some(204)),
            ("HTTP/1.1 \r\n", None),
            ("SSH-2.0-OpenSSH\r\n", None),
            ("", None),
        ] {
            assert_eq!(status(answer.as_bytes()), wanted, "{answer}");
        }
    }
}
