//! The registry over HTTP.
//!
//! Paths are taken apart as they come, before percent-encoding is undone, as names of subjects may hold slashes and colons.
//! In reading order: this file (the server, and what all requests have in common), `query` (what stands behind `?`), `routes`
//! (from paths to the service).

mod query;
mod routes;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use tereza_runtime::connections::BoundedListener;
use tereza_runtime::{Error, Result, clock};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use self::query::Query;
use self::routes::Output;
use crate::Service;
use crate::refusal::{Answer, Refusal};

/// Types that requests may have.
const REQUEST_TYPES: [&str; 4] = [V1_JSON, REGISTRY_JSON, JSON, "application/octet-stream"];
const V1_JSON: &str = "application/vnd.schemaregistry.v1+json";
const REGISTRY_JSON: &str = "application/vnd.schemaregistry+json";
const JSON: &str = "application/json";

/// In which bodies are counted.
const BODY_UNIT: usize = 1 << 10;

/// The bounds of the server.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Connections served at once; more wait.
    pub connections_max: usize,
    /// A connection is closed on which nothing moved for so long.
    pub idle_timeout: Duration,
    /// Requests worked on at once; more wait.
    pub requests_max: usize,
    /// How long a request may take, waiting included.
    pub request_timeout: Duration,
    /// Bytes that the body of a request has at most.
    pub body_bytes_max: usize,
    /// Bytes of all bodies that are held at once; requests with more wait.
    pub bodies_bytes_max: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            connections_max: 1_024,
            idle_timeout: Duration::from_secs(300),
            requests_max: 128,
            request_timeout: Duration::from_secs(60),
            body_bytes_max: 4 << 20,
            bodies_bytes_max: 256 << 20,
        }
    }
}

/// Answers the clients of `listener` until `drain` is cancelled, and returns when the requests that were begun are answered.
///
/// Metrics: `tereza_registry_requests_total` by method and status, `tereza_registry_request_seconds` by method.
///
/// # Errors
/// `Unavailable` if the listener fails.
pub async fn serve(
    listener: TcpListener,
    service: Service,
    settings: Settings,
    drain: CancellationToken,
) -> Result<()> {
    let listener = BoundedListener::new(listener, settings.connections_max, settings.idle_timeout);
    let requests = Semaphore::new(settings.requests_max.max(1));
    let bodies = Semaphore::new(settings.bodies_bytes_max.max(settings.body_bytes_max).div_ceil(BODY_UNIT));
    let server = Arc::new(Server { service, settings, requests, bodies });
    let router = Router::new().fallback(handle).with_state(server);
    axum::serve(listener, router)
        .with_graceful_shutdown(drain.cancelled_owned())
        .await
        .map_err(|error| Error::io("the registry cannot be served", error))
}

struct Server {
    service: Service,
    settings: Settings,
    requests: Semaphore,
    /// In units of [`BODY_UNIT`] bytes.
    bodies: Semaphore,
}

async fn handle(State(server): State<Arc<Server>>, request: Request) -> Response {
    let began = clock::now();
    let method = request.method().clone();
    let response = match tokio::time::timeout(server.settings.request_timeout, answer(&server, request)).await {
        Ok(response) => response,
        Err(_) => refused(&Refusal::timed_out(), V1_JSON),
    };
    let (name, status) = (method.to_string(), response.status().as_u16().to_string());
    metrics::counter!("tereza_registry_requests_total", "method" => name.clone(), "status" => status).increment(1);
    metrics::histogram!("tereza_registry_request_seconds", "method" => name).record(began.elapsed().as_secs_f64());
    response
}

async fn answer(server: &Server, request: Request) -> Response {
    let Some(kind) = accepted(request.headers()) else {
        return refused(&Refusal::http(406, "HTTP 406 Not Acceptable"), V1_JSON);
    };
    match output(server, request).await {
        Ok(Output::Json(json)) => respond(StatusCode::OK, kind, json.into()),
        Ok(Output::Text(text)) => respond(StatusCode::OK, kind, text.into()),
        Ok(Output::Nothing) => StatusCode::NO_CONTENT.into_response(),
        Ok(Output::Allowed(methods)) => {
            let mut response = StatusCode::OK.into_response();
            allow(&mut response, methods);
            response
        }
        Ok(Output::NotAllowed(methods)) => {
            let mut response = refused(&Refusal::http(405, "HTTP 405 Method Not Allowed"), kind);
            allow(&mut response, methods);
            response
        }
        Err(refusal) => refused(&refusal, kind),
    }
}

