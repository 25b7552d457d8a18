//! Passwords of any shape work everywhere, and are seen nowhere.

use std::os::unix::fs::PermissionsExt;

use serde_json::json;

use crate::load::TABLE;
use crate::member::{Member, REPLICATOR, REWINDER, SUPERUSER, bin_dir, give, password};
use crate::sql::Sql;
use crate::wait::seconds;
use crate::world::{Cluster, SOON};

/// Whatever is special to a shell, a URL, a connection string, a passfile, YAML or SQL. Of one line, since a variable's
/// value is.
const AWKWARD: &str = r#" p:a\s's"w %40@ö=?#&,{}[]|;$`!~^*()<>/+-_.$(id)${HOME}\:\\ä— end "#;

#[test]
fn awkward_passwords_work_for_all_roles_in_clone_and_rewind() {
    let mut cluster = Cluster::prepare(2);
    let passwords = [("SUPERUSER", SUPERUSER), ("REPLICATION", REPLICATOR), ("REWIND", REWINDER)];
    for (kind, role) in passwords {
        cluster.set(&format!("PATRONI_{kind}_PASSWORD"), &format!("{AWKWARD}{role}"));
    }
    cluster.start_all();
    let (old, _) = cluster.whole(seconds(40));
    let new = 1 - old;
    for (kind, role) in passwords {
        for member in &cluster.members {
            let name = format!("{kind} on {}", member.name);
            let right = Sql::connect(member.sql, role, &format!("{AWKWARD}{role}"));
            assert!(right.is_ok(), "{name}: {:?}", right.err());
            let wrong = Sql::connect(member.sql, role, AWKWARD.trim());
            assert!(wrong.is_err(), "{name}: a wrong password is let in");
        }
    }
    // As in the tests of rejoining: the old primary has WAL that nobody else has.
    cluster.members[old].must(TABLE);
    cluster.replayed(old, new);
    cluster.members[new].kill();
    cluster.members[old].must("INSERT INTO writes VALUES (-1)");
    cluster.members[old].kill();
    cluster.members[new].start();
    cluster.members[new].wait_writable(SOON);
    cluster.members[new].must("INSERT INTO writes VALUES (1)");
    cluster.members[old].start();
    assert_eq!(cluster.whole(seconds(40)).0, new);
    assert!(cluster.members[old].log().contains("running pg_rewind from"));
    assert_eq!(cluster.members[old].must("SELECT string_agg(seq::text, ',') FROM writes"), "1");
    for member in &cluster.members {
        assert!(!member.log().contains(AWKWARD.trim()), "no password is logged");
    }
}

const SECRETS: [(&str, &str); 4] = [
    ("PATRONI_RESTAPI_PASSWORD", "s3cret-of-rest"),
    ("PATRONI_CTL_PASSWORD", "s3cret-of-ctl"),
    ("PATRONI_RESTAPI_USERNAME", "admin"),
    ("PATRONI_CTL_USERNAME", "admin"),
];

#[test]
fn a_superuser_of_sql_finds_no_secret_in_any_process() {
    let mut cluster = Cluster::prepare(2);
    for (name, value) in SECRETS {
        cluster.set(name, value);
    }
    cluster.start_all();
    let (leader, _) = cluster.whole(seconds(40));
    for at in [leader, 1 - leader] {
        look_around(&mut cluster.members[at], at == leader);
    }
}

/// `COPY … FROM PROGRAM` needs a table; where none can be made, the same is done as the user postgres in the namespace.
fn look_around(member: &mut Member, writable: bool) {
    let everything = "cat /proc/*/environ /proc/*/cmdline 2>/dev/null | tr '\\000' '\\n'; true";
    let text = if writable {
        let sql = member.connect().expect("it answers");
        sql.rows("CREATE TABLE seen (line text)").expect("made");
        let program = everything.replace('\'', "''");
        sql.rows(&format!("COPY seen FROM PROGRAM '{program}' WITH (FORMAT csv, DELIMITER E'\\x01', QUOTE E'\\x02')"))
            .expect("copied");
        sql.value("SELECT string_agg(line, E'\\n') FROM seen").expect("read")
    } else {
        let pid = member.init().to_string();
        let mut command = std::process::Command::new("nsenter");
        command.args(["-t", &pid, "-p", "-m", "setpriv", "--reuid", "postgres", "--regid", "postgres"]);
        command.args(["--clear-groups", "sh", "-c", everything]).env_clear().env("PATH", "/usr/bin:/bin");
        String::from_utf8_lossy(&command.output().expect("nsenter is there").stdout).into_owned()
    };
    assert!(text.contains("tamada") && text.contains("postgres"), "something was seen: {text}");
    for role in [SUPERUSER, REPLICATOR, REWINDER, "rest", "ctl"] {
        let secret = password(role);
        let lines: Vec<_> = text.lines().filter(|line| line.contains(&secret)).collect();
        assert!(lines.is_empty(), "{}: {lines:?}", member.name);
    }
    assert!(!member.log().contains("s3cret-of"), "no password is logged");
    let document = member.get("/patroni").expect("an answer").json();
    assert!(!json!(document).to_string().contains("s3cret-of"));
}

