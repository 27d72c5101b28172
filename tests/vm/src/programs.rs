//! Every program of the objects through this kernel's verifier; and what the agent does with its own, up to a device.

use std::{
    error::Error,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, anyhow, ensure};
use aya::{
    EbpfLoader,
    programs::{Program, ProgramError},
};
use rovy_common::label::Width;
use rovy_userspace::dataplane::xdp::{Mode, Params, Wish, Xdp};

use crate::machine::DEVICES;

/// Where the initramfs has the objects.
const OBJECTS: &str = "/objects";

/// The object whose program the agent loads.
const AGENT: &str = "rovy.bpf.o";

/// Lines of the verifier's log that say what it refused; the rest is how it got there.
const EXCERPT: usize = 12;

/// Reports on each object, on each of its programs, and on the agent's way to load and attach its own.
pub(crate) fn check(report: impl Fn(&str, Result<()>)) {
    let objects: Vec<PathBuf> =
        fs::read_dir(OBJECTS).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    for object in &objects {
        let name = object.file_name().unwrap_or_default().to_string_lossy();
        report(&name, verify(object, |program, result| report(&format!("{name} {program}"), result)));
    }
    report("the agent's dataplane", agent(&Path::new(OBJECTS).join(AGENT)));
}

fn verify(object: &Path, report: impl Fn(&str, Result<()>)) -> Result<()> {
    let bytes = fs::read(object)?;
    // A BPF file system refuses names with dots.
    let pins = object.file_name().unwrap_or_default().to_string_lossy().replace('.', "-");
    let pins = Path::new("/sys/fs/bpf").join(pins);
    fs::create_dir_all(&pins)?;
    let mut object = EbpfLoader::new().default_map_pin_directory(&pins).load(&bytes)?;
    for (name, program) in object.programs_mut() {
        let result = match program {
            Program::Xdp(program) => program.load().map_err(excerpt),
            _ => Err(anyhow!("not an XDP program")),
        };
        report(name, result);
    }
    Ok(())
}

fn agent(object: &Path) -> Result<()> {
    let params = Params {
        pin_dir: "/sys/fs/bpf/rovy/vm".into(),
        sessions: 64,
        width: Width::One,
        ethertype: 0x88b5,
        mac1: [0; 2],
        limits: rovy_common::maps::Limits::default(),
        log_level: 0,
    };
    let (mut xdp, _) = Xdp::open_object(&params, &fs::read(object)?)?;
    let device = DEVICES[0];
    let ifindex = fs::read_to_string(format!("/sys/class/net/{device}/ifindex"))?.trim().parse()?;
    for (wish, mode) in [(Wish::Native, Mode::Native), (Wish::Generic, Mode::Generic)] {
        let attached = xdp.attach(ifindex, device, wish).with_context(|| format!("{wish:?} on {device}"))?;
        ensure!(attached.mode == mode, "asked for {wish:?}, got {:?}: {}", attached.mode, attached.why);
        xdp.detach(ifindex)?;
    }
    Ok(())
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
