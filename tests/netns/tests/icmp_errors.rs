//! Every kind of ICMPv6 error that the agent gives its host, as tcpdump sees it on the TUN device and tshark reads it. A new kind
//! is one more [`Case`].

use anyhow::{Context as _, Result, ensure};
use rovy_netns::agent::DEADLINE;
use rovy_netns::line::TUN;
use rovy_netns::pcap::Pcap;
use rovy_netns::{Link, Mode, Row, Segment, wait};
use std::net::Ipv6Addr;

/// Bytes of IPv6 and ICMPv6 headers in front of what an error quotes, and of the longest error.
const HEADERS: usize = 48;
const LONGEST: usize = 1280;

/// A ping that ends in an error.
struct Case {
    name: &'static str,
    /// What is done before.
    before: fn(&Row) -> Result<()>,
    /// Options of the ping, and its destination.
    options: &'static str,
    to: Ipv6Addr,
    /// Who answers, by type and code; and the MTU in the answer, if there is one.
    from: Ipv6Addr,
    kind: u8,
    code: u8,
    mtu: Option<u32>,
}

fn cases(row: &Row) -> Vec<Case> {
    let [here, hop, .., end] = &row.agents[..] else { return Vec::new() };
    let (here, hop, end) = (here.address(), hop.address(), end.address());
    let nothing: fn(&Row) -> Result<()> = |_| Ok(());
    let shrink: fn(&Row) -> Result<()> = |row| row.set_mtu(0, 1280);
    let nobody = Ipv6Addr::new(0xfcff, 1, 2, 3, 4, 5, 6, 7);
    vec![
        Case {
            name: "no route",
            before: nothing,
            options: "-W 20",
            to: nobody,
            from: here,
            kind: 1,
            code: 0,
            mtu: None,
        },
        Case {
            name: "time exceeded",
            before: nothing,
            options: "-t 1",
            to: end,
            from: hop,
            kind: 3,
            code: 0,
            mtu: None,
        },
        Case {
            name: "time exceeded, longer than can be quoted",
            before: nothing,
            options: "-t 1 -s 1300",
            to: end,
            from: hop,
            kind: 3,
            code: 0,
            mtu: None,
        },
        Case {
            name: "too big",
            before: nothing,
            options: "-M do -s 1500",
            to: end,
            from: here,
            kind: 2,
            code: 0,
            // 1500 bytes without the headers of IPv6, UDP, transit and data.
            mtu: Some(1376),
        },
        Case {
            name: "too big, and no less than 1280 is said",
            before: shrink,
            // Less than the case before: the host would refuse anything longer by itself.
            options: "-M do -s 1300",
            to: end,
            from: here,
            kind: 2,
            code: 0,
            mtu: Some(1280),
        },
    ]
}

fn shows(row: &Row, case: &Case) -> Result<()> {
    let pcap = Pcap::start(&row.spaces[0], TUN)?;
    (case.before)(row)?;
    let fields = ["ipv6.src", "ipv6.dst", "ipv6.hlim", "icmpv6.code", "icmpv6.checksum.status", "icmpv6.mtu"];
    let filter = format!("icmpv6.type == {} && ipv6.src == {}", case.kind, case.from);
    let decoded = wait::until("the error on the TUN device", 2 * DEADLINE, || {
        // Its exit code says that nothing was answered.
        let _ = row.spaces[0].exec(&format!("ping -6 -n -c 1 -W 2 {} {}", case.options, case.to));
        Ok(pcap.decode(&filter, &fields)?.into_iter().next())
    })?;
    // What is quoted has fields of the same names: they stand behind.
    let first = |n: usize| decoded.get(n).and_then(|f: &String| f.split(',').next()).unwrap_or_default();
    let here = row.agents[0].address();
    ensure!(first(0).parse() == Ok(case.from) && first(1).parse() == Ok(here), "{decoded:?}");
    ensure!(first(2) == "64" && first(3) == case.code.to_string(), "{decoded:?}");
    ensure!(first(4) == "1", "tshark does not find the checksum good: {decoded:?}");
    ensure!(first(5).parse().ok() == case.mtu, "{decoded:?}");
    // Byte for byte what was sent, as much of it as the error has room for.
    let packets = pcap.packets()?;
    let is_error = |p: &&Vec<u8>| p.get(40) == Some(&case.kind) && p.get(8..24) == Some(&case.from.octets());
    let error = packets.iter().find(is_error).context("no error in the file")?;
    let quoted = error.get(HEADERS..).context("nothing quoted")?;
    let sent = packets.iter().filter(|p| p.get(24..40) == Some(&case.to.octets()));
    ensure!(sent.clone().any(|p| p.get(..p.len().min(LONGEST - HEADERS)) == Some(quoted)), "{quoted:02x?}");
    ensure!(error.len() <= LONGEST, "{} bytes", error.len());
    Ok(())
}

#[test]
fn each_error_is_one_that_others_understand() -> Result<()> {
    rovy_netns::root_only!();
    let segment = Segment { link: Link::Udp6, mtu: 1500 };
    let row = Row::start(&[segment; 2], Mode::Native, |_, agent| agent.edit("[fc00]", "[fc00]\nmtu = 2000"))?;
    for case in cases(&row) {
        shows(&row, &case).with_context(|| case.name).map_err(|e| row.explain(e))?;
    }
    Ok(())
}
