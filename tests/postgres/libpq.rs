//! The variables of libpq in the container's environment: none of them says how members connect.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;

use tamada::core::local::{CloneFrom, CloneSource, StartAs};
use tamada::environment::is_withheld;
use tamada::postgres::Instance;

use crate::installations::installations;
use crate::support::{LIMIT, Node, eventually, on_every_version, progress, slots_for};

/// Each would keep initdb, a clone or the WAL receiver from working, or make them talk to somebody else.
const MISLEADING: [(&str, &str); 16] = [
    ("PGSSLMODE", "verify-full"),
    ("PGSSLROOTCERT", "/nonexistent"),
    ("PGSSLCERT", "/nonexistent"),
    ("PGREQUIREAUTH", "none"),
    ("PGCHANNELBINDING", "require"),
    ("PGREQUIREPEER", "nobody"),
    ("PGGSSENCMODE", "require"),
    ("PGCONNECT_TIMEOUT", "no number"),
    ("PGCLIENTENCODING", "no encoding"),
    ("PGDATESTYLE", "no style"),
    ("PGTZ", "no zone"),
    ("PGOPTIONS", "-c no_such_setting=1"),
    ("PGSERVICE", "no_such_service"),
    ("PGSYSCONFDIR", "/nonexistent"),
    ("PGTARGETSESSIONATTRS", "standby"),
    ("PGPORT", "1"),
];

#[test]
fn a_member_is_made_and_cloned_whatever_libpqs_variables_say() {
    on_every_version(|bin| async move {
        let primary = Node::with_environment("n1", &bin, &MISLEADING);
        let replica = Node::with_environment("n2", &bin, &MISLEADING);
        primary.bootstrap().await;
        primary.sql("CREATE TABLE t AS SELECT 7 AS a");
        let kind = CloneFrom::Leader;
        let source = CloneSource { name: primary.config.name.clone(), address: primary.address(), kind };
        replica.configure().await;
        replica.postgres.clone_from(&source, progress()).await.expect("copied");
        primary.postgres.sync_slots(&slots_for(&[replica.config.name.as_str()])).await.expect("slots");
        replica.postgres.start(&StartAs::Standby(primary.as_upstream()), LIMIT).await.expect("started");
        eventually("the replica streams", async || replica.standby_facts().await.replication.is_some()).await;
        assert_eq!(replica.sql("SELECT a FROM t"), "7");
        for setting in ["client_encoding", "DateStyle", "TimeZone"] {
            let from = format!("SELECT source FROM pg_settings WHERE name = '{setting}'");
            assert_ne!(primary.sql(&from), "environment variable", "{setting}");
        }
    });
}

#[test]
fn every_variable_that_an_installed_libpq_or_server_reads_is_withheld() {
    // The data directory's variable is ours too; the others are compiled into the server for other purposes.
    let others = ["PGDATA", "PGXS", "PGCOPY", "PGRES", "PGFDW"];
    for bin in installations() {
        let library = libpq(&bin.join("pg_basebackup"));
        let read: BTreeSet<String> =
            [library.clone(), bin.join("postgres")].iter().flat_map(|file| names(file)).collect();
        assert!(read.contains("PGSSLMODE") && read.contains("PGDATESTYLE"), "{}: {read:?}", library.display());
        let is_other = |name: &String| others.iter().any(|other| name == other);
        let missed: Vec<_> = read.iter().filter(|name| !is_other(name) && !is_withheld(OsStr::new(name))).collect();
        assert!(missed.is_empty(), "{} reads {missed:?}", library.display());
    }
}

/// The library that a program is linked to, as the loader finds it.
fn libpq(program: &Path) -> PathBuf {
    let output = Command::new("ldd").arg(program).output().expect("ldd comes with libc");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let line = text.lines().find(|line| line.contains("libpq")).unwrap_or_else(|| panic!("{text}"));
    line.split_whitespace().nth(2).expect("NAME => PATH").into()
}

/// What looks like the name of a variable among a file's strings. libpq has none with `_` but `PGCONNECT_TIMEOUT`; the
/// words of its results (`PGRES_…`) have.
fn names(file: &Path) -> Vec<String> {
    let bytes = std::fs::read(file).expect("installed");
    let words = bytes.split(|byte| *byte == 0).filter(|word| word.starts_with(b"PG") && word.len() > 3);
    let words = words.filter(|word| word.iter().all(|byte| byte.is_ascii_uppercase()) || *word == b"PGCONNECT_TIMEOUT");
    words.map(|word| String::from_utf8_lossy(word).into_owned()).collect()
}
