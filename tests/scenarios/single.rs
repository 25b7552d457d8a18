//! A single, plain server.

use tamada::core::decide;
use tamada::core::decision::{Decision, DocumentStep, Exit, LeaseStep, PostgresStep, Wake};
use tamada::core::local::{ClusterState, DataDir, Job, Postgres, RecoverySignal, StartAs, StopMode, StopWhy};
use tamada::core::lock_seen::LockSeen;
use tamada::core::observation::{FinishedJob, JobProduct, JobResult, Observation, RestartRequest};
use tamada::core::policy::{Mode, Policy};
use tamada::core::reason::Reason;
use tamada::core::view::Holder;

use super::build::*;

fn alone(observation: &Observation) -> Decision {
    decide(&Policy { mode: Mode::Single, ..policy() }, observation)
}

#[test]
fn it_holds_the_lock_of_its_own_store_and_does_nothing_else() {
    let first = Decision {
        lease: LeaseStep::Acquire { seen: LockSeen::default() },
        documents: vec![DocumentStep::SetInitialize(ID)],
        ..Decision::idle(Reason::Serving, Wake::Now)
    };
    assert_eq!(alone(&seen(view(None), primary())), first);
    let later = alone(&renewed(seen(view(Some(("a", Holder::Us))), primary()), 10));
    assert_eq!((later.lease, later.postgres), (LeaseStep::Renew, PostgresStep::Leave));
}

#[test]
fn it_restarts_only_when_it_is_asked_to() {
    let mut observation = renewed(seen(view(Some(("a", Holder::Us))), primary()), 1);
    assert_eq!(alone(&observation).postgres, PostgresStep::Leave);
    observation.requests.restart = Some(RestartRequest { timeout: None });
    assert_eq!(alone(&observation).postgres, PostgresStep::Restart(StartAs::Primary));
}

#[test]
fn a_crash_is_repaired_by_a_start_and_anything_else_ends_the_container() {
    let after = |state: ClusterState, job: Job, result: JobResult| {
        let mut observation = seen(view(None), Postgres::Stopped);
        observation.local.data = data(state, RecoverySignal::None);
        observation.memory.finished = Some(FinishedJob { job, at: second(990), result });
        alone(&observation)
    };
    let (start, done) = (Job::Start(StartAs::Primary), JobResult::Done(JobProduct::Nothing));
    let crashed = after(ClusterState::InProduction, start.clone(), done.clone());
    assert_eq!((crashed.postgres, crashed.exit), (PostgresStep::Start(StartAs::Primary), None));
    for clean in [ClusterState::ShutDown, ClusterState::ShutDownInRecovery] {
        let ended = after(clean, start.clone(), done.clone());
        assert_eq!((ended.postgres, ended.exit), (PostgresStep::Leave, Some(Exit::Stopped)), "somebody stopped it");
    }
    let why = "it went wrong".to_owned();
    let failed = after(ClusterState::ShutDown, start, JobResult::Failed(why.clone()));
    assert_eq!((failed.postgres, failed.exit), (PostgresStep::Leave, Some(Exit::Fatal(why))));
    let stop = Job::Stop { mode: StopMode::Fast, why: StopWhy::Refused };
    let stopped = after(ClusterState::ShutDown, stop, done);
    assert_eq!(stopped.postgres, PostgresStep::Start(StartAs::Primary), "it was stopped by ourselves");
}

#[test]
fn data_that_cannot_be_used_end_the_container_and_are_left_alone() {
    let mut observation = seen(view(None), Postgres::Stopped);
    observation.local.data = DataDir::Unusable("made by another version".to_owned());
    let decision = alone(&observation);
    assert_eq!(decision.exit, Some(Exit::Fatal("made by another version".to_owned())));
    assert_eq!((decision.postgres, decision.documents), (PostgresStep::Leave, Vec::new()));
}
