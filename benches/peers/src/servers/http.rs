//! What peers have in common that take their connections over from hyper.

use std::convert::Infallible;

use http_body_util::Empty;
use hyper::{
    Request, Response,
    body::{Bytes, Incoming},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

/// Answers one request with what `upgrade` makes of it.
pub(super) async fn upgrade<F>(stream: TcpStream, upgrade: F)
where
    F: Fn(Request<Incoming>) -> Option<Response<Empty<Bytes>>> + Send,
{
    let service = service_fn(|request| {
        let answer = upgrade(request).unwrap_or_else(|| {
            let mut refusal = Response::new(Empty::new());
            *refusal.status_mut() = hyper::StatusCode::BAD_REQUEST;
            refusal
        });
        async move { Ok::<_, Infallible>(answer) }
    });
    let _ = http1::Builder::new()
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades()
        .await;
}
