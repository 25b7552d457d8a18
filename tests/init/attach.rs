//! Whether a process of the same user can get at ours before they have made themselves non-dumpable. `execve` undoes that;
//! a file which its user may execute but not read makes the kernel do it in the same step (`would_dump` in fs/exec.c).

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use crate::world::executable;

/// The image's mode.
const HIDDEN: u32 = 0o711;
const READABLE: u32 = 0o755;

/// Attempts, and how many of the runs were taken over.
fn attack(runs: u32, program: &Path, mode: u32, words: &[&str]) -> (u32, u32) {
    let folder = tempfile::Builder::new().prefix("tamada-init-").tempdir().expect("/tmp is writable");
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).expect("ours");
    let copy = folder.path().join("tamada-victim");
    fs::copy(program, &copy).expect("room in /tmp");
    fs::set_permissions(&copy, fs::Permissions::from_mode(mode)).expect("ours");
    let mut command = Command::new("setpriv");
    command.args(["--reuid", "54322", "--regid", "54322", "--clear-groups"]).env_clear().env("PATH", "/usr/bin:/bin");
    command.arg(executable()).args(["attacker", &runs.to_string()]).arg(&copy).args(words);
    let output = command.output().expect("util-linux is there");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let numbers: Vec<u32> = text.split_whitespace().filter_map(|word| word.parse().ok()).collect();
    let [attempts, taken] = numbers[..] else { panic!("{text}{}", String::from_utf8_lossy(&output.stderr)) };
    (attempts, taken)
}

pub fn nobody_attaches_to_a_program_that_only_root_can_read() {
    // A program that does nothing for itself and lives long: the mode alone decides.
    assert_eq!(attack(3, executable(), READABLE, &["backend"]).1, 3, "the attack itself works");
    assert_eq!(attack(3, executable(), HIDDEN, &["backend"]).1, 0);
    let tamada = Path::new(env!("CARGO_BIN_EXE_tamada"));
    let (attempts, taken) = attack(200, tamada, HIDDEN, &["health"]);
    println!("    {attempts} attempts on 200 starts, {taken} taken over");
    assert_eq!(taken, 0);
    assert!(attempts >= 200, "{attempts}");
}
