//! Every core busy for a long time: nobody may lose the lease, and no write.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{available_parallelism, scope, sleep};
use std::time::Duration;

use anyhow::Result;

use crate::clock;
use crate::cluster::Cluster;
use crate::faults::{HEALED, Losses, gap, losses, settled_writer};
use crate::figures::{Figure, count};

/// A pause in the writes that a person would notice, but no failover.
const LONGEST_PAUSE: f64 = 2.0;

pub fn run(cluster: &Cluster, minutes: u64) -> Result<Vec<Figure>> {
    let before = (cluster.whole(HEALED)?, cluster.timeline()?);
    let writer = settled_writer(cluster)?;
    let at = clock::now();
    under_load(Duration::from_secs(60 * minutes));
    let after = (cluster.whole(HEALED)?, cluster.timeline()?);
    let changes = Figure::at_most("changes_of_timeline", count(usize::try_from(after.1 - before.1)?), 0.0);
    let moved = Figure::at_most("leader_moved", f64::from(u8::from(before.0 != after.0)), 0.0);
    let pause = gap(&writer, at, LONGEST_PAUSE)?;
    Ok(vec![changes, moved, pause, losses(cluster, writer, at..at, Losses::None)?])
}

/// One endless loop for each core, in this process, beside all that the cluster itself does.
fn under_load(time: Duration) {
    let over = AtomicBool::new(false);
    let cores = available_parallelism().map_or(2, usize::from);
    scope(|threads| {
        for _ in 0..cores {
            threads.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
            });
        }
        sleep(time);
        over.store(true, Ordering::Relaxed);
    });
}
