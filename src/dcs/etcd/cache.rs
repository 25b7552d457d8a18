//! The cluster's keys as this process knows them, and who is to be told when they change.
//!
//! Pure but for the channel that it signals on. Three sources feed it: whole readings, the watch's events, and our own
//! writes, which are applied as soon as they are answered. The newer revision of a key always wins, whatever the order
//! in which they arrive.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::lease::renewal_due_after;
use super::link::Link;
use crate::core::policy::Timing;
use crate::core::units::MemberName;
use crate::dcs::change::{self, WatchState};
use crate::dcs::codec::{self, Entries, Entry, Own};
use crate::dcs::losses::Losses;
use crate::dcs::{Key, Snapshot};

/// What waiters wait for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Signal {
    pub(super) watch: WatchState,
    /// The version of the last change that this member should act on.
    pub(super) relevant: u64,
}

/// A key's new state; `None`: deleted.
#[derive(Clone, Debug)]
pub(super) struct Change {
    pub(super) path: String,
    pub(super) revision: u64,
    pub(super) entry: Option<Entry>,
}

/// A whole reading.
#[derive(Debug)]
pub(super) struct Reading {
    pub(super) cluster: u64,
    pub(super) revision: u64,
    pub(super) entries: Entries,
}

/// What had been seen: a revision, and how often the store had lost its data by then.
#[derive(Clone, Copy, Debug)]
pub(super) struct Mark {
    revision: u64,
    losses: u64,
}

impl Mark {
    /// What the answer to a request must reach that was sent after it. Each write counts one further.
    pub(super) fn written_if(self, has_written: bool) -> Mark {
        Mark { revision: self.revision.saturating_add(has_written.into()), ..self }
    }
}

