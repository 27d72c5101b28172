//! Small networks, every test run.
#![allow(clippy::unwrap_used)]

use rovy_sim::{Figures, Options, Shape, Victim, simulate};

fn network(topology: Shape, nodes: u32) -> Options {
    Options { topology, nodes, degree: 8, pairs: 8, ..Options::default() }
}

fn figures(options: &Options, seed: u64) -> Figures {
    simulate(options, seed).0.figures()
}

fn near(a: f64, b: f64) -> bool {
    (a - b).abs() < 1e-6
}

#[test]
fn all_links_come_up_and_then_nothing_is_sent() {
    for (topology, nodes) in [(Shape::Line, 6), (Shape::Grid, 25), (Shape::Geometric, 60), (Shape::Powerlaw, 40)] {
        let f = figures(&Options { pairs: 1, ..network(topology, nodes) }, 1);
        assert!(near(f.links_up, 1.0), "{topology:?}: {}", f.links_up);
        assert!(near(f.quiet_bytes_per_node_s, 0.0), "{topology:?}: {}", f.quiet_bytes_per_node_s);
        assert!(f.memory_bytes_per_node > 10_000, "{topology:?}: {}", f.memory_bytes_per_node);
    }
}

/// With the fastest routes given, what is measured is known beforehand.
#[test]
fn routes_by_hand_are_followed_and_measured_as_fastest() {
    for (topology, nodes) in [(Shape::Line, 20), (Shape::Geometric, 60), (Shape::Powerlaw, 40)] {
        let f = figures(&Options { by_hand: true, ..network(topology, nodes) }, 2);
        assert_eq!((f.pairs_connected, f.pairs_sampled), (Some(1.0), 8), "{topology:?}");
        // Neighbours talk directly, even where that is not the fastest way.
        let most = if topology == Shape::Powerlaw { 1.2 } else { 1.0 };
        let stretch = f.mean_stretch.unwrap();
        assert!((1.0..=most).contains(&stretch), "{topology:?}: {stretch}");
        assert!(f.first_byte_ms_p50.unwrap() > 1.0, "{topology:?}");
    }
}

#[test]
fn what_does_not_fit_a_label_is_not_asked_for() {
    let f = figures(&Options { by_hand: true, ..network(Shape::Line, 80) }, 2);
    assert!((0.2..0.9).contains(&f.pairs_fitting), "{}", f.pairs_fitting);
    assert_eq!(f.pairs_connected, Some(1.0));
}

#[test]
fn links_come_up_although_messages_are_lost_and_overtake_each_other() {
    let options = Options { loss: 0.05, reorder: 30, ..network(Shape::Grid, 25) };
    let f = figures(&options, 3);
    assert!(f.links_up > 0.97, "{}", f.links_up);
}

#[test]
fn everybody_is_found_and_reached_on_a_good_route() {
    for (topology, nodes) in [(Shape::Line, 6), (Shape::Grid, 25), (Shape::Geometric, 60)] {
        for keys in [false, true] {
            let f = figures(&Options { keys, ..network(topology, nodes) }, 4);
            assert_eq!(f.pairs_connected, Some(1.0), "{topology:?}, keys: {keys}");
            let stretch = f.mean_stretch.unwrap();
            assert!((1.0..=1.3).contains(&stretch), "{topology:?}, keys: {keys}: {stretch}");
        }
    }
}

#[test]
fn flows_find_a_way_around_what_dies() {
    for victim in [Victim::Link, Victim::Node] {
        let f = figures(&Options { kill: 4, victim, ..network(Shape::Geometric, 60) }, 7);
        assert!(f.deaths >= 3, "{victim:?}: {}", f.deaths);
        assert_eq!(f.unhealed, 0, "{victim:?}");
        assert!(f.heal_ms_p50.unwrap() < 600.0, "{victim:?}: {:?}", f.heal_ms_p50);
        assert!(f.heal_ms_p99.unwrap() < 1000.0, "{victim:?}: {:?}", f.heal_ms_p99);
    }
}

/// The first pair are neighbours: their own link dies.
#[test]
fn neighbours_find_a_way_around_their_link() {
    let f = figures(&Options { kill: 1, pairs: 1, ..network(Shape::Geometric, 40) }, 13);
    assert_eq!((f.deaths, f.unhealed), (1, 0));
    assert!(f.heal_ms_p99.unwrap() < 1000.0, "{:?}", f.heal_ms_p99);
}

/// A tenth of what goes over a path of some links is lost: no reason to ask the whole network again and again.
#[test]
fn loss_is_no_reason_for_floods() {
    let f = figures(&Options { loss: 0.05, ..network(Shape::Geometric, 60) }, 1);
    assert!(f.control_bytes_per_node_s < 5000.0, "{}", f.control_bytes_per_node_s);
}

/// Many small networks with everything that can go wrong.
#[test]
fn whatever_the_seed_everybody_is_found_and_every_death_is_survived() {
    for (topology, nodes) in [(Shape::Grid, 25), (Shape::Line, 7), (Shape::Powerlaw, 30), (Shape::Geometric, 40)] {
        for seed in 1..=5 {
            let options = Options { loss: 0.01, reorder: 10, kill: 3, pairs: 3, ..network(topology, nodes) };
            let f = figures(&options, seed);
            assert_eq!((f.pairs_connected, f.unhealed), (Some(1.0), 0), "{topology:?}, seed {seed}");
            let heal = f.heal_ms_p99.unwrap_or(0.0);
            assert!(heal < 2000.0, "{topology:?}, seed {seed}: {heal}");
        }
    }
}

/// Packets of the workload, a thousand bytes over each link, do not count as control.
#[test]
fn a_flow_over_its_only_route_costs_some_echoes() {
    let f = figures(&Options { pairs: 1, ..network(Shape::Line, 10) }, 1);
    assert!((1.0..400.0).contains(&f.control_bytes_per_node_s), "{}", f.control_bytes_per_node_s);
}

/// What a lookup sends is bounded by links and copies, and nothing goes on being sent when it is over.
#[test]
fn a_lookup_costs_a_few_messages_a_link() {
    let f = figures(&network(Shape::Geometric, 60), 4);
    let links = 60.0 * 8.0 / 2.0;
    let messages = f.control_messages_per_lookup.unwrap();
    assert!((links..8.0 * links).contains(&messages), "{messages} messages over {links} links");
}
