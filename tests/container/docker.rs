//! Running `docker`, with a bound on how long a command may take.

use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};

/// Runs a program to its end and returns what it wrote to its standard output.
pub fn run(within: Duration, program: &str, args: &[&str], env: &[(String, String)]) -> Result<String> {
    let mut command = Command::new("timeout");
    command.args(["--kill-after=5", &within.as_secs().to_string(), program]).args(args);
    command.envs(env.iter().map(|(name, value)| (name, value))).stdin(Stdio::null());
    let output = command.output().with_context(|| format!("cannot run {program}"))?;
    if !output.status.success() {
        bail!(
            "{program} {}: {}: {}",
            args.join(" "),
            output.status,
            String::from_utf8_lossy(&output.stderr).trim().lines().last().unwrap_or_default()
        );
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// `docker ARGS`, within a minute and a half: longer than any grace period here.
pub fn docker(args: &[&str]) -> Result<String> {
    run(Duration::from_secs(90), "docker", args, &[])
}
