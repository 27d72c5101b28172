//! Network namespaces for the tests of the crate that need root.
#![allow(dead_code, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

pub(crate) mod skip;

use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// How long anything may take.
pub(crate) const DEADLINE: Duration = Duration::from_secs(10);

/// A network namespace that goes with this value.
pub(crate) struct Netns(String);

impl Netns {
    pub(crate) fn new(tag: &str) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let ns = Self(format!("wires-{}-{number}-{tag}", std::process::id()));
        run("ip", &["netns", "add", &ns.0]);
        ns.ip("link set lo up");
        ns
    }

    /// `ip` in the namespace, arguments separated by spaces; must succeed.
    pub(crate) fn ip(&self, args: &str) -> String {
        let mut all = vec!["-n", &self.0];
        all.extend(args.split_whitespace());
        run("ip", &all)
    }

    /// Another program in the namespace; must succeed.
    pub(crate) fn exec(&self, args: &str) -> String {
        let mut all = vec!["netns", "exec", &self.0];
        all.extend(args.split_whitespace());
        run("ip", &all)
    }

    /// Moves the calling thread into the namespace: sockets made from now on belong to it.
    pub(crate) fn enter(&self) {
        let file = std::fs::File::open(format!("/run/netns/{}", self.0)).unwrap();
        move_into_link_name_space(std::os::fd::AsFd::as_fd(&file), Some(LinkNameSpaceType::Network)).unwrap();
    }

    /// A veth pair from here to `other`, both ends up, with IPv4 10.0.0.N/24 and IPv6 fd01::N/64: 1 here, 2 there.
    pub(crate) fn connect(&self, ifname: &str, other: &Self, other_ifname: &str) {
        self.ip(&format!("link add {ifname} type veth peer name {other_ifname} netns {}", other.0));
        for (ns, name, n) in [(self, ifname, 1), (other, other_ifname, 2)] {
            ns.ip(&format!("link set {name} up"));
            ns.ip(&format!("addr add 10.0.0.{n}/24 dev {name}"));
            ns.ip(&format!("addr add fd01::{n}/64 dev {name} nodad"));
        }
    }

    pub(crate) fn ifindex(&self, ifname: &str) -> u32 {
        let out = self.ip(&format!("-o link show dev {ifname}"));
        out.split(':').next().unwrap().trim().parse().unwrap()
    }

    pub(crate) fn mac(&self, ifname: &str) -> [u8; 6] {
        let out = self.ip(&format!("-o link show dev {ifname}"));
        let text = out.split("link/ether ").nth(1).unwrap().split_whitespace().next().unwrap();
        let bytes: Vec<u8> = text.split(':').map(|b| u8::from_str_radix(b, 16).unwrap()).collect();
        bytes.try_into().unwrap()
    }
}

impl Drop for Netns {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "del", &self.0]).status();
    }
}

fn run(program: &str, args: &[&str]) -> String {
    let out = Command::new(program).args(args).output().unwrap_or_else(|e| panic!("{program}: {e}"));
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    assert!(out.status.success(), "{program} {args:?}: {text}{}", String::from_utf8_lossy(&out.stderr));
    text
}

/// Runs a test in a thread of its own, because entering a namespace moves the thread. Needs root, skips aloud without.
pub(crate) fn rooted<F: Future<Output = ()>>(name: &str, test: impl FnOnce() -> F + Send + 'static) {
    if !skip::root(name) {
        return;
    }
    let body = move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async { tokio::time::timeout(3 * DEADLINE, test()).await.expect("the test hangs") });
    };
    if let Err(panic) = std::thread::spawn(body).join() {
        std::panic::resume_unwind(panic);
    }
}

/// Repeats `attempt` until it gives something.
pub(crate) async fn until<T>(what: &str, mut attempt: impl AsyncFnMut() -> Option<T>) -> T {
    let end = Instant::now() + DEADLINE;
    loop {
        if let Some(found) = attempt().await {
            return found;
        }
        assert!(Instant::now() < end, "{what} did not come true");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Waits for a future with a deadline.
pub(crate) async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(DEADLINE, future).await.unwrap_or_else(|_| panic!("{what} took too long"))
}
