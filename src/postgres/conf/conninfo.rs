//! libpq connection strings: `dbname=postgres user=replicator host=10.0.0.1 port=5432`.
//!
//! Keys stand in one fixed order, so that equal settings are equal texts. Passwords are never among them: whoever
//! connects is given a password file, and a service file where the certificate's key has a password. Quoting is that of libpq (`fe-connect.c`, conninfo_parse).

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use crate::config::Credentials;
use crate::core::units::MemberName;
use crate::core::view::Address;
use crate::postgres::version::Version;

/// The keys that we write, in their order, each with the first version whose libpq knows it.
const KEYS: [(&str, u32); 22] = [
    ("service", 0),
    ("dbname", 0),
    ("user", 0),
    ("passfile", 10),
    ("host", 0),
    ("hostaddr", 0),
    ("port", 0),
    ("sslmode", 0),
    ("sslcompression", 0),
    ("sslcert", 0),
    ("sslkey", 0),
    ("sslpassword", 13),
    ("sslrootcert", 0),
    ("sslcrl", 0),
    ("sslcrldir", 14),
    ("application_name", 0),
    ("krbsrvname", 0),
    ("gssencmode", 12),
    ("channel_binding", 13),
    ("target_session_attrs", 10),
    ("sslnegotiation", 17),
    ("connect_timeout", 0),
];

/// What libpq takes when nothing is said, written out so that the server's and our text compare equal.
const DEFAULTS: [(&str, &str); 4] =
    [("sslmode", "prefer"), ("gssencmode", "prefer"), ("channel_binding", "prefer"), ("sslnegotiation", "postgres")];

/// A connection string's settings.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Conninfo(BTreeMap<String, String>);

impl Conninfo {
    pub fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).map(String::as_str)
    }

    pub fn with(mut self, key: &str, value: impl Into<String>) -> Self {
        self.0.insert(key.to_owned(), value.into());
        self
    }

    /// For programs on the command line, as this user: no password and no other secret.
    pub fn for_program(address: &Address, credentials: &Credentials, version: Version) -> Self {
        let options = credentials.options.iter().filter(|(key, _)| !is_secret(key));
        let known = options.filter(|(key, _)| is_known(key, version));
        let settings = known.map(|(key, value)| (key.clone(), value.clone())).collect();
        Conninfo(settings)
            .with("dbname", address.database.clone())
            .with("user", credentials.username.clone())
            .with("host", address.host.clone())
            .with("port", address.port.to_string())
    }

    /// `primary_conninfo` of a standby: it names the member, and has the defaults written out. The server's file is
    /// the only place where a certificate key's password can stand for it.
    pub fn for_standby(
        address: &Address,
        credentials: &Credentials,
        member: &MemberName,
        passfile: Option<&Path>,
        krbsrvname: Option<&str>,
        version: Version,
    ) -> Self {
        let mut conninfo = Self::for_program(address, credentials, version)
            .with("application_name", member.as_str())
            .with_defaults(version);
        if let Some(passfile) = passfile.filter(|_| credentials.password.is_some()) {
            conninfo = conninfo.with("passfile", passfile.to_string_lossy());
        }
        if let Some(service) = krbsrvname {
            conninfo = conninfo.with("krbsrvname", service);
        }
        if let Some(password) = &credentials.sslpassword {
            conninfo = conninfo.with("sslpassword", password.expose());
        }
        conninfo
    }

    /// The same with the defaults written out where nothing is said.
    pub fn with_defaults(mut self, version: Version) -> Self {
        for (key, value) in DEFAULTS.iter().filter(|(key, _)| is_known(key, version)) {
            self.0.entry((*key).to_owned()).or_insert_with(|| (*value).to_owned());
        }
        self
    }

    /// Reads a connection string of the `key=value` form. `None`: not one.
    pub fn parse(text: &str) -> Option<Conninfo> {
        let mut settings = BTreeMap::new();
        let mut rest = text.trim_start_matches(is_space);
        while !rest.is_empty() {
            let (key, after) = rest.split_once('=')?;
            let key = key.trim_matches(is_space);
            if key.is_empty() || key.contains(is_space) {
                return None;
            }
            let (value, after) = value(after.trim_start_matches(is_space))?;
            settings.insert(key.to_owned(), value);
            rest = after.trim_start_matches(is_space);
        }
        Some(Conninfo(settings))
    }

    /// Whether a standby running with `current` has all that is wanted here; `current` may say more. An address that is no
    /// longer wanted is a difference: libpq would connect there, whatever the name says.
    pub fn is_satisfied_by(&self, current: &Conninfo, ignored: &[&str], version: Version) -> bool {
        let current = current.clone().with_defaults(version);
        if current.get("hostaddr") != self.get("hostaddr") {
            return false;
        }
        let mut wanted = self.0.iter().filter(|(key, _)| !ignored.contains(&key.as_str()));
        wanted.all(|(key, value)| current.get(key) == Some(value))
    }
}

/// Where a value's text ends: at white space outside of quotes.
fn value(text: &str) -> Option<(String, &str)> {
    let (quoted, text) = match text.strip_prefix('\'') {
        Some(inside) => (true, inside),
        None => (false, text),
    };
    let mut value = String::new();
    let mut characters = text.char_indices();
    while let Some((index, c)) = characters.next() {
        match c {
            '\\' => value.extend(characters.next().map(|(_, escaped)| escaped)),
            '\'' if quoted => return Some((value, &text[index + 1..])),
            c if is_space(c) && !quoted => return Some((value, &text[index..])),
            c => value.push(c),
        }
    }
    (!quoted).then_some((value, ""))
}

