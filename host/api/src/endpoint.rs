//! Handlers as one type.
//!
//! Axum makes forty functions of each handler's own type, and the compiler proves for each of them anew that the handler's
//! future can be sent between threads. With a hundred handlers that is most of what compiling this crate takes (60 of 87
//! seconds, unoptimized). A pointer to a function that calls the handler is the same type for all.

use std::pin::Pin;
use std::sync::Arc;

use axum::extract::Request;
use axum::handler::Handler;
use axum::response::Response;

use crate::app::App;

/// What comes of a request.
pub(crate) type Answer = Pin<Box<dyn Future<Output = Response> + Send>>;

/// A handler, whatever it takes; [`endpoint!`] makes it.
#[derive(Clone, Copy)]
pub(crate) struct Endpoint(pub(crate) fn(Request, Arc<App>) -> Answer);

impl Handler<(), Arc<App>> for Endpoint {
    type Future = Answer;

    fn call(self, request: Request, app: Arc<App>) -> Answer {
        (self.0)(request, app)
    }
}

/// A handler as an [`Endpoint`].
macro_rules! endpoint {
    ($handler:path) => {
        $crate::endpoint::Endpoint(|request, app| ::axum::handler::Handler::call($handler, request, app))
    };
}

/// Serves and describes handlers of one path: as [`utoipa_axum::routes!`], each an [`Endpoint`].
macro_rules! routes {
    ($($handler:path),+ $(,)?) => {{
        use ::utoipa_axum::PathItemExt as _;
        let (mut schemas, mut paths) = (Vec::new(), ::utoipa::openapi::path::Paths::new());
        let mut methods = ::axum::routing::MethodRouter::new();
        $(
            let (path, item, kinds) = ::utoipa_axum::routes!(@resolve_types $handler : schemas);
            for kind in &kinds {
                methods = methods.on(kind.to_method_filter(), $crate::endpoint::endpoint!($handler));
            }
            paths.add_path_operation(&path, kinds, item);
        )+
        (schemas, paths, methods)
    }};
}

pub(crate) use {endpoint, routes};
