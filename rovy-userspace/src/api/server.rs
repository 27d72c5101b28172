//! The agent's side: a unix socket that only its owner can open, one request a connection.

use super::descriptors::{self, Received, Stream};
use super::metrics::{self, Snapshot};
use super::socket::{self, Bound};
use super::{Command, Failure, FailureKind, Reply, Request, Requests, http};
use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, State, rejection::BytesRejection};
use axum::http::{Method, StatusCode, Uri, header};
use axum::response::{IntoResponse as _, Response};
use hyper_util::{rt::TokioIo, service::TowerToHyperService};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, oneshot};
use tokio::task::JoinSet;
use tokio::time::timeout;

/// Where the counters are, as OpenMetrics.
pub(super) const METRICS: &str = "/metrics";
/// No command has a body; what is larger is refused unread.
const MAX_BODY: usize = 64 * 1024;
/// How long a command may take.
const COMMAND: Duration = Duration::from_secs(10);
/// How long a connection may take, a slow client included.
const CONNECTION: Duration = Duration::from_secs(20);
/// Connections at one time; more wait in the socket's queue.
const CONNECTIONS: usize = 32;
/// How long answers may take to get out once the agent ends.
const FAREWELL: Duration = Duration::from_secs(2);

/// Why the API cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// Somebody answers there.
    #[error(
        "another agent is running at {0}; stop it with `rovy --socket {0} stop`, or give this one a place of its own with -D DIR"
    )]
    Running(PathBuf),
    /// Something that is no socket is in the way.
    #[error("{0} is not a socket; move it away, or choose another place with --socket PATH")]
    InTheWay(PathBuf),
    /// The system refuses.
    #[error("cannot make the control socket {path}: {source}")]
    Io {
        /// The socket.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}

/// The control socket, ready to be served. Dropping it removes the socket.
#[derive(Debug)]
pub struct Server {
    listener: UnixListener,
    _bound: Bound,
}

impl Server {
    /// Takes the socket: a stale one is replaced, a live one is an error. Needs a tokio runtime.
    ///
    /// # Errors
    /// [`ApiError`].
    pub fn bind(path: &Path) -> Result<Self, ApiError> {
        let (bound, listener) = socket::bind(path)?;
        let listener = UnixListener::from_std(listener).map_err(|source| ApiError::Io { path: path.into(), source })?;
        Ok(Self { listener, _bound: bound })
    }

    /// Serves until `shutdown` resolves; answers under way still get out.
    pub async fn run(self, requests: Requests, shutdown: impl Future<Output = ()>) {
        let requests = Arc::new(requests);
        let room = Arc::new(Semaphore::new(CONNECTIONS));
        let mut connections = JoinSet::new();
        let mut shutdown = std::pin::pin!(shutdown);
        loop {
            tokio::select! {
                () = &mut shutdown => break,
                Some(_) = connections.join_next() => {}
                Ok(permit) = room.clone().acquire_owned(), if connections.len() < CONNECTIONS => {
                    tokio::select! {
                        () = &mut shutdown => break,
                        Some(_) = connections.join_next() => {}
                        accepted = self.listener.accept() => match accepted {
                            Ok((stream, _)) => {
                                let requests = requests.clone();
                                connections.spawn(async move {
                                    let _permit = permit;
                                    connection(stream, requests).await;
                                });
                            }
                            // Out of file descriptors, most likely: let others finish first.
                            Err(error) => {
                                tracing::warn!(%error, "the control socket cannot accept");
                                tokio::time::sleep(Duration::from_millis(100)).await;
                            }
                        },
                    }
                }
            }
        }
        // Who comes now finds no agent, rather than one that does not answer.
        drop(self);
        let all = async { while connections.join_next().await.is_some() {} };
        if timeout(FAREWELL, all).await.is_err() {
            tracing::debug!("clients of the control socket were cut off");
        }
    }
}

/// Binds the socket and serves until `shutdown` resolves.
///
/// # Errors
/// [`ApiError`] when the socket cannot be had.
pub async fn serve(socket: PathBuf, requests: Requests, shutdown: impl Future<Output = ()>) -> Result<(), ApiError> {
    Server::bind(&socket)?.run(requests, shutdown).await;
    Ok(())
}

/// What a request is handled with.
#[derive(Clone)]
struct Connection {
    requests: Arc<Requests>,
    received: Received,
}

async fn connection(stream: UnixStream, requests: Arc<Requests>) {
    // As the kernel knows the client since it connected; nobody else passes for root.
    let root = stream.peer_cred().is_ok_and(|peer| peer.uid() == 0);
    let received = Received::new(root);
    let stream = Stream::taking(stream, received.clone());
    let router = Router::new().fallback(handle).layer(DefaultBodyLimit::max(MAX_BODY));
    serve_stream(stream, router.with_state(Connection { requests, received })).await;
}

/// Serves one connection, for as long as one may take.
pub(super) async fn serve_stream<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(stream: S, router: Router) {
    let mut builder = hyper::server::conn::http1::Builder::new();
    builder.keep_alive(false);
    let served = builder.serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    match timeout(CONNECTION, served).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "a client of the API went wrong"),
        Err(_) => tracing::debug!("a client of the API was too slow"),
    }
}

