use crate::api::{ClientError, Failure, FailureKind};
use crate::config::ConfigError;
use crate::identity::keyfile::KeyfileError;
use std::io::{self, Write as _};

/// Exit code of a negative answer.
pub(super) const NEGATIVE: u8 = 1;
/// Exit code of a command that makes no sense.
pub(super) const USAGE: u8 = 2;
/// Exit code when no agent answers.
pub(super) const UNREACHABLE: u8 = 3;
/// Exit code when the user may not.
pub(super) const PERMISSION: u8 = 4;

/// What a command comes to.
pub(super) type Outcome<T = ()> = Result<T, No>;

/// Why a command failed: exit code, message and what to do next.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct No {
    pub(super) code: u8,
    message: String,
    next: Option<String>,
}

impl No {
    pub(super) fn new(code: u8, message: impl Into<String>, next: Option<String>) -> Self {
        Self { code, message: message.into(), next }
    }

    pub(super) fn message(&self) -> &str {
        &self.message
    }

    /// An exit code alone: what there is to say is said.
    pub(super) fn quiet(code: u8) -> Self {
        Self::new(code, "", None)
    }

    /// On stderr for people; with `--json` on stdout too, in the form of the API's errors.
    pub(super) fn print(&self, json: bool) {
        if self.message.is_empty() {
            return;
        }
        let mut err = io::stderr().lock();
        let _ = writeln!(err, "rovy: {}", self.message);
        if let Some(next) = &self.next {
            let _ = writeln!(err, "next: {next}");
        }
        if json {
            let kind = match self.code {
                USAGE => "usage",
                UNREACHABLE => "unreachable",
                PERMISSION => "permission",
                _ => "negative",
            };
            let error = serde_json::json!({ "kind": kind, "message": self.message, "next": self.next });
            print(&format!("{}\n", serde_json::json!({ "error": error })));
        }
    }
}

/// Writes to stdout; a reader that has left, such as `head`, is no error.
pub(super) fn print(text: &str) {
    let mut out = io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

/// Says something beside the answer, which alone stands on stdout.
pub(super) fn note(text: &str) {
    let _ = writeln!(io::stderr().lock(), "rovy: {text}");
}

/// The command that starts an agent, as this user types it.
pub(super) fn start_command() -> &'static str {
    let plain_root = rustix::process::geteuid().is_root() && std::env::var_os("SUDO_USER").is_none();
    if plain_root { "rovy start" } else { "sudo rovy start" }
}

impl From<ClientError> for No {
    fn from(error: ClientError) -> Self {
        let message = error.to_string();
        match error {
            ClientError::NoAgent { .. } => Self::new(UNREACHABLE, message, Some(start_command().into())),
            ClientError::Several(all) => {
                let next = all.first().map(|p| format!("rovy --socket {} info", p.display()));
                Self::new(USAGE, message, next)
            }
            ClientError::Permission(_) => {
                Self::new(PERMISSION, message, Some("run the command as the agent's user, or with sudo".into()))
            }
            ClientError::Untrusted { .. } => {
                Self::new(PERMISSION, message, Some("look at who runs the agent: rovy info".into()))
            }
            ClientError::Broken { .. } => Self::new(UNREACHABLE, message, Some("look into the agent's log".into())),
            ClientError::Refused(failure) => failure.into(),
        }
    }
}

impl From<Failure> for No {
    fn from(failure: Failure) -> Self {
        let code = match failure.kind {
            FailureKind::Usage => USAGE,
            FailureKind::Permission => PERMISSION,
            FailureKind::Unavailable => UNREACHABLE,
            FailureKind::NotFound | FailureKind::Conflict | FailureKind::Unsupported | FailureKind::Internal => {
                NEGATIVE
            }
        };
        Self::new(code, failure.message, failure.next)
    }
}

fn code_of(source: &io::Error) -> u8 {
    if source.kind() == io::ErrorKind::PermissionDenied { PERMISSION } else { NEGATIVE }
}

impl From<KeyfileError> for No {
    fn from(error: KeyfileError) -> Self {
        let code = match &error {
            KeyfileError::Read { source, .. } | KeyfileError::Write { source, .. } => code_of(source),
            _ => NEGATIVE,
        };
        Self::new(code, error.to_string(), None)
    }
}

impl From<ConfigError> for No {
    fn from(error: ConfigError) -> Self {
        let code = match &error {
            ConfigError::Read { source, .. } | ConfigError::Write { source, .. } => code_of(source),
            ConfigError::Missing(_) | ConfigError::Invalid { .. } => NEGATIVE,
        };
        Self::new(code, error.to_string(), None)
    }
}

impl From<anyhow::Error> for No {
    /// For what comes out of the agent: a cause that says why decides the exit code.
    fn from(error: anyhow::Error) -> Self {
        let denied = |errno: &rustix::io::Errno| [rustix::io::Errno::PERM, rustix::io::Errno::ACCESS].contains(errno);
        let permission = error.chain().any(|cause| {
            cause.downcast_ref::<io::Error>().is_some_and(|e| e.kind() == io::ErrorKind::PermissionDenied)
                || cause.downcast_ref::<rustix::io::Errno>().is_some_and(denied)
        });
        let message = format!("{error:#}");
        match error.downcast::<Failure>() {
            Ok(failure) => failure.into(),
            Err(_) if permission => Self::new(PERMISSION, message, Some(start_command().into())),
            Err(_) => Self::new(NEGATIVE, message, None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_follow_the_kind_of_failure() {
        let code = |kind| No::from(Failure::new(kind, "x")).code;
        assert_eq!(code(FailureKind::Usage), 2);
        assert_eq!(code(FailureKind::Conflict), 1);
        assert_eq!(code(FailureKind::Permission), 4);
        assert_eq!(No::from(ClientError::NoAgent { tried: vec![] }).code, 3);
        assert_eq!(No::from(ClientError::Permission("/x".into())).code, 4);
    }

    #[test]
    fn causes_of_agent_errors_decide_the_code() {
        let denied = anyhow::Error::new(io::Error::from(io::ErrorKind::PermissionDenied)).context("cannot make rovy0");
        assert_eq!(No::from(denied).code, 4);
        assert_eq!(No::from(anyhow::anyhow!("x")).code, 1);
        let failure = Failure::new(FailureKind::Usage, "no").with_next("do");
        assert_eq!(No::from(anyhow::Error::new(failure)), No::new(2, "no", Some("do".into())));
    }
}
