//! Descriptors that travel beside the bytes of a connection (`SCM_RIGHTS`): root's command line sends them with its request,
//! the agent takes them from root alone. Whatever comes otherwise is closed at once.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::UnixStream;

use super::{Failure, FailureKind};

/// Descriptors one request may carry. An even number: the kernel pads the space of an odd one for one more.
pub(super) const MOST: usize = 32;

/// Why descriptors were not taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Wrong {
    /// Somebody else than root sent them.
    NotRoot,
    /// More than [`MOST`], or the kernel could not hand all of them over.
    TooMany,
}

#[derive(Debug, Default)]
struct Taken {
    descriptors: Vec<OwnedFd>,
    wrong: Option<Wrong>,
}

/// What came over one connection.
#[derive(Clone, Debug)]
pub(super) struct Received {
    taken: Arc<Mutex<Taken>>,
    /// Whether root is at the other end.
    root: bool,
}

impl Received {
    pub(super) fn new(root: bool) -> Self {
        Self { taken: Arc::default(), root }
    }

    pub(super) fn root(&self) -> bool {
        self.root
    }

    /// Takes the descriptors that came so far.
    ///
    /// # Errors
    /// Some came that are not taken; all are closed.
    pub(super) fn take(&self) -> Result<Vec<OwnedFd>, Failure> {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        match taken.wrong {
            None => Ok(std::mem::take(&mut taken.descriptors)),
            Some(Wrong::NotRoot) => Err(not_root()),
            Some(Wrong::TooMany) => {
                let message = format!("more descriptors came than the {MOST} a request may carry, or not all arrived");
                Err(Failure::new(FailureKind::Usage, message))
            }
        }
    }

    /// Keeps what one `recvmsg` brought, or closes it.
    fn add(&self, came: Vec<OwnedFd>, cut: bool) {
        if came.is_empty() && !cut {
            return;
        }
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if !self.root {
            taken.wrong = Some(Wrong::NotRoot);
        } else if cut || taken.descriptors.len() + came.len() > MOST {
            taken.wrong = Some(Wrong::TooMany);
        }
        if taken.wrong.is_none() {
            taken.descriptors.extend(came);
        } else {
            taken.descriptors.clear();
        }
    }
}

/// The answer to somebody who gives without being root.
pub(super) fn not_root() -> Failure {
    Failure::new(FailureKind::Permission, "only root hands descriptors over to an agent")
        .with_next("run the command with sudo")
}

/// A connection whose descriptors are kept. Those to send go with the first bytes.
pub(super) struct Stream {
    inner: UnixStream,
    send: Vec<OwnedFd>,
    received: Received,
}

impl Stream {
    /// The agent's end.
    pub(super) fn taking(inner: UnixStream, received: Received) -> Self {
        Self { inner, send: Vec::new(), received }
    }

    /// The command line's end: it takes none.
    pub(super) fn giving(inner: UnixStream, send: Vec<OwnedFd>) -> Self {
        Self { inner, send, received: Received::new(false) }
    }
}

fn receive(fd: BorrowedFd<'_>, buffer: &mut [u8], received: &Received) -> io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let got = recvmsg(fd, &mut [IoSliceMut::new(buffer)], &mut control, RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT)?;
    let mut came = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(descriptors) = message {
            came.extend(descriptors);
        }
    }
    received.add(came, got.flags.contains(ReturnFlags::CTRUNC));
    Ok(got.bytes)
}

fn send(fd: BorrowedFd<'_>, buffer: &[u8], descriptors: &[OwnedFd]) -> io::Result<usize> {
    let descriptors: Vec<BorrowedFd<'_>> = descriptors.iter().map(AsFd::as_fd).collect();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() && !control.push(SendAncillaryMessage::ScmRights(&descriptors)) {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("more than {MOST} descriptors")));
    }
    Ok(sendmsg(fd, &[IoSlice::new(buffer)], &mut control, SendFlags::DONTWAIT | SendFlags::NOSIGNAL)?)
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let Self { inner, received, .. } = self.get_mut();
        loop {
            ready!(inner.poll_read_ready(cx))?;
            let room = buf.initialize_unfilled();
            match inner.try_io(Interest::READABLE, || receive(inner.as_fd(), room, received)) {
                Ok(n) => {
                    buf.advance(n);
                    return Poll::Ready(Ok(()));
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                Err(e) => return Poll::Ready(Err(e)),
            }
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let Self { inner, send: descriptors, .. } = self.get_mut();
        if descriptors.is_empty() {
            return Pin::new(inner).poll_write(cx, bytes);
        }
        loop {
            ready!(inner.poll_write_ready(cx))?;
            match inner.try_io(Interest::WRITABLE, || send(inner.as_fd(), bytes, descriptors)) {
                Ok(n) => {
                    descriptors.clear();
                    return Poll::Ready(Ok(n));
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                Err(e) => return Poll::Ready(Err(e)),
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests;