async fn handle(
    State(Connection { requests, received }): State<Connection>,
    method: Method,
    uri: Uri,
    body: Result<Bytes, BytesRejection>,
) -> Response {
    if let Err(rejection) = body {
        return refuse(rejection.status(), &Failure::new(FailureKind::Usage, rejection.body_text()));
    }
    if uri.path() == METRICS {
        return if method == Method::GET { scrape(&requests).await } else { not_allowed(METRICS, "GET", &method) };
    }
    let command = match Command::from_http(uri.path(), uri.query().unwrap_or("")) {
        Ok(command) => command,
        Err(failure) => return refuse(status(failure.kind), &failure),
    };
    let takes = http::method(uri.path()).unwrap_or(http::Method::Post).name();
    if method.as_str() != takes {
        return not_allowed(uri.path(), takes, &method);
    }
    let descriptors = match accept(&command, &received) {
        Ok(descriptors) => descriptors,
        Err(failure) => return refuse(status(failure.kind), &failure),
    };
    match within_time(ask(&requests, command, descriptors)).await {
        Ok(reply) => json(StatusCode::OK, &reply),
        Err(response) => response,
    }
}

async fn within_time<T>(answer: impl Future<Output = Result<T, Failure>>) -> Result<T, Response> {
    match timeout(COMMAND, answer).await {
        Ok(answer) => answer.map_err(|failure| refuse(status(failure.kind), &failure)),
        Err(_) => {
            let failure = Failure::new(FailureKind::Unavailable, "the agent did not answer in 10 seconds")
                .with_next("look into its log, and try again");
            Err(refuse(StatusCode::GATEWAY_TIMEOUT, &failure))
        }
    }
}

fn not_allowed(path: &str, takes: &'static str, method: &Method) -> Response {
    let failure = Failure::new(FailureKind::Usage, format!("{path} takes {takes}, not {method}"));
    ([(header::ALLOW, takes)], refuse(StatusCode::METHOD_NOT_ALLOWED, &failure)).into_response()
}

/// Answers a scrape of the metrics.
pub(super) async fn scrape(requests: &Requests) -> Response {
    match within_time(snapshot(requests)).await {
        Ok(snapshot) => match snapshot.text() {
            Ok(text) => ([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], text).into_response(),
            Err(error) => {
                refuse(StatusCode::INTERNAL_SERVER_ERROR, &Failure::new(FailureKind::Internal, error.to_string()))
            }
        },
        Err(response) => response,
    }
}

async fn snapshot(requests: &Requests) -> Result<Snapshot, Failure> {
    let other = || Failure::new(FailureKind::Internal, "the agent answered something else");
    let Reply::Info(info) = ask(requests, Command::Info, Vec::new()).await? else { return Err(other()) };
    let Reply::Stats(stats) = ask(requests, Command::Stats, Vec::new()).await? else { return Err(other()) };
    let Reply::Peers(peers) = ask(requests, Command::PeerList, Vec::new()).await? else { return Err(other()) };
    Ok(Snapshot { info, stats: *stats, peers })
}

/// The descriptors of a command: those that give have some and come from root, all others have none.
fn accept(command: &Command, received: &Received) -> Result<Vec<OwnedFd>, Failure> {
    let descriptors = received.take()?;
    if command.gives() && !received.root() {
        return Err(descriptors::not_root());
    }
    if command.gives() == descriptors.is_empty() {
        let what = if command.gives() { "no descriptors came with it" } else { "it takes no descriptors" };
        return Err(Failure::new(FailureKind::Usage, what));
    }
    Ok(descriptors)
}

async fn ask(requests: &Requests, command: Command, descriptors: Vec<OwnedFd>) -> Result<Reply, Failure> {
    let ending = || Failure::new(FailureKind::Unavailable, "the agent is ending");
    let (reply, answer) = oneshot::channel();
    requests.send(Request { command, descriptors, reply }).await.map_err(|_| ending())?;
    answer.await.map_err(|_| ending())?
}

const fn status(kind: FailureKind) -> StatusCode {
    match kind {
        FailureKind::Usage => StatusCode::BAD_REQUEST,
        FailureKind::NotFound => StatusCode::NOT_FOUND,
        FailureKind::Conflict => StatusCode::CONFLICT,
        FailureKind::Permission => StatusCode::FORBIDDEN,
        FailureKind::Unsupported => StatusCode::NOT_IMPLEMENTED,
        FailureKind::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        FailureKind::Internal => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

fn refuse(status: StatusCode, failure: &Failure) -> Response {
    json(status, &serde_json::json!({ "error": failure }))
}

fn json(status: StatusCode, value: &impl serde::Serialize) -> Response {
    (status, axum::Json(value)).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_root_gives() {
        let kind = |command: &Command, root| accept(command, &Received::new(root)).map(|d| d.len()).map_err(|f| f.kind);
        assert_eq!(kind(&Command::Info, false), Ok(0));
        assert_eq!(kind(&Command::Wants, false), Ok(0));
        assert_eq!(kind(&Command::GiveFc00, false), Err(FailureKind::Permission));
        assert_eq!(kind(&Command::GiveFc00, true), Err(FailureKind::Usage), "nothing came");
    }
}
