//! What a device is and which XDP program it carries.

use std::collections::BTreeMap;
use std::io;
use std::sync::OnceLock;

use aya::programs::loaded_programs;
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};
use rtnetlink::packet_core::{NLM_F_REQUEST, NetlinkMessage, NetlinkPayload};
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::link::{InfoKind, LinkAttribute, LinkInfo, LinkMessage, LinkXdp};

/// What the kernel tells about a device.
#[derive(Debug, Default)]
pub(super) struct Device {
    /// Its name.
    pub(super) name: String,
    /// veth, bridge, ...; empty for hardware.
    pub(super) kind: String,
    /// The id of the XDP program on it.
    pub(super) program: Option<u32>,
}

impl Device {
    /// Who runs it: the driver of hardware, the kind of anything else.
    pub(super) fn driver(&self) -> String {
        if !self.kind.is_empty() {
            return self.kind.clone();
        }
        let link = std::fs::read_link(format!("/sys/class/net/{}/device/driver", self.name));
        link.ok().and_then(|p| Some(p.file_name()?.to_str()?.to_owned())).unwrap_or_else(|| "unknown".into())
    }
}

/// Asks for a device in the network namespace of the calling thread. `None` when there is none.
pub(super) fn query(ifindex: u32) -> io::Result<Option<Device>> {
    let socket = Socket::new(NETLINK_ROUTE)?;
    socket.connect(&SocketAddr::new(0, 0))?;
    let mut link = LinkMessage::default();
    link.header.index = ifindex;
    let mut request = NetlinkMessage::from(RouteNetlinkMessage::GetLink(link));
    request.header.flags = NLM_F_REQUEST;
    request.finalize();
    let mut bytes = vec![0; request.buffer_len()];
    request.serialize(&mut bytes);
    socket.send(&bytes, 0)?;
    let (answer, _) = socket.recv_from_full()?;
    let answer = NetlinkMessage::<RouteNetlinkMessage>::deserialize(&answer)
        .map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e.to_string()))?;
    match answer.payload {
        NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewLink(link)) => Ok(Some(read(link))),
        NetlinkPayload::Error(e) if e.raw_code() == -libc::ENODEV => Ok(None),
        NetlinkPayload::Error(e) => Err(e.to_io()),
        _ => Err(io::Error::new(io::ErrorKind::InvalidData, "an answer of another kind")),
    }
}

fn read(link: LinkMessage) -> Device {
    let mut device = Device::default();
    for attribute in link.attributes {
        match attribute {
            LinkAttribute::IfName(name) => device.name = name,
            LinkAttribute::Xdp(xdp) => {
                let id = |x: &LinkXdp| match x {
                    LinkXdp::ProgId(id) | LinkXdp::DrvProgId(id) | LinkXdp::SkbProgId(id) | LinkXdp::HwProgId(id) => {
                        Some(*id)
                    }
                    _ => None,
                };
                device.program = xdp.iter().find_map(id).filter(|id| *id != 0);
            }
            LinkAttribute::LinkInfo(infos) => {
                for info in infos {
                    if let LinkInfo::Kind(kind) = info {
                        device.kind = kind_name(&kind);
                    }
                }
            }
            _ => {}
        }
    }
    device
}

fn kind_name(kind: &InfoKind) -> String {
    match kind {
        InfoKind::Other(name) => name.clone(),
        known => format!("{known:?}").to_lowercase(),
    }
}

/// Names of programs by their ids, learnt while the process could ask for them.
static NAMES: OnceLock<BTreeMap<u32, String>> = OnceLock::new();

fn names() -> BTreeMap<u32, String> {
    let name = |p: &aya::programs::ProgramInfo| Some((p.id(), p.name_as_str()?.to_owned()));
    loaded_programs().filter_map(Result::ok).filter_map(|p| name(&p)).collect()
}

/// Learns the names of the programs that are loaded: asking takes CAP_SYS_ADMIN.
pub(super) fn remember_programs() {
    NAMES.get_or_init(names);
}

/// The name of a loaded program; `?` for one that came when the process could no longer ask.
pub(super) fn program_name(id: u32) -> String {
    let known = NAMES.get().and_then(|names| names.get(&id).cloned());
    known.or_else(|| names().remove(&id)).unwrap_or_else(|| "?".into())
}
