//! The whole URL surface on one screen. What `routes!` lists is served and described by the same line.

use std::sync::Arc;

use axum::Router;
use axum::extract::OriginalUri;
use axum::middleware::from_fn_with_state;
use axum::routing::{any, get, post};
use http::{Method, StatusCode};
use utoipa::openapi::security::{ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::{Modify, OpenApi};
use utoipa_axum::router::OpenApiRouter;

use crate::app::App;
use crate::boundary::{boundary, is_openai};
use crate::endpoint::{endpoint, routes};
use crate::error::ApiError;
use crate::handlers::{
    api_keys, batches, budgets, cache, chat_completions, completions, connections, docs, embeddings, files,
    generate_content, health, keys, langfuse, media, messages, metrics, models, otlp, plugins, projects,
    queries, queue, realtime, relay, responses, retention, routes, routing, score_configs, scores, streaming,
    trace_updates, traces, usage,
};

/// Everything that the server answers, with the layers around it.
pub fn router(app: &Arc<App>) -> Router {
    let (routes, _) = described().split_for_parts();
    finish(routes, app)
}

/// What a worker answers: health, metrics, the description.
pub fn operations(app: &Arc<App>) -> Router {
    let (routes, _) = OpenApiRouter::new().merge(for_operators()).split_for_parts();
    finish(routes, app)
}

/// The endpoints that the OpenAPI description holds.
fn described() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::with_openapi(Description::openapi())
        .merge(for_machines())
        .merge(for_people())
        .merge(for_operators())
}

/// An API key; OpenAI's wire format, or that of a dialect.
fn for_machines() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new()
        .routes(routes!(chat_completions::chat_completions))
        .routes(routes!(completions::completions))
        .routes(routes!(embeddings::embeddings))
        .routes(routes!(media::generate_images))
        .routes(routes!(media::edit_images))
        .routes(routes!(media::speak))
        .routes(routes!(media::transcribe))
        .routes(routes!(media::translate))
        .routes(routes!(media::moderate))
        .routes(routes!(media::rerank))
        .routes(routes!(messages::messages))
        .routes(routes!(messages::count_tokens))
        .routes(routes!(responses::create))
        .routes(routes!(responses::get, responses::delete))
        .routes(routes!(responses::cancel))
        .routes(routes!(responses::input_items))
        .routes(routes!(realtime::realtime))
        .routes(routes!(files::list, files::create))
        .routes(routes!(files::get, files::delete))
        .routes(routes!(files::content))
        .routes(routes!(batches::list, batches::create))
        .routes(routes!(batches::get))
        .routes(routes!(batches::cancel))
        .route("/v1beta/models/{*call}", post(endpoint!(generate_content::call)))
        .route("/v1/providers/{name}/{*path}", any(endpoint!(relay::relay)))
        .routes(routes!(models::list))
        .routes(routes!(routing::explain))
        .routes(routes!(budgets::list))
        .routes(routes!(usage::usage))
        .routes(routes!(cache::status))
        .routes(routes!(cache::invalidate))
        // Google's newer clients call their own version 1 there.
        .route("/v1/models/{*id}", get(endpoint!(models::get)).post(endpoint!(generate_content::call)))
        .routes(routes!(otlp::traces))
        .route("/v1/otlp/traces", post(endpoint!(otlp::traces)))
        .route(otlp::LANGFUSE_PATH, post(endpoint!(otlp::langfuse)))
        .routes(routes!(otlp::logs))
        .route("/v1/otlp/logs", post(endpoint!(otlp::logs)))
        .routes(routes!(otlp::metrics))
        .route("/v1/otlp/metrics", post(endpoint!(otlp::metrics)))
        .routes(routes!(scores::list, scores::create))
        .routes(routes!(scores::create_batch))
        .routes(routes!(scores::remove))
        .routes(routes!(langfuse::create))
        .routes(routes!(langfuse::ingest))
        .routes(routes!(keys::validate_key))
}