async fn output(server: &Server, request: Request) -> Answer<Output> {
    let (parts, body) = request.into_parts();
    let path = parts.uri.path().to_owned();
    let query = Query::parse(parts.uri.query().unwrap_or_default());
    // HEAD is GET whose body the server leaves out.
    let method = if parts.method == Method::HEAD { Method::GET } else { parts.method };
    let route = match routes::find(&path)? {
        Some(route) => route,
        None => return Err(Refusal::http(404, "HTTP 404 Not Found")),
    };
    let (body, _held) = match method == Method::POST || method == Method::PUT {
        true => {
            check_type(&parts.headers)?;
            let bytes_max = server.settings.body_bytes_max;
            let bytes = announced(&parts.headers).unwrap_or(bytes_max);
            if bytes > bytes_max {
                return Err(Refusal::too_large());
            }
            let units = u32::try_from(bytes.div_ceil(BODY_UNIT)).unwrap_or(u32::MAX);
            let held = server.bodies.acquire_many(units).await.map_err(|_| unavailable())?;
            (read(body, bytes_max).await?, Some(held))
        }
        false => (Bytes::new(), None),
    };
    let _permit = server.requests.acquire().await.map_err(|_| unavailable())?;
    routes::run(&server.service, route, &method, &query, &body).await
}

/// How many bytes the body has, if the client says so.
fn announced(headers: &HeaderMap) -> Option<usize> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

fn unavailable() -> Refusal {
    Refusal::http(503, "HTTP 503 Service Unavailable")
}

async fn read(body: Body, bytes_max: usize) -> Answer<Bytes> {
    to_bytes(body, bytes_max).await.map_err(|error| {
        let is_too_long =
            std::error::Error::source(&error).is_some_and(|source| source.to_string().contains("length limit"));
        if is_too_long { Refusal::too_large() } else { Refusal::http(400, "the body of the request cannot be read") }
    })
}

fn check_type(headers: &HeaderMap) -> Answer<()> {
    let Some(given) = headers.get(header::CONTENT_TYPE) else { return Ok(()) };
    let given = given.to_str().unwrap_or_default();
    let name = given.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    match REQUEST_TYPES.contains(&name.as_str()) || name.is_empty() {
        true => Ok(()),
        false => Err(Refusal::http(415, "HTTP 415 Unsupported Media Type")),
    }
}

/// The type of the answer: of those that the client accepts the registry's own first.
fn accepted(headers: &HeaderMap) -> Option<&'static str> {
    let mut ranges = headers
        .get_all(header::ACCEPT)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .peekable();
    if ranges.peek().is_none() {
        return Some(V1_JSON);
    }
    let accepted: Vec<String> = ranges
        .filter(|range| !range.split(';').any(|part| matches!(part.trim(), "q=0" | "q=0.0")))
        .map(|range| range.split(';').next().unwrap_or_default().trim().to_ascii_lowercase())
        .collect();
    let accepts = |name: &str| accepted.iter().any(|range| range == name);
    let kinds = [V1_JSON, REGISTRY_JSON, JSON];
    kinds.into_iter().find(|kind| accepts(kind) || *kind == V1_JSON && (accepts("*/*") || accepts("application/*")))
}

fn refused(refusal: &Refusal, kind: &'static str) -> Response {
    let status = StatusCode::from_u16(refusal.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let body = serde_json::json!({ "error_code": refusal.code, "message": refusal.message });
    respond(status, kind, body.to_string().into())
}

fn respond(status: StatusCode, kind: &'static str, body: Body) -> Response {
    (status, [(header::CONTENT_TYPE, kind)], body).into_response()
}

fn allow(response: &mut Response, methods: &'static str) {
    response.headers_mut().insert(header::ALLOW, HeaderValue::from_static(methods));
}
