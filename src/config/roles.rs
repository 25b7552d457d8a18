//! The roles that the agent works as: `postgresql.authentication`, and the superuser of the container's conventions.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::given::FoundData;
use super::machine::NamedFile;
use super::reader::Reader;
use super::tls_not_required::authorities_without_use;
use super::{Credentials, Secret};
use crate::core::policy::Mode;

const ROLE_OPTIONS: [&str; 9] = [
    "sslmode",
    "sslcert",
    "sslkey",
    "sslrootcert",
    "sslcrl",
    "sslcrldir",
    "gssencmode",
    "channel_binding",
    "sslnegotiation",
];

pub(super) struct Roles {
    pub superuser: Credentials,
    pub replication: Credentials,
    pub rewind: Option<Credentials>,
}

pub(super) fn read(reader: &mut Reader<'_>, mode: Mode, found: FoundData) -> Roles {
    let superuser = superuser(reader);
    let replication = role(reader, "replication", "replicator");
    let has_rewind = ["username", "password", "sslcert"]
        .map(|key| reader.document.get(&format!("postgresql.authentication.rewind.{key}")))
        .into_iter()
        .any(|value| value.is_some_and(|value| !value.is_null()));
    let rewind = has_rewind.then(|| role(reader, "rewind", "rewind_user"));
    // Without a role of its own these have no effect, and are known all the same.
    for key in ROLE_OPTIONS.iter().chain(&["username", "password", "sslpassword"]) {
        let _asked = reader.value(&format!("postgresql.authentication.rewind.{key}"));
    }
    let superuser_needed = match (mode, found) {
        (Mode::Cluster, _) if is_let_in(reader, "superuser", &superuser) => None,
        (Mode::Cluster, _) => Some("the superuser's password (or PATRONI_SUPERUSER_PASSWORD)"),
        (Mode::Single, FoundData::None) if !trusts_everybody(reader) => {
            Some("the superuser's password, since there is no data directory yet (or POSTGRES_PASSWORD_FILE)")
        }
        (Mode::Single, _) => None,
    };
    let is_broken = reader.report.broken_variable("PATRONI_SUPERUSER_PASSWORD").is_some();
    if let Some(accepted) = superuser_needed.filter(|_| !can_log_in(&superuser) && !is_broken) {
        reader.missing_of_member("POSTGRES_PASSWORD", accepted);
    }
    if mode == Mode::Cluster && !is_let_in(reader, "replication", &replication) {
        reader.missing_of_member("PATRONI_REPLICATION_PASSWORD", "the replication role's password");
    }
    if let Some(rewind) = rewind.as_ref().filter(|_| mode == Mode::Cluster)
        && !is_let_in(reader, "rewind", rewind)
    {
        reader.missing_of_member("PATRONI_REWIND_PASSWORD", "the password of the role that rewinds");
    }
    let all = [("superuser", Some(&superuser)), ("replication", Some(&replication)), ("rewind", rewind.as_ref())];
    check_same_names(reader, &all);
    Roles { superuser, replication, rewind }
}

fn trusts_everybody(reader: &mut Reader<'_>) -> bool {
    reader.text("environment.host_auth_method").is_some_and(|method| method == "trust")
}

fn can_log_in(role: &Credentials) -> bool {
    role.password.is_some() || role.options.contains_key("sslcert")
}

/// Whether a role may do without a password: where the configuration says who gets in, or where it was brought along and
/// names the role without one. Our own `pg_hba.conf` lets nobody in without, and what it needs may have been forgotten.
fn is_let_in(reader: &mut Reader<'_>, role: &str, credentials: &Credentials) -> bool {
    const RULES: [&str; 3] = ["postgresql.pg_hba", "bootstrap.dcs.postgresql.pg_hba", "bootstrap.pg_hba"];
    let is_given = |path: &&str| {
        let value = reader.document.get(path);
        value.is_some_and(|value| {
            !value.is_null() && value.as_str() != Some("") && value.as_array() != Some(&Vec::new())
        })
    };
    if can_log_in(credentials) || RULES.iter().any(is_given) {
        return true;
    }
    let base = reader.document.base.as_ref().and_then(|base| base.get("postgresql"));
    let named = ["authentication", role, "username"].iter().try_fold(base, |value, key| Some(value?.get(key)));
    let is_brought_along = named.flatten().is_some_and(|name| !name.is_null());
    if is_brought_along {
        let place = reader.document.origin(&format!("postgresql.authentication.{role}.username"));
        reader.report.warn(format!(
            "postgresql.authentication.{role} of {place} has no password: the role gets in only where pg_hba.conf lets it in \
             without one (a pg_hba.conf that is made here does not), or where ~/.pgpass has one"
        ));
    }
    is_brought_along
}

