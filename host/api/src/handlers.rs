//! One file per group of endpoints. A handler parses, calls and shapes; nothing else.

pub mod api_keys;
pub mod budgets;
pub mod cache;
mod call;
pub mod chat_completions;
pub mod completions;
pub mod connections;
pub mod docs;
pub mod embeddings;
pub mod generate_content;
pub mod health;
pub mod keys;
pub mod langfuse;
pub mod media;
pub mod messages;
pub mod metrics;
pub mod models;
pub mod otlp;
pub mod plugins;
pub mod queries;
pub mod responses;
pub mod routes;
pub mod routing;
pub mod scores;
pub mod traces;
pub mod usage;
