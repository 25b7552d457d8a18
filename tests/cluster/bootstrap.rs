//! A cluster's first minutes.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use nix::sys::stat::Mode;
use nix::unistd::mkfifo;

use crate::member::{Member, bin_dir};
use crate::wait::{eventually, seconds, until};
use crate::world::{Cluster, SOON};

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

/// Lets the members wait at a gate until all are there, then go. Returns how far apart they went.
fn start_at_once(cluster: &mut Cluster) -> Duration {
    let gate = cluster.folder.path().join("gate");
    mkfifo(&gate, Mode::S_IRUSR | Mode::S_IWUSR).expect("writable");
    for member in &mut cluster.members {
        let (arrived, left) = (member.folder.join("arrived"), member.folder.join("left"));
        let (arrived, gate, left) = (arrived.display(), gate.display(), left.display());
        member.before = format!("touch {arrived} && : <{gate} && date +%s%N >{left}");
    }
    cluster.start_all();
    let here = |member: &Member| member.folder.join("arrived").exists();
    until(SOON, "all are at the gate", || cluster.members.iter().all(here));
    // Open for as long as one may still be on its way to it.
    let gate = File::options().read(true).write(true).open(&gate).expect("ours");
    let went = |member: &Member| -> Option<u64> {
        let text = fs::read_to_string(member.folder.join("left")).ok()?;
        text.trim_end().parse().ok()
    };
    let all = || cluster.members.iter().map(went).collect::<Option<Vec<_>>>().ok_or("not all went".to_owned());
    let (times, _) = eventually(SOON, "all have gone", all);
    drop(gate);
    Duration::from_nanos(times.iter().max().expect("three") - times.iter().min().expect("three"))
}

#[test]
fn three_members_that_start_at_once_make_one_cluster() {
    let mut close = 0;
    for race in 1..=RACES_MAX {
        let mut cluster = Cluster::prepare(3);
        let bin = counted_initdb(&cluster);
        cluster.set("PATRONI_POSTGRESQL_BIN_DIR", &bin.display().to_string());
        let spread = start_at_once(&mut cluster);
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
