//! `/healthz` and `/livez`, as load balancers and kubelets ask kube-proxy.

use axum::{
    Router,
    extract::State,
    http::{
        StatusCode,
        header::{CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS},
    },
    response::{IntoResponse, Response},
    routing::get,
};
use k8s_openapi::jiff::Timestamp;
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family},
    registry::Registry,
};
use serde::Serialize;
use tokio::sync::watch;

use super::{Progress, Verdict};
use crate::{
    attachments::Attachments, clock::Clock, reconcile::Published, source::kubernetes::Connection,
};

/// Where health comes from.
#[derive(Clone, Debug)]
pub struct Health {
    /// The time.
    pub clock: Clock,
    /// What waits.
    pub progress: watch::Receiver<Progress>,
    /// The node's own object.
    pub published: watch::Receiver<Published>,
    /// Whether the devices were looked at.
    pub attached: watch::Receiver<Option<Attachments>>,
    /// How the API server is reached, if objects come from one.
    pub connection: Option<watch::Receiver<Connection>>,
    /// How often it was asked.
    pub answers: Answers,
}

impl Health {
    /// The judgement of this moment.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        let is_attached = self.attached.borrow().is_some();
        let node_is_leaving = self.published.borrow().snapshot.node.is_leaving;
        let connection = self.connection.as_ref();
        let waiting = connection.and_then(|it| it.borrow().waiting());
        let progress = self.progress.borrow();
        Verdict::new(&progress, is_attached, node_is_leaving, self.clock.now()).waiting_for(waiting)
    }
}

/// Answers by status, under kube-proxy's names.
#[derive(Clone, Debug, Default)]
pub struct Answers {
    healthz: Family<Code, Counter>,
    livez: Family<Code, Counter>,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct Code {
    code: u16,
}

impl Answers {
    /// Shows them; the registry gives the prefix.
    pub fn register(&self, registry: &mut Registry) {
        for (name, help, family) in [
            (
                "proxy_healthz",
                "Answers of /healthz by status",
                &self.healthz,
            ),
            ("proxy_livez", "Answers of /livez by status", &self.livez),
        ] {
            registry.register(name, help, family.clone());
        }
    }
}

#[cfg(test)]
impl Answers {
    /// With a figure in each series.
    pub(crate) fn sampled() -> Self {
        let answers = Self::default();
        for family in [&answers.healthz, &answers.livez] {
            family.get_or_create(&Code { code: 200 }).inc();
        }
        answers
    }
}

/// kube-proxy's body; `reason` is ours, and there only if something is wrong.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Body {
    last_updated: Option<Timestamp>,
    current_time: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    node_eligible: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

/// `/healthz` and `/livez`.
pub fn routes(health: Health) -> Router {
    Router::new()
        .route("/healthz", get(healthz))
        .route("/livez", get(livez))
        .with_state(health)
}

async fn healthz(State(health): State<Health>) -> Response {
    let verdict = health.verdict();
    let body = Body {
        last_updated: verdict.last_updated,
        current_time: health.clock.now().wall,
        node_eligible: Some(verdict.node_eligible),
        reason: verdict.reason().map(str::to_owned),
    };
    answer(verdict.is_healthy(), &body, &health.answers.healthz)
}

async fn livez(State(health): State<Health>) -> Response {
    let verdict = health.verdict();
    let body = Body {
        last_updated: verdict.last_updated,
        current_time: health.clock.now().wall,
        node_eligible: None,
        reason: verdict.late.clone(),
    };
    answer(verdict.is_live(), &body, &health.answers.livez)
}

fn answer(is_good: bool, body: &Body, answers: &Family<Code, Counter>) -> Response {
    let status = if is_good {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    let code = status.as_u16();
    answers.get_or_create(&Code { code }).inc();
    let headers = [
        (CONTENT_TYPE, "application/json"),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    match serde_json::to_string(body) {
        Ok(text) => (status, headers, text).into_response(),
        // Times and words have a form in JSON.
        Err(_impossible) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}
