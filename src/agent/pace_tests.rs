use std::collections::{BTreeMap, BTreeSet};

use serde_json::json;

use super::*;

const STEP: u64 = 64 * 1024;

fn record(position: u64) -> Value {
    json!({"state": "running", "xlog_location": position, "replay_lsn": position, "timeline": 1})
}

fn status(position: u64) -> ClusterStatus {
    let slots = BTreeMap::from([("n1".to_owned(), Lsn(position)), ("n2".to_owned(), Lsn(7))]);
    ClusterStatus { optime: Some(Lsn(position)), slots, ..ClusterStatus::default() }
}

fn at(seconds: u64) -> Instant {
    Instant(Duration::from_secs(seconds))
}

#[test]
fn positions_that_move_by_little_are_near() {
    assert!(record(1000).is_near(&record(1500), STEP));
    assert!(record(1500 + STEP - 1).is_near(&record(1500), STEP));
    assert!(!record(1500 + STEP).is_near(&record(1500), STEP));
    assert!(status(1000).is_near(&status(1500), STEP));
    assert!(!status(1500 + STEP).is_near(&status(1500), STEP));
}

#[test]
fn with_no_step_only_the_same_value_is_not_written() {
    assert!(!record(1501).is_near(&record(1500), 0));
    assert!(!status(1501).is_near(&status(1500), 0));
}

#[test]
fn any_other_change_of_a_record_is_written_at_once() {
    let old = record(1000);
    let others = [
        json!({"state": "stopping", "xlog_location": 1000, "replay_lsn": 1000, "timeline": 1}),
        json!({"state": "running", "xlog_location": 1000, "replay_lsn": 1000, "timeline": 2}),
        json!({"state": "running", "xlog_location": 1000, "timeline": 1}),
        json!({"state": "running", "xlog_location": 1000, "receive_lsn": 1000, "timeline": 1}),
        json!({"state": "running", "xlog_location": 1000, "replay_lsn": 1000, "timeline": 1, "pause": true}),
    ];
    for other in others {
        assert!(!other.is_near(&old, STEP), "{other}");
    }
}

#[test]
fn any_other_change_of_the_status_is_written_at_once() {
    let old = status(1000);
    let without_slot = ClusterStatus { slots: BTreeMap::from([("n1".to_owned(), Lsn(1000))]), ..old.clone() };
    let another_slot =
        ClusterStatus { slots: [("n1", 1000), ("n3", 7)].map(|(n, p)| (n.to_owned(), Lsn(p))).into(), ..old.clone() };
    let retained = ClusterStatus { retain_slots: BTreeSet::from(["n2".to_owned()]), ..old.clone() };
    let released = ClusterStatus { released_by: Some("n1".into()), ..old.clone() };
    let unknown = ClusterStatus { optime: None, ..old.clone() };
    for other in [without_slot, another_slot, retained, released, unknown] {
        assert!(!other.is_near(&old, STEP), "{other:?}");
        assert!(!old.is_near(&other, STEP), "{other:?}");
    }
}

#[test]
fn a_small_change_waits_two_minutes_and_no_longer() {
    let leader = MemberName::from("n1");
    let mut pace = Pace::default();
    assert_eq!(pace.due(record(1000), at(5), Some(&leader), STEP), record(1000), "nothing stands there yet");
    pace.wrote(record(1000), at(5), Some(&leader));
    // Being confirmed does not begin the time anew.
    pace.wrote(record(1000), at(55), Some(&leader));
    assert_eq!(pace.due(record(1200), at(124), Some(&leader), STEP), record(1000));
    assert_eq!(pace.due(record(1200), at(125), Some(&leader), STEP), record(1200));
    assert_eq!(pace.due(record(1000 + STEP), at(6), Some(&leader), STEP), record(1000 + STEP));
}

#[test]
fn nothing_waits_under_a_new_leader_or_after_somebody_elses_write() {
    let (old, new) = (MemberName::from("n1"), MemberName::from("n2"));
    let mut pace = Pace::default();
    pace.wrote(status(1000), at(5), Some(&old));
    assert_eq!(pace.due(status(1200), at(6), Some(&old), STEP), status(1000));
    assert_eq!(pace.due(status(1200), at(6), Some(&new), STEP), status(1200));
    assert_eq!(pace.due(status(1200), at(6), None, STEP), status(1200));
    pace.compare(&status(1000));
    assert_eq!(pace.due(status(1200), at(6), Some(&old), STEP), status(1000));
    pace.compare(&ClusterStatus { released_by: Some(old.clone()), ..status(1000) });
    assert_eq!(pace.due(status(1200), at(6), Some(&old), STEP), status(1200));
}

#[test]
fn a_lag_that_was_made_up_is_not_shown_any_longer() {
    let optime = Some(Lsn(1500));
    assert!(shows_lag_made_up(&record(1000), &record(1500), optime));
    assert!(!shows_lag_made_up(&record(1000), &record(1499), optime), "it still lags");
    assert!(!shows_lag_made_up(&record(1500), &record(1600), optime), "it shows none");
    assert!(!shows_lag_made_up(&record(1000), &record(1500), None));
    let replayed_later = json!({"xlog_location": 1500, "receive_lsn": 1500, "replay_lsn": 1200});
    let replayed = json!({"xlog_location": 1500, "receive_lsn": 1500, "replay_lsn": 1500});
    assert!(shows_lag_made_up(&replayed_later, &replayed, optime));
}

#[test]
fn the_step_is_a_small_part_of_the_lag_allowed_and_none_with_a_patroni_member() {
    assert_eq!(step(Floor::Ours, 1_048_576), STEP);
    assert_eq!(step(Floor::Ours, u64::MAX), STEP);
    assert_eq!(step(Floor::Ours, 1600), 100);
    assert_eq!(step(Floor::Ours, 0), 0);
    assert_eq!(step(Floor::Patroni, 1_048_576), 0);
}
