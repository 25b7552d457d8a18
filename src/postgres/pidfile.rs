//! `postmaster.pid` and `postmaster.opts`, as a running or stopped server leaves them in its data directory.
//!
//! Only read here; neither is ever written or deleted by us. Sources: `miscinit.c` (CreateLockFile,
//! AddToDataDirLockFile) and `postmaster.c` (CreateOptsFile).

use std::path::PathBuf;

/// `postmaster.pid`. A server that is just starting has not written all lines yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PidFile {
    /// Always positive.
    pub pid: i32,
    pub kind: ServerKind,
    pub data_dir: PathBuf,
    /// Seconds since 1970.
    pub started_at: i64,
    pub port: Option<u16>,
    /// The first directory of its Unix sockets.
    pub socket_dir: Option<PathBuf>,
    pub listen_address: Option<String>,
    pub status: Option<ServerStatus>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServerKind {
    Postmaster,
    /// Written with a negative pid; such a server is never signalled.
    SingleUser,
}

/// The last line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServerStatus {
    Starting,
    Stopping,
    Ready,
    /// Up, but takes no connections: a standby without `hot_standby`.
    Standby,
}

impl PidFile {
    /// `None`: not even the first three lines are there or make sense.
    pub fn parse(text: &str) -> Option<PidFile> {
        let lines: Vec<&str> = text.lines().map(str::trim_end).collect();
        let line = |number: usize| lines.get(number - 1).copied().filter(|line| !line.is_empty());
        let pid: i32 = line(1)?.trim().parse().ok()?;
        let kind = if pid < 0 { ServerKind::SingleUser } else { ServerKind::Postmaster };
        Some(PidFile {
            pid: pid.checked_abs().filter(|pid| *pid != 0)?,
            kind,
            data_dir: PathBuf::from(line(2)?),
            started_at: line(3)?.trim().parse().ok()?,
            port: line(4).and_then(|port| port.trim().parse().ok()),
            socket_dir: line(5).map(PathBuf::from),
            listen_address: line(6).map(str::to_owned),
            status: line(8).and_then(ServerStatus::from_word),
        })
    }
}

impl ServerStatus {
    fn from_word(word: &str) -> Option<ServerStatus> {
        match word.trim() {
            "starting" => Some(ServerStatus::Starting),
            "stopping" => Some(ServerStatus::Stopping),
            "ready" => Some(ServerStatus::Ready),
            "standby" => Some(ServerStatus::Standby),
            _ => None,
        }
    }
}

/// The arguments in `postmaster.opts`, the program first. Each argument stands there in double quotes without any
/// escaping, so that an argument with `" "` inside comes out as two.
pub fn parse_opts(text: &str) -> Vec<String> {
    let line = text.trim_end_matches(['\n', '\r']);
    let Some((program, quoted)) = line.split_once(" \"") else {
        return Some(line.to_owned()).filter(|line| !line.is_empty()).into_iter().collect();
    };
    let quoted = quoted.strip_suffix('"').unwrap_or(quoted);
    std::iter::once(program).chain(quoted.split("\" \"")).map(str::to_owned).collect()
}

/// The settings among these arguments, in their order: `--name=value`, `-c name=value`, `-cname=value`. Names have `_`
/// for `-`, as the server reads them.
pub fn settings_of(arguments: &[String]) -> Vec<(String, String)> {
    let mut settings = Vec::new();
    let mut after_c = false;
    for argument in arguments {
        let setting = match argument.strip_prefix("--").or_else(|| argument.strip_prefix("-c")) {
            _ if after_c => Some(argument.as_str()),
            stripped => stripped,
        };
        after_c = !after_c && argument == "-c";
        if let Some((name, value)) = setting.and_then(|setting| setting.split_once('=')) {
            settings.push((name.replace('-', "_"), value.to_owned()));
        }
    }
    settings
}

#[cfg(test)]
mod tests {
    use super::*;

    const RUNNING: &str = "12555\n/srv/data\n1795359195\n28765\n/run/postgresql\n*\n 10010797         4\nready   \n";

    #[test]
    fn a_running_servers_file_is_read_whole() {
        let expected = PidFile {
            pid: 12_555,
            kind: ServerKind::Postmaster,
            data_dir: "/srv/data".into(),
            started_at: 1_795_359_195,
            port: Some(28_765),
            socket_dir: Some("/run/postgresql".into()),
            listen_address: Some("*".to_owned()),
            status: Some(ServerStatus::Ready),
        };
        assert_eq!(PidFile::parse(RUNNING), Some(expected));
    }

    #[test]
    fn a_starting_or_single_user_server_leaves_lines_out() {
        let starting = PidFile::parse("7\n/srv/data\n1795359195\n5432\n\n\n").expect("three lines are there");
        assert_eq!((starting.port, starting.socket_dir, starting.status), (Some(5432), None, None));
        let single = PidFile::parse("-7\n/srv/data\n1795359195\n5432\n\n").expect("three lines are there");
        assert_eq!((single.pid, single.kind), (7, ServerKind::SingleUser));
        for broken in ["", "abc\n/d\n1\n", "0\n/d\n1\n", "5\n/d\n", "-2147483648\n/d\n1\n"] {
            assert_eq!(PidFile::parse(broken), None, "{broken:?}");
        }
    }

    #[test]
    fn options_are_taken_apart() {
        let text = "/usr/lib/postgresql/15/bin/postgres \"-D\" \"/srv/my data\" \"--port=5433\" \"-c\" \"wal-level=logical\" \
                    \"-cfsync=off\" \"--archive_command=test -f x\"\n";
        let arguments = parse_opts(text);
        assert_eq!(arguments[..3], ["/usr/lib/postgresql/15/bin/postgres", "-D", "/srv/my data"]);
        let expected = [("port", "5433"), ("wal_level", "logical"), ("fsync", "off"), ("archive_command", "test -f x")];
        assert_eq!(settings_of(&arguments), expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
        assert_eq!(parse_opts(""), Vec::<String>::new());
        assert_eq!(parse_opts("postgres\n"), ["postgres"]);
    }
}
