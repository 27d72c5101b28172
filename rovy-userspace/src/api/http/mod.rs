//! Commands as HTTP requests, both ways: method, path and query. Reads are GET, changes POST.

use super::{Command, Failure, FailureKind, Fc00Device};
use crate::config::listenable;
use crate::fc00::firewall::{RuleError, Service};
use crate::identity::PeerId;
use crate::multiaddr::{Multiaddr, Route};
use crate::names::{NodeName, Petname, Whom};
use crate::rate::{RateLimit, TransitLimit};
use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str, utf8_percent_encode};

/// What would end or split a query.
const ESCAPED: &AsciiSet = &CONTROLS.add(b' ').add(b'"').add(b'#').add(b'%').add(b'&').add(b'+').add(b'<').add(b'>');

/// Longest query that is looked at.
const MAX_QUERY: usize = 4096;

/// Whether a command changes something.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Method {
    /// It reads.
    Get,
    /// It changes.
    Post,
}

impl Method {
    /// As it stands in a request.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Post => "POST",
        }
    }
}

/// The method a path takes, `None` when there is no such path.
#[must_use]
pub(super) fn method(path: &str) -> Option<Method> {
    Some(match path {
        "/v0/info" | "/v0/listener/list" | "/v0/peer/list" | "/v0/route/list" | "/v0/fc00/status" | "/v0/stats"
        | "/v0/discovery/list" | "/v0/name/list" | "/v0/fc00/ports" | "/v0/handover" => Method::Get,
        "/v0/stop"
        | "/v0/listener/start"
        | "/v0/listener/stop"
        | "/v0/peer/connect"
        | "/v0/peer/disconnect"
        | "/v0/peer/limit"
        | "/v0/discovery/enable"
        | "/v0/discovery/disable"
        | "/v0/route/add"
        | "/v0/route/del"
        | "/v0/ping"
        | "/v0/trace"
        | "/v0/name/add"
        | "/v0/name/del"
        | "/v0/fc00/start"
        | "/v0/fc00/stop"
        | "/v0/fc00/allow"
        | "/v0/fc00/deny"
        | "/v0/handover/listener"
        | "/v0/handover/fc00" => Method::Post,
        _ => return None,
    })
}

