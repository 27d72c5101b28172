//! Answers to DNS questions about `.rovy` and about addresses of fc00::/8. Pure: a query and what is known go in, the
//! answer comes out. Nothing is ever forwarded.

mod zone;

use hickory_proto::ProtoError;
use hickory_proto::op::{Edns, Message, MessageType, Metadata, OpCode, Query, ResponseCode};
use hickory_proto::rr::{DNSClass, RecordType};

use zone::{Found, look};
pub use zone::{NEGATIVE_TTL, SERVICE, Zone};

use crate::identity::PeerId;

/// UDP and TCP port.
pub const PORT: u16 = 53;
/// Longest answer over UDP in bytes, whatever the question allows: it fits every IPv6 link in one packet.
pub const UDP_MAX: usize = 1232;
/// What fits without EDNS, in bytes (RFC 1035).
const PLAIN_MAX: usize = 512;
/// Bytes of a header.
const HEADER: usize = 12;

/// How a question came.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Over {
    /// As a datagram: the answer has to fit one.
    Udp,
    /// As a message of a stream.
    Tcp,
}

/// What comes of a question.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Answer {
    /// The answer, as it is sent.
    pub message: Vec<u8>,
    /// The peer whose address was asked for: somebody is about to talk to it.
    pub sought: Option<PeerId>,
}

/// Answers a question. `None` for what cannot be one: answers, and less than a header.
#[must_use]
pub fn answer(query: &[u8], over: Over, zone: &Zone<'_>) -> Option<Answer> {
    let header = query.first_chunk::<HEADER>()?;
    let (id, flags) = (u16::from_be_bytes([header[0], header[1]]), header[2]);
    if flags & 0x80 != 0 {
        return None;
    }
    let code = OpCode::from_u8(flags >> 3 & 0xf);
    let refused = |why| Answer { message: bare(id, code, why), sought: None };
    if code != OpCode::Query {
        return Some(refused(ResponseCode::NotImp));
    }
    let Ok(asked) = Message::from_vec(query) else { return Some(refused(ResponseCode::FormErr)) };
    Some(reply(&asked, over, zone).unwrap_or_else(|_| refused(ResponseCode::ServFail)))
}

/// A header alone.
fn bare(id: u16, code: OpCode, response: ResponseCode) -> Vec<u8> {
    let mut message = vec![0; HEADER];
    message[..2].copy_from_slice(&id.to_be_bytes());
    message[2] = 0x80 | u8::from(code) << 3;
    message[3] = response.low();
    message
}

fn reply(asked: &Message, over: Over, zone: &Zone<'_>) -> Result<Answer, ProtoError> {
    let mut message = Message::new(asked.metadata.id, MessageType::Response, OpCode::Query);
    message.metadata = Metadata::response_from_request(&asked.metadata);
    message.add_queries(asked.queries.iter().take(1).cloned());
    if let Some(edns) = &asked.edns {
        let mut own = Edns::new();
        own.set_max_payload(UDP_MAX as u16).set_dnssec_ok(edns.flags().dnssec_ok);
        message.set_edns(own);
    }
    let mut sought = None;
    message.metadata.response_code = match asked.queries.as_slice() {
        _ if asked.version() > 0 => ResponseCode::BADVERS,
        [query] => fill(&mut message, query, zone, &mut sought)?,
        _ => ResponseCode::FormErr,
    };
    if message.metadata.response_code == ResponseCode::FormErr {
        message.queries.clear();
    }
    let most = match over {
        Over::Udp if asked.edns.is_none() => PLAIN_MAX,
        Over::Udp => usize::from(asked.max_payload()).clamp(PLAIN_MAX, UDP_MAX),
        Over::Tcp => usize::from(u16::MAX),
    };
    let mut bytes = message.to_vec()?;
    if bytes.len() > most {
        bytes = message.truncate().to_vec()?;
    }
    Ok(Answer { message: bytes, sought })
}

/// Writes what is known into the answer, and says how it went.
fn fill(
    message: &mut Message,
    query: &Query,
    zone: &Zone<'_>,
    sought: &mut Option<PeerId>,
) -> Result<ResponseCode, ProtoError> {
    // Whole zones are not given away, and nobody needs everything of a name at once (RFC 8482).
    let too_much = matches!(query.query_type(), RecordType::AXFR | RecordType::IXFR | RecordType::ANY);
    if query.query_class() != DNSClass::IN || too_much {
        return Ok(ResponseCode::Refused);
    }
    let (apex, found) = match look(query.name(), zone) {
        Some(found) => found,
        None => return Ok(ResponseCode::Refused),
    };
    message.metadata.authoritative = true;
    if let Found::Host { peer, .. } = &found {
        *sought = peer.filter(|id| *id != zone.node);
    }
    let records = found.records(&apex, query.name(), query.query_type())?;
    if records.is_empty() {
        message.add_authority(apex.soa(true)?);
    }
    message.add_answers(records);
    Ok(if matches!(found, Found::Nothing) { ResponseCode::NXDomain } else { ResponseCode::NoError })
}

#[cfg(test)]
mod tests;
