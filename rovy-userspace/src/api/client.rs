//! The command line's side: finds the agent and asks it.

use super::descriptors::Stream;
use super::{Command, Failure};
use crate::config::{Paths, User};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::os::unix::net::UnixStream as StdStream;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::net::UnixStream;
use tokio::time::timeout;

/// Largest answer that is taken.
const MAX_ANSWER: usize = 64 << 20;
/// A little more than the agent gives itself.
const PATIENCE: Duration = Duration::from_secs(15);

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// No agent answers.
    #[error("no rovy agent is running (looked at {})", list(.tried))]
    NoAgent {
        /// Where it was looked for.
        tried: Vec<PathBuf>,
    },
    /// More than one agent answers.
    #[error("several rovy agents are running ({}); choose one with --socket PATH", list(.0))]
    Several(Vec<PathBuf>),
    /// An agent is there, for somebody else.
    #[error("not allowed to talk to the agent at {0}")]
    Permission(PathBuf),
    /// The agent was there and went away, or does not answer.
    #[error("the agent at {socket} does not answer: {why}")]
    Broken {
        /// Its socket.
        socket: PathBuf,
        /// What happened.
        why: String,
    },
    /// What answers is not to be given what root opens.
    #[error("{socket} is not trusted with what root opens: {why}")]
    Untrusted {
        /// The socket.
        socket: PathBuf,
        /// Who is there instead.
        why: String,
    },
    /// The agent said no.
    #[error(transparent)]
    Refused(Failure),
}

fn list(paths: &[PathBuf]) -> String {
    paths.iter().map(|p| p.display().to_string()).collect::<Vec<_>>().join(", ")
}

/// A way to one agent.
#[derive(Clone, Debug)]
pub struct Client {
    socket: PathBuf,
    /// The operator named the socket.
    named: bool,
}

impl Client {
    /// Finds the agent: at `socket` when given, else where agents usually are. Several alive are an error.
    ///
    /// # Errors
    /// [`ClientError::NoAgent`], [`ClientError::Several`] or [`ClientError::Permission`].
    pub fn find(socket: Option<&Path>, user: &User) -> Result<Self, ClientError> {
        let named = socket.is_some();
        let client = Self::among(socket.map_or_else(|| Paths::sockets(user), |s| vec![s.to_path_buf()]))?;
        Ok(Self { named, ..client })
    }

    pub(super) fn among(tried: Vec<PathBuf>) -> Result<Self, ClientError> {
        let mut alive = Vec::new();
        let mut denied = None;
        for path in &tried {
            match StdStream::connect(path) {
                Ok(_) => alive.push(path.clone()),
                Err(e) if e.kind() == io::ErrorKind::PermissionDenied => denied = denied.or(Some(path.clone())),
                Err(_) => {}
            }
        }
        match (alive.len(), denied) {
            (0, Some(path)) => Err(ClientError::Permission(path)),
            (0, None) => Err(ClientError::NoAgent { tried }),
            (1, _) => Ok(Self { socket: alive.swap_remove(0), named: false }),
            _ => Err(ClientError::Several(alive)),
        }
    }

    /// Ways to every agent that may be there, whether it answers or not: at `socket` when given, else where agents usually are.
    #[must_use]
    pub fn candidates(socket: Option<&Path>, user: &User) -> Vec<Self> {
        let paths = socket.map_or_else(|| Paths::sockets(user), |s| vec![s.to_path_buf()]);
        paths.into_iter().map(|path| Self { socket: path, named: socket.is_some() }).collect()
    }

    /// The process that listens on the socket.
    ///
    /// # Errors
    /// When nobody does, or not for this user.
    pub async fn process(&self) -> io::Result<Option<i32>> {
        let stream = UnixStream::connect(&self.socket).await?;
        Ok(stream.peer_cred()?.pid())
    }

    /// The agent's socket.
    #[must_use]
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Asks the agent and gives its answer as JSON.
    ///
    /// # Errors
    /// [`ClientError::Refused`] when the agent says no, [`ClientError::Broken`] when it says nothing.
    pub async fn call(&self, command: &Command) -> Result<serde_json::Value, ClientError> {
        let stream = UnixStream::connect(&self.socket).await.map_err(|e| self.broken(e.to_string()))?;
        self.ask(stream, command, Vec::new()).await
    }

    /// As [`Client::call`] for a command with descriptors, or one whose answer root acts upon: the agent must run as the
    /// socket's owner, and that must be root or the user `sudo` who called this command by sudo, unless the operator named
    /// the socket.
    ///
    /// # Errors
    /// [`ClientError::Untrusted`], or as [`Client::call`].
    pub async fn hand_over(
        &self,
        command: &Command,
        descriptors: Vec<OwnedFd>,
        sudo: Option<u32>,
    ) -> Result<serde_json::Value, ClientError> {
        let stream = UnixStream::connect(&self.socket).await.map_err(|e| self.broken(e.to_string()))?;
        // The very connection that the descriptors go over is looked at.
        self.trusted(&stream, sudo).map_err(|why| ClientError::Untrusted { socket: self.socket.clone(), why })?;
        self.ask(stream, command, descriptors).await
    }

