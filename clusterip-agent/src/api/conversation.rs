//! One client's connection: how long it may keep its place.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, Sleep, sleep},
};

/// What a client may take its time for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience {
    /// To say what it wants, from one question to the end of the next.
    pub(super) question: Duration,
    /// To take something of an answer.
    pub(super) answer: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            question: Duration::from_secs(30),
            answer: Duration::from_secs(30),
        }
    }
}

/// Answers a client until it goes, or has no patience left.
pub(super) async fn converse<S>(stream: S, routes: Router, patience: Patience)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let stream = TokioIo::new(Impatient::new(stream, patience.answer));
    let service = TowerToHyperService::new(routes);
    let ended = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(patience.question)
        .serve_connection(stream, service)
        .await;
    if let Err(error) = ended {
        log::debug!(error:err; "a client of the API is let go");
    }
}

/// A stream that gives up on a peer that reads nothing.
struct Impatient<S> {
    stream: S,
    patience: Duration,
    /// Since a write found no room.
    stuck: Option<Pin<Box<Sleep>>>,
}

impl<S> Impatient<S> {
    const fn new(stream: S, patience: Duration) -> Self {
        Self {
            stream,
            patience,
            stuck: None,
        }
    }

    /// The result of a write, unless the peer has been stuck for too long.
    fn written<T>(
        &mut self,
        result: Poll<io::Result<T>>,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<T>> {
        if result.is_ready() {
            self.stuck = None;
            return result;
        }
        let patience = self.patience;
        let until = self.stuck.get_or_insert_with(|| Box::pin(sleep(patience)));
        ready!(until.as_mut().poll(context));
        // A further poll would be one of a timer that is over.
        until.as_mut().reset(Instant::now() + patience);
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Impatient<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Impatient<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.written(result, context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write_vectored(context, parts);
        self.written(result, context)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let result = Pin::new(&mut self.stream).poll_flush(context);
        self.written(result, context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use axum::routing::get;
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex},
        time::timeout,
    };

    use super::*;

    const SHORT: Patience = Patience {
        question: Duration::from_millis(50),
        answer: Duration::from_millis(50),
    };
    /// Used up by a failure only.
    const LONG: Duration = Duration::from_mins(1);

    const LONG_ANSWER: &[u8] = b"GET /long HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";

    /// A client, and what ends with its conversation.
    fn client(patience: Patience) -> (DuplexStream, tokio::task::JoinHandle<()>) {
        let (client, server) = duplex(1 << 10);
        let routes = Router::new()
            .route("/short", get(async || "short"))
            .route("/long", get(async || "x".repeat(1 << 20)));
        (client, tokio::spawn(converse(server, routes, patience)))
    }

    #[tokio::test]
    async fn who_says_half_a_question_or_nothing_is_let_go() {
        for text in ["GET /sho", ""] {
            let (mut client, ended) = client(SHORT);
            client.write_all(text.as_bytes()).await.expect("a question");
            timeout(LONG, ended).await.expect("it ends").expect("well");
        }
    }

    #[tokio::test]
    async fn who_asks_and_then_says_nothing_is_let_go() {
        let (mut client, ended) = client(SHORT);
        let question = b"GET /short HTTP/1.1\r\nHost: x\r\n\r\n";
        client.write_all(question).await.expect("a question");
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.expect("an answer");
        assert!(answer.ends_with("short"), "{answer}");
        timeout(LONG, ended).await.expect("it ends").expect("well");
    }

    #[tokio::test]
    async fn who_reads_nothing_of_a_long_answer_is_let_go() {
        let (mut deaf, ended) = client(SHORT);
        deaf.write_all(LONG_ANSWER).await.expect("a question");
        timeout(LONG, ended).await.expect("it ends").expect("well");
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_slow_with_every_piece_of_a_long_answer_gets_it() {
        let patience = Patience::default();
        let (mut slow, _ended) = client(patience);
        slow.write_all(LONG_ANSWER).await.expect("a question");
        let begun = Instant::now();
        let (mut length, mut part) = (0, vec![0; 1 << 17]);
        loop {
            let read = slow.read(&mut part).await.expect("an answer");
            if read == 0 {
                break;
            }
            length += read;
            // Of a clock that stands still while anybody works.
            sleep(patience.answer * 9 / 10).await;
        }
        assert!(length > 1 << 20, "{length}");
        assert!(begun.elapsed() > patience.answer * 100);
    }
}
