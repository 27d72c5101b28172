//! Every program of the object through this kernel's verifier, and onto a device.

use std::{error::Error, fs};

use anyhow::{Context, Result, anyhow};
use aya::{
    Ebpf, EbpfLoader,
    programs::{Program, ProgramError, Xdp, XdpMode},
};

use crate::machine::DEVICES;

/// Where the initramfs has the object.
const OBJECT: &str = "/rovy.bpf.o";

/// Lines of the verifier's log that say what it refused; the rest is how it got there.
const EXCERPT: usize = 12;

/// Reports on the object and on each of its programs.
pub(crate) fn check(report: impl Fn(&str, Result<()>)) {
    let mut object = match open() {
        Ok(object) => object,
        Err(error) => return report("object", Err(error)),
    };
    report("object", Ok(()));
    for (name, program) in object.programs_mut() {
        report(name, one(program));
    }
}

fn open() -> Result<Ebpf> {
    let bytes = fs::read(OBJECT).with_context(|| format!("cannot read {OBJECT}"))?;
    Ok(EbpfLoader::new().default_map_pin_directory("/sys/fs/bpf").load(&bytes)?)
}

fn one(program: &mut Program) -> Result<()> {
    let Program::Xdp(program) = program else {
        return Err(anyhow!("not an XDP program"));
    };
    program.load().map_err(excerpt)?;
    for (mode, name) in [(XdpMode::Driver, "native"), (XdpMode::Skb, "generic")] {
        attach(program, mode).with_context(|| format!("{name} mode"))?;
    }
    Ok(())
}

fn attach(program: &mut Xdp, mode: XdpMode) -> Result<()> {
    let link = program.attach(DEVICES[0], mode)?;
    Ok(program.detach(link)?)
}

fn excerpt(error: ProgramError) -> anyhow::Error {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    let lines: Vec<&str> = text.lines().collect();
    let first = lines.first().copied().unwrap_or_default();
    let tail = lines.get(1.max(lines.len().saturating_sub(EXCERPT))..).unwrap_or_default();
    anyhow!("{first}\n{}", tail.join("\n"))
}
