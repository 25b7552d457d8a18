//! A paused cluster: nothing happens by itself.

use tamada::core::decide;
use tamada::core::decision::{Decision, LeaseStep, PostgresStep, Wake};
use tamada::core::local::{DataDir, Postgres, Upstream};
use tamada::core::observation::Observation;
use tamada::core::policy::{Pause, Policy};
use tamada::core::reason::Reason;
use tamada::core::units::SystemId;
use tamada::core::view::{Holder, Initialize};

use super::build::*;

fn paused(observation: &Observation) -> Decision {
    decide(&Policy { pause: Pause::Paused, ..policy() }, observation)
}

fn of_cluster(mut observation: Observation, initialize: Initialize) -> Observation {
    observation.cluster.as_mut().expect("there is a view").initialize = initialize;
    observation
}

fn asked(leader: Option<(&str, Holder)>, candidate: &str) -> Observation {
    let mut cluster = view(leader);
    request(&mut cluster, None, Some(candidate));
    seen(cluster, standby_at(500, "b"))
}

fn released() -> LeaseStep {
    LeaseStep::Release { last_position: None }
}

#[test]
fn a_primary_keeps_the_lock_that_it_has_and_takes_one_that_is_free() {
    let leads = paused(&renewed(seen(view(OURS), primary()), 10));
    assert_eq!((leads.lease, leads.postgres), (LeaseStep::Renew, PostgresStep::Leave));
    assert_eq!(leads.reason, Reason::PausedLeading { name: "a".into() });
    let taken =
        Decision { lease: LeaseStep::Acquire { seen: FREE }, ..Decision::idle(Reason::AcquiredAsPrimary, Wake::Now) };
    for initialize in [Initialize::Done(ID), Initialize::Absent, Initialize::Invalid("?".to_owned())] {
        let decision = paused(&of_cluster(seen(view(None), primary()), initialize));
        assert_eq!(Decision { slots: None, ..decision }, taken);
    }
    let beside = paused(&seen(view(THEIRS), primary()));
    assert_eq!((beside.lease, beside.postgres), (LeaseStep::Keep, PostgresStep::Leave));
    assert_eq!(beside.reason, Reason::PausedWithoutLock, "a person may have two on purpose");
}

#[test]
fn a_primary_of_another_cluster_neither_keeps_nor_takes_the_lock() {
    let others = [Initialize::Done(SystemId(1)), Initialize::InProgress(Holder::Other)];
    for initialize in others {
        let holds = paused(&of_cluster(renewed(seen(view(OURS), primary()), 1), initialize.clone()));
        assert_eq!((holds.lease, holds.postgres), (released(), PostgresStep::Leave));
        assert_eq!(holds.reason, Reason::ReleasedForeign);
        let free = paused(&of_cluster(seen(view(None), primary()), initialize));
        assert_eq!((free.lease, free.reason), (LeaseStep::Keep, Reason::PausedWithoutLock));
    }
}

#[test]
fn a_standby_takes_the_lock_and_promotes_only_where_a_person_names_it() {
    assert_eq!(paused(&renewed(asked(OURS, "a"), 1)).postgres, PostgresStep::Promote);
    assert_eq!(paused(&asked(OURS, "a")).reason, Reason::ConfirmingLock);
    for unasked in [renewed(asked(OURS, "c"), 1), renewed(seen(view(OURS), standby_at(500, "b")), 1)] {
        let decision = paused(&unasked);
        assert_eq!((decision.lease, decision.postgres), (released(), PostgresStep::Leave));
    }
    assert_eq!(paused(&asked(None, "a")).lease, LeaseStep::Acquire { seen: FREE });
    for idle in [asked(None, "c"), seen(view(None), standby_at(500, "b")), asked(THEIRS, "a")] {
        let decision = paused(&idle);
        assert_eq!((decision.lease, decision.postgres), (LeaseStep::Keep, PostgresStep::Leave));
        assert_eq!(decision.reason, Reason::PausedIdle { name: "a".into() });
    }
}

#[test]
fn a_standby_follows_the_leader_and_leaves_its_upstream_alone_where_there_is_none() {
    let upstream = Upstream::Member { name: "b".into(), address: address("b") };
    assert_eq!(paused(&seen(view(THEIRS), standby_at(500, "c"))).postgres, PostgresStep::Follow(upstream));
    assert_eq!(paused(&seen(view(THEIRS), standby_at(500, "b"))).postgres, PostgresStep::Leave);
    assert_eq!(paused(&seen(view(None), standby_at(500, "c"))).postgres, PostgresStep::Leave);
}

#[test]
fn a_standby_that_is_given_nostream_streams_on_until_the_pause_ends() {
    let mut given = policy();
    given.tags.nostream = true;
    for upstream in ["b", "c"] {
        let streaming = seen(view(THEIRS), standby_at(500, upstream));
        let decision = decide(&Policy { pause: Pause::Paused, ..given.clone() }, &streaming);
        assert_eq!(decision.postgres, PostgresStep::Leave, "{upstream}");
        assert_eq!(decision.reason, Reason::PausedIdle { name: "a".into() });
        assert_eq!(decide(&given, &streaming).postgres, PostgresStep::Follow(Upstream::None), "{upstream}");
    }
}

#[test]
fn a_server_that_does_not_run_gives_the_lock_back_and_is_not_started() {
    for data in [None, Some(DataDir::Empty), Some(DataDir::Unusable("it cannot be read".to_owned()))] {
        for leader in [OURS, THEIRS, None] {
            let mut observation = renewed(seen(view(leader), Postgres::Stopped), 1);
            observation.local.data = data.clone().unwrap_or(observation.local.data);
            let decision = paused(&observation);
            assert_eq!(decision.lease == released(), leader == OURS, "{data:?} {leader:?}: {decision:?}");
            assert_eq!(decision.postgres, PostgresStep::Leave);
        }
    }
}
