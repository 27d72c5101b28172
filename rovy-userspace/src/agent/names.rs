//! Names: the file they stand in, commands that change it, and DNS for the programs of this host.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use rovy_common::{Counter, DropReason};
use tokio::sync::Notify;

use super::clock;
use super::commands::{Control, internal};
use super::engine::{Engine, Shared};
use crate::api::{Failure, FailureKind, NameInfo, Reply};
use crate::config::{Dns, persist};
use crate::fc00::dns::{self, Zone};
use crate::fc00::packet;
use crate::fc00::stack::{Stack, is_ours};
use crate::identity::PeerId;
use crate::names::{Names, NamesError, Petname, Whom};

/// How often the file is looked at: people write it by hand too.
const LOOK: Duration = Duration::from_secs(2);
/// Lines that are named when they are not used; of more the number is told.
const TOLD: usize = 10;

/// What tells one state of the file from another: device, number, size, and time in seconds and ns.
type Stamp = Option<(u64, u64, u64, i64, i64)>;

/// The names, and who asks for them.
#[derive(Default)]
pub(super) struct Service {
    table: Names,
    file: PathBuf,
    stamp: Stamp,
    /// `None` when the configuration says so.
    stack: Option<Stack>,
    /// Wakes who calls the stack when it wants to be.
    changed: Arc<Notify>,
}

impl Service {
    /// Reads the names; DNS waits for questions, unless it is switched off.
    pub(super) fn open(settings: &Dns, config: &Path) -> anyhow::Result<Self> {
        let file = config.parent().unwrap_or(Path::new("")).join(&settings.names_file);
        let stack = match settings.enabled {
            true => Some(Stack::new(getrandom::u64()?, clock::mono_ns())),
            false => None,
        };
        let mut service = Self { file, stack, ..Self::default() };
        service.stamp = stamp(&service.file);
        service.take(Names::load(&service.file));
        Ok(service)
    }

    /// Uses what was read, and says what is wrong with it. A file that cannot be read leaves the names as they are.
    fn take(&mut self, read: Result<Names, NamesError>) {
        match read {
            Ok(names) => {
                let path = self.file.display();
                for warning in names.warnings().iter().take(TOLD) {
                    tracing::warn!("{path}:{}: {}; this line is not used", warning.line, warning.why);
                }
                if let Some(more) = names.warnings().len().checked_sub(TOLD).filter(|n| *n > 0) {
                    tracing::warn!("{path}: {more} more lines are not used");
                }
                self.table = names;
            }
            Err(error) => tracing::warn!("{error}"),
        }
    }

    pub(super) fn table(&self) -> &Names {
        &self.table
    }

    /// Whether DNS is answered.
    pub(super) fn serves(&self) -> bool {
        self.stack.is_some()
    }

    /// Whether a packet of this host is for the agent itself.
    pub(super) fn takes(&self, packet: &[u8]) -> bool {
        self.stack.is_some() && is_ours(packet)
    }
}

fn stamp(file: &Path) -> Stamp {
    let meta = std::fs::metadata(file).ok()?;
    Some((meta.dev(), meta.ino(), meta.size(), meta.mtime(), meta.mtime_nsec()))
}

impl Engine {
    /// Answers a packet of this host's to fc00::1.
    pub(super) fn serve_host(&mut self, packet: &[u8]) -> Result<(), DropReason> {
        // The same rule as for packets to others: nobody else's packets come out of this device.
        if packet::source(packet) != Some(self.node.id().address()) {
            return Err(DropReason::BadInnerSource);
        }
        self.run_stack(Some(packet));
        self.names.changed.notify_one();
        Ok(())
    }

    fn run_stack(&mut self, packet: Option<&[u8]>) {
        let now = clock::now();
        let mut sought = Vec::new();
        let (node, names) = (&self.node, &mut self.names);
        let Some(stack) = &mut names.stack else { return };
        let mut service = |question: &[u8], over| {
            let zone = Zone { node: node.id(), names: &names.table, known: &|address| node.at(address) };
            let answer = dns::answer(question, over, &zone)?;
            sought.extend(answer.sought);
            Some(answer.message)
        };
        match packet {
            Some(packet) => stack.packet(now.mono_ns, packet, &mut service),
            None => stack.poll(now.mono_ns, &mut service),
        }
        while let Some(packet) = stack.outgoing() {
            if let Err(reason) = self.host.deliver(&packet) {
                self.tables.count(Counter::Drop(reason));
            }
        }
        for peer in sought {
            self.node.seek(now, peer);
        }
        self.collect();
        self.timer.notify_one();
    }
}

