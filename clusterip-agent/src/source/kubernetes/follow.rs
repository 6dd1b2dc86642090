//! One resource, followed: listed once, then watched from that version on, for ever.

use std::time::Duration;

use hyper::{Response, StatusCode, header::RETRY_AFTER};
use kube::client::Body;
use tokio::{
    sync::mpsc,
    time::{Instant, sleep},
};

use super::{
    Failure, Resource, Scope, Servers, Tally,
    backoff::Backoff,
    decode::{Decoded, Line, Page, Status, bookmark, decode},
    failure::{Cause, Verb},
    lines::{Lines, chunk, whole},
    request::{Ask, path},
    servers::text,
};
use crate::model::{facts::Names, object::ObjectKey};

/// How long a list, or one that a watch begins with, may go without a byte.
const PATIENCE: Duration = Duration::from_mins(1);
/// After how many seconds, at least, the server ends a watch; client-go's, scattered in the same way.
const WATCH_SECONDS: u64 = 300;
/// How much later than that the end may come.
const GRACE: Duration = Duration::from_secs(15);
/// A watch that ends sooner than this without a word is no watch.
const SHORT: Duration = Duration::from_secs(1);

/// What is heard of a resource.
#[derive(Clone, PartialEq, Debug)]
pub(super) enum Heard {
    /// A listing begins.
    Began,
    /// An object is there, or as it is now.
    Found(Decoded),
    /// An object is gone.
    Gone(ObjectKey),
    /// The listing is complete: what was not found in it is gone.
    Listed,
    /// The server answers, and has nothing new.
    Alive,
    /// The server could not be asked, or says no; it is asked again after a while.
    Failed(Failure),
}

/// Why a step ended before its end.
enum Stop {
    Failed(Verb, Cause),
    /// Nobody listens.
    Closed,
}

type Step<T = ()> = Result<T, Stop>;

/// Follows one resource.
pub(super) struct Follower {
    resource: Resource,
    servers: Servers,
    scope: Scope,
    tally: Tally,
    heard: mpsc::Sender<(Resource, Vec<Heard>)>,
    /// What is known is as the server had it at this version; None is nothing.
    version: Option<String>,
    /// The server may begin a watch with a list: no page is held in memory, and no version can expire between the two.
    streams: bool,
    backoff: Backoff,
    /// Texts of the objects that are known: most have the same nodes, zones and ports.
    names: Names,
}

impl Follower {
    pub(super) fn new(
        resource: Resource,
        servers: Servers,
        scope: Scope,
        tally: Tally,
        heard: mpsc::Sender<(Resource, Vec<Heard>)>,
    ) -> Self {
        Self {
            resource,
            servers,
            scope,
            tally,
            heard,
            version: None,
            streams: true,
            backoff: Backoff::new(),
            names: Names::default(),
        }
    }

    /// Goes on until nobody listens.
    pub(super) async fn run(mut self) {
        loop {
            let (verb, cause) = match self.step().await {
                Ok(()) => continue,
                Err(Stop::Closed) => return,
                Err(Stop::Failed(verb, cause)) => (verb, cause),
            };
            let pause = self.backoff.pause(rand::random(), cause.again());
            let is_lost = matches!(cause, Cause::Expired | Cause::Nonsense(_));
            if is_lost {
                self.version = None;
            }
            let failure = Failure {
                verb,
                resource: self.resource,
                cause,
            };
            if self.tell(vec![Heard::Failed(failure)]).await.is_err() {
                return;
            }
            sleep(pause).await;
        }
    }

    async fn step(&mut self) -> Step {
        match self.version.clone() {
            Some(version) => self.watch(Ask::Watch(&version)).await,
            None if self.streams => self.watch(Ask::ListAndWatch).await,
            None => self.list().await,
        }
    }

    /// Lists everything, page by page.
    async fn list(&mut self) -> Step {
        let failed = |cause| Stop::Failed(Verb::List, cause);
        let mut token: Option<String> = None;
        let mut batch = vec![Heard::Began];
        loop {
            let response = self.ask(Verb::List, Ask::List(token.as_deref()), 0).await?;
            let body = whole(response.into_body(), PATIENCE)
                .await
                .map_err(failed)?;
            let page: Page<'_> = serde_json::from_slice(&body)
                .map_err(|error| failed(Cause::Nonsense(error.to_string())))?;
            let items = page.items.unwrap_or_default();
            batch.extend(
                items
                    .into_iter()
                    .map(|text| Heard::Found(decode(self.resource, text, &mut self.names).0)),
            );
            if page.metadata.token.is_empty() {
                if page.metadata.resource_version.is_empty() {
                    let why = "a list without metadata.resourceVersion".to_owned();
                    return Err(failed(Cause::Nonsense(why)));
                }
                self.version = Some(page.metadata.resource_version);
                batch.push(Heard::Listed);
                return self.tell(batch).await;
            }
            token = Some(page.metadata.token);
            self.tell(std::mem::take(&mut batch)).await?;
        }
    }

