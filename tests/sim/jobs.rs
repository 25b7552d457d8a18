//! What each long job does to a simulated server when its time has come.

use tamada::core::local::{CloneFrom, Job, LastRole, Replay, StartAs, StopMode, Upstream};
use tamada::core::note;
use tamada::core::observation::{Event, FinishedJob, JobProduct, JobResult};
use tamada::core::standby_names::StandbyNames;
use tamada::core::units::{Lsn, MemberName, SystemId};

use super::node::{Server, at};
use super::slots::ServerSlots;
use super::world::World;

impl World {
    pub(super) fn finish_job(&mut self, index: usize) {
        let Some((job, _, ends)) = self.nodes[index].job.clone() else { return };
        if ends > self.now {
            return;
        }
        self.nodes[index].job = None;
        let result = self.job_effect(index, &job);
        self.log.add(|| format!("{} {} job {job}: {result:?}", self.now, self.nodes[index].name));
        let ended = FinishedJob { job, at: at(self.now), result };
        let node = &mut self.nodes[index];
        node.memory = note(std::mem::take(&mut node.memory), &Event::JobEnded(ended));
        node.wake = self.now;
    }

    /// A promotion that its job no longer waits for.
    pub(super) fn finish_promotion(&mut self, index: usize) {
        if self.nodes[index].promotes_at.is_none_or(|at| at > self.now) {
            return;
        }
        let result = self.promote_effect(index);
        if let JobResult::Done(_) = result {
            self.reached.insert("late promotion");
        }
        self.log.add(|| format!("{} {} promoted late: {result:?}", self.now, self.nodes[index].name));
    }

    fn promote_effect(&mut self, index: usize) -> JobResult {
        self.nodes[index].promotes_at = None;
        if self.nodes[index].server != Server::Standby {
            return JobResult::Failed("no standby runs".to_owned());
        }
        self.becomes_writable(index, "promotion");
        let node = &mut self.nodes[index];
        node.wal.left.push((node.wal.timeline, node.wal.end));
        node.wal.timeline += 1;
        // The end of recovery is a record, and flushed before anybody is let in: no two timelines begin at one position.
        node.wal.end += 1;
        (node.server, node.signal, node.streaming) = (Server::Primary, false, false);
        self.acknowledge(index);
        JobResult::Done(JobProduct::Nothing)
    }

    fn job_effect(&mut self, index: usize, job: &Job) -> JobResult {
        let done = JobResult::Done(JobProduct::Nothing);
        let failed = |why: &str| JobResult::Failed(why.to_owned());
        let found = |name: &MemberName| self.nodes.iter().position(|other| other.name == *name).expect("a member");
        match job {
            Job::Bootstrap => {
                let id = SystemId(1_000_000_000 + self.rng.below(1 << 40));
                let node = &mut self.nodes[index];
                node.data = Some(id);
                node.wal.timeline = 1;
                node.wal.end = 1_000;
                node.server = Server::Primary;
                JobResult::Done(JobProduct::Initialized(id))
            }
            Job::Clone { from } if from.kind == CloneFrom::Remote => failed("the source does not answer"),
            Job::Clone { from } | Job::Reinitialize { from, .. } => {
                let source = &self.nodes[found(&from.name)];
                let runs = matches!(source.server, Server::Primary | Server::Standby);
                if !runs || !self.reaches(index, found(&from.name)) {
                    return failed("the source does not answer");
                }
                let (data, wal) = (source.data, source.wal.clone());
                let node = &mut self.nodes[index];
                (node.data, node.wal, node.signal) = (data, wal, true);
                node.slots = ServerSlots::default();
                (node.data_fault, node.half_rewound, node.oldest) = (None, false, node.wal.end);
                node.server = Server::Down { clean: true };
                done
            }
            Job::Rewind { from } => match from.member() {
                Some(name) => self.rewind_effect(index, found(name)),
                None => failed("the source does not answer"),
            },
            Job::Recover if self.is_faulty() && self.rng.one_in(8) => failed("crash recovery failed"),
            Job::Recover => {
                self.nodes[index].server = Server::Down { clean: true };
                done
            }
            Job::Start(_) | Job::Restart(_) if self.nodes[index].promotes_at.take().is_some() => {
                // What the postmaster before was told ends with it.
                self.job_effect(index, job)
            }
            Job::Start(role) | Job::Restart(role) if self.is_faulty() && self.rng.one_in(6) => {
                self.starts_slowly(index, role);
                failed("it is still starting")
            }
            Job::Start(role) | Job::Restart(role) => {
                if let StartAs::Standby(upstream) = role {
                    self.nodes[index].upstream = upstream.clone();
                }
                self.starts_as(index, if *role == StartAs::Primary { LastRole::Primary } else { LastRole::Standby });
                done
            }
            Job::Stop { mode, .. } => self.stop_effect(index, *mode),
            Job::Promote if self.nodes[index].server == Server::Standby && self.is_faulty() && self.rng.one_in(10) => {
                // It has taken too long, and may still come about.
                self.nodes[index].promotes_at = Some(self.now + self.rng.below(2_000));
                failed("not promoted in time")
            }
            Job::Promote if self.is_faulty() && self.rng.one_in(10) => {
                self.reached.insert("a promotion that pre_promote refused");
                JobResult::Refused("pre_promote".to_owned())
            }
            Job::Promote => self.promote_effect(index),
            Job::Follow(upstream) => {
                self.nodes[index].upstream = upstream.clone();
                done
            }
        }
    }

