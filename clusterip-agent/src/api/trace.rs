//! `/v1/trace`: a made-up packet over what the kernel holds, without a trace of it there.

use std::{net::SocketAddr, sync::Arc};

use axum::{
    Json,
    extract::{Query, State, rejection::QueryRejection},
};
use clusterip_common::abi::Settings;
use serde::Deserialize;

use super::{Shared, refusal::Refusal, routes::aside};
use crate::{
    clock::monotonic,
    dataplane::{
        DataplaneError,
        pins::Pins,
        replica::{self, Held, ReplicaError},
    },
    trace::{
        Question, Trace, Transport, Via,
        live::{ethernet, settle, steps, subject},
    },
};

/// What it takes to run a packet.
pub struct Tracing {
    /// Where the maps are pinned.
    pub pins: Pins,
    /// What the programs were loaded with.
    pub settings: Settings,
    /// Hash of the program at pods' devices; none if the kernel does not tell.
    pub tag: Option<u64>,
}

/// The packet.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Asked {
    from: SocketAddr,
    to: SocketAddr,
    #[serde(default)]
    protocol: Transport,
    /// TCP's flags, as in its header: SYN by default.
    #[serde(default = "syn")]
    flags: u8,
    #[serde(default)]
    via: Via,
}

const fn syn() -> u8 {
    2
}

pub(super) async fn trace(
    State(shared): State<Arc<Shared>>,
    question: Result<Query<Asked>, QueryRejection>,
) -> Result<Json<Trace>, Refusal> {
    let Query(Asked {
        from,
        to,
        protocol,
        flags,
        via,
    }) = question?;
    if from.is_ipv4() != to.is_ipv4() {
        return Err(Refusal::bad(format!(
            "from {from} and to {to} are not of one family"
        )));
    }
    let question = Question {
        from,
        to,
        protocol,
        flags,
        via,
    };
    let document = aside(shared, move |shared| Ok(run(shared, &question))).await?;
    Ok(Json(document?))
}

fn run(shared: &Shared, question: &Question) -> Result<Trace, Refusal> {
    let Tracing {
        pins,
        settings,
        tag,
    } = &shared.sources.tracing;
    let held = Held::read(pins, &subject(question))?;
    let published = shared.published();
    let mut trace = steps(question, &held, *settings, &published.index, monotonic());
    // The kernel has no test-run for the hooks at calls.
    if let Some(frame) = ethernet(question) {
        let at_uplink = question.via == Via::Uplink;
        let ran = replica::run(&held, *settings, at_uplink, &frame)?;
        settle(&mut trace, question, &ran, tag.filter(|_| !at_uplink));
    }
    Ok(trace)
}

impl From<ReplicaError> for Refusal {
    fn from(error: ReplicaError) -> Self {
        if let ReplicaError::Map(error) = error {
            return DataplaneError::into(error);
        }
        let mut text = error.to_string();
        let mut cause = std::error::Error::source(&error);
        while let Some(error) = cause {
            text = format!("{text}: {error}");
            cause = error.source();
        }
        Self::failed(&text)
    }
}
