use super::*;
use crate::core::policy::Floor;

const CLUSTER: u64 = 1;

fn cache() -> Cache {
    Cache::new("n1".into(), Some(5), None)
}

fn entry(value: &str, revision: u64) -> Entry {
    Entry { value: value.as_bytes().to_vec(), revision, lease: 0 }
}

fn put(path: &str, value: &str, revision: u64) -> Change {
    Change { path: path.to_owned(), revision, entry: Some(entry(value, revision)) }
}

fn gone(path: &str, revision: u64) -> Change {
    Change { path: path.to_owned(), revision, entry: None }
}

fn reading(revision: u64, keys: &[(&str, &str, u64)]) -> Reading {
    let entries = keys.iter().map(|(path, value, revision)| ((*path).to_owned(), entry(value, *revision)));
    Reading { cluster: CLUSTER, revision, entries: entries.collect() }
}

fn install(cache: &mut Cache, reading: Reading) -> Arc<Snapshot> {
    let mark = cache.mark();
    cache.install(reading, mark)
}

fn value(cache: &Cache, path: &str) -> Option<String> {
    cache.entry(path).map(|entry| String::from_utf8_lossy(&entry.value).into_owned())
}

fn relevant(cache: &Cache) -> u64 {
    cache.signal.borrow().relevant
}

#[test]
fn an_event_older_than_our_own_write_is_no_news() {
    let mut cache = cache();
    install(&mut cache, reading(10, &[("config", "{}", 3)]));
    cache.wrote(CLUSTER, vec![put("config", "{\"ttl\":30}", 13)]);
    cache.observe(vec![put("config", "{\"ttl\":20}", 12)]);
    assert_eq!(value(&cache, "config").as_deref(), Some("{\"ttl\":30}"));
    cache.observe(vec![put("config", "{\"ttl\":40}", 14)]);
    assert_eq!(value(&cache, "config").as_deref(), Some("{\"ttl\":40}"));
}

#[test]
fn an_event_older_than_our_own_deletion_does_not_bring_the_key_back() {
    let mut cache = cache();
    install(&mut cache, reading(10, &[("leader", "n1", 3)]));
    cache.wrote(CLUSTER, vec![gone("leader", 13)]);
    cache.observe(vec![put("leader", "n2", 12)]);
    assert_eq!(value(&cache, "leader"), None);
    cache.observe(vec![put("leader", "n2", 14)]);
    assert_eq!(value(&cache, "leader").as_deref(), Some("n2"));
}

#[test]
fn our_own_answer_that_comes_late_does_not_bring_an_old_state_back() {
    let mut cache = cache();
    install(&mut cache, reading(10, &[]));
    cache.observe(vec![put("leader", "n1", 11), gone("leader", 12)]);
    cache.wrote(CLUSTER, vec![put("leader", "n1", 11)]);
    assert_eq!(value(&cache, "leader"), None);
}

#[test]
fn a_reading_keeps_what_we_wrote_after_it() {
    let mut cache = cache();
    install(&mut cache, reading(10, &[("leader", "n1", 3), ("config", "{}", 2)]));
    let mark = cache.mark();
    cache.wrote(CLUSTER, vec![gone("leader", 13), put("config", "{\"ttl\":30}", 14)]);
    cache.install(reading(12, &[("leader", "n1", 3), ("config", "{}", 2), ("initialize", "", 11)]), mark);
    assert_eq!(value(&cache, "leader"), None);
    assert_eq!(value(&cache, "config").as_deref(), Some("{\"ttl\":30}"));
    assert_eq!(value(&cache, "initialize").as_deref(), Some(""));
}

#[test]
fn a_reading_that_was_overtaken_changes_nothing() {
    let mut cache = cache();
    install(&mut cache, reading(10, &[]));
    let mark = cache.mark();
    cache.observe(vec![put("leader", "n2", 12)]);
    let snapshot = cache.install(reading(11, &[]), mark);
    assert!(snapshot.view.leader.is_some());
}

#[test]
fn a_reading_of_the_past_means_that_the_data_were_lost() {
    let mut cache = cache();
    install(&mut cache, reading(10, &[("leader", "n2", 3)]));
    assert!(install(&mut cache, reading(2, &[])).view.leader.is_none());
    cache.wrote(CLUSTER, vec![put("leader", "n1", 3)]);
    assert_eq!(value(&cache, "leader").as_deref(), Some("n1"));
}

/// The lost store had counted one further than the backup, and so has the restored one with our write.
#[test]
fn a_write_that_counts_no_further_than_what_was_seen_means_that_the_data_were_lost() {
    let mut cache = cache();
    install(&mut cache, reading(10, &[("leader", "n1", 3)]));
    let mark = cache.mark();
    assert!(!cache.is_lost(CLUSTER, 10, mark) && !cache.is_lost(CLUSTER, 11, mark.written_if(true)));
    assert!(cache.is_lost(CLUSTER, 10, mark.written_if(true)));
    cache.distrust();
    assert_eq!(install(&mut cache, reading(12, &[("leader", "n1", 11)])).losses, 1);
    assert_eq!(install(&mut cache, reading(12, &[("leader", "n1", 11)])).losses, 1);
}

#[test]
fn a_reading_from_before_our_own_write_means_that_the_data_were_lost() {
    let mut cache = cache();
    install(&mut cache, reading(1, &[]));
    cache.wrote(CLUSTER, vec![put("leader", "n1", 3)]);
    assert!(install(&mut cache, reading(1, &[])).view.leader.is_none());
}