    fn rewind_effect(&mut self, index: usize, from: usize) -> JobResult {
        let failed = |why: &str| JobResult::Failed(why.to_owned());
        if self.nodes[from].server != Server::Primary || !self.reaches(index, from) {
            return failed("the source is no primary that answers");
        }
        let wal = self.nodes[from].wal.clone();
        if self.is_faulty() && self.rng.one_in(6) {
            self.reached.insert("rewind that fails");
            self.nodes[index].half_rewound |= self.rng.one_in(2);
            return failed("pg_rewind failed");
        }
        let node = &mut self.nodes[index];
        (node.wal, node.half_rewound) = (wal, false);
        node.slots = ServerSlots::default();
        JobResult::Done(JobProduct::Nothing)
    }

    fn starts_slowly(&mut self, index: usize, role: &StartAs) {
        self.reached.insert("slow start");
        let (since, until) = (self.now, self.now + self.rng.below(8_000));
        let node = &mut self.nodes[index];
        node.streaming = false;
        let role = match role {
            StartAs::Primary => LastRole::Primary,
            StartAs::Standby(upstream) => {
                (node.signal, node.upstream) = (true, upstream.clone());
                LastRole::Standby
            }
        };
        node.server = Server::Starting { role, since, until };
    }

    fn starts_as(&mut self, index: usize, role: LastRole) {
        if self.nodes[index].half_rewound {
            self.broken = Some(format!("{} was started although pg_rewind was cut short", self.nodes[index].name));
        }
        if role == LastRole::Primary && self.nodes[index].server != Server::Primary {
            self.becomes_writable(index, "start");
        }
        let node = &mut self.nodes[index];
        (node.server, node.signal) = match role {
            LastRole::Primary => (Server::Primary, false),
            LastRole::Standby => (Server::Standby, true),
        };
        let copy = node.slots.copy.take();
        if role == LastRole::Standby {
            node.names = StandbyNames::default();
            if node.slots.logical.is_none() && copy.is_some() {
                node.slots.logical = copy;
                self.reached.insert("logical slot taken over");
            }
        }
        node.replay = Replay::Going;
    }

    /// A server that has taken its time.
    pub(super) fn finish_start(&mut self, index: usize) {
        if let Server::Starting { role, until, .. } = self.nodes[index].server
            && until <= self.now
        {
            self.log.add(|| format!("{} {} has started", self.now, self.nodes[index].name));
            self.starts_as(index, role);
        }
    }

    fn stop_effect(&mut self, index: usize, mode: StopMode) -> JobResult {
        let clean = mode != StopMode::Immediate;
        self.nodes[index].promotes_at = None;
        let was = self.nodes[index].server;
        if clean && was == Server::Primary {
            // A fast shutdown sends everything to the standbys that stream.
            let (name, wal) = (self.nodes[index].name.clone(), self.nodes[index].wal.clone());
            for other in &mut self.nodes {
                let streams = matches!(&other.upstream, Upstream::Member { name: from, .. } if *from == name);
                let receives = other.starved_until <= self.now;
                if streams && receives && other.streaming && other.server == Server::Standby {
                    other.wal = wal.clone();
                }
            }
        }
        let node = &mut self.nodes[index];
        node.streaming = false;
        let already = matches!(was, Server::Down { .. });
        if !already {
            node.server = Server::Down { clean };
        }
        let position = Lsn(node.wal.end);
        match clean && was == Server::Primary {
            true => JobResult::Done(JobProduct::StoppedAt(position)),
            false => JobResult::Done(JobProduct::Nothing),
        }
    }
}
