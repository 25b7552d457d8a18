//! Many worlds, on all cores, and what they came to.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tamada::core::reason::Reason;

use super::faults::Fault;
use super::log::Told;
use super::world::{Layers, World};

/// What some worlds came to.
#[derive(Default)]
pub struct Found {
    /// By seed.
    pub violations: BTreeMap<u64, String>,
    pub reached: BTreeSet<&'static str>,
    /// Which decision's reason has met which fault.
    pub covered: BTreeSet<(&'static str, &'static str)>,
    pub worlds: u64,
    pub took: Duration,
}

impl Found {
    fn add(&mut self, other: Found) {
        self.violations.extend(other.violations);
        self.reached.extend(other.reached);
        self.covered.extend(other.covered);
        self.worlds += other.worlds;
    }

    fn run(&mut self, seed: u64, layers: Layers) {
        let mut world = World::new(seed, layers, Told::No);
        let ran = catch_unwind(AssertUnwindSafe(|| world.run()));
        let ran = ran.unwrap_or_else(|_| Err("it panicked; see above".to_owned()));
        if let Err(what) = ran {
            let told = catch_unwind(|| World::new(seed, layers, Told::Yes).run());
            self.violations.insert(seed, told.ok().and_then(Result::err).unwrap_or(what));
        }
        self.reached.extend(world.reached);
        self.covered.extend(world.covered);
        self.worlds += 1;
    }

    pub fn has(&self, what: &str) -> bool {
        self.violations.values().any(|violation| violation.contains(what))
    }

    /// The first lines of all violations; of the first one the story's end too.
    pub fn expect_none(&self) {
        let lines =
            self.violations.iter().map(|(seed, what)| format!("seed {seed}: {}", what.lines().next().unwrap_or("")));
        let lines: Vec<String> = lines.collect();
        let first = self.violations.iter().next();
        assert!(first.is_none(), "{} violations:\n{}\nthe first: {first:?}", lines.len(), lines.join("\n"));
    }
}

/// All of these worlds.
pub fn worlds(layers: Layers, seeds: Range<u64>) -> Found {
    let begun = Instant::now();
    let next = AtomicU64::new(seeds.start);
    let mut found = Found::default();
    let work = || {
        let mut own = Found::default();
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds.end {
                return own;
            }
            own.run(seed, layers);
        }
    };
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..cores).map(|_| scope.spawn(work)).collect();
        threads.into_iter().for_each(|thread| found.add(thread.join().expect("a world that does not panic")));
    });
    found.took = begun.elapsed();
    found
}

/// What `make sim` shows.
impl std::fmt::Display for Found {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let seconds = self.took.as_secs_f64();
        writeln!(f, "{} worlds in {seconds:.1} s, {:.0} a second", self.worlds, self.worlds as f64 / seconds)?;
        let (met, not): (Vec<&str>, Vec<&str>) = Reason::CODES.iter().partition(|code| self.reached.contains(*code));
        writeln!(f, "reasons: {} of {}; never: {}", met.len(), Reason::CODES.len(), not.join(" "))?;
        let pairs = met.len() * Fault::ALL.len();
        writeln!(
            f,
            "(reason, fault): {} of {pairs} ({} reasons x {} faults)",
            self.covered.len(),
            met.len(),
            Fault::ALL.len()
        )?;
        let marks = self.reached.iter().filter(|mark| !Reason::CODES.contains(mark));
        writeln!(f, "faults: {}", marks.copied().collect::<Vec<_>>().join(", "))?;
        write!(f, "violations: {}", self.violations.len())?;
        for (seed, what) in &self.violations {
            write!(f, "\nSEED={seed}: {}", what.lines().next().unwrap_or(""))?;
        }
        Ok(())
    }
}
