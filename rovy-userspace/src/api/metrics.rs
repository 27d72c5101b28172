//! The counters as OpenMetrics text (<https://prometheus.io/docs/specs/om/open_metrics_spec/>), for whoever scrapes them.
//! Names and reasons are those of `/v0/stats`.

use super::types::{Info, Peer, PeerState, Stats};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _, MetricEncoder, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::{Registry, Unit};
use std::fmt;

/// The content type of the text.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// What the agent answered, to be shown as metrics.
#[derive(Debug)]
pub struct Snapshot {
    /// Who it is.
    pub info: Info,
    /// Its counters.
    pub stats: Stats,
    /// Its peers.
    pub peers: Vec<Peer>,
}

impl Snapshot {
    /// The text of a scrape.
    ///
    /// # Errors
    /// None in practice: a string takes everything.
    pub fn text(self) -> Result<String, fmt::Error> {
        let mut registry = Registry::with_prefix("rovy");
        registry.register_collector(Box::new(self));
        let mut out = String::new();
        text::encode(&mut out, &registry)?;
        Ok(out)
    }
}

impl Collector for Snapshot {
    fn encode(&self, to: DescriptorEncoder) -> fmt::Result {
        let mut w = Writer(to);
        self.node(&mut w)?;
        self.packets(&mut w)?;
        self.links(&mut w)?;
        self.peers(&mut w)
    }
}

/// Labels of one value.
type Labels<'a> = &'a [(&'a str, &'a str)];

struct Writer<'a>(DescriptorEncoder<'a>);