fn check_same_names(reader: &mut Reader<'_>, roles: &[(&str, Option<&Credentials>)]) {
    let given =
        |role: Option<&Credentials>| role.and_then(|role| Some((role.username.clone(), role.password.clone()?)));
    let roles: Vec<_> = roles.iter().filter_map(|(role, given_role)| Some((role, given(*given_role)?))).collect();
    for (index, (_, (name, password))) in roles.iter().enumerate() {
        for (role, (other_name, other)) in &roles[index + 1..] {
            if name == other_name && password != other {
                let given = format!("two different passwords given for the role {name}");
                let path = format!("postgresql.authentication.{role}.username");
                reader.error(&path, given, "one password a role, or different names");
            }
        }
    }
}

/// The superuser: the configuration's word, else that of the container's conventions. Both, and different, is an error.
fn superuser(reader: &mut Reader<'_>) -> Credentials {
    let mut credentials = role(reader, "superuser", "postgres");
    let path = |key: &str| format!("postgresql.authentication.superuser.{key}");
    if let Some(name) = reader.text("environment.user") {
        if reader.document.get(&path("username")).is_some() && credentials.username != name {
            let other = reader.document.place(&path("username"));
            reader.wrong("environment.user", &format!("the same name as {other}, or only one of them"));
        } else {
            let origin = reader.document.origin("environment.user");
            reader.note(&path("username"), &name, origin);
            credentials.username = name;
        }
    }
    if let Some(password) = reader.secret("environment.password") {
        if credentials.password.as_ref().is_some_and(|given| *given != password) {
            let other = reader.document.place(&path("password"));
            let both = format!("the same password as {other}, or only one of them");
            reader.error("environment.password", "a different password given", both);
        } else {
            let origin = reader.document.origin("environment.password");
            reader.note(&path("password"), "***", origin);
            credentials.password = Some(password);
        }
    }
    let is_refused = |name: &str| name.starts_with("pg_") || name.contains(['"', '\'', '$', '\\', '\n']);
    if is_refused(&credentials.username) {
        let given = format!("{:?} given", credentials.username);
        let own = path("username");
        let at = if reader.document.get(&own).is_some() { own.as_str() } else { "environment.user" };
        reader.error(at, given, "a name without quotes, $ and \\ that does not begin with pg_");
    }
    credentials
}

fn role(reader: &mut Reader<'_>, role: &str, default_name: &str) -> Credentials {
    let path = |key: &str| format!("postgresql.authentication.{role}.{key}");
    let username = reader.text_or(&path("username"), default_name);
    let password: Option<Secret> = reader.secret(&path("password"));
    let sslpassword = reader.secret(&path("sslpassword"));
    let mut options = BTreeMap::new();
    for key in ROLE_OPTIONS {
        options.extend(reader.text(&path(key)).map(|value| (key.to_owned(), value)));
    }
    for key in ["sslcert", "sslkey", "sslrootcert", "sslcrl"] {
        // The authorities may be those of the system, by that word.
        if let Some(file) = options.get(key).filter(|file| *file != "system") {
            let place = reader.document.place(&path(key));
            reader.files.push(NamedFile { place, path: PathBuf::from(file) });
        }
    }
    authorities_without_use(role, &options).into_iter().for_each(|warning| reader.report.warn(warning));
    Credentials { username, password, options, sslpassword }
}
