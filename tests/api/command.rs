//! The program itself, run as an operator runs it.

use std::ffi::{OsStr, OsString};
use std::io::Write;
use std::process::{Command, Stdio};

use tokio::task::JoinHandle;

/// How a command ended, and what it said.
pub struct Ended {
    pub code: u8,
    pub out: String,
    pub err: String,
}

/// Its words show when a test fails. `input` is what a person types.
pub fn run(arguments: Vec<OsString>, environment: Vec<(OsString, OsString)>, input: &str) -> JoinHandle<Ended> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tamada"));
    command.args(&arguments);
    start(command, environment, input)
}

/// The same by a shell's script in a mount namespace of its own: `$0` is the program, and `words` are what follows.
pub fn run_in(script: &str, words: &[&OsStr], environment: Vec<(OsString, OsString)>) -> JoinHandle<Ended> {
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", script, env!("CARGO_BIN_EXE_tamada")]).args(words);
    start(command, environment, "")
}

fn start(mut command: Command, environment: Vec<(OsString, OsString)>, input: &str) -> JoinHandle<Ended> {
    let input = input.to_owned();
    command.env_clear().envs(environment).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    tokio::task::spawn_blocking(move || {
        let mut child = command.spawn().expect("it can be executed");
        // Whoever needs no answers does not read them.
        let _ = child.stdin.take().expect("a pipe").write_all(input.as_bytes());
        let ended = child.wait_with_output().expect("our own child");
        let [out, err] = [&ended.stdout, &ended.stderr].map(|text| String::from_utf8_lossy(text).into_owned());
        println!("{command:?}: {}\n{out}{err}", ended.status);
        let code = ended.status.code().and_then(|code| u8::try_from(code).ok()).expect("it ends by itself");
        Ended { code, out, err }
    })
}
