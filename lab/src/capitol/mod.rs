//! `capitol-info`, the article's small REST service: the capitals of the world in SQLite.
//!
//! | request | answer |
//! |---|---|
//! | `GET /capitols?limit=50&after=0` | 200, an array of `{id, country, city}`, at most [`store::PAGE`] rows |
//! | `GET /capitols/{id}` | 200, or 404 when there is none |
//! | `POST /capitols` with `{country, city}` | 201 and the row with its `id` |
//! | `POST /capitols/{id}` with `{country, city}` | 200 and the row, or 404 |
//! | `GET /healthz` | 200 `ok` |
//!
//! Every route but the last takes an artificial delay, see [`delay`]. Whatever goes wrong is
//! answered with `{"error": "one sentence"}`.

pub mod delay;
mod error;
mod query;
mod routes;
pub mod serve;
pub mod store;

pub use error::ApiError;
pub use routes::router;

#[cfg(test)]
mod tests;
