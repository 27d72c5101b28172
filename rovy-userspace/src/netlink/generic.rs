//! Generic netlink: the few requests that rtnetlink has no place for. Answers of the kernel are there when the request
//! returns, so nothing here waits.

use std::io;

use netlink_sys::protocols::NETLINK_GENERIC;
use netlink_sys::{Socket, SocketAddr};
use rtnetlink::packet_core::{
    ErrorBuffer, NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, NLMSG_DONE, NLMSG_ERROR, NetlinkBuffer, NlaBuffer, NlasIterator,
};

/// Bytes of `nlmsghdr`, and of `genlmsghdr` behind it.
const HEADER: usize = 16;
const GENERIC_HEADER: usize = 4;

const GENL_ID_CTRL: u16 = 0x10;
const CTRL_CMD_GETFAMILY: u8 = 3;
const CTRL_ATTR_FAMILY_ID: u16 = 1;
const CTRL_ATTR_FAMILY_NAME: u16 = 2;

/// What is asked for.
#[derive(Clone, Copy)]
pub(super) struct Request<'a> {
    /// Number of the family.
    pub(super) family: u16,
    /// Number of the command.
    pub(super) command: u8,
    /// Everything there is, instead of one thing.
    pub(super) dump: bool,
    /// Type and value.
    pub(super) attribute: Option<(u16, &'a [u8])>,
}

/// The attributes of one answer: type and value.
pub type Attributes = Vec<(u16, Vec<u8>)>;

/// A generic netlink socket.
pub(super) struct Connection {
    socket: Socket,
    sequence: u32,
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("generic::Connection")
    }
}

impl Connection {
    /// Opens it in the network namespace of the calling thread.
    pub(super) fn open() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_GENERIC)?;
        socket.bind_auto()?;
        socket.connect(&SocketAddr::new(0, 0))?;
        socket.set_non_blocking(true)?;
        Ok(Self { socket, sequence: 0 })
    }

    /// The number of a family; `None` where the kernel has no such family.
    pub(super) fn family(&mut self, name: &str) -> io::Result<Option<u16>> {
        let mut value = name.as_bytes().to_vec();
        value.push(0);
        let attribute = Some((CTRL_ATTR_FAMILY_NAME, &value[..]));
        let request = Request { family: GENL_ID_CTRL, command: CTRL_CMD_GETFAMILY, dump: false, attribute };
        match self.request(request) {
            Ok(answers) => Ok(answers.first().and_then(|a| number(a, CTRL_ATTR_FAMILY_ID)).map(|n| n as u16)),
            Err(e) if e.raw_os_error() == Some(libc::ENOENT) => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// Asks, and returns all answers.
    pub(super) fn request(&mut self, request: Request<'_>) -> io::Result<Vec<Attributes>> {
        self.sequence = self.sequence.wrapping_add(1);
        self.socket.send(&self.encode(&request), 0)?;
        let mut answers = Vec::new();
        loop {
            let (datagram, _) = self.socket.recv_from_full()?;
            if let Some(end) = read(&datagram, self.sequence, &mut answers) {
                return end.map(|()| answers);
            }
        }
    }

    fn encode(&self, request: &Request<'_>) -> Vec<u8> {
        let flags = NLM_F_REQUEST | if request.dump { NLM_F_DUMP } else { NLM_F_ACK };
        let mut bytes = vec![0; HEADER + GENERIC_HEADER];
        bytes[4..6].copy_from_slice(&request.family.to_ne_bytes());
        bytes[6..8].copy_from_slice(&flags.to_ne_bytes());
        bytes[8..12].copy_from_slice(&self.sequence.to_ne_bytes());
        bytes[16] = request.command;
        bytes[17] = 1;
        if let Some((kind, value)) = request.attribute {
            bytes.extend((value.len() as u16 + 4).to_ne_bytes());
            bytes.extend(kind.to_ne_bytes());
            bytes.extend(value);
            bytes.resize(bytes.len().next_multiple_of(4), 0);
        }
        let length = bytes.len() as u32;
        bytes[..4].copy_from_slice(&length.to_ne_bytes());
        bytes
    }
}

/// Adds what a datagram answers to the request `sequence`. `None` while more is to come; otherwise how the request ended.
pub fn read(datagram: &[u8], sequence: u32, answers: &mut Vec<Attributes>) -> Option<io::Result<()>> {
    let mut rest = datagram;
    while let Ok(message) = NetlinkBuffer::new_checked(rest) {
        if message.sequence_number() == sequence {
            match message.message_type() {
                NLMSG_ERROR => {
                    let code = ErrorBuffer::new_checked(message.payload()).ok().and_then(|e| e.code());
                    let refused = |code: i32| Err(io::Error::from_raw_os_error(code.saturating_abs()));
                    return Some(code.map_or(Ok(()), |code| refused(code.get())));
                }
                NLMSG_DONE => return Some(Ok(())),
                _ => answers.push(attributes(message.payload())),
            }
        }
        let step = (message.length() as usize).next_multiple_of(4);
        rest = rest.get(step..).unwrap_or_default();
    }
    None
}

fn attributes(payload: &[u8]) -> Attributes {
    let list = NlasIterator::new(payload.get(GENERIC_HEADER..).unwrap_or_default());
    list.map_while(Result::ok).map(|nla: NlaBuffer<&[u8]>| (nla.kind(), nla.value().to_vec())).collect()
}

/// The value of a numeric attribute of two, four or eight bytes.
pub(super) fn number(attributes: &Attributes, kind: u16) -> Option<u64> {
    let (_, value) = attributes.iter().find(|(k, _)| *k == kind)?;
    match value[..] {
        [a, b] => Some(u16::from_ne_bytes([a, b]).into()),
        [a, b, c, d] => Some(u32::from_ne_bytes([a, b, c, d]).into()),
        _ => Some(u64::from_ne_bytes(*value.first_chunk()?)),
    }
}
