//! The control socket's file: made atomically, replaced when stale, removed at the end.

use super::server::ApiError;
use crate::config::Paths;
use rustix::fs::{FlockOperation, flock};
use std::fs::{DirBuilder, File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, FileTypeExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

/// The socket's file. Dropping it removes the file; the lock goes with the process.
#[derive(Debug)]
pub(super) struct Bound {
    path: PathBuf,
    _lock: File,
}

impl Drop for Bound {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

pub(super) fn bind(path: &Path) -> Result<(Bound, UnixListener), ApiError> {
    let failed = |source| ApiError::Io { path: path.into(), source };
    make_directory(path).map_err(failed)?;
    // Two agents that start at once would both find a stale socket; the lock lets one through.
    let lock = path.with_extension("lock");
    let lock = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(lock).map_err(failed)?;
    match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(rustix::io::Errno::WOULDBLOCK) => return Err(ApiError::Running(path.into())),
        Err(errno) => return Err(failed(errno.into())),
    }
    match std::fs::symlink_metadata(path) {
        Ok(meta) if !meta.file_type().is_socket() => return Err(ApiError::InTheWay(path.into())),
        Ok(_) if UnixStream::connect(path).is_ok() => return Err(ApiError::Running(path.into())),
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(failed(e)),
        _ => {}
    }
    // Bound under another name, so that nobody meets it before its mode is right.
    let new = path.with_extension("new");
    let _ = std::fs::remove_file(&new);
    let listener = UnixListener::bind(&new).map_err(failed)?;
    let ready = std::fs::set_permissions(&new, Permissions::from_mode(0o600))
        .and_then(|()| listener.set_nonblocking(true))
        .and_then(|()| std::fs::rename(&new, path));
    if let Err(source) = ready {
        let _ = std::fs::remove_file(&new);
        return Err(failed(source));
    }
    Ok((Bound { path: path.into(), _lock: lock }, listener))
}

/// Users may see that a service runs; what lies in a home is its owner's alone.
fn make_directory(socket: &Path) -> io::Result<()> {
    let Some(parent) = socket.parent().filter(|p| !p.as_os_str().is_empty() && !p.exists()) else {
        return Ok(());
    };
    let service = Path::new(Paths::SERVICE_SOCKET).parent() == Some(parent);
    DirBuilder::new().recursive(true).mode(if service { 0o755 } else { 0o700 }).create(parent)
}