    /// Watches from a version on, or lists and watches, until the server ends it.
    async fn watch(&mut self, ask: Ask<'_>) -> Step {
        let failed = |cause| Stop::Failed(Verb::Watch, cause);
        let seconds = WATCH_SECONDS + rand::random_range(0..WATCH_SECONDS);
        let mut is_listing = ask == Ask::ListAndWatch;
        let response = match self.ask(Verb::Watch, ask, seconds).await {
            // A server before 1.32, or one that has it switched off.
            Err(Stop::Failed(
                _,
                Cause::Refused {
                    code: 400 | 422, ..
                },
            )) if is_listing => {
                self.list_by_page("it refuses them");
                return Ok(());
            }
            response => response?,
        };
        let begun = Instant::now();
        let mut body = response.into_body();
        let mut lines = Lines::default();
        self.tell(vec![if is_listing {
            Heard::Began
        } else {
            Heard::Alive
        }])
        .await?;
        loop {
            let patience = if is_listing {
                PATIENCE
            } else {
                Duration::from_secs(seconds) + GRACE
            };
            let bytes = match chunk(&mut body, patience).await {
                Ok(Some(bytes)) => bytes,
                Ok(None) if is_listing => {
                    return Err(failed(Cause::Broken(
                        "it ended within the first list".to_owned(),
                    )));
                }
                Ok(None) if begun.elapsed() < SHORT => return Err(failed(Cause::Short)),
                Ok(None) => {
                    self.backoff = Backoff::new();
                    return Ok(());
                }
                // A server that goes down takes its watches with it; whether one is missed shows when it is asked again.
                Err(Cause::Broken(why)) if !is_listing && begun.elapsed() >= SHORT => {
                    log::debug!(resource = self.resource.name(), why; "a watch broke off; it goes on");
                    return Ok(());
                }
                Err(Cause::Silent(_)) if is_listing => {
                    self.list_by_page("the end of one did not come");
                    return Ok(());
                }
                Err(cause) => return Err(failed(cause)),
            };
            lines.push(&bytes);
            let mut batch = Vec::new();
            let mut outcome = Ok(true);
            while let Some(line) = lines.next() {
                outcome = self.event(&line, &mut is_listing, &mut batch);
                if !matches!(outcome, Ok(true)) {
                    break;
                }
            }
            if !is_listing && !batch.is_empty() {
                self.backoff = Backoff::new();
            }
            self.tell(batch).await?;
            match outcome {
                Ok(true) => {}
                Ok(false) => {
                    self.list_by_page("it does not know them");
                    return Ok(());
                }
                Err(cause) => return Err(failed(cause)),
            }
        }
    }

    /// What a line says; false if the server does not know lists that a watch begins with.
    fn event(
        &mut self,
        line: &[u8],
        is_listing: &mut bool,
        batch: &mut Vec<Heard>,
    ) -> Result<bool, Cause> {
        let nonsense = |error: serde_json::Error| Cause::Nonsense(error.to_string());
        if line.is_empty() {
            return Ok(true);
        }
        let Line { kind, object } = serde_json::from_slice(line).map_err(nonsense)?;
        self.tally.event(self.resource, kind);
        let version = match kind {
            "ADDED" | "MODIFIED" => {
                let (decoded, version) = decode(self.resource, object, &mut self.names);
                batch.push(Heard::Found(decoded));
                version
            }
            "DELETED" => {
                let (decoded, version) = decode(self.resource, object, &mut self.names);
                batch.extend(decoded.key().cloned().map(Heard::Gone));
                version
            }
            "BOOKMARK" => {
                let (version, ends_list) = bookmark(object);
                if *is_listing && !ends_list {
                    return Ok(false);
                }
                batch.push(if std::mem::take(is_listing) {
                    Heard::Listed
                } else {
                    Heard::Alive
                });
                version
            }
            "ERROR" => {
                // Whatever it is, it may be about the version: client-go lists again as well.
                self.version = None;
                let status: Status = serde_json::from_str(object.get()).unwrap_or_default();
                return Err(refusal(status.code, status, None));
            }
            // What comes in later versions of the API is not for us.
            _ => None,
        };
        // Before all is listed there is no version to go on from.
        if !*is_listing && version.is_some() {
            self.version = version;
        }
        Ok(true)
    }

    /// Goes on with pages instead of a list as a stream.
    fn list_by_page(&mut self, why: &str) {
        log::info!(resource = self.resource.name(), why; "the API server has no streaming lists: it is asked for pages");
        self.streams = false;
    }

    /// An answer that is one.
    async fn ask(&self, verb: Verb, ask: Ask<'_>, seconds: u64) -> Step<Response<Body>> {
        let path = path(self.resource, &self.scope, ask, seconds);
        let answer = match self.servers.get(&path).await {
            Ok(response) if response.status() == StatusCode::OK => Ok(response),
            Ok(response) => Err(refused(response).await),
            Err(cause) => Err(cause),
        };
        let label = answer.as_ref().err().map(Cause::label);
        self.tally.asked(self.resource, verb, label.as_deref());
        answer.map_err(|cause| Stop::Failed(verb, cause))
    }

    async fn tell(&self, batch: Vec<Heard>) -> Step {
        if batch.is_empty() {
            return Ok(());
        }
        let told = self.heard.send((self.resource, batch)).await;
        told.map_err(|_closed| Stop::Closed)
    }
}

/// Why an answer is none.
pub(super) async fn refused(response: Response<Body>) -> Cause {
    let code = response.status().as_u16();
    let again = response.headers().get(RETRY_AFTER);
    let again = again.and_then(|value| value.to_str().ok()?.parse().ok());
    let body = text(response.into_body()).await;
    let status = serde_json::from_slice(&body).unwrap_or_else(|_no_json| Status {
        message: String::from_utf8_lossy(body.get(..200).unwrap_or(&body))
            .trim()
            .to_owned(),
        ..Status::default()
    });
    refusal(code, status, again.map(Duration::from_secs))
}

fn refusal(code: u16, status: Status, again: Option<Duration>) -> Cause {
    let Status {
        code: said,
        message,
        reason,
    } = status;
    if code == 410 || said == 410 || reason == "Expired" || reason == "Gone" {
        return Cause::Expired;
    }
    Cause::Refused {
        code,
        message: if message.is_empty() { reason } else { message },
        again,
    }
}
