//! Drives the compose cluster through every fault that a user's cluster meets, and measures what a writing client sees;
//! beside it the image is started by itself.
//!
//! `cargo test --test container` injects each fault once and asserts bounds; `-- bench [RUNS]` repeats the timed ones
//! and prints medians beside the aims; `-- soak [MINUTES]` keeps all cores busy and expects that nothing happens. Words
//! after that choose scenarios by name. It needs a Docker engine on this machine with the images built (`make image`).
//! The cluster has a project name and ports of its own and is removed at the end.
//!
//! Not here: faults of processes without containers; those are tests of the rooms that they belong to.

mod clock;
mod cluster;
mod docker;
mod faults;
mod figures;
mod image;
mod inside;
mod outages;
mod soak;
mod writer;

use std::process::ExitCode;

use anyhow::{Context, Result, bail};

use cluster::Cluster;
use figures::{Figure, Medians};

/// One fault or use: its name on the command line, what is done, and how it is carried out and judged.
#[derive(Clone)]
pub struct Scenario {
    pub name: &'static str,
    pub what: &'static str,
    pub run: fn(&Cluster) -> Result<Vec<Figure>>,
}

enum Mode {
    Test,
    Bench { runs: usize },
    Soak { minutes: u64 },
}

fn main() -> ExitCode {
    match run() {
        Ok(0) => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("container test: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<usize> {
    let mut words: Vec<String> = std::env::args().skip(1).collect();
    let mode = mode(&mut words)?;
    let scenarios: Vec<Scenario> = [image::scenarios(), faults::scenarios(), outages::scenarios()].concat();
    if let Some(unknown) = words.iter().find(|word| scenarios.iter().all(|scenario| scenario.name != word.as_str())) {
        let names: Vec<&str> = scenarios.iter().map(|scenario| scenario.name).collect();
        bail!("no scenario {unknown}; there are {}", names.join(", "));
    }
    let chosen: Vec<&Scenario> = scenarios
        .iter()
        .filter(|scenario| words.is_empty() || words.iter().any(|word| word == scenario.name))
        .collect();

    let began = clock::now();
    let cluster = Cluster::up().context("cannot bring the cluster up")?;
    eprintln!("cluster {} is whole after {:.1} s", cluster.project(), clock::seconds(began, clock::now()));
    let failed = match mode {
        Mode::Test => test(&cluster, &chosen),
        Mode::Bench { runs } => bench(&cluster, &chosen, runs),
        Mode::Soak { minutes } => soak::run(&cluster, minutes).map(|figures| figures::report("soak", &figures)),
    };
    if !matches!(failed, Ok(0)) {
        cluster.keep_logs();
    }
    cluster.down()?;
    failed
}

fn mode(words: &mut Vec<String>) -> Result<Mode> {
    let Some(first) = words.first().cloned() else { return Ok(Mode::Test) };
    if first != "bench" && first != "soak" {
        return Ok(Mode::Test);
    }
    words.remove(0);
    let number = words.first().and_then(|word| word.parse::<u64>().ok());
    if number.is_some() {
        words.remove(0);
    }
    Ok(match first.as_str() {
        "bench" => Mode::Bench { runs: usize::try_from(number.unwrap_or(5)).context("cannot repeat that often")? },
        _ => Mode::Soak { minutes: number.unwrap_or(30) },
    })
}

/// Each scenario once; a failed one does not keep the next from running, unless the cluster no longer heals.
fn test(cluster: &Cluster, scenarios: &[&Scenario]) -> Result<usize> {
    let (mut passed, mut failed) = (0, 0);
    for scenario in scenarios {
        let began = clock::now();
        eprintln!("\n{}: {}", scenario.name, scenario.what);
        let broken = match (scenario.run)(cluster) {
            Ok(figures) => figures::report(scenario.name, &figures),
            Err(error) => {
                eprintln!("  FAILED: {error:#}");
                1
            }
        };
        eprintln!("  {} after {:.1} s", if broken == 0 { "ok" } else { "FAILED" }, clock::seconds(began, clock::now()));
        if broken == 0 {
            passed += 1;
        } else {
            failed += 1;
        }
    }
    println!("{passed} passed, {failed} failed");
    Ok(failed)
}

fn bench(cluster: &Cluster, scenarios: &[&Scenario], runs: usize) -> Result<usize> {
    let mut medians = Medians::default();
    let mut failed = 0;
    for scenario in scenarios {
        for run in 1..=runs {
            match (scenario.run)(cluster) {
                Ok(figures) => {
                    eprintln!("{} {run}/{runs}:", scenario.name);
                    // A bound holds for each run: a lost write is one too many, however good the median is.
                    failed += figures::report(scenario.name, &figures);
                    medians.add(scenario.name, figures);
                }
                Err(error) => {
                    failed += 1;
                    eprintln!("{} {run}/{runs}: FAILED: {error:#}", scenario.name);
                }
            }
        }
    }
    println!("{medians}");
    Ok(failed)
}