/// Calls the stack when it wants to be called.
pub(super) async fn serve(engine: Shared) {
    loop {
        let (deadline, changed) = {
            let names = &mut engine.borrow_mut().names;
            let Some(stack) = &mut names.stack else { return };
            (stack.deadline(clock::mono_ns()), names.changed.clone())
        };
        let wait = Duration::from_nanos(deadline.saturating_sub(clock::mono_ns())).min(Duration::from_secs(3600));
        tokio::select! {
            () = tokio::time::sleep(wait) => engine.borrow_mut().run_stack(None),
            () = changed.notified() => {}
        }
    }
}

/// Reads the file again when somebody else has changed it.
pub(super) async fn watch(control: Rc<Control>) {
    loop {
        tokio::time::sleep(LOOK).await;
        let _turn = control.naming.lock().await;
        let (file, before) = {
            let e = control.engine.borrow();
            (e.names.file.clone(), e.names.stamp)
        };
        let read = tokio::task::spawn_blocking(move || {
            let now = stamp(&file);
            (now != before).then(|| (now, Names::load(&file)))
        });
        if let Ok(Some((now, read))) = read.await {
            let names = &mut control.engine.borrow_mut().names;
            names.stamp = now;
            names.take(read);
            tracing::info!(names = names.table.len(), "the file of names has changed");
        }
    }
}

impl Control {
    /// The peer that is meant.
    pub(super) fn whom(&self, whom: &Whom) -> Result<PeerId, Failure> {
        match whom {
            Whom::Id(id) => Ok(*id),
            Whom::Name(name) => {
                let found = self.engine.borrow().names.table.get(name.as_str());
                found.ok_or_else(|| no_name(name))
            }
        }
    }

    pub(super) fn names(&self) -> Vec<NameInfo> {
        self.engine.borrow().names.table.iter().map(|(name, peer)| info(name, peer)).collect()
    }

    pub(super) async fn add_name(&self, name: Petname, peer: PeerId) -> Result<Reply, Failure> {
        let added = info(&name, peer);
        self.change_names(move |names| {
            names.with(&name, peer).map_err(|error| match error {
                NamesError::Taken { .. } => {
                    Failure::new(FailureKind::Conflict, error.to_string()).with_next(format!("rovy name del {name}"))
                }
                _ => Failure::new(FailureKind::Unavailable, error.to_string()).with_next("rovy name list"),
            })
        })
        .await?;
        Ok(Reply::Name(added))
    }

    pub(super) async fn remove_name(&self, name: Petname) -> Result<Reply, Failure> {
        self.change_names(move |names| names.without(&name).ok_or_else(|| no_name(&name))).await?;
        Ok(Reply::Done)
    }

    /// Changes the file as it is now, and uses it. The disk may be slow; packets do not wait for it.
    async fn change_names(
        &self,
        change: impl FnOnce(&Names) -> Result<Names, Failure> + Send + 'static,
    ) -> Result<(), Failure> {
        let _turn = self.naming.lock().await;
        let file = self.engine.borrow().names.file.clone();
        let changed = tokio::task::spawn_blocking(move || {
            let before = Names::load(&file).map_err(internal)?;
            let after = change(&before)?;
            if after.text() != before.text() {
                persist::replace(&file, after.text()).map_err(|e| {
                    let path = file.display();
                    let kind = match e.kind() {
                        std::io::ErrorKind::PermissionDenied => FailureKind::Permission,
                        _ => FailureKind::Internal,
                    };
                    Failure::new(kind, format!("{path}: cannot write the names: {e}; the file is as it was"))
                })?;
            }
            Ok((stamp(&file), after))
        });
        let (now, names) = changed.await.map_err(internal)??;
        let service = &mut self.engine.borrow_mut().names;
        service.stamp = now;
        service.take(Ok(names));
        Ok(())
    }
}

fn info(name: &Petname, peer: PeerId) -> NameInfo {
    NameInfo { name: name.to_string(), peer_id: peer, address: peer.address() }
}

fn no_name(name: &Petname) -> Failure {
    Failure::new(FailureKind::NotFound, format!("no peer has the name {name}")).with_next("rovy name list")
}
