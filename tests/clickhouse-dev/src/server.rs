//! The HTTP side.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::header::CONTENT_TYPE;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio_util::task::TaskTracker;

use crate::engine::{Engine, Exception};
use crate::request::Asked;
use crate::{Failure, complain};

pub(crate) async fn serve(engine: Arc<Engine>, address: SocketAddr) -> Result<(), Failure> {
    let listener = TcpListener::bind(address).await?;
    complain(&format!("clickhouse-dev: http://{}", listener.local_addr()?));
    let connections = TaskTracker::new();
    loop {
        let (stream, _) = listener.accept().await?;
        let engine = Arc::clone(&engine);
        connections.spawn(async move {
            let service = service_fn(move |request| answer(Arc::clone(&engine), request));
            let serving =
                hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
            // A client that goes away in the middle is its own business.
            let _ = serving.await;
        });
    }
}

async fn answer(
    engine: Arc<Engine>,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    if request.method() == Method::GET && request.uri().path() == "/ping" {
        return Ok(Response::new("Ok.\n".into()));
    }
    let answered = match ask(engine, request).await {
        Ok(answered) => answered,
        Err(error) => Err(Exception(format!("Code: 1001. {error}"))),
    };
    Ok(match answered {
        Ok(bytes) => Response::new(bytes.into()),
        Err(exception) => refusal(&exception),
    })
}

async fn ask(engine: Arc<Engine>, request: Request<Incoming>) -> Result<Result<Vec<u8>, Exception>, Failure> {
    let url = request.uri().query().unwrap_or_default().to_owned();
    let header = request.headers().get(CONTENT_TYPE).map(|value| value.to_str().map(str::to_owned));
    let content_type = header.transpose()?.unwrap_or_default();
    let body = request.into_body().collect().await?.to_bytes();
    let asked = Asked::read(&url, &content_type, &body)?;
    engine.with(move |session| asked.run(session)).await
}

/// As ClickHouse has it: what isn't there is 404, what can't be read 400, the rest 500.
fn refusal(exception: &Exception) -> Response<Full<Bytes>> {
    let code = exception.code();
    let status = match code {
        36 | 47 | 62 | 115 | 456 | 457 => StatusCode::BAD_REQUEST,
        16 | 60 | 81 => StatusCode::NOT_FOUND,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    };
    let mut response = Response::new(Full::from(format!("{exception}\n")));
    *response.status_mut() = status;
    response.headers_mut().insert("X-ClickHouse-Exception-Code", code.into());
    response
}