/// An API key with the scope; JSON, errors as problems.
fn for_people() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new()
        .routes(routes!(traces::list))
        .routes(routes!(traces::get))
        .routes(routes!(queries::observations))
        .routes(routes!(queries::traces))
        .routes(routes!(trace_updates::change))
        .routes(routes!(queries::sessions))
        .routes(routes!(queries::users))
        .routes(routes!(queries::scores))
        .routes(routes!(score_configs::list, score_configs::create))
        .routes(routes!(score_configs::get, score_configs::change, score_configs::remove))
        .routes(routes!(queries::metrics::get, queries::metrics::post))
        .routes(routes!(queries::signals::logs))
        .routes(routes!(queries::signals::series))
        .routes(routes!(queries::signals::points))
        .routes(routes!(streaming::traces))
        .routes(routes!(streaming::ticket))
        .routes(routes!(streaming::socket::open))
        .routes(routes!(connections::list, connections::create))
        .routes(routes!(connections::get, connections::change, connections::remove))
        .routes(routes!(connections::test))
        .routes(routes!(api_keys::list, api_keys::create))
        .routes(routes!(api_keys::get, api_keys::revoke))
        .routes(routes!(api_keys::rotate))
        .routes(routes!(routes::list, routes::create))
        .routes(routes!(routes::dry_run))
        .routes(routes!(routes::get, routes::change, routes::remove))
        .routes(routes!(routes::versions))
        .routes(routes!(routes::roll_back))
        .routes(routes!(plugins::list, plugins::install))
        .routes(routes!(plugins::get, plugins::change, plugins::remove))
        .routes(routes!(plugins::versions))
        .routes(routes!(plugins::rollback))
        .routes(routes!(plugins::grants, plugins::set_grants))
        .routes(routes!(plugins::config, plugins::set_config))
        .routes(routes!(plugins::events))
        .routes(routes!(queue::list))
        .routes(routes!(queue::get, queue::remove))
        .routes(routes!(queue::retry))
        .routes(routes!(retention::get, retention::set))
        .routes(routes!(retention::run_project))
        .routes(routes!(retention::run))
        .routes(routes!(projects::remove))
}

fn for_operators() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new()
        .routes(routes!(health::summary))
        .routes(routes!(health::live))
        .routes(routes!(health::ready))
        .routes(routes!(health::database))
        .routes(routes!(health::analytics))
        .routes(routes!(health::providers))
        .routes(routes!(health::plugins))
        .routes(routes!(metrics::metrics))
        .routes(routes!(docs::openapi))
}

/// Adds the pages, the answers for what isn't there, and the layers.
fn finish(routes: Router<Arc<App>>, app: &Arc<App>) -> Router {
    routes
        .route("/docs", get(endpoint!(docs::redirect)))
        .route("/docs/", get(endpoint!(docs::index)))
        .route("/docs/{*path}", get(endpoint!(docs::file)))
        .fallback(not_found)
        .method_not_allowed_fallback(method_not_allowed)
        .layer(from_fn_with_state(Arc::clone(app), boundary))
        .with_state(Arc::clone(app))
}

/// The description of the whole surface, as `/openapi.json` and `docs/openapi.json` have it.
#[must_use]
pub fn openapi() -> utoipa::openapi::OpenApi {
    described().to_openapi()
}

async fn not_found(method: Method, OriginalUri(uri): OriginalUri) -> ApiError {
    if is_openai(uri.path()) {
        // OpenAI's own words.
        let message = format!("Invalid URL ({method} {})", uri.path());
        return ApiError::new(StatusCode::NOT_FOUND, "unknown_url", message);
    }
    ApiError::not_found(format!("There is nothing at {}.", uri.path()))
}

async fn method_not_allowed(method: Method, OriginalUri(uri): OriginalUri) -> ApiError {
    let message = format!("Not allowed to {method} on {}.", uri.path());
    ApiError::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", message)
}

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Brokle",
        description = "An OpenAI-compatible AI gateway and observability store.",
        license(name = "Apache-2.0", identifier = "Apache-2.0"),
        contact(),
    ),
    tags(
        (name = "models", description = "Calls to models, in OpenAI's form"),
        (name = "batches", description = "Files of calls that are made by and by"),
        (name = "keys", description = "API keys"),
        (name = "traces", description = "What became of calls; spans from OpenTelemetry"),
        (name = "queries", description = "Lists, exports and numbers of a project's calls and spans"),
        (name = "scores", description = "What people, evaluators and programs thought of them"),
        (name = "streaming", description = "Calls and spans as they come"),
        (name = "connections", description = "Ways to providers, and the credentials that go with them"),
        (name = "routes", description = "Names with candidates of their own"),
        (name = "plugins", description = "Components: what there is, what serves, for whom"),
        (name = "operations", description = "Health, metrics, this description"),
    ),
    paths(models::get, generate_content::call, relay::relay),
    components(schemas(crate::error::OpenAiError, crate::error::Problem)),
    modifiers(&Keys),
)]
struct Description;

struct Keys;

impl Modify for Keys {
    fn modify(&self, openapi: &mut utoipa::openapi::OpenApi) {
        let components = openapi.components.get_or_insert_default();
        let bearer = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).description(Some("An API key: bk_…"));
        components.add_security_scheme("bearer", SecurityScheme::Http(bearer.build()));
        components.add_security_scheme(
            "api_key",
            SecurityScheme::ApiKey(ApiKey::Header(ApiKeyValue::with_description(
                "X-API-Key",
                "An API key: bk_…",
            ))),
        );
    }
}
