//! Rules: as text, and which counts.

use super::super::rules::RULES;
use super::*;

const ID: &str = "bafzqaid26tco5uc5y22nhd6xuglvbmij5yx6iok7pzrgzf3mz3m6mellee";

fn rule(text: &str) -> Rule {
    text.parse().unwrap()
}

fn texts(rules: &Rules, action: Action) -> Vec<String> {
    rules.iter().filter(|e| e.action == action).map(|e| e.rule.to_string()).collect()
}

#[test]
fn rules_are_read_and_written() {
    let whole = format!("/tcp/22/rovy/{ID}");
    for text in ["/tcp/80", "/udp/0", "/icmp", "/tcp/65535", "/udp/53/ip6/fc02::1", whole.as_str()] {
        assert_eq!(rule(text).to_string(), text);
    }
    let same: [Sender; 2] = [ID.parse().unwrap(), format!("/rovy/{ID}").parse().unwrap()];
    assert_eq!(same[0], same[1]);
    assert_eq!(same[0].address(), ID.parse::<crate::identity::PeerId>().unwrap().address());
}

#[test]
fn what_is_no_rule_is_refused_with_a_reason() {
    for (text, part) in [
        ("/sctp/80", "not supported; there are /tcp/PORT, /udp/PORT and /icmp"),
        ("/sctp", "not supported"),
        ("/tcp", "the port is missing"),
        ("/udp/", "the port is missing"),
        ("/tcp/65536", "1 to 65535"),
        ("/tcp/-1", "not a number"),
        ("/tcp/http", "not a number"),
        ("/tcp/80/443", "not a number"),
        ("/icmp/0", "stands alone"),
        ("tcp/80", "begins with a /"),
        ("80", "begins with a /"),
        ("", "begins with a /"),
        ("/tcp/80/ip6/2001:db8::1", "not in fc00::/8"),
        ("/tcp/80/rovy/abc", "neither a PeerID nor an address"),
    ] {
        let error = text.parse::<Rule>().unwrap_err().to_string();
        assert!(error.contains(part), "{text}: {error}");
    }
    let long = format!("/sctp/{}", "9".repeat(10_000));
    assert!(long.parse::<Rule>().unwrap_err().to_string().len() < 200);
}

#[test]
fn the_narrowest_rule_counts() {
    let mut rules = Rules::new(
        &[rule("/tcp/0"), rule("/udp/53"), rule("/tcp/22/ip6/fc02:bbbb::2")],
        &[rule("/tcp/22"), rule("/icmp/ip6/fc03:cccc::3"), rule("/tcp/0/ip6/fc03:cccc::3")],
    )
    .unwrap();
    let mut may = |from, service: &str| rules.decide(from, service.parse().unwrap()) == Action::Allow;
    assert!(may(PEER, "/tcp/80") && may(PEER, "/tcp/22") && may(PEER, "/udp/53") && may(PEER, "/icmp"));
    assert!(!may(OWN, "/tcp/22") && may(OWN, "/tcp/80") && !may(OWN, "/udp/54"));
    assert!(!may(OTHER, "/tcp/80") && !may(OTHER, "/tcp/22") && !may(OTHER, "/icmp") && may(OTHER, "/udp/53"));
    let counted: u64 = rules.iter().map(|e| e.packets).sum();
    assert_eq!(counted, 9, "all but those that the default decided: {rules:?}");
    assert_eq!(Rules::new(&[rule("/tcp/1")], &[rule("/tcp/1")]).unwrap().look(PEER, Service::Tcp(1)), Action::Deny);
}

#[test]
fn the_last_word_counts() {
    let mut rules = Rules::default();
    let mut say = |action, text: &str| {
        let changed = rules.set(action, rule(text)).unwrap();
        assert_eq!(rules.set(action, rule(text)), Ok(false), "{text}: said twice it changes nothing");
        (changed, texts(&rules, Action::Allow).join(" "), texts(&rules, Action::Deny).join(" "))
    };
    let held = |changed, allow: &str, deny: &str| (changed, allow.to_owned(), deny.to_owned());
    let one = "/tcp/443/ip6/fc02:bbbb::2";
    assert_eq!(say(Action::Allow, "/tcp/80"), held(true, "/tcp/80", ""));
    assert_eq!(say(Action::Allow, one), held(true, &format!("/tcp/80 {one}"), ""));
    assert_eq!(say(Action::Deny, "/tcp/443"), held(true, "/tcp/80", ""), "for everybody is for this node too");
    assert_eq!(say(Action::Deny, "/tcp/80"), held(true, "", ""));
    assert_eq!(say(Action::Deny, "/tcp/80"), held(false, "", ""));
    assert_eq!(say(Action::Deny, "/icmp"), held(true, "", "/icmp"));
    assert_eq!(say(Action::Allow, "/icmp"), held(true, "", ""));
    assert_eq!(say(Action::Allow, "/tcp/0"), held(true, "/tcp/0", ""));
    assert_eq!(say(Action::Deny, "/tcp/22"), held(true, "/tcp/0", "/tcp/22"));
    assert_eq!(say(Action::Deny, one), held(true, "/tcp/0", &format!("/tcp/22 {one}")));
    assert_eq!(say(Action::Allow, "/tcp/0"), held(true, "/tcp/0", ""), "all ports are all ports");
    assert_eq!(say(Action::Deny, "/tcp/0"), held(true, "", ""));
}

#[test]
fn there_are_so_many_rules_and_no_more() {
    let mut rules = Rules::default();
    for port in 1..=RULES as u16 {
        assert_eq!(rules.set(Action::Allow, Rule { service: Service::Tcp(port), from: None }), Ok(true));
    }
    let before = rules.clone();
    assert_eq!(rules.set(Action::Allow, rule("/udp/1")), Err(Full));
    assert_eq!(rules, before);
    assert_eq!(rules.set(Action::Allow, rule("/tcp/0")), Ok(true), "one instead of all those");
    assert_eq!(rules.len(), 1);
    let many: Vec<Rule> = (0..=RULES as u16).map(|port| Rule { service: Service::Udp(port), from: None }).collect();
    assert_eq!(Rules::new(&many, &[]), Err(Full));
}
