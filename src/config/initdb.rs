//! The arguments of initdb, from `bootstrap.initdb` and POSTGRES_INITDB_ARGS.

use super::given::Account;
use super::options::{self, Tool};
use super::origin::Origin;
use super::reader::Reader;
use super::words;

const ARGS: &str = "environment.initdb_args";
const OPTIONS: &str = "bootstrap.initdb";

/// Without user, password and directory. How connections authenticate is always said, since initdb's own default is
/// `trust`.
pub(super) fn arguments(reader: &mut Reader<'_>, account: &Account, superuser: &str) -> Vec<String> {
    let mut given = Vec::new();
    if let Some(value) = reader.value(OPTIONS) {
        let (arguments, problems) = options::arguments(value, Tool::Initdb);
        for problem in problems {
            reader.error(OPTIONS, problem, ACCEPTED);
        }
        given.extend(checked(reader, OPTIONS, arguments, superuser));
    }
    if let Some(text) = reader.text(ARGS) {
        match words::split(&text) {
            Some(words) => given.extend(checked(reader, ARGS, words, superuser)),
            None => drop(reader.error(ARGS, "a quote that is not closed", ACCEPTED)),
        }
    }
    let socket = match account {
        Account::Named(_) => "--auth-local=peer",
        Account::Unnamed => "--auth-local=scram-sha-256",
    };
    let names = |name: &str| given.iter().any(|given| given.split('=').next() == Some(name) || given == "-A");
    let mut added = Vec::new();
    if given.is_empty() {
        added.push("--data-checksums");
    }
    if !names("--auth") && !names("--auth-local") {
        added.push(socket);
    }
    if !names("--auth") && !names("--auth-host") {
        added.push("--auth-host=scram-sha-256");
    }
    if !added.is_empty() {
        reader.note("bootstrap.initdb (added)", &added.join(" "), Origin::Default);
    }
    given.extend(added.into_iter().map(str::to_owned));
    if let Some(folder) = reader.text("environment.initdb_waldir") {
        given.push(format!("--waldir={folder}"));
    }
    given
}

const ACCEPTED: &str = "options of initdb without directory, user and password";

/// What may be passed on. The superuser's name is said by other settings; here it may only be repeated.
fn checked(reader: &mut Reader<'_>, path: &str, arguments: Vec<String>, superuser: &str) -> Vec<String> {
    let mut kept = Vec::new();
    let mut words = arguments.into_iter();
    while let Some(argument) = words.next() {
        let name = argument.trim_start_matches('-').split('=').next().unwrap_or_default();
        let is_long = argument.starts_with("--");
        let is_short = !is_long && ["-D", "-W"].iter().any(|short| argument.starts_with(short));
        if is_short || ["pgdata", "pwfile", "pwprompt"].contains(&name) {
            reader.error(path, format!("the option {name} may not be set"), ACCEPTED);
        } else if (is_long && name == "username") || (!is_long && argument.starts_with("-U")) {
            let attached = match is_long {
                true => argument.split_once('=').map(|(_, user)| user),
                false => argument.strip_prefix("-U").filter(|user| !user.is_empty()),
            };
            let user = attached.map(str::to_owned).or_else(|| words.next()).unwrap_or_default();
            check_user(reader, path, &user, superuser);
        } else {
            kept.push(argument);
        }
    }
    kept
}

fn check_user(reader: &mut Reader<'_>, path: &str, user: &str, superuser: &str) {
    if user == superuser {
        return;
    }
    let own = reader.document.place("postgresql.authentication.superuser.username");
    let setting = match reader.document.get("postgresql.authentication.superuser.username") {
        None if reader.document.get("environment.user").is_some() => "POSTGRES_USER".to_owned(),
        None => "PATRONI_SUPERUSER_USERNAME (not set)".to_owned(),
        Some(_) => own,
    };
    let given = format!("the option username is {user:?}, but the superuser is {superuser:?}");
    let accepted = format!("one superuser: drop the option here, or set {setting} to {user:?}");
    reader.error(path, given, accepted);
}
