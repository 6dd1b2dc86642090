//! `/v1/monitor`: events, one line of JSON each, for as long as somebody reads.

use std::sync::Arc;

use axum::{
    body::{Body, Bytes},
    extract::{Query, State, rejection::QueryRejection},
    http::header::CONTENT_TYPE,
    response::{IntoResponse as _, Response},
};
use futures::stream;
use serde::Deserialize;

use super::{Shared, refusal::Refusal};
use crate::{
    monitor::Wish,
    view::{Selection, event::Peer, near},
};

/// What may be asked for.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Asked {
    namespace: Option<String>,
    name: Option<String>,
    outcome: Option<String>,
    from: Option<String>,
    to: Option<String>,
    sample: Option<u32>,
    /// Whether to bring frames of what is rejected or dropped.
    frames: bool,
}

impl Asked {
    fn wish(self) -> Result<Wish, Refusal> {
        let peer = |text: Option<String>| {
            let peer = text.map(|text| {
                text.parse::<Peer>()
                    .map_err(|error| Refusal::bad(format!("{text}: {error}")))
            });
            peer.transpose()
        };
        let selection = Selection {
            namespace: self.namespace,
            name: self.name,
        };
        let (from, to) = (peer(self.from)?, peer(self.to)?);
        let mut wish = Wish::about(selection, from, to, self.frames);
        wish.name(self.outcome.as_deref().unwrap_or_default())
            .map_err(|error| Refusal::bad(error.to_string()))?;
        wish.sample(self.sample);
        Ok(wish)
    }
}

pub(super) async fn monitor(
    State(shared): State<Arc<Shared>>,
    question: Result<Query<Asked>, QueryRejection>,
) -> Result<Response, Refusal> {
    let Query(asked) = question?;
    let wish = asked.wish()?;
    let published = shared.published();
    if !published.synced {
        return Err(Refusal::not_yet());
    }
    if let Some(message) = near::unknown(&published.snapshot, &wish.selection) {
        return Err(Refusal::unknown(message));
    }
    let ended = || Refusal::failed("the agent tells no events");
    let mut lines = shared
        .sources
        .monitor
        .listen(wish)
        .await
        .ok_or_else(ended)?;
    let lines = stream::poll_fn(move |context| {
        let line = lines.poll_recv(context);
        line.map(|line| line.map(Ok::<Bytes, std::convert::Infallible>))
    });
    let kind = [(CONTENT_TYPE, "application/x-ndjson")];
    Ok((kind, Body::from_stream(lines)).into_response())
}
