//! The first process of a virtual machine: loads every XDP program into its kernel, attaches it, reports and powers off.
//!
//! `cargo xtask vm` boots it and reads the lines that start with [`MARK`] from the serial console.

mod machine;
mod programs;

use anyhow::Result;

/// Begins each line that is meant for the one who started the machine.
const MARK: &str = "ROVY-VM";

fn report(name: &str, result: Result<()>) {
    match result {
        Ok(()) => println!("{MARK} PASS {name}"),
        Err(error) => println!("{MARK} FAIL {name}: {}", format!("{error:#}").replace('\n', " | ")),
    }
}

fn main() -> Result<()> {
    anyhow::ensure!(
        std::process::id() == 1,
        "this is the first process of a virtual machine; `cargo xtask vm` starts one"
    );
    println!("{MARK} KERNEL {}", rustix::system::uname().release().to_string_lossy());
    report("machine", machine::prepare());
    programs::check(report);
    println!("{MARK} DONE");
    machine::power_off()
}
