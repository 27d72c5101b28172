//! The `rovy` binary.

fn main() -> std::process::ExitCode {
    rovy_userspace::cli::main()
}