impl Command {
    /// The request of the command: method, and path with query.
    #[must_use]
    pub fn to_http(&self) -> (Method, String) {
        let flag = |persist: &bool| if *persist { "&persist" } else { "" };
        let escape = |text: &dyn std::fmt::Display| utf8_percent_encode(&text.to_string(), ESCAPED).to_string();
        let target = match self {
            Self::Info => "/v0/info".into(),
            Self::Stop { keep_transit: false } => "/v0/stop".into(),
            Self::Stop { keep_transit: true } => "/v0/stop?keep_transit".into(),
            Self::ListenerList => "/v0/listener/list".into(),
            Self::ListenerStart { address, persist } => {
                format!("/v0/listener/start?{}{}", escape(address), flag(persist))
            }
            Self::ListenerStop { address, persist } => {
                format!("/v0/listener/stop?{}{}", escape(address), flag(persist))
            }
            Self::PeerList => "/v0/peer/list".into(),
            Self::PeerConnect { address, peer, persist } => {
                format!("/v0/peer/connect?{}/rovy/{peer}{}", escape(address), flag(persist))
            }
            Self::PeerDisconnect { peer } => format!("/v0/peer/disconnect?/rovy/{peer}"),
            Self::PeerLimit { peer, limit, persist } => {
                format!("/v0/peer/limit?peer={peer}&rate={}{}", escape(&TransitLimit(*limit)), flag(persist))
            }
            Self::DiscoveryList => "/v0/discovery/list".into(),
            Self::DiscoverySwitch { listener, on } => {
                let verb = if *on { "enable" } else { "disable" };
                let listener = listener.as_ref().map(|l| format!("&{}", escape(l))).unwrap_or_default();
                format!("/v0/discovery/{verb}?linklocal{listener}")
            }
            Self::RouteList => "/v0/route/list".into(),
            Self::RouteAdd { peer, route } => format!("/v0/route/add?peer={peer}&route={route}"),
            Self::RouteDel { peer, route: None } => format!("/v0/route/del?peer={peer}"),
            Self::RouteDel { peer, route: Some(route) } => format!("/v0/route/del?peer={peer}&route={route}"),
            Self::Ping { peer } => format!("/v0/ping?peer={peer}"),
            Self::Trace { peer, probes } => format!("/v0/trace?peer={peer}&probes={probes}"),
            Self::NameList => "/v0/name/list".into(),
            Self::NameAdd { name, peer } => format!("/v0/name/add?name={name}&peer={peer}"),
            Self::NameDel { name } => format!("/v0/name/del?name={name}"),
            Self::Fc00Start(Fc00Device { ifname, netns, existing }) => {
                let all = [("ifname", ifname), ("netns", netns), ("existing", existing)];
                let given = all.iter().filter_map(|(key, v)| v.as_ref().map(|v| format!("{key}={}", escape(v))));
                joined("/v0/fc00/start", &given.collect::<Vec<_>>())
            }
            Self::Fc00Stop => "/v0/fc00/stop".into(),
            Self::Fc00Status => "/v0/fc00/status".into(),
            Self::Fc00Allow { services, from } => format!("/v0/fc00/allow?{}", firewall(services, from.as_ref())),
            Self::Fc00Deny { services, from } => format!("/v0/fc00/deny?{}", firewall(services, from.as_ref())),
            Self::Fc00Ports => "/v0/fc00/ports".into(),
            Self::Stats => "/v0/stats".into(),
            Self::Wants => "/v0/handover".into(),
            Self::GiveListener { address, persist } => {
                format!("/v0/handover/listener?{}{}", escape(address), flag(persist))
            }
            Self::GiveFc00 { netns: None } => "/v0/handover/fc00".into(),
            Self::GiveFc00 { netns: Some(name) } => format!("/v0/handover/fc00?netns={}", escape(name)),
        };
        let path = target.split('?').next().unwrap_or("");
        (method(path).unwrap_or(Method::Post), target)
    }

    /// The command of a request whose method fits.
    ///
    /// # Errors
    /// [`FailureKind::NotFound`] for an unknown path, [`FailureKind::Usage`] for a query that does not fit it.
    pub fn from_http(path: &str, query: &str) -> Result<Self, Failure> {
        let mut query = Query::parse(query)?;
        let command = match path {
            "/v0/info" => Self::Info,
            "/v0/stop" => Self::Stop { keep_transit: query.flag("keep_transit") },
            "/v0/listener/list" => Self::ListenerList,
            "/v0/listener/start" => Self::ListenerStart { address: query.listener()?, persist: query.flag("persist") },
            "/v0/listener/stop" => Self::ListenerStop { address: query.listener()?, persist: query.flag("persist") },
            "/v0/peer/list" => Self::PeerList,
            "/v0/peer/connect" => {
                let (address, peer) = query.peer_address()?;
                Self::PeerConnect { address, peer, persist: query.flag("persist") }
            }
            "/v0/peer/disconnect" => Self::PeerDisconnect { peer: query.peer()? },
            "/v0/peer/limit" => {
                Self::PeerLimit { peer: query.peer()?, limit: query.limit()?, persist: query.flag("persist") }
            }
            "/v0/discovery/list" => Self::DiscoveryList,
            "/v0/discovery/enable" => Self::DiscoverySwitch { listener: query.discovered()?, on: true },
            "/v0/discovery/disable" => Self::DiscoverySwitch { listener: query.discovered()?, on: false },
            "/v0/route/list" => Self::RouteList,
            "/v0/route/add" => {
                Self::RouteAdd { peer: query.peer()?, route: query.route()?.ok_or_else(|| usage("route= is missing"))? }
            }
            "/v0/route/del" => Self::RouteDel { peer: query.peer()?, route: query.route()? },
            "/v0/ping" => Self::Ping { peer: query.peer()? },
            "/v0/trace" => Self::Trace { peer: query.peer()?, probes: query.probes()? },
            "/v0/name/list" => Self::NameList,
            "/v0/name/add" => Self::NameAdd { name: query.name()?, peer: query.peer_id()? },
            "/v0/name/del" => Self::NameDel { name: query.name()? },
            "/v0/fc00/start" => Self::Fc00Start(Fc00Device {
                ifname: query.ifname()?,
                netns: query.value("netns"),
                existing: query.value("existing"),
            }),
            "/v0/fc00/stop" => Self::Fc00Stop,
            "/v0/fc00/status" => Self::Fc00Status,
            "/v0/fc00/allow" => Self::Fc00Allow { services: query.services()?, from: query.sender()? },
            "/v0/fc00/deny" => Self::Fc00Deny { services: query.services()?, from: query.sender()? },
            "/v0/fc00/ports" => Self::Fc00Ports,
            "/v0/stats" => Self::Stats,
            "/v0/handover" => Self::Wants,
            "/v0/handover/listener" => {
                Self::GiveListener { address: query.listener()?, persist: query.flag("persist") }
            }
            "/v0/handover/fc00" => Self::GiveFc00 { netns: query.value("netns") },
            _ => return Err(Failure::new(FailureKind::NotFound, format!("{}: no such path", shorten(path)))),
        };
        query.end()?;
        Ok(command)
    }
}

