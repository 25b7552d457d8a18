//! A cluster's first minutes.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use crate::member::{Member, bin_dir};
use crate::wait::seconds;
use crate::world::Cluster;

/// So many have to begin within 50 ms; a busy machine needs more attempts.
const RACES: u32 = 20;
const RACES_MAX: u32 = 30;

/// A folder with PostgreSQL's programs in which initdb notes each of its runs.
fn counted_initdb(cluster: &Cluster) -> std::path::PathBuf {
    let folder = cluster.folder.path().join("bin");
    fs::create_dir(&folder).expect("writable");
    for program in fs::read_dir(bin_dir()).expect("installed").flatten() {
        if program.file_name() != "initdb" {
            std::os::unix::fs::symlink(program.path(), folder.join(program.file_name())).expect("writable");
        }
    }
    let note = cluster.folder.path().join("initdb-runs");
    fs::write(&note, "").expect("writable");
    fs::set_permissions(&note, fs::Permissions::from_mode(0o666)).expect("ours");
    // `initdb --version` makes nothing.
    let script = format!(
        "#!/bin/sh\ncase \"$*\" in *--version*) ;; *) echo run >>{} ;; esac\nexec {}/initdb \"$@\"\n",
        note.display(),
        bin_dir().display()
    );
    fs::write(folder.join("initdb"), script).expect("writable");
    fs::set_permissions(folder.join("initdb"), fs::Permissions::from_mode(0o755)).expect("ours");
    folder
}

#[test]
fn three_members_that_start_at_once_make_one_cluster() {
    let mut close = 0;
    for race in 1..=RACES_MAX {
        let mut cluster = Cluster::prepare(3);
        let bin = counted_initdb(&cluster);
        cluster.set("PATRONI_POSTGRESQL_BIN_DIR", &bin.display().to_string());
        let began = Instant::now();
        cluster.start_all();
        let spread = began.elapsed();
        close += u32::from(spread < Duration::from_millis(50));
        let (leader, took) = cluster.whole(seconds(40));
        println!(
            "race {race}: begun within {spread:?}, {} was first, whole after {took:?}",
            cluster.members[leader].name
        );
        let runs = fs::read_to_string(cluster.folder.path().join("initdb-runs")).expect("noted");
        assert_eq!(runs, "run\n", "initdb ran once");
        let of = |member: &Member| member.must("SELECT system_identifier FROM pg_control_system()");
        let mut identifiers: Vec<_> = cluster.members.iter().map(of).collect();
        identifiers.dedup();
        assert_eq!(identifiers.len(), 1);
        let fatal: Vec<_> = cluster.members.iter().filter(|member| member.log().contains("ERROR: ")).collect();
        assert!(fatal.is_empty(), "{}", fatal[0].log());
        if close == RACES {
            return;
        }
    }
    panic!("only {close} of {RACES_MAX} races began within 50 ms");
}
