//! The metrics over TCP, for scrapers that cannot open a unix socket. On this host only, and nothing but the metrics.

use super::Requests;
use super::server::{METRICS, scrape, serve_stream};
use axum::Router;
use axum::extract::State;
use axum::response::Response;
use axum::routing::get;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

/// Scrapes at one time; more wait in the socket's queue.
const SCRAPES: usize = 4;

/// Binds the address, which must be a loopback one.
///
/// # Errors
/// What the system says, or that the address can be reached from elsewhere.
pub async fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    if !address.ip().is_loopback() {
        return Err(io::Error::other("metrics are served on loopback addresses only"));
    }
    TcpListener::bind(address).await
}

/// Answers scrapes until dropped.
pub async fn serve(listener: TcpListener, requests: Requests) {
    let router = Router::new().route(METRICS, get(answer)).with_state(requests);
    let mut scrapes = JoinSet::new();
    loop {
        tokio::select! {
            Some(_) = scrapes.join_next() => {}
            accepted = listener.accept(), if scrapes.len() < SCRAPES => match accepted {
                Ok((stream, _)) => drop(scrapes.spawn(serve_stream(stream, router.clone()))),
                Err(error) => {
                    tracing::warn!(%error, "the port of the metrics cannot accept");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            },
        }
    }
}

async fn answer(State(requests): State<Requests>) -> Response {
    scrape(&requests).await
}
