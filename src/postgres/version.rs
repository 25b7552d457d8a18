//! PostgreSQL's version numbers and where they are read from: `PG_VERSION`, `postgres --version`, a connection.
//!
//! Only versions from 10 on have the two-part form that is counted with here; older ones are told apart, no more.

use std::fmt;

/// A version as the server numbers it: 150020 is 15.20, 150000 stands for any 15.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version(pub u32);

impl Version {
    pub const fn new(major: u32, minor: u32) -> Self {
        Version(major * 10_000 + minor)
    }

    pub const fn major(self) -> u32 {
        self.0 / 10_000
    }

    pub const fn minor(self) -> u32 {
        self.0 % 10_000
    }

    /// The content of a data directory's `PG_VERSION`: `15`, or `9.6` of an old one.
    pub fn from_pg_version(text: &str) -> Option<Version> {
        let text = text.trim();
        match text.split_once('.') {
            None => Some(Version::new(text.parse().ok().filter(is_sensible)?, 0)),
            Some((major, minor)) => {
                let minor: u32 = minor.parse().ok().filter(is_sensible)?;
                Some(Version(major.parse::<u32>().ok().filter(is_sensible)? * 10_000 + minor * 100))
            }
        }
    }

    /// The output of `postgres --version`: `postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)`. A missing minor part
    /// is 0, so that `18beta1` is 18.0.
    pub fn from_program(output: &str) -> Option<Version> {
        let (_, after) = output.split_once(") ")?;
        let word = after.split_whitespace().next()?;
        let (major, rest) = leading_number(word)?;
        let minor = rest.strip_prefix('.').and_then(leading_number).map_or(0, |(minor, _)| minor);
        (is_sensible(&major) && minor < 10_000).then_some(Version::new(major, minor))
    }

    /// The version whose rules hold for the configuration: the running server's, else the installed program's if the
    /// data directory is of its major version or of none yet, else the data directory's.
    pub fn for_validation(
        running: Option<Version>,
        program: Option<Version>,
        data: Option<Version>,
    ) -> Option<Version> {
        let fitting = program.filter(|program| data.is_none_or(|data| data.major() == program.major()));
        running.or(fitting).or(data)
    }
}

/// Keeps the arithmetic of `Version` far from overflow.
fn is_sensible(number: &u32) -> bool {
    *number < 1_000
}

fn leading_number(text: &str) -> Option<(u32, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    Some((text[..end].parse().ok()?, &text[end..]))
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major(), self.minor())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_from_program_and_data_directory() {
        let programs = [
            ("postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)\n", Some(150_018)),
            ("postgres (PostgreSQL) 18beta1", Some(180_000)),
            ("postgres (PostgreSQL) 17.2", Some(170_002)),
            ("postgres (EnterpriseDB) 16.1.0", Some(160_001)),
            ("nonsense", None),
            ("postgres (PostgreSQL) devel", None),
        ];
        for (text, expected) in programs {
            assert_eq!(Version::from_program(text), expected.map(Version), "{text}");
        }
        assert_eq!(Version::from_pg_version("15\n"), Some(Version(150_000)));
        assert_eq!(Version::from_pg_version("9.6\n"), Some(Version(90_600)));
        assert_eq!(Version::from_pg_version(""), None);
        assert_eq!(Version::from_pg_version("4000000000"), None);
    }

    #[test]
    fn the_validation_version_follows_the_data_directory_unless_the_program_fits() {
        let (v14, v14_1, v12_1) = (Version::new(14, 0), Version::new(14, 1), Version::new(12, 1));
        assert_eq!(Version::for_validation(None, Some(v12_1), Some(v14)), Some(v14));
        assert_eq!(Version::for_validation(None, Some(v14_1), Some(v14)), Some(v14_1));
        assert_eq!(Version::for_validation(None, Some(v12_1), None), Some(v12_1));
        assert_eq!(Version::for_validation(Some(v14_1), Some(v12_1), Some(v14)), Some(v14_1));
        assert_eq!(Version::for_validation(None, None, None), None);
    }
}
