use super::*;
use std::fs::File;
use std::io::Read as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// A file, and descriptors of the pipe's other end: the file ends when all of those are closed.
fn pipe(copies: usize) -> (File, Vec<OwnedFd>) {
    let (reader, writer) = std::io::pipe().unwrap();
    let mut all: Vec<OwnedFd> = (1..copies).map(|_| writer.try_clone().unwrap().into()).collect();
    all.push(writer.into());
    (OwnedFd::from(reader).into(), all)
}

/// Sends as many descriptors as asked for with one byte.
fn send_all(to: &UnixStream, descriptors: Vec<OwnedFd>) {
    let borrowed: Vec<BorrowedFd<'_>> = descriptors.iter().map(AsFd::as_fd).collect();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(200))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    assert!(control.push(SendAncillaryMessage::ScmRights(&borrowed)));
    sendmsg(to, &[IoSlice::new(b"x")], &mut control, SendFlags::empty()).unwrap();
}

/// What the agent has after one byte has come.
async fn received(root: bool, messages: &[usize]) -> (File, Result<Vec<OwnedFd>, Failure>) {
    let (near, far) = UnixStream::pair().unwrap();
    let (reader, all) = pipe(messages.iter().sum());
    let mut all = all.into_iter();
    for count in messages {
        send_all(&near, all.by_ref().take(*count).collect());
    }
    let received = Received::new(root);
    let mut stream = Stream::taking(far, received.clone());
    for _ in messages {
        let mut byte = [0];
        stream.read_exact(&mut byte).await.unwrap();
    }
    (reader, received.take())
}

/// Nobody holds the other end any more.
fn closed(mut reader: File) -> bool {
    rustix::io::ioctl_fionbio(&reader, true).unwrap();
    reader.read(&mut [0]).is_ok_and(|n| n == 0)
}

#[tokio::test]
async fn what_root_sends_arrives() {
    let (near, far) = UnixStream::pair().unwrap();
    let (mut reader, given) = pipe(3);
    let mut giving = Stream::giving(near, given);
    let received = Received::new(true);
    let mut taking = Stream::taking(far, received.clone());
    giving.write_all(b"hello").await.unwrap();
    let mut bytes = [0; 5];
    taking.read_exact(&mut bytes).await.unwrap();
    assert_eq!(&bytes, b"hello");
    let taken = received.take().unwrap();
    assert_eq!(taken.len(), 3);
    std::io::Write::write_all(&mut File::from(taken.into_iter().next().unwrap()), b"y").unwrap();
    let mut text = String::new();
    reader.read_to_string(&mut text).unwrap();
    assert_eq!(text, "y", "and the sender kept none");
}

#[tokio::test]
async fn what_others_send_is_closed_and_refused() {
    let (reader, taken) = received(false, &[1]).await;
    assert_eq!(taken.unwrap_err().kind, FailureKind::Permission);
    assert!(closed(reader));
}

#[tokio::test]
async fn more_than_a_request_may_carry_is_closed_and_refused() {
    // One message that the kernel has to cut, exactly too many, and too many in pieces.
    for messages in [&[200][..], &[MOST + 1], &[MOST, 1], &[MOST / 2; 3]] {
        let (reader, taken) = received(true, messages).await;
        assert_eq!(taken.map_err(|f| f.kind).unwrap_err(), FailureKind::Usage, "{messages:?}");
        assert!(closed(reader), "{messages:?}");
    }
    let (reader, taken) = received(true, &[MOST]).await;
    assert_eq!(taken.unwrap().len(), MOST);
    assert!(closed(reader));
}