fn joined(path: &str, query: &[String]) -> String {
    if query.is_empty() { path.to_owned() } else { format!("{path}?{}", query.join("&")) }
}

/// `/tcp/80&/tcp/443&from=/rovy/PEERID`.
fn firewall(services: &[Service], from: Option<&NodeName>) -> String {
    let services: Vec<String> = services.iter().map(ToString::to_string).collect();
    services.join("&") + &from.map(|f| format!("&from={f}")).unwrap_or_default()
}

fn usage(message: impl Into<String>) -> Failure {
    Failure::new(FailureKind::Usage, message)
}

fn shorten(text: &str) -> String {
    text.chars().take(100).collect()
}

/// The parts of a query that nobody has taken yet: `/multiaddr`, `key=value` and flags.
struct Query(Vec<String>);

impl Query {
    fn parse(query: &str) -> Result<Self, Failure> {
        if query.len() > MAX_QUERY {
            return Err(usage("the query is too long"));
        }
        let decode = |part: &str| {
            let text = percent_decode_str(part).decode_utf8();
            text.map(|t| t.into_owned()).map_err(|_| usage(format!("`{}` is not UTF-8", shorten(part))))
        };
        query.split('&').filter(|p| !p.is_empty()).map(decode).collect::<Result<_, _>>().map(Self)
    }

    fn take(&mut self, wanted: impl Fn(&str) -> bool) -> Option<String> {
        self.0.iter().position(|p| wanted(p)).map(|at| self.0.remove(at))
    }

    fn flag(&mut self, name: &str) -> bool {
        self.take(|p| p.strip_prefix(name).is_some_and(|rest| matches!(rest, "" | "=true" | "=1"))).is_some()
    }

    fn value(&mut self, name: &str) -> Option<String> {
        let prefix = format!("{name}=");
        self.take(|p| p.starts_with(&prefix)).map(|p| p[prefix.len()..].to_owned())
    }

    fn multiaddr_text(&mut self) -> Result<String, Failure> {
        self.take(|p| p.starts_with('/'))
            .ok_or_else(|| usage("the multiaddr is missing").with_next("put it behind the `?`, such as ?/ethif/eth0"))
    }

    fn multiaddr(&mut self) -> Result<Multiaddr, Failure> {
        let text = self.multiaddr_text()?;
        text.parse().map_err(|e: crate::multiaddr::MultiaddrError| usage(e.to_string()))
    }

    fn listener(&mut self) -> Result<Multiaddr, Failure> {
        let address = self.multiaddr()?;
        listenable(&address).map_err(usage)?;
        Ok(address)
    }

