use super::*;
use crate::core::local::{Data, PrimaryFacts, StartAs, StopMode, Upstream};
use crate::core::units::{Instant, Lsn, SystemId, Timeline};

fn data(signal: RecoverySignal) -> DataDir {
    DataDir::Present(Data { system_id: SystemId(1), signal, control: None })
}

fn primary() -> Postgres {
    Postgres::Running(Running::Primary(PrimaryFacts { timeline: Timeline(1), flushed: Lsn(1) }))
}

fn stop(why: StopWhy) -> Job {
    Job::Stop { mode: StopMode::Fast, why }
}

fn ended(job: Job, result: JobResult) -> FinishedJob {
    FinishedJob { job, at: Instant::default(), result }
}

fn words(shown: &Shown) -> (MemberState, MemberRole) {
    (shown.state, shown.role)
}

#[test]
fn a_server_that_ends_by_itself_has_crashed_and_keeps_its_role() {
    let mut shown = Shown::default();
    shown.refresh(&data(RecoverySignal::None), &primary(), None, Pause::Running);
    assert_eq!(words(&shown), (MemberState::Running, MemberRole::Primary));
    shown.refresh(&data(RecoverySignal::None), &Postgres::Stopped, None, Pause::Running);
    assert_eq!(words(&shown), (MemberState::Crashed, MemberRole::Primary));
}

#[test]
fn a_leader_that_hands_over_is_demoted_from_the_beginning_of_its_stop() {
    let mut shown = Shown::default();
    shown.refresh(&data(RecoverySignal::None), &primary(), None, Pause::Running);
    shown.refresh(&data(RecoverySignal::None), &primary(), Some(&stop(StopWhy::Handover)), Pause::Running);
    assert_eq!(words(&shown), (MemberState::Stopping, MemberRole::Demoted));
    shown.refresh(&data(RecoverySignal::None), &Postgres::Stopped, None, Pause::Running);
    assert_eq!(words(&shown), (MemberState::Stopped, MemberRole::Demoted));
}

#[test]
fn one_that_starts_as_a_primary_says_so_even_if_its_data_cannot_be_seen() {
    for job in [Job::Start(StartAs::Primary), Job::Restart(StartAs::Primary)] {
        for data in [data(RecoverySignal::None), DataDir::Empty] {
            let mut shown = Shown::default();
            shown.refresh(&data, &Postgres::Stopped, Some(&job), Pause::Running);
            assert_eq!(shown.role, MemberRole::Primary, "{job} with {data:?}");
        }
    }
}

#[test]
fn the_agents_own_end_leaves_the_role_as_it_was() {
    let mut shown = Shown::default();
    shown.refresh(&data(RecoverySignal::None), &primary(), None, Pause::Running);
    shown.refresh(&data(RecoverySignal::None), &primary(), Some(&stop(StopWhy::Shutdown)), Pause::Running);
    shown.refresh(&data(RecoverySignal::None), &Postgres::Stopped, None, Pause::Running);
    assert_eq!(words(&shown), (MemberState::Stopped, MemberRole::Primary));
}

#[test]
fn before_the_first_start_only_the_files_tell() {
    let cases = [
        (DataDir::Empty, MemberRole::Uninitialized),
        (data(RecoverySignal::Present), MemberRole::Replica),
        (data(RecoverySignal::None), MemberRole::Demoted),
    ];
    for (data, role) in cases {
        let mut shown = Shown::default();
        shown.refresh(&data, &Postgres::Stopped, None, Pause::Running);
        assert_eq!(words(&shown), (MemberState::Stopped, role));
    }
}

#[test]
fn a_failed_start_shows_until_the_next_one() {
    let start = Job::Start(StartAs::Standby(Upstream::None));
    let mut shown = Shown::default();
    shown.refresh(&data(RecoverySignal::Present), &Postgres::Stopped, Some(&start), Pause::Running);
    assert_eq!(shown.state, MemberState::Starting);
    shown.ended(&ended(start.clone(), JobResult::Failed("no".to_owned())));
    shown.refresh(&data(RecoverySignal::Present), &Postgres::Stopped, None, Pause::Running);
    assert_eq!(shown.state, MemberState::StartFailed);
    shown.refresh(&data(RecoverySignal::Present), &Postgres::Stopped, Some(&start), Pause::Running);
    assert_eq!(shown.state, MemberState::Starting);
}

#[test]
fn a_replica_in_the_making_has_no_role() {
    let mut shown = Shown::default();
    shown.refresh(&DataDir::Empty, &Postgres::Stopped, Some(&Job::Bootstrap), Pause::Running);
    assert_eq!(words(&shown), (MemberState::InitializingNewCluster, MemberRole::Uninitialized));
}

#[test]
fn in_a_paused_cluster_a_server_that_ends_was_stopped() {
    let mut shown = Shown::default();
    shown.refresh(&data(RecoverySignal::None), &primary(), None, Pause::Paused);
    shown.refresh(&data(RecoverySignal::None), &Postgres::Stopped, None, Pause::Paused);
    assert_eq!(words(&shown), (MemberState::Stopped, MemberRole::Primary));
}
