//! What the first stage of PID 1 hands to the second through the exec, as one argument: nothing of it is secret.

use std::fmt;
use std::os::fd::RawFd;
use std::str::FromStr;

use super::log::{Format, Level, Style};
use super::privileges::Privileges;
use super::sys::Identity;

pub(super) struct ExecArgs {
    /// The memory file that holds the whole environment.
    pub(super) environment: RawFd,
    /// Whom the agent becomes; `None`: it stays what we are.
    pub(super) identity: Option<Identity>,
    pub(super) style: Style,
    pub(super) privileges: Privileges,
}

impl fmt::Display for ExecArgs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let format = match self.style.format {
            Format::Plain => "plain",
            Format::Json => "json",
        };
        let level = match self.style.level {
            Level::Debug => "debug",
            Level::Info => "info",
            Level::Warning => "warning",
            Level::Error => "error",
        };
        let privileges = match self.privileges {
            Privileges::Sealed => "sealed",
            Privileges::Gainable => "gainable",
        };
        write!(f, "{}:{format}:{level}:{privileges}", self.environment)?;
        let Some(identity) = &self.identity else { return Ok(()) };
        write!(f, ":{}:{}", identity.uid, identity.gid)?;
        identity.groups.iter().try_for_each(|group| write!(f, ":{group}"))
    }
}

impl FromStr for ExecArgs {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let mut words = text.split(':');
        let environment = words.next().ok_or(())?.parse().map_err(|_| ())?;
        let format = match words.next() {
            Some("plain") => Format::Plain,
            Some("json") => Format::Json,
            _ => return Err(()),
        };
        let level = Level::from_word(words.next().ok_or(())?);
        let privileges = match words.next() {
            Some("sealed") => Privileges::Sealed,
            Some("gainable") => Privileges::Gainable,
            _ => return Err(()),
        };
        let numbers: Vec<u32> = words.map(str::parse).collect::<Result<_, _>>().map_err(|_| ())?;
        let identity = match numbers.as_slice() {
            [] => None,
            [_] => return Err(()),
            [uid, gid, groups @ ..] => Some(Identity { uid: *uid, gid: *gid, groups: groups.to_vec() }),
        };
        Ok(ExecArgs { environment, identity, style: Style { format, level }, privileges })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_read_back() {
        for text in ["3:plain:info:sealed", "12:json:debug:gainable:999:999:104:110", "4:plain:warning:sealed:70:70"] {
            let args: ExecArgs = text.parse().unwrap_or_else(|()| panic!("{text}"));
            assert_eq!(args.to_string(), text);
        }
        for text in [
            "",
            "x:plain:info:sealed",
            "3:loud:info:sealed",
            "3:plain",
            "3:plain:info",
            "3:plain:info:sealed:999",
            "3:plain:info:sealed:a:b",
        ] {
            assert!(text.parse::<ExecArgs>().is_err(), "{text}");
        }
    }
}
