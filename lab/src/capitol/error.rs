//! What a client is told when its request cannot be served.

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Serialize;

/// Why a request was not served.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// The request itself is wrong: 400.
    #[error("{0}")]
    BadRequest(String),
    /// No row has this id: 404.
    #[error("there is no capitol {0}")]
    NoCapitol(i64),
    /// No route has this path: 404.
    #[error("there is no such path")]
    NoRoute,
    /// The path is there but not with this method: 405.
    #[error("this path does not take this method")]
    NoMethod,
    /// The database failed: 500.
    #[error("the database failed: {0}")]
    Database(#[from] rusqlite::Error),
}

#[derive(Serialize)]
struct Body {
    error: String,
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let status = match self {
            Self::BadRequest(_) => StatusCode::BAD_REQUEST,
            Self::NoCapitol(_) | Self::NoRoute => StatusCode::NOT_FOUND,
            Self::NoMethod => StatusCode::METHOD_NOT_ALLOWED,
            Self::Database(_) => StatusCode::INTERNAL_SERVER_ERROR,
        };
        let error = self.to_string();
        (status, Json(Body { error })).into_response()
    }
}
