//! Installing: by upload, or by reference.
//!
//! An upload is the component itself (`application/wasm`, 64 MiB at most, whatever the server's limit for other bodies);
//! its signature, the text of `NAME.wasm.dsse.json`, comes in base64 in the header `X-Plugin-Signature`. A reference is JSON:
//! `{"reference": "oci://registry/name:version"}`.

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, Request, State};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use brokle_plugins::{MAX_COMPONENT, Offer, Source, Start, Terms};
use http::header::CONTENT_TYPE;
use http::{HeaderMap, StatusCode};
use serde::Deserialize;
use utoipa::{IntoParams, ToSchema};

use super::Writer;
use super::read::parsed;
use crate::app::App;
use crate::auth::Authenticated;
use crate::body::{self, BodyLimits};
use crate::error::{ApiError, Problem};

/// The signature's header.
const SIGNATURE: &str = "x-plugin-signature";
/// A reference's JSON at most.
const MAX_REFERENCE: u64 = 8 << 10;

/// On what terms.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub(crate) struct InstallQuery {
    /// Vouches for this hash (hex SHA-256): it must be the file's, which then needs no signature.
    pin: Option<String>,
    /// Lets an older release in than the newest that was ever installed.
    #[serde(default)]
    allow_downgrade: bool,
    /// `true`: it serves, whatever its version. `false`: it doesn't. Not said: if it is newer than what serves.
    enable: Option<bool>,
    /// What the file is called, for people.
    name: Option<String>,
}

/// A component in a registry.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Reference {
    /// `oci://registry/name:version`, or `@sha256:…`.
    reference: String,
}

/// Installs a component.
#[utoipa::path(post, path = "/api/v1/plugins", tag = "plugins", security(("bearer" = []), ("api_key" = [])),
    params(InstallQuery, ("X-Plugin-Signature" = Option<String>, Header,
        description = "The signature of an upload, `NAME.wasm.dsse.json`, in base64")),
    request_body(content((Vec<u8> = "application/wasm"), (Reference = "application/json"))),
    responses((status = 201, description = "The component as it is now", body = serde_json::Value),
        (status = 403, description = "The key is not of the organization that runs the server", body = Problem),
        (status = 413, description = "Larger than 64 MiB", body = Problem),
        (status = 422, description = "Refused, with its code", body = Problem),
        (status = 502, description = "The registry can't be read: `plugin_source`", body = Problem)))]
pub(crate) async fn install(
    State(app): State<Arc<App>>,
    caller: Authenticated,
    query: Result<Query<InstallQuery>, QueryRejection>,
    request: Request,
) -> Result<(StatusCode, Json<brokle_plugins::Entry>), ApiError> {
    let writer = Writer::operator(&app, &caller).await?;
    let query = parsed(query)?;
    let start = match query.enable {
        Some(true) => Start::Yes,
        Some(false) => Start::No,
        None => Start::IfNewer,
    };
    let terms = Terms { pin: query.pin, allow_downgrade: query.allow_downgrade, start };
    let (parts, body) = request.into_parts();
    let kind = parts.headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let catalogue = writer.reader.catalogue;
    let version = match kind.split(';').next().unwrap_or_default().trim() {
        "application/wasm" => {
            let envelope = signature(&parts.headers)?;
            let component = capped(&app, body, MAX_COMPONENT).await?;
            let name =
                query.name.unwrap_or_else(|| "upload".to_owned()).chars().take(200).collect::<String>();
            let offer = Offer { envelope, terms, ..Offer::new(component, Source::Upload, name) };
            catalogue.install(offer, &writer.actor).await?
        }
        "application/json" => {
            let body = capped(&app, body, MAX_REFERENCE).await?;
            let Reference { reference } = serde_json::from_slice(&body)
                .map_err(|error| ApiError::invalid_request(error.to_string()))?;
            catalogue.install_from(&reference, terms, &writer.actor).await?
        }
        _ => {
            let message = "A component (application/wasm) or a reference (application/json) is expected.";
            return Err(ApiError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", message));
        }
    };
    let entry = catalogue.get(&version.plugin_id)?;
    Ok((StatusCode::CREATED, Json(writer.reader.shown(&entry))))
}

async fn capped(app: &App, body: Body, max_bytes: u64) -> Result<Vec<u8>, ApiError> {
    let limits = BodyLimits { max_bytes, ..app.body };
    Ok(body::read(body, limits).await?.into())
}

fn signature(headers: &HeaderMap) -> Result<Option<Vec<u8>>, ApiError> {
    let wrong = || ApiError::invalid_request("The signature isn't base64.").param("X-Plugin-Signature");
    let Some(value) = headers.get(SIGNATURE) else { return Ok(None) };
    STANDARD.decode(value.as_bytes()).map(Some).map_err(|_| wrong())
}
