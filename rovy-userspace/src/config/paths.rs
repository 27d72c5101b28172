use std::path::{Path, PathBuf};

/// Who runs the command, as far as it decides where files lie.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct User {
    /// Whether the effective user is root.
    pub root: bool,
    /// The user's home.
    pub home: Option<PathBuf>,
    /// Under sudo: the home of the user who called it.
    pub sudo_home: Option<PathBuf>,
    /// Under sudo: the number of that user.
    pub sudo_uid: Option<u32>,
}

/// Where keyfile, configuration, state and control socket lie.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Paths {
    /// The keyfile.
    pub keyfile: PathBuf,
    /// The configuration file.
    pub config: PathBuf,
    /// What the agent remembers between runs.
    pub state: PathBuf,
    /// The control socket.
    pub socket: PathBuf,
}

impl User {
    /// The user of this process.
    #[must_use]
    pub fn current() -> Self {
        let root = rustix::process::geteuid().is_root();
        let passwd = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
        let home = std::env::var_os("HOME").filter(|h| !h.is_empty()).map(PathBuf::from);
        let sudo = std::env::var("SUDO_USER").ok().filter(|name| root && name != "root");
        let sudo = sudo.as_deref().and_then(|name| entry_of(&passwd, name));
        Self { root, home, sudo_home: sudo.clone().map(|(_, home)| home), sudo_uid: sudo.map(|(uid, _)| uid) }
    }

    /// `~/.rovy`, or `.rovy` in the working directory for a user without a home.
    fn dot_rovy(&self) -> PathBuf {
        self.home.clone().unwrap_or_default().join(".rovy")
    }
}

/// Number and home of a user in the text of `/etc/passwd`.
fn entry_of(passwd: &str, name: &str) -> Option<(u32, PathBuf)> {
    let line = passwd.lines().find(|l| l.split(':').next() == Some(name))?;
    let uid = line.split(':').nth(2)?.parse().ok()?;
    line.split(':').nth(5).filter(|h| h.starts_with('/')).map(|home| (uid, PathBuf::from(home)))
}

impl Paths {
    /// Socket of the agent that runs as a service.
    pub const SERVICE_SOCKET: &'static str = "/run/rovy/api.sock";

    /// The usual places: the system's for root, also under sudo, and `~/.rovy` for others. All of it in `directory`
    /// when one is given.
    #[must_use]
    pub fn new(user: &User, directory: Option<&Path>) -> Self {
        match directory {
            Some(d) => Self::within(d),
            None if user.root => Self {
                keyfile: "/etc/rovy/keyfile.toml".into(),
                config: "/etc/rovy/config.toml".into(),
                state: "/var/lib/rovy".into(),
                socket: Self::SERVICE_SOCKET.into(),
            },
            None => Self::within(&user.dot_rovy()),
        }
    }

    fn within(d: &Path) -> Self {
        Self {
            keyfile: d.join("keyfile.toml"),
            config: d.join("config.toml"),
            state: d.to_path_buf(),
            socket: d.join("api.sock"),
        }
    }

    /// Where an agent's socket may lie, in the order it is looked for.
    #[must_use]
    pub fn sockets(user: &User) -> Vec<PathBuf> {
        let mut all = vec![PathBuf::from(Self::SERVICE_SOCKET)];
        all.extend(user.sudo_home.as_ref().map(|h| h.join(".rovy/api.sock")));
        let own = user.dot_rovy().join("api.sock");
        if !all.contains(&own) {
            all.push(own);
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(root: bool) -> User {
        User { root, home: Some("/home/ann".into()), sudo_home: None, sudo_uid: None }
    }

    #[test]
    fn root_uses_the_system_and_others_their_home() {
        assert_eq!(Paths::new(&user(true), None).keyfile, Path::new("/etc/rovy/keyfile.toml"));
        assert_eq!(Paths::new(&user(true), None).socket, Path::new("/run/rovy/api.sock"));
        assert_eq!(Paths::new(&user(false), None).config, Path::new("/home/ann/.rovy/config.toml"));
        let there = Paths::new(&user(true), Some(Path::new("/x")));
        assert_eq!((there.state.as_path(), there.socket.as_path()), (Path::new("/x"), Path::new("/x/api.sock")));
    }

    #[test]
    fn sockets_are_looked_for_in_order() {
        let ann = Some("/home/ann".into());
        let sudo = User { root: true, home: Some("/root".into()), sudo_home: ann, sudo_uid: Some(1000) };
        let expected = ["/run/rovy/api.sock", "/home/ann/.rovy/api.sock", "/root/.rovy/api.sock"];
        assert_eq!(Paths::sockets(&sudo), expected.map(PathBuf::from));
        assert_eq!(Paths::sockets(&user(false)).len(), 2);
    }

    #[test]
    fn users_come_from_passwd() {
        let passwd = "root:x:0:0:root:/root:/bin/sh\nann:x:1000:1000:,,,:/home/ann:/bin/sh\nbad:x";
        assert_eq!(entry_of(passwd, "ann"), Some((1000, "/home/ann".into())));
        assert_eq!(entry_of(passwd, "bad"), None);
        assert_eq!(entry_of(passwd, "bob"), None);
    }
}