/// What a former process of this member has seen of the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Past {
    /// A store that had lost its data, and nobody had taken the lock since.
    Lost,
    Seen {
        cluster: u64,
        /// The revision of the leader key.
        leader: u64,
        /// The revision of `initialize` once it names the cluster; it is not written again as long as that lives.
        initialize: Option<u64>,
    },
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Filled {
    No,
    Yes,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Author {
    Us,
    Others,
}

/// How long a watched connection may be silent and still count as alive. A member without the lock may leave its lease
/// alone until `renewal_due_after`, and finds that out one cycle later, so a shorter limit would make idle members read
/// everything anew. The limit is less than a ttl, so that a watch that has died unseen hides a lost leader for a bounded
/// time; a connection that does not answer pings is given up earlier than that, which ends the watch.
fn silence_max(timing: &Timing) -> Duration {
    renewal_due_after(timing) + timing.retry_timeout.max(timing.loop_wait)
}

pub(super) struct Cache {
    own: Own,
    /// The connection that the watch runs on; `None` while it is lost.
    watched: Option<Arc<Link>>,
    cluster: Option<u64>,
    /// Whether a whole reading was ever taken in.
    filled: Filled,
    /// The newest revision of the leader key that was ever seen.
    leader: u64,
    /// The revision that `initialize` must have in the first whole reading.
    initialize: Option<u64>,
    losses: Losses,
    /// All changes up to this revision are in.
    complete: u64,
    /// The highest revision known; above `complete` only of our own doing.
    highest: u64,
    entries: Entries,
    /// Deletions that are newer than `complete`.
    deleted: BTreeMap<String, u64>,
    /// Our own writes that are under way: path and value.
    writing: Vec<(String, Option<Vec<u8>>)>,
    snapshot: Arc<Snapshot>,
    signal: watch::Sender<Signal>,
}

impl Cache {
    /// `past`: what a former process of this member has seen.
    pub(super) fn new(name: MemberName, lease: Option<i64>, past: Option<Past>) -> Self {
        let (cluster, leader, initialize, highest) = match past {
            None => (None, 0, None, 0),
            Some(Past::Seen { cluster, leader, initialize }) => (Some(cluster), leader, initialize, leader),
            // No store has come as far: the first answer tells of a loss.
            Some(Past::Lost) => (Some(0), 0, None, u64::MAX),
        };
        Cache {
            own: Own { name, lease },
            watched: None,
            cluster,
            filled: Filled::No,
            leader,
            initialize,
            losses: Losses::default(),
            complete: 0,
            highest,
            entries: Entries::new(),
            deleted: BTreeMap::new(),
            writing: Vec::new(),
            snapshot: Arc::default(),
            signal: watch::Sender::default(),
        }
    }

    pub(super) fn subscribe(&self) -> watch::Receiver<Signal> {
        self.signal.subscribe()
    }

    /// What the watch last showed, if it is alive and its node has answered lately.
    pub(super) fn fresh(&self, timing: &Timing) -> Option<Arc<Snapshot>> {
        let link = self.watched.as_ref().filter(|link| !link.is_retired())?;
        (link.since_answer() <= silence_max(timing)).then(|| self.snapshot.clone())
    }

    /// Whether a whole reading was ever taken in.
    pub(super) fn is_filled(&self) -> bool {
        self.filled == Filled::Yes
    }

    /// The loop gets this snapshot.
    pub(super) fn shown(&mut self, snapshot: &Snapshot) {
        self.losses.show(snapshot);
    }

    pub(super) fn losses(&self) -> Losses {
        self.losses
    }

    /// What a later process must find again.
    pub(super) fn past(&self) -> Option<Past> {
        if self.losses.is_one_hidden() {
            return Some(Past::Lost);
        }
        let cluster = self.cluster.filter(|_| self.leader > 0)?;
        let known = self.entries.get(codec::key_path(Key::Initialize)).filter(|entry| !entry.value.is_empty());
        let initialize = match self.filled {
            Filled::Yes => known.map(|entry| entry.revision),
            Filled::No => self.initialize,
        };
        Some(Past::Seen { cluster, leader: self.leader, initialize })
    }

    /// Whether an answer to a linearizable request that was sent after `mark` comes from a store that has lost data.
    pub(super) fn is_lost(&self, cluster: u64, revision: u64, mark: Mark) -> bool {
        // What was seen before the last loss is gone.
        let went_back = mark.losses == self.losses.count() && revision < mark.revision;
        self.cluster.is_some_and(|known| known != cluster || went_back)
    }

    /// The store is known to have lost its data: the next reading is of another one, however far that counts.
    pub(super) fn distrust(&mut self) {
        self.highest = u64::MAX;
    }

    pub(super) fn entry(&self, path: &str) -> Option<&Entry> {
        self.entries.get(path)
    }

    /// The lease that makes the leader key ours.
    pub(super) fn set_lease(&mut self, lease: Option<i64>) {
        if self.own.lease != lease {
            self.own.lease = lease;
            self.rebuild(Author::Us);
        }
    }

    /// What every later reading must reach, since readings are linearizable.
    pub(super) fn mark(&self) -> Mark {
        Mark { revision: self.highest, losses: self.losses.count() }
    }

    /// Take in a whole reading that was asked for after `mark`, and show the newest state known.
    pub(super) fn install(&mut self, reading: Reading, mark: Mark) -> Arc<Snapshot> {
        let Reading { cluster, revision, mut entries } = reading;
        let is_lost = self.is_lost(cluster, revision, mark)
            || self.went_back(&entries, mark)
            || self.is_initialized_anew(&entries);
        let is_same = self.cluster.is_some() && !is_lost;
        if is_same && revision < self.complete {
            return self.snapshot.clone();
        }
        if is_same {
            self.deleted.retain(|_, gone| *gone > revision);
            entries.retain(|path, _| !self.deleted.contains_key(path));
            let newer = self.entries.iter().filter(|(_, entry)| entry.revision > revision);
            entries.extend(newer.map(|(path, entry)| (path.clone(), entry.clone())));
        } else {
            self.deleted.clear();
            self.highest = 0;
        }
        if is_lost {
            self.losses.notice();
            self.leader = 0;
        }
        self.filled = Filled::Yes;
        self.cluster = Some(cluster);
        self.complete = revision;
        self.highest = self.highest.max(revision);
        if !is_same || is_lost || self.entries != entries {
            self.entries = entries;
            self.rebuild(Author::Others);
        }
        self.snapshot.clone()
    }

    /// Whether a key has an older revision than it had before the reading was asked for: a restored store may count on
    /// from where the lost one was (`etcdutl snapshot restore --bump-revision`).
    fn went_back(&self, entries: &Entries, mark: Mark) -> bool {
        let known = self.entries.iter().map(|(path, entry)| (path.as_str(), entry.revision));
        let mut known = known.chain([(codec::LEADER, self.leader)]).filter(|(_, revision)| *revision <= mark.revision);
        mark.losses == self.losses.count()
            && known.any(|(path, revision)| entries.get(path).is_some_and(|entry| entry.revision < revision))
    }

    /// Whether a former process saw another `initialize`. A store that was wiped soon counts higher than what was kept.
    fn is_initialized_anew(&self, entries: &Entries) -> bool {
        let now = entries.get(codec::key_path(Key::Initialize)).map(|entry| entry.revision);
        self.filled == Filled::No && self.initialize.is_some() && self.initialize != now
    }

    /// The watch's events: all that happened up to the newest of them.
    pub(super) fn observe(&mut self, changes: Vec<Change>) {
        let newest = changes.iter().map(|change| change.revision).max().unwrap_or(0);
        let (ours, others): (Vec<_>, Vec<_>) = changes.into_iter().partition(|change| self.is_writing(change));
        self.take_in(Author::Us, ours);
        self.take_in(Author::Others, others);
        self.complete = self.complete.max(newest);
        let complete = self.complete;
        self.deleted.retain(|_, gone| *gone > complete);
    }

    /// Our own writes, as answered by this cluster.
    pub(super) fn wrote(&mut self, cluster: u64, changes: Vec<Change>) {
        if self.cluster == Some(cluster) {
            self.take_in(Author::Us, changes);
        }
    }

    /// Keys that an answer showed: somebody else's changes, if they are news.
    pub(super) fn found(&mut self, cluster: u64, changes: Vec<Change>) {
        if self.cluster == Some(cluster) {
            self.take_in(Author::Others, changes);
        }
    }

    /// Until `finish_write`, a change to this value counts as ours.
    pub(super) fn begin_write(&mut self, path: &str, value: Option<&[u8]>) {
        self.writing.push((path.to_owned(), value.map(<[u8]>::to_vec)));
    }

    pub(super) fn finish_write(&mut self, path: &str, value: Option<&[u8]>) {
        let same = |(p, v): &(String, Option<Vec<u8>>)| p == path && v.as_deref() == value;
        if let Some(at) = self.writing.iter().position(same) {
            self.writing.swap_remove(at);
        }
    }

    pub(super) fn watching(&mut self, link: Arc<Link>) {
        self.watched = Some(link);
        self.signal.send_modify(|signal| signal.watch = WatchState::Alive);
    }

    pub(super) fn lost(&mut self) {
        self.watched = None;
        self.signal.send_if_modified(|signal| {
            let was_alive = signal.watch == WatchState::Alive;
            if was_alive {
                signal.watch = WatchState::Lost;
            }
            was_alive
        });
    }

    fn is_writing(&self, change: &Change) -> bool {
        let value = change.entry.as_ref().map(|entry| entry.value.as_slice());
        self.writing.iter().any(|(path, written)| *path == change.path && written.as_deref() == value)
    }

    fn take_in(&mut self, author: Author, changes: Vec<Change>) {
        let mut is_news = false;
        for Change { path, revision, entry } in changes {
            let known = self.entries.get(&path).map(|entry| entry.revision);
            let known = known.max(self.deleted.get(&path).copied()).max(Some(self.complete));
            if known >= Some(revision) {
                continue;
            }
            self.highest = self.highest.max(revision);
            match entry {
                Some(entry) => {
                    self.deleted.remove(&path);
                    self.entries.insert(path, entry);
                    is_news = true;
                }
                None => {
                    is_news |= self.entries.remove(&path).is_some();
                    self.deleted.insert(path, revision);
                }
            }
        }
        if is_news {
            self.rebuild(author);
        }
    }

    fn rebuild(&mut self, author: Author) {
        let (view, documents) = codec::assemble(&self.entries, &self.own);
        let version = self.snapshot.version + 1;
        self.leader = self.leader.max(view.lock_revision.map_or(0, |revision| revision.0));
        let new = Arc::new(Snapshot { view, documents, version, losses: self.losses.count() });
        let old = std::mem::replace(&mut self.snapshot, new);
        let matters = match author {
            Author::Us => false,
            Author::Others => change::matters(&old, &self.snapshot, &self.own.name),
        };
        if matters {
            self.signal.send_modify(|signal| signal.relevant = version);
        }
    }
}

#[cfg(test)]
mod tests;
