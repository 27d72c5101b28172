use super::*;
use proptest::prelude::*;

const PEER: &str = "bafzqaid26tco5uc5y22nhd6xuglvbmij5yx6iok7pzrgzf3mz3m6mellee";

fn why(text: &str) -> String {
    text.parse::<Multiaddr>().unwrap_err().to_string()
}

#[test]
fn addresses_read_and_write_the_same_text() {
    for text in [
        "/ip4/192.0.2.1/udp/1312",
        "/ip6/2001:db8::1/udp/1312",
        "/ip6/::/udp/1312",
        "/ip6zone/3/ip6/fe80::1/udp/1312",
        "/ethif/wlp3s0",
        "/ethif/eth0.100",
        "/dns/node.example.org/udp/1312",
    ] {
        let addr: Multiaddr = text.parse().unwrap();
        assert_eq!(addr.to_string(), text);
        assert_eq!(addr.peer(), None);
        let with_peer = format!("{text}/rovy/{PEER}");
        let addr: Multiaddr = with_peer.parse().unwrap();
        assert_eq!(addr.to_string(), with_peer);
        assert_eq!(addr.peer(), Some(PEER.parse().unwrap()));
        assert_eq!(serde_json::from_str::<Multiaddr>(&serde_json::to_string(&addr).unwrap()).unwrap(), addr);
    }
    assert_eq!("/ip6/[::]/udp/1312".parse::<Multiaddr>().unwrap().to_string(), "/ip6/::/udp/1312");
}

#[test]
fn bad_addresses_say_what_is_wrong() {
    for (text, part) in [
        ("", "starts with `/`"),
        ("eth0", "starts with `/`"),
        ("/", "missing"),
        ("/ip4/1.2.3/udp/1312", "`1.2.3` is not an IPv4 address"),
        ("/ip4/1.2.3.4", "transport is missing"),
        ("/ip4/1.2.3.4/udp", "missing"),
        ("/ip4/1.2.3.4/udp/x", "`x` is not a UDP port"),
        ("/ip4/1.2.3.4/udp/+5", "not a UDP port"),
        ("/ip4/1.2.3.4/udp/0", "not a UDP port"),
        ("/ip4/1.2.3.4/udp/65536", "not a UDP port"),
        ("/ip4/1.2.3.4/tcp/80", "/tcp is not supported"),
        ("/tcp/80", "/tcp is not supported"),
        ("/ip4/::1/udp/1312", "not an IPv4 address"),
        ("/ip6/1.2.3.4/udp/1312", "not an IPv6 address"),
        ("/ip6zone/0/ip6/fe80::1/udp/1312", "not the index"),
        ("/ethif/", "missing"),
        ("/ethif/a-name-too-long-for-linux", "cannot be the name"),
        ("/ethif/..", "cannot be the name"),
        ("/ethif/eth0/", "too many"),
        ("/ethif/eth0/udp/1", "does not belong there"),
        ("/ethif/eth0/rovy/xyz", "not a PeerID"),
        ("/dns/a..b/udp/1", "not a host name"),
        ("/rovyrt/04", "not an address"),
        ("/carrier-pigeon/1", "unknown protocol"),
    ] {
        let message = why(text);
        assert!(message.contains(part), "{text}: {message}");
        assert!(message.starts_with(text), "{text}: {message}");
    }
    assert!(why(&format!("/ethif/eth0/rovy/{PEER}/x")).contains("nothing may follow"));
}

#[test]
fn routes_read_and_write_the_same_text() {
    for (text, first, rest) in
        [("/rovyrt/04", 4, &[][..]), ("/rovyrt/04.2a.0113", 4, &[0x2a, 1, 0x13]), ("/rovyrt/0104.ff", 0x104, &[0xff])]
    {
        let route: Route = text.parse().unwrap();
        assert_eq!((route.first(), route.rest()), (first, rest));
        assert_eq!(route.to_string(), text);
        assert_eq!(serde_json::from_str::<Route>(&serde_json::to_string(&route).unwrap()).unwrap(), route);
    }
    let plain = Route::new(4, &[0x2a, 1, 0x13]).unwrap();
    assert_eq!(plain.to_string(), "/rovyrt/04.2a.01.13");
    assert_eq!(plain, "/rovyrt/04.2a.0113".parse().unwrap());
}

#[test]
fn routes_end_where_a_long_label_ends() {
    let groups = |n: usize| format!("/rovyrt/01{}", ".02".repeat(n));
    assert!(!groups(14).parse::<Route>().unwrap().is_long());
    assert!(groups(15).parse::<Route>().unwrap().is_long());
    assert_eq!(groups(30).parse::<Route>().unwrap().rest().len(), 30);
    for n in [31, 33, 100] {
        assert_eq!(groups(n).parse::<Route>(), Err(RouteError::TooLong));
    }
    assert_eq!(Route::new(1, &[2; 31]), Err(RouteError::TooLong));
}

#[test]
fn routes_out_of_labels_with_wide_slots_are_read_again() {
    for (rest, text) in [
        (&[1, 2][..], "/rovyrt/04.01.02"),
        (&[0, 1], "/rovyrt/04.0001"),
        (&[1, 0], "/rovyrt/04.0100"),
        (&[1, 0, 2, 0], "/rovyrt/04.0100.0200"),
        (&[1, 0, 0, 2, 3], "/rovyrt/04.0100.0002.03"),
        (&[9, 0, 1, 0, 1, 0], "/rovyrt/04.0900.0100.0100"),
    ] {
        let route = Route::new(4, rest).unwrap();
        assert_eq!(route.to_string(), text);
        assert_eq!(text.parse::<Route>().unwrap(), route);
    }
    assert_eq!(Route::new(4, &[7; 30]).unwrap().to_string().parse(), Ok(Route::new(4, &[7; 30]).unwrap()));
}

#[test]
fn bad_routes_say_what_is_wrong() {
    for text in ["", "04", "/rovyrt", "rovyrt/04"] {
        assert_eq!(text.parse::<Route>(), Err(RouteError::NoPrefix));
    }
    for text in ["/rovyrt/", "/rovyrt/4", "/rovyrt/04.", "/rovyrt/+4", "/rovyrt/04.xy", "/rovyrt/040404"] {
        assert!(matches!(text.parse::<Route>(), Err(RouteError::BadGroup(_))), "{text}");
    }
    for text in ["/rovyrt/00", "/rovyrt/04.00", "/rovyrt/04.0000"] {
        assert_eq!(text.parse::<Route>(), Err(RouteError::SlotZero));
    }
    assert_eq!(Route::new(0, &[]), Err(RouteError::SlotZero));
}

proptest! {
    #[test]
    fn no_text_panics(text in "(/(ip4|ip6|ethif|dns|rovyrt|rovy|udp))?[/.:0-9a-f\\PC]{0,60}") {
        let _ = text.parse::<Multiaddr>();
        let _ = text.parse::<Route>();
    }

    #[test]
    fn routes_round_trip(first in 1..=u16::MAX, rest in prop::collection::vec(1..=255_u8, 0..=30)) {
        let route = Route::new(first, &rest).unwrap();
        prop_assert_eq!(route.to_string().parse::<Route>().unwrap(), route);
    }

    #[test]
    fn accepted_addresses_round_trip(text in "/(ip4|ethif|dns)/[a-z0-9.]{1,15}(/udp/[0-9]{1,5})?") {
        if let Ok(addr) = text.parse::<Multiaddr>() {
            prop_assert_eq!(addr.to_string().parse::<Multiaddr>().unwrap(), addr);
        }
    }
}
