//! The routes and what they answer.
//!
//! Statements run on the worker that read the request, not on the blocking pool: on a warm page
//! cache one takes a few microseconds, less than handing it to another thread and back, and the
//! two thread switches would show up in every exchange as time of the application.

use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, PathRejection};
use axum::extract::{DefaultBodyLimit, Path, RawQuery, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;

use super::delay::Delayed;
use super::store::{Capitol, NewCapitol, PAGE, Store};
use super::{ApiError, query};

/// The greatest request body, bytes; a country and its capital need a fraction of it.
const LARGEST_BODY: usize = 16 * 1024;

/// About what one row takes as JSON, bytes, so that most answers are allocated once.
const ROW: usize = 64;

/// The service over a database.
pub fn router(store: Arc<Store>) -> Router {
    Router::new()
        .route("/capitols", get(list).post(create))
        .route("/capitols/{id}", get(read).post(update))
        .route("/healthz", get(|| async { "ok\n" }))
        .fallback(|| async { ApiError::NoRoute })
        .method_not_allowed_fallback(|| async { ApiError::NoMethod })
        .layer(DefaultBodyLimit::max(LARGEST_BODY))
        .with_state(store)
}

async fn list(
    State(store): State<Arc<Store>>,
    RawQuery(asked): RawQuery,
    _: Delayed,
) -> Result<Response, ApiError> {
    let limit = query::number(asked.as_deref(), "limit")?
        .unwrap_or(PAGE)
        .min(PAGE);
    let after = query::number(asked.as_deref(), "after")?.unwrap_or(0);
    let mut body = Vec::with_capacity(2 + ROW * usize::try_from(limit).unwrap_or(0));
    body.push(b'[');
    store.list(after.into(), limit, |capitol| {
        if body.len() > 1 {
            body.push(b',');
        }
        write(&mut body, capitol);
    })?;
    body.push(b']');
    Ok(json(StatusCode::OK, body))
}

async fn read(
    State(store): State<Arc<Store>>,
    id: Result<Path<i64>, PathRejection>,
    _: Delayed,
) -> Result<Response, ApiError> {
    let id = row_id(id)?;
    let mut body = Vec::with_capacity(ROW);
    if !store.get(id, |capitol| write(&mut body, capitol))? {
        return Err(ApiError::NoCapitol(id));
    }
    Ok(json(StatusCode::OK, body))
}

async fn create(
    State(store): State<Arc<Store>>,
    _: Delayed,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, ApiError> {
    let new = parse(body)?;
    let id = store.insert(&new)?;
    Ok(row(StatusCode::CREATED, id, &new))
}

async fn update(
    State(store): State<Arc<Store>>,
    id: Result<Path<i64>, PathRejection>,
    _: Delayed,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, ApiError> {
    let id = row_id(id)?;
    let new = parse(body)?;
    if !store.update(id, &new)? {
        return Err(ApiError::NoCapitol(id));
    }
    Ok(row(StatusCode::OK, id, &new))
}

fn row_id(id: Result<Path<i64>, PathRejection>) -> Result<i64, ApiError> {
    let wrong = |_| ApiError::BadRequest("the id of a capitol has to be a number".to_owned());
    id.map(|Path(id)| id).map_err(wrong)
}

/// Reads the body whatever its `content-type` says: clients of a lab rarely bother to set one.
fn parse(body: Result<Bytes, BytesRejection>) -> Result<NewCapitol, ApiError> {
    let body = body.map_err(|wrong| {
        ApiError::BadRequest(format!("the body cannot be read: {}", wrong.body_text()))
    })?;
    let new: NewCapitol = serde_json::from_slice(&body).map_err(|wrong| {
        ApiError::BadRequest(format!(
            "the body has to be JSON like {{\"country\": \"France\", \"city\": \"Paris\"}}: {wrong}"
        ))
    })?;
    if new.country.is_empty() || new.city.is_empty() {
        return Err(ApiError::BadRequest(
            "country and city must not be empty".to_owned(),
        ));
    }
    Ok(new)
}

fn row(status: StatusCode, id: i64, new: &NewCapitol) -> Response {
    let mut body = Vec::with_capacity(ROW);
    let (country, city) = (new.country.as_str(), new.city.as_str());
    write(&mut body, Capitol { id, country, city });
    json(status, body)
}

fn write(body: &mut Vec<u8>, capitol: Capitol<'_>) {
    // Two strings and a number into memory: there is nothing that could fail.
    let _ = serde_json::to_writer(body, &capitol);
}

fn json(status: StatusCode, body: Vec<u8>) -> Response {
    (status, [(header::CONTENT_TYPE, "application/json")], body).into_response()
}
