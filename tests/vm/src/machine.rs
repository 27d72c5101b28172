//! What a kernel without an operating system needs before programs can be loaded and attached.

use std::fs::{self, File};

use anyhow::{Context, Result};
use rtnetlink::{LinkUnspec, LinkVeth};
use rustix::{
    mount::{MountFlags, mount},
    system::{RebootCommand, finit_module, reboot},
};

/// The devices that programs are attached to.
pub(crate) const DEVICES: [&str; 2] = ["veth0", "veth1"];

/// Mounts the kernel's file systems, loads the modules in `/modules` in the order of their names, makes a pair of devices.
///
/// # Errors
///
/// When one of these fails.
pub(crate) fn prepare() -> Result<()> {
    for (kind, place) in [("proc", "/proc"), ("sysfs", "/sys"), ("devtmpfs", "/dev"), ("bpf", "/sys/fs/bpf")] {
        fs::create_dir_all(place).with_context(|| format!("cannot create {place}"))?;
        mount(kind, place, kind, MountFlags::empty(), None).with_context(|| format!("cannot mount {place}"))?;
    }
    let mut modules: Vec<_> = fs::read_dir("/modules")?.collect::<Result<_, _>>()?;
    modules.sort_by_key(fs::DirEntry::file_name);
    for module in modules {
        let path = module.path();
        let file = File::open(&path).with_context(|| format!("cannot open {}", path.display()))?;
        finit_module(&file, c"", 0).with_context(|| format!("cannot load {}", path.display()))?;
    }
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(devices())
}

async fn devices() -> Result<()> {
    let (connection, handle, _) = rtnetlink::new_connection()?;
    tokio::spawn(connection);
    handle
        .link()
        .add(LinkVeth::new(DEVICES[0], DEVICES[1]).build())
        .execute()
        .await
        .context("cannot make a veth pair")?;
    for device in DEVICES {
        let up = LinkUnspec::new_with_name(device).up().build();
        handle.link().set(up).execute().await.with_context(|| format!("cannot set {device} up"))?;
    }
    Ok(())
}

/// Ends the machine.
///
/// # Errors
///
/// When the kernel refuses.
pub(crate) fn power_off() -> Result<()> {
    reboot(RebootCommand::PowerOff).context("cannot power off")
}