    fn trusted(&self, stream: &UnixStream, sudo: Option<u32>) -> Result<(), String> {
        let peer = stream.peer_cred().map_err(|e| e.to_string())?;
        // A symbolic link has an owner of its own, and is none.
        let file = std::fs::symlink_metadata(&self.socket).map_err(|e| e.to_string())?;
        let owner = file.file_type().is_socket().then(|| file.uid());
        let theirs = [Some(0), sudo].contains(&Some(peer.uid()));
        judge(owner, peer.uid(), self.named || theirs)?;
        let namespace = |pid: &str| std::fs::metadata(format!("/proc/{pid}/ns/net")).map(|m| (m.dev(), m.ino())).ok();
        let pid = peer.pid().unwrap_or(0);
        match (namespace(&pid.to_string()), namespace("thread-self")) {
            (Some(there), Some(here)) if there != here => {
                Err(format!("it runs in another network namespace; enter it with `nsenter --net=/proc/{pid}/ns/net`"))
            }
            _ => Ok(()),
        }
    }

    fn broken(&self, why: String) -> ClientError {
        ClientError::Broken { socket: self.socket.clone(), why }
    }

    async fn ask(
        &self,
        stream: UnixStream,
        command: &Command,
        descriptors: Vec<OwnedFd>,
    ) -> Result<serde_json::Value, ClientError> {
        let broken = |why| self.broken(why);
        let (ok, body) = timeout(PATIENCE, exchange(Stream::giving(stream, descriptors), command))
            .await
            .map_err(|_| broken(format!("nothing came in {} seconds", PATIENCE.as_secs())))?
            .map_err(|e| broken(e.to_string()))?;
        let mut value: serde_json::Value =
            serde_json::from_slice(&body).map_err(|_| broken("the answer is no JSON".into()))?;
        if ok {
            return Ok(value);
        }
        let error = value.get_mut("error").map(serde_json::Value::take).unwrap_or_default();
        let failure = serde_json::from_value(error).map_err(|_| broken("the error is of an unknown form".into()))?;
        Err(ClientError::Refused(failure))
    }
}

/// Whether the user who answers at a socket is the one it belongs to, and `wanted`. `owner`: `None` when it is no socket.
fn judge(owner: Option<u32>, answers: u32, wanted: bool) -> Result<(), String> {
    match owner {
        None => Err("it is not a socket".to_owned()),
        Some(owner) if owner != answers => Err(format!("it belongs to user {owner}, and user {answers} answers")),
        Some(_) if !wanted => {
            Err(format!("user {answers} answers, who did not call this command; choose the agent with --socket PATH"))
        }
        Some(_) => Ok(()),
    }
}

async fn exchange(
    stream: Stream,
    command: &Command,
) -> Result<(bool, Bytes), Box<dyn std::error::Error + Send + Sync>> {
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let (method, target) = command.to_http();
    let request = hyper::Request::builder()
        .method(method.name())
        .uri(target)
        .header(hyper::header::HOST, "rovy")
        .body(Empty::<Bytes>::new())?;
    let exchange = async {
        let response = sender.send_request(request).await?;
        let ok = response.status().is_success();
        let body = Limited::new(response.into_body(), MAX_ANSWER).collect().await?;
        Ok((ok, body.to_bytes()))
    };
    // The connection moves the bytes; it may end before the answer has been read to its end.
    let mut exchange = std::pin::pin!(exchange);
    tokio::select! {
        answer = &mut exchange => answer,
        _ = connection => exchange.await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whom_root_gives_anything() {
        assert_eq!(judge(Some(1000), 1000, true), Ok(()));
        assert!(judge(Some(1000), 1001, true).is_err(), "somebody else listens at the user's socket");
        assert!(judge(Some(1000), 1000, false).is_err(), "neither root, nor the user behind sudo, nor named");
        assert!(judge(None, 1000, true).is_err(), "a symbolic link");
    }

    #[tokio::test]
    async fn a_link_to_a_socket_is_not_trusted() {
        let dir = tempfile::tempdir().unwrap();
        let (socket, link) = (dir.path().join("a"), dir.path().join("b"));
        let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        std::os::unix::fs::symlink(&socket, &link).unwrap();
        let own = Some(rustix::process::geteuid().as_raw());
        let trusts = async |path: &Path| {
            let stream = UnixStream::connect(path).await.unwrap();
            Client { socket: path.into(), named: false }.trusted(&stream, own)
        };
        assert_eq!(trusts(&socket).await, Ok(()));
        assert!(trusts(&link).await.is_err());
    }
}
