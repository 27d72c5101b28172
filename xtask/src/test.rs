//! x
use anyhow::Result;
/// a
#[derive(clap::Args)]
pub(crate) struct Args {}
pub(crate) fn run(_args: &Args) -> Result<()> {
    Ok(())
}
pub(crate) fn differential(_o: &std::path::Path) -> Result<()> {
    Ok(())
}
