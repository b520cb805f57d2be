//! The HTTP surface: the accept loop, the router with its layers, and thin handlers.
//!
//! A request comes in by [`server`], passes the layers of [`boundary`] and reaches a handler by way of [`router`], where
//! the whole URL surface stands on one screen. Handlers parse, call and shape; the rules are in the crates below.

pub mod app;
pub mod auth;
pub mod body;
pub mod boundary;
pub mod client;
mod endpoint;
pub mod error;
pub mod failed_keys;
pub mod grpc;
pub mod handlers;
pub mod ingest;
pub mod lifecycle;
pub mod router;
pub mod server;
pub mod watching;

pub use self::app::App;
pub use self::error::ApiError;
pub use self::lifecycle::Lifecycle;
pub use brokle_telemetry::metrics::Metrics;