/// No role has one in the configuration.
fn without_passwords(cluster: &mut Cluster) {
    for member in &mut cluster.members {
        for role in ["SUPERUSER", "REPLICATION", "REWIND"] {
            member.unset(&format!("PATRONI_{role}_PASSWORD"));
        }
        member.unset("PATRONI_REWIND_USERNAME");
    }
}

/// Each becomes the primary once and comes back as the other's replica.
fn changes_and_rejoins(cluster: &mut Cluster) {
    let (old, _) = cluster.whole(seconds(40));
    let leader = cluster.members[old].name.clone();
    let reply = cluster.members[old].send("POST", "/switchover", &json!({"leader": leader})).expect("an answer");
    assert_eq!(reply.code, 200, "{reply:?}");
    assert_eq!(cluster.whole(SOON).0, 1 - old);
    cluster.members[1 - old].kill();
    cluster.members[old].wait_writable(SOON);
    cluster.members[1 - old].start();
    assert_eq!(cluster.whole(seconds(40)).0, old);
}

#[test]
fn roles_without_passwords_work_where_pg_hba_lets_them_in() {
    let mut cluster = Cluster::prepare(2);
    without_passwords(&mut cluster);
    let rules = "local all all peer\nhost all all 127.0.0.0/8 trust\nhost replication all 127.0.0.0/8 trust";
    cluster.set("PATRONI_POSTGRESQL_PG_HBA", rules);
    cluster.start_all();
    changes_and_rejoins(&mut cluster);
    let roles = "SELECT count(*) FROM pg_authid WHERE rolname IN ('postgres', 'replicator') AND rolpassword IS NULL";
    assert_eq!(cluster.members[0].must(roles), "2");
}

#[test]
fn a_password_file_of_the_accounts_own_is_read() {
    let mut cluster = Cluster::prepare(2);
    without_passwords(&mut cluster);
    let home = cluster.folder.path().join("home");
    let (script, file) = (home.join("roles"), home.join(".pgpass"));
    std::fs::create_dir(&home).expect("writable");
    let (superuser, replicator) = (password(SUPERUSER), password(REPLICATOR));
    std::fs::write(&file, format!("*:*:*:{SUPERUSER}:{superuser}\n*:*:*:{REPLICATOR}:{replicator}\n"))
        .expect("writable");
    let sql = format!(
        "ALTER ROLE {SUPERUSER} PASSWORD '{superuser}'; CREATE ROLE {REPLICATOR} LOGIN REPLICATION PASSWORD '{replicator}'"
    );
    let psql = bin_dir().join("psql").display().to_string();
    std::fs::write(&script, format!("#!/bin/sh\nexec {psql} -X \"$1\" -c \"{sql}\"\n")).expect("writable");
    for (path, mode) in [(&home, 0o755), (&script, 0o755), (&file, 0o600)] {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).expect("ours");
        give(path);
    }
    let rules = "local all all peer\nhost all all all scram-sha-256\nhost replication all all scram-sha-256";
    cluster.set("PATRONI_POSTGRESQL_PG_HBA", rules);
    // The home of the account, in the container alone.
    let account = nix::unistd::User::from_name("postgres").expect("readable").expect("there is a user postgres").dir;
    for member in &mut cluster.members {
        member.before = format!("mount --bind {} {}", home.display(), account.display());
    }
    cluster.set("PATRONI_POSTGRESQL_USE_UNIX_SOCKET", "on");
    cluster.set("PATRONI_BOOTSTRAP_POST_BOOTSTRAP", &script.display().to_string());
    cluster.start_all();
    // For the test's own sessions.
    for member in &mut cluster.members {
        member.env.insert("POSTGRES_PASSWORD".to_owned(), superuser.clone());
    }
    let (old, _) = cluster.whole(seconds(40));
    assert!(Sql::connect(cluster.members[old].sql, SUPERUSER, "wrong").is_err());
    let leader = cluster.members[old].name.clone();
    let reply = cluster.members[old].send("POST", "/switchover", &json!({"leader": leader})).expect("an answer");
    assert_eq!(reply.code, 200, "{reply:?}");
    assert_eq!(cluster.whole(SOON).0, 1 - old);
}