    /// `linklocal`, the only kind there is, and the listener if one is meant.
    fn discovered(&mut self) -> Result<Option<Multiaddr>, Failure> {
        if !self.flag("linklocal") {
            return Err(usage("the kind of discovery is missing").with_next("say ?linklocal"));
        }
        if self.0.iter().any(|p| p.starts_with('/')) { self.listener().map(Some) } else { Ok(None) }
    }

    fn peer_address(&mut self) -> Result<(Multiaddr, Whom), Failure> {
        let text = self.multiaddr_text()?;
        Whom::at_address(&text).map_err(|why| usage(format!("{}: {why}", shorten(&text))))
    }

    /// `/rovy/<PeerID>` or `peer=<PeerID>`, or a name in place of the PeerID.
    fn peer(&mut self) -> Result<Whom, Failure> {
        let text = self.value("peer").or_else(|| self.take(|p| p.starts_with("/rovy/")));
        let text = text.ok_or_else(|| usage("the peer is missing").with_next("name it as /rovy/<PeerID>"))?;
        text.parse().map_err(|e: crate::names::WhomError| usage(format!("{}: {e}", shorten(&text))))
    }

    /// As [`Query::peer`], by its key alone.
    fn peer_id(&mut self) -> Result<PeerId, Failure> {
        match self.peer()? {
            Whom::Id(id) => Ok(id),
            Whom::Name(name) => Err(usage(format!("{name} is a name; a name stands for a PeerID"))),
        }
    }

    fn name(&mut self) -> Result<Petname, Failure> {
        let text = self.value("name").ok_or_else(|| usage("name= is missing"))?;
        text.parse().map_err(|e: crate::names::PetnameError| usage(e.to_string()))
    }

    /// `route=/rovyrt/..` or `/rovyrt/..`.
    fn route(&mut self) -> Result<Option<Route>, Failure> {
        let Some(text) = self.value("route").or_else(|| self.take(|p| p.starts_with("/rovyrt/"))) else {
            return Ok(None);
        };
        text.parse().map(Some).map_err(|e: crate::multiaddr::RouteError| usage(format!("{}: {e}", shorten(&text))))
    }

    fn probes(&mut self) -> Result<u8, Failure> {
        let Some(text) = self.value("probes") else { return Ok(1) };
        let number = text.parse().ok().filter(|n| (1..=10).contains(n));
        number.ok_or_else(|| usage(format!("probes={}: it is a number from 1 to 10", shorten(&text))))
    }

    fn limit(&mut self) -> Result<Option<RateLimit>, Failure> {
        let text =
            self.value("rate").ok_or_else(|| usage("rate= is missing").with_next("say rate=10mbit, or rate=none"))?;
        text.parse().map(|TransitLimit(limit)| limit).map_err(|e: crate::rate::RateError| usage(e.to_string()))
    }

    fn ifname(&mut self) -> Result<Option<String>, Failure> {
        let Some(name) = self.value("ifname") else { return Ok(None) };
        match format!("/ethif/{name}").parse() {
            Ok(Multiaddr::Ethernet { .. }) => Ok(Some(name)),
            _ => Err(usage(format!("`{}` cannot be the name of an interface", shorten(&name)))),
        }
    }

    /// All of them: `/tcp/80&/udp/53`.
    fn services(&mut self) -> Result<Vec<Service>, Failure> {
        let texts: Vec<String> = std::iter::from_fn(|| self.take(|p| p.starts_with('/'))).collect();
        if texts.is_empty() {
            return Err(usage("the service is missing").with_next("put it behind the `?`, such as ?/tcp/80"));
        }
        texts.iter().map(|t| t.parse().map_err(|e: RuleError| usage(e.to_string()))).collect()
    }

    /// `from=PEERID`, `from=NAME` or `from=ADDRESS`.
    fn sender(&mut self) -> Result<Option<NodeName>, Failure> {
        let text = self.value("from");
        text.map(|t| t.parse().map_err(|e: RuleError| usage(e.to_string()))).transpose()
    }

    fn end(self) -> Result<(), Failure> {
        self.0.first().map_or(Ok(()), |left| Err(usage(format!("`{}` does not belong into this query", shorten(left)))))
    }
}

#[cfg(test)]
mod tests;