impl Writer<'_> {
    fn counter(&mut self, name: &str, help: &str, unit: Option<Unit>, values: &[(Labels<'_>, u64)]) -> fmt::Result {
        self.family(name, help, unit, MetricType::Counter, values, |v, to| ConstCounter::new(v).encode(to))
    }

    fn gauge(&mut self, name: &str, help: &str, unit: Option<Unit>, values: &[(Labels<'_>, u64)]) -> fmt::Result {
        let encode = |v: u64, to: MetricEncoder| ConstGauge::new(i64::try_from(v).unwrap_or(i64::MAX)).encode(to);
        self.family(name, help, unit, MetricType::Gauge, values, encode)
    }

    fn micros(&mut self, name: &str, help: &str, values: &[(Labels<'_>, u64)]) -> fmt::Result {
        let encode = |v: u64, to: MetricEncoder| ConstGauge::new(v as f64 * 1e-6).encode(to);
        self.family(name, help, Some(Unit::Seconds), MetricType::Gauge, values, encode)
    }

    fn family(
        &mut self,
        name: &str,
        help: &str,
        unit: Option<Unit>,
        kind: MetricType,
        values: &[(Labels<'_>, u64)],
        encode: impl Fn(u64, MetricEncoder) -> fmt::Result,
    ) -> fmt::Result {
        let mut family = self.0.encode_descriptor(name, help, unit.as_ref(), kind)?;
        values.iter().try_for_each(|(labels, value)| {
            let labels: Vec<(&str, &str)> = labels.to_vec();
            encode(*value, family.encode_family(&labels)?)
        })
    }
}

impl Snapshot {
    fn node(&self, w: &mut Writer<'_>) -> fmt::Result {
        let (info, stats) = (&self.info, &self.stats);
        let (id, address) = (info.peer_id.to_string(), info.address.to_string());
        let who: Labels<'_> = &[("version", &info.version), ("peer_id", &id), ("address", &address)];
        w.gauge("build_info", "The version that runs, and whose node it is", None, &[(who, 1)])?;
        let mode = info.xdp.split([' ', ':']).next().unwrap_or_default();
        w.gauge("xdp_info", "How transit is switched, and why", None, &[(&[("mode", mode), ("why", &info.xdp)], 1)])?;
        w.gauge("uptime", "Since the agent started", Some(Unit::Seconds), &[(&[], info.uptime_s)])?;
        w.gauge("listeners", "Listeners", None, &[(&[], info.listeners.into())])?;
        w.gauge("sessions", "Sessions, direct and behind others", None, &[(&[], stats.sessions.into())])?;
        w.counter("handshakes", "Handshakes that led to a session", None, &[(&[], stats.handshakes)])?;
        let limits: Vec<_> = stats.limits.iter().map(|(name, use_)| ([("limit", name.as_str())], use_)).collect();
        let used: Vec<(Labels<'_>, u64)> = limits.iter().map(|(l, u)| (l.as_slice(), u.used)).collect();
        let max: Vec<(Labels<'_>, u64)> = limits.iter().map(|(l, u)| (l.as_slice(), u.max)).collect();
        w.gauge("limit_used", "How much of what is bounded is in use", None, &used)?;
        w.gauge("limit_max", "At this bound the newest is dropped", None, &max)
    }

    fn packets(&self, w: &mut Writer<'_>) -> fmt::Result {
        let stats = &self.stats;
        let sides = [("kernel", &stats.drops.kernel), ("agent", &stats.drops.agent)];
        let drops: Vec<_> = sides
            .iter()
            .flat_map(|(by, drops)| {
                drops.iter().map(move |(reason, n)| ([("by", *by), ("reason", reason.as_str())], *n))
            })
            .collect();
        let drops: Vec<(Labels<'_>, u64)> = drops.iter().map(|(l, n)| (l.as_slice(), *n)).collect();
        w.counter("dropped_packets", "Packets dropped, by reason", None, &drops)?;
        let up: Vec<_> = stats.up.iter().map(|(reason, n)| ([("reason", reason.as_str())], *n)).collect();
        let up: Vec<(Labels<'_>, u64)> = up.iter().map(|(l, n)| (l.as_slice(), *n)).collect();
        w.counter("up_packets", "Packets that the kernel handed to the agent", None, &up)?;
        let errors = &stats.errors;
        let ways = [("sent", &errors.sent), ("received", &errors.received), ("disbelieved", &errors.disbelieved)];
        let errors: Vec<_> = ways
            .iter()
            .flat_map(|(what, of)| of.iter().map(move |(kind, n)| ([("what", *what), ("kind", kind.as_str())], *n)))
            .collect();
        let errors: Vec<(Labels<'_>, u64)> = errors.iter().map(|(l, n)| (l.as_slice(), *n)).collect();
        w.counter(
            "route_errors",
            "Errors about routes, by kind; those disbelieved are among the received",
            None,
            &errors,
        )?;
        let transit: [(Labels<'_>, u64); 2] =
            [(&[("by", "kernel")], stats.transit.kernel_packets), (&[("by", "agent")], stats.transit.agent_packets)];
        w.counter("transit_packets", "Packets switched for others", None, &transit)?;
        let p = &stats.probes;
        let probes: [(Labels<'_>, u64); 6] = [
            (&[("what", "own")], p.own),
            (&[("what", "received")], p.received),
            (&[("what", "relayed")], p.relayed),
            (&[("what", "sent")], p.sent),
            (&[("what", "answered")], p.answered),
            (&[("what", "copies")], p.copies),
        ];
        w.counter("probes", "Searches of the node's own, and messages of everybody's", None, &probes)?;
        w.counter("cookie_replies", "Hellos answered with a cookie", None, &[(&[], stats.cookie_replies)])
    }

    fn links(&self, w: &mut Writer<'_>) -> fmt::Result {
        let ids: Vec<_> = self.stats.links.iter().map(|l| l.peer_id.to_string()).collect();
        let links = self.stats.links.iter().zip(&ids);
        let labels: Vec<_> = links
            .map(|(l, id)| [("slot", l.slot_text.as_str()), ("peer_id", id.as_str()), ("kind", l.kind.as_str())])
            .collect();
        let mut each = |name: &str, help: &str, unit: Option<Unit>, of: fn(&super::LinkStats) -> u64| {
            let values: Vec<(Labels<'_>, u64)> =
                self.stats.links.iter().zip(&labels).map(|(l, labels)| (labels.as_slice(), of(l))).collect();
            w.counter(name, help, unit, &values)
        };
        each("link_rx_packets", "Transit received over a link", None, |l| l.rx_packets)?;
        each("link_tx_packets", "Transit sent over a link", None, |l| l.tx_packets)?;
        each("link_rx", "Transit received over a link", Some(Unit::Bytes), |l| l.rx_bytes)?;
        each("link_tx", "Transit sent over a link", Some(Unit::Bytes), |l| l.tx_bytes)
    }

    fn peers(&self, w: &mut Writer<'_>) -> fmt::Result {
        let ids: Vec<_> = self.peers.iter().map(|p| p.peer_id.to_string()).collect();
        let labels: Vec<_> = ids.iter().map(|id| [("peer_id", id.as_str())]).collect();
        let values = |of: fn(&Peer) -> Option<u64>| -> Vec<(Labels<'_>, u64)> {
            let each = self.peers.iter().zip(&labels);
            each.filter_map(|(p, labels)| Some((labels.as_slice(), of(p)?))).collect()
        };
        let connected = values(|p| Some(u64::from(p.state == PeerState::Connected)));
        w.gauge("peer_connected", "Whether there is a session with a peer", None, &connected)?;
        w.micros("peer_rtt", "Round trip to a peer", &values(|p| p.rtt_us))?;
        w.counter("peer_rx_packets", "Packets from a peer", None, &values(|p| Some(p.rx_packets)))?;
        w.counter("peer_tx_packets", "Packets to a peer", None, &values(|p| Some(p.tx_packets)))?;
        let refused = values(|p| Some(p.refused_packets));
        w.counter("peer_transit_refused_packets", "Transit of a peer that was refused", None, &refused)?;
        w.counter("peer_rx", "From a peer", Some(Unit::Bytes), &values(|p| Some(p.rx_bytes)))?;
        w.counter("peer_tx", "To a peer", Some(Unit::Bytes), &values(|p| Some(p.tx_bytes)))
    }
}
