//! A question that is not answered.

use axum::{
    Json,
    extract::rejection::QueryRejection,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde::{Deserialize, Serialize};

use crate::{dataplane::DataplaneError, dns::inquiry::InquiryError, view};

/// The document of an error.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) struct ErrorDocument {
    /// Version of the documents.
    pub version: u32,
    /// What is wrong and what to do.
    pub error: String,
}

/// Why there is no answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Refusal {
    status: StatusCode,
    message: String,
}

impl Refusal {
    pub(super) const fn unknown(message: String) -> Self {
        Self {
            status: StatusCode::NOT_FOUND,
            message,
        }
    }

    pub(super) const fn bad(message: String) -> Self {
        Self {
            status: StatusCode::BAD_REQUEST,
            message,
        }
    }

    pub(super) fn not_yet() -> Self {
        Self {
            status: StatusCode::SERVICE_UNAVAILABLE,
            message: "the agent has not read everything yet: ask again in a moment; `clusterip status` tells what it \
                      waits for"
                .to_owned(),
        }
    }

    pub(super) fn failed(message: &str) -> Self {
        Self {
            status: StatusCode::INTERNAL_SERVER_ERROR,
            message: message.to_owned(),
        }
    }
}

impl From<QueryRejection> for Refusal {
    fn from(rejection: QueryRejection) -> Self {
        Self {
            status: StatusCode::BAD_REQUEST,
            message: rejection.body_text(),
        }
    }
}

impl From<DataplaneError> for Refusal {
    fn from(error: DataplaneError) -> Self {
        let cause =
            std::error::Error::source(&error).map_or_else(String::new, |it| format!(": {it}"));
        Self::failed(&format!("{error}{cause}"))
    }
}

impl From<InquiryError> for Refusal {
    fn from(error: InquiryError) -> Self {
        let status = match error {
            InquiryError::Name { .. } | InquiryError::Kind { .. } => StatusCode::BAD_REQUEST,
            InquiryError::Message(_) | InquiryError::Silence => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Self {
            status,
            message: error.to_string(),
        }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let document = ErrorDocument {
            version: view::VERSION,
            error: self.message,
        };
        (self.status, Json(document)).into_response()
    }
}