#[test]
fn another_cluster_replaces_everything() {
    let mut cache = cache();
    install(&mut cache, reading(10, &[("leader", "n2", 3)]));
    let other = Reading { cluster: 2, ..reading(20, &[]) };
    assert!(install(&mut cache, other).view.leader.is_none());
    cache.wrote(CLUSTER, vec![put("leader", "n1", 30)]);
    assert_eq!(value(&cache, "leader"), None);
}

#[test]
fn a_write_under_way_is_ours_even_if_the_event_comes_first() {
    let mut cache = cache();
    install(&mut cache, reading(10, &[]));
    let before = relevant(&cache);
    cache.begin_write("config", Some(b"{\"ttl\":30}"));
    cache.observe(vec![put("config", "{\"ttl\":30}", 11)]);
    cache.wrote(CLUSTER, vec![put("config", "{\"ttl\":30}", 11)]);
    cache.finish_write("config", Some(b"{\"ttl\":30}"));
    assert_eq!(relevant(&cache), before);
    cache.observe(vec![put("config", "{\"ttl\":30}", 12)]);
    assert!(relevant(&cache) > before);
}

#[test]
fn the_same_keys_read_again_are_no_new_version() {
    let mut cache = cache();
    let first = install(&mut cache, reading(10, &[("leader", "n2", 3)]));
    let second = install(&mut cache, reading(12, &[("leader", "n2", 3)]));
    assert_eq!(first.version, second.version);
}

#[test]
fn only_the_first_beginning_of_the_watch_is_no_change() {
    use WatchState::{Alive, Lost, Starting};
    assert!(!Starting.has_turned(Alive));
    assert!(Alive.has_turned(Lost));
    assert!(Lost.has_turned(Alive));
    assert!(!Lost.has_turned(Lost));
    let mut cache = cache();
    cache.lost();
    assert_eq!(cache.signal.borrow().watch, Starting);
}

#[test]
fn an_idle_connection_stays_fresh_between_renewals_and_for_less_than_a_ttl() {
    let seconds = Duration::from_secs;
    let defaults = Timing::default();
    assert_eq!((renewal_due_after(&defaults), silence_max(&defaults)), (seconds(15), seconds(25)));
    for (ttl, loop_wait, retry_timeout) in [(5, 1, 1), (5, 1, 2), (20, 1, 3), (20, 14, 3), (30, 10, 10), (300, 10, 10)]
    {
        let wished = Timing {
            ttl: seconds(ttl),
            loop_wait: seconds(loop_wait),
            retry_timeout: seconds(retry_timeout),
            reset_before: Duration::ZERO,
        };
        let timing = wished.effective(Floor::Ours);
        let next_cycle = renewal_due_after(&timing) + timing.loop_wait;
        assert!(next_cycle <= silence_max(&timing), "{timing:?}");
        assert!(next_cycle + timing.retry_timeout / 2 <= timing.ttl, "{timing:?}");
        assert!(silence_max(&timing) < timing.ttl, "{timing:?}");
    }
}

fn resumed(past: Past) -> Cache {
    Cache::new("n1".into(), Some(5), Some(past))
}

#[test]
fn what_one_process_has_seen_is_no_loss_for_the_next() {
    let keys = [("initialize", "7", 4), ("leader", "n2", 6)];
    let mut cache = cache();
    assert_eq!(cache.past(), None);
    install(&mut cache, reading(9, &keys));
    let past = cache.past().unwrap();
    assert_eq!(past, Past::Seen { cluster: CLUSTER, leader: 6, initialize: Some(4) });
    let mut next = resumed(past);
    assert_eq!(next.past(), Some(past), "before the first reading too");
    assert_eq!(install(&mut next, reading(30, &[("initialize", "7", 4), ("leader", "n3", 20)])).losses, 0);
    // Then it is the watch that tells what became of it.
    assert_eq!(install(&mut next, reading(31, &[("initialize", "7", 31)])).losses, 0);
}

#[test]
fn a_wiped_store_that_has_counted_on_is_known_by_its_initialize_key() {
    for now in [vec![("initialize", "7", 5)], vec![]] {
        let mut next = resumed(Past::Seen { cluster: CLUSTER, leader: 6, initialize: Some(4) });
        assert_eq!(install(&mut next, reading(30, &now)).losses, 1);
    }
    // A claim is no identifier yet.
    let mut cache = cache();
    install(&mut cache, reading(9, &[("initialize", "", 4), ("leader", "n2", 6)]));
    assert_eq!(cache.past(), Some(Past::Seen { cluster: CLUSTER, leader: 6, initialize: None }));
}

#[test]
fn a_loss_is_noticed_anew_by_the_next_process() {
    let mut cache = cache();
    install(&mut cache, reading(9, &[("leader", "n2", 6)]));
    install(&mut cache, reading(3, &[]));
    assert_eq!(cache.past(), Some(Past::Lost), "the loop does not know of it yet");
    let mut next = resumed(Past::Lost);
    assert!(next.is_lost(CLUSTER, 3, next.mark()));
    assert_eq!(install(&mut next, reading(3, &[])).losses, 1);
    let told = install(&mut next, reading(8, &[("leader", "n1", 8)]));
    next.shown(&told);
    assert_eq!(next.past(), Some(Past::Seen { cluster: CLUSTER, leader: 8, initialize: None }));
}