/// C's isspace().
fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\n' | '\r' | '\x0b' | '\x0c')
}

fn is_secret(key: &str) -> bool {
    matches!(key, "password" | "sslpassword")
}

fn is_known(key: &str, version: Version) -> bool {
    KEYS.iter().any(|(known, since)| *known == key && version.major() >= *since)
}

/// One value: `'`, `\` and white space are escaped; an empty one is quoted, since libpq would take what follows.
pub fn quote_value(value: &str) -> String {
    if value.is_empty() {
        return "''".to_owned();
    }
    let mut quoted = String::with_capacity(value.len());
    for c in value.chars() {
        if c == '\'' || c == '\\' || is_space(c) {
            quoted.push('\\');
        }
        quoted.push(c);
    }
    quoted
}

impl fmt::Display for Conninfo {
    /// The text for libpq. It may hold the password of a certificate's key: see `for_standby`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let in_order = KEYS.iter().filter_map(|(key, _)| self.0.get_key_value(*key));
        let others = self.0.iter().filter(|(key, _)| !KEYS.iter().any(|(known, _)| known == key));
        for (position, (key, value)) in in_order.chain(others).enumerate() {
            let space = if position == 0 { "" } else { " " };
            write!(f, "{space}{key}={}", quote_value(value))?;
        }
        Ok(())
    }
}

impl fmt::Debug for Conninfo {
    /// For logs: secrets are hidden.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = self.0.iter().map(|(key, value)| (key, if is_secret(key) { "***" } else { value.as_str() }));
        f.debug_map().entries(shown).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Secret;

    fn address() -> Address {
        Address { host: "127.0.0.1".to_owned(), port: 26_431, database: "postgres".to_owned() }
    }

    fn credentials(options: &[(&str, &str)]) -> Credentials {
        Credentials {
            username: "replicator".to_owned(),
            password: Some(Secret::new("hush")),
            options: options.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect(),
            sslpassword: None,
        }
    }

    fn standby(credentials: &Credentials, version: u32) -> String {
        let passfile = Some(Path::new("/run/pgpass 2"));
        let member = MemberName::from("node-2");
        let version = Version::new(version, 0);
        Conninfo::for_standby(&address(), credentials, &member, passfile, None, version).to_string()
    }

    #[test]
    fn keys_stand_in_their_fixed_order() {
        let expected = "dbname=postgres user=replicator passfile=/run/pgpass\\ 2 host=127.0.0.1 port=26431 sslmode=prefer \
                        application_name=node-2 gssencmode=prefer channel_binding=prefer";
        assert_eq!(standby(&credentials(&[]), 15), expected);
        assert_eq!(standby(&credentials(&[]), 17), format!("{expected} sslnegotiation=postgres"));
        let options = [("sslmode", "verify-ca"), ("sslrootcert", "/ca.pem"), ("sslcrldir", "/crl"), ("odd", "x")];
        let text = standby(&credentials(&options), 13);
        assert!(text.contains(" sslmode=verify-ca sslrootcert=/ca.pem application_name="), "{text}");
        assert!(standby(&credentials(&options), 14).contains(" sslcrldir=/crl "));
    }

    #[test]
    fn a_standby_with_another_address_of_its_host_differs() {
        let version = Version::new(15, 0);
        let name = Conninfo::parse(&standby(&credentials(&[]), 15)).expect("our own").with("host", "n1");
        let (one, other) = (name.clone().with("hostaddr", "10.0.0.1"), name.clone().with("hostaddr", "10.0.0.2"));
        assert!(one.to_string().contains(" host=n1 hostaddr=10.0.0.1 port=26431 "), "{one}");
        for wanted in [&name, &one, &other] {
            for current in [&name, &one, &other] {
                assert_eq!(wanted.is_satisfied_by(current, &[], version), wanted == current, "{wanted}; {current}");
            }
        }
    }

    #[test]
    fn programs_are_told_no_secret() {
        let mut credentials = credentials(&[("password", "hush"), ("sslpassword", "hush"), ("sslmode", "require")]);
        credentials.sslpassword = Some(Secret::new("hush"));
        let program = Conninfo::for_program(&address(), &credentials, Version::new(15, 0)).to_string();
        assert_eq!(program, "dbname=postgres user=replicator host=127.0.0.1 port=26431 sslmode=require");
        assert!(standby(&credentials, 15).contains(" sslpassword=hush "));
        let shown = format!("{:?}", Conninfo::parse(&standby(&credentials, 15)).expect("our own"));
        assert!(!shown.contains("hush"), "{shown}");
    }

    #[test]
    fn every_value_reads_back() {
        for value in ["", " ", "a b", "it's", "back\\slash", "tab\there", "line\nbreak", "é🐘=\"$&%#?:", "'", "\\"] {
            let written = Conninfo::default().with("host", value).with("port", "1");
            assert_eq!(Conninfo::parse(&written.to_string()), Some(written), "{value:?}");
        }
    }

    #[test]
    fn strings_of_others_are_read_as_libpq_reads_them() {
        let read = Conninfo::parse(" host = 'a b\\'c'  port=5 user=  x\\ y ").expect("well formed");
        assert_eq!((read.get("host"), read.get("port"), read.get("user")), (Some("a b'c"), Some("5"), Some("x y")));
        for broken in ["host", "host='a", "a b=c", "=x", "postgres://h/db"] {
            assert_eq!(Conninfo::parse(broken), None, "{broken:?}");
        }
        assert_eq!(Conninfo::parse("  "), Some(Conninfo::default()));
    }
}
