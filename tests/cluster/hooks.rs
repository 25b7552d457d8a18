//! What the log tells of the commands that people give for events.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use crate::wait::until;
use crate::world::{Cluster, SOON};

/// The lines of a log with this text.
fn lines(log: &str, text: &str) -> Vec<String> {
    log.lines().filter(|line| line.contains(text)).map(str::to_owned).collect()
}

#[test]
fn a_post_bootstrap_that_takes_long_is_waited_for_with_one_line_and_its_failure_is_told_once() {
    let mut cluster = Cluster::prepare(1);
    let member = &mut cluster.members[0];
    let script = member.folder.join("hook");
    let (go, began) = (member.folder.join("go"), member.folder.join("began"));
    let text = format!(
        "#!/bin/sh\ntouch {began}\nwhile [ ! -e {go} ]; do sleep 0.1; done\nrm {go}\necho 'the hook says why' >&2\nexit 3\n",
        began = began.display(),
        go = go.display()
    );
    fs::write(&script, text).expect("writable");
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).expect("ours");
    member.set("PATRONI_BOOTSTRAP_POST_BOOTSTRAP", &script.display().to_string()).start();
    until(SOON, "the hook has begun", || began.exists());
    member.wait_log(SOON, "waiting for post_bootstrap to end");
    fs::write(&go, "").expect("writable");
    assert_eq!(member.wait_end(SOON), 1, "{}", member.log());
    let log = member.log();
    let told = lines(&log, "the hook says why");
    assert!(told.len() == 1 && told[0].contains(" ERROR: "), "{log}");
    assert_eq!(lines(&log, "waiting for post_bootstrap to end").len(), 1, "{log}");
}
