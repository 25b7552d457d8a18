//! The cluster's objects as this process knows them, and who is to be told when they change.
//!
//! Pure but for the channel that it signals on. Lists, the watches' events and the answers to our own writes feed it; the
//! newer version of an object always wins, whatever the order in which they arrive.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use super::kept::{Kept, Past};
use super::objects::{Kind, Names, Object};
use super::state::State;
use crate::core::units::MemberName;
use crate::dcs::change::{self, WatchState};
use crate::dcs::codec::{self, Entries};
use crate::dcs::losses::Losses;
use crate::dcs::{Key, Snapshot};

/// What waiters wait for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Signal {
    pub(super) watch: WatchState,
    /// The version of the last change that this member should act on.
    pub(super) relevant: u64,
    /// Counts the moments at which the end of a lock or a claim was set anew.
    ends: u64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Author {
    Us,
    Others,
}

/// What was known when a request was sent: no later answer may be older.
#[derive(Clone, Copy, Debug)]
pub(super) struct Mark {
    revision: u64,
    losses: u64,
}

pub(super) struct Cache {
    state: State,
    name: MemberName,
    ttl: Duration,
    /// The watches that are alive.
    alive: BTreeSet<Kind>,
    /// What a former process has seen, until the first list of the objects.
    past: Option<Past>,
    losses: Losses,
    /// The highest version known.
    highest: u64,
    /// Our own writes that are under way: the kind and name of the object.
    writing: Vec<(Kind, String)>,
    entries: Entries,
    snapshot: Arc<Snapshot>,
    signal: watch::Sender<Signal>,
}

impl Cache {
    pub(super) fn new(names: Names, name: MemberName, kept: Kept, ttl: Duration) -> Cache {
        let highest = match kept.past {
            None => 0,
            Some(Past::Seen { revision, .. }) => revision,
            // No store has come as far: the first answer tells of a loss.
            Some(Past::Lost) => u64::MAX,
        };
        Cache {
            state: State::new(names, name.clone(), kept.holder),
            name,
            ttl,
            alive: BTreeSet::new(),
            past: kept.past,
            losses: Losses::default(),
            highest,
            writing: Vec::new(),
            entries: Entries::new(),
            snapshot: Arc::default(),
            signal: watch::Sender::default(),
        }
    }

    pub(super) fn state(&self) -> &State {
        &self.state
    }

    pub(super) fn subscribe(&self) -> watch::Receiver<Signal> {
        self.signal.subscribe()
    }

    pub(super) fn set_ttl(&mut self, ttl: Duration) {
        self.ttl = ttl;
    }

    /// The entry of a key at this moment.
    pub(super) fn revision_of(&self, key: Key, now: Instant) -> Option<u64> {
        self.state.entries(now, self.ttl).get(codec::key_path(key)).map(|entry| entry.revision)
    }

    /// What the watches show, if all are alive.
    pub(super) fn fresh(&mut self, now: Instant) -> Option<Arc<Snapshot>> {
        if !self.is_alive() {
            return None;
        }
        self.tick(now);
        Some(self.snapshot.clone())
    }

    fn is_alive(&self) -> bool {
        self.state.names.watched().iter().all(|kind| self.alive.contains(kind))
    }

    /// The loop gets this snapshot.
    pub(super) fn shown(&mut self, snapshot: &Snapshot) {
        self.losses.show(snapshot);
    }

    pub(super) fn losses(&self) -> Losses {
        self.losses
    }

    /// What the next process of this member is to know.
    pub(super) fn kept(&self) -> Kept {
        let config = self.state.object(self.state.names.kind(), &self.state.names.config);
        // Kept on disk, so it is nothing that each renewal changes.
        let revision = self.state.held_since();
        let past = match self.past {
            _ if self.losses.is_one_hidden() => Some(Past::Lost),
            // Nothing was read yet.
            Some(past) => Some(past),
            None => (revision > 0).then(|| Past::Seen { revision, config: config.map(uid_of) }),
        };
        Kept { holder: self.state.holder().to_owned(), past }
    }

    pub(super) fn mark(&self) -> Mark {
        Mark { revision: self.highest, losses: self.losses.count() }
    }

    /// Whether an answer of this version, to a request that was sent after `mark`, comes from a store that has lost data.
    fn went_back(&self, revision: u64, mark: Mark) -> bool {
        mark.losses == self.losses.count() && revision < mark.revision
    }

    /// All objects of a kind, as a list of this version has them.
    pub(super) fn install(&mut self, kind: Kind, revision: u64, objects: Vec<Object>, mark: Mark, now: Instant) {
        let is_config = kind == self.state.names.kind();
        let is_other = is_config && self.is_another_store(&objects);
        if self.went_back(revision, mark) || is_other {
            self.losses.notice();
            self.highest = 0;
            self.state.forget();
        }
        if is_config {
            self.past = None;
        }
        self.highest = self.highest.max(revision);
        self.state.replace(kind, objects, now);
        self.rebuild(Author::Others, now);
    }

    /// Whether the object that names the cluster is another one than a former process, or this one, has seen.
    fn is_another_store(&self, objects: &[Object]) -> bool {
        let names = &self.state.names;
        let known = match self.past {
            Some(Past::Seen { config, .. }) => config,
            Some(Past::Lost) | None => self.state.object(names.kind(), &names.config).map(uid_of),
        };
        let now = objects.iter().find(|object| object.metadata.name == names.config).map(uid_of);
        known.is_some() && now != known
    }

    /// An object as an answer, or an event, has it. `false`: it is one of a store that has lost data.
    pub(super) fn take_in(&mut self, kind: Kind, object: Object, mark: Option<Mark>, now: Instant) -> bool {
        let revision = object.revision();
        if mark.is_some_and(|mark| self.went_back_object(kind, &object, mark)) {
            return false;
        }
        let author = self.author(kind, &object.metadata.name);
        self.highest = self.highest.max(revision);
        self.state.put(kind, object, now);
        self.rebuild(author, now);
        true
    }

    /// An object that is answered alone may have an old version; it is the same object's version that must not go back.
    fn went_back_object(&self, kind: Kind, object: &Object, mark: Mark) -> bool {
        let known = self.state.object(kind, &object.metadata.name);
        let is_same = |known: &&Object| known.metadata.uid == object.metadata.uid;
        known
            .filter(is_same)
            .is_some_and(|known| mark.losses == self.losses.count() && object.revision() < known.revision())
    }

    /// `revision`: in which it went, where that is told.
    pub(super) fn gone(&mut self, kind: Kind, name: &str, revision: Option<u64>, now: Instant) {
        let author = self.author(kind, name);
        self.highest = self.highest.max(revision.unwrap_or(0));
        self.state.remove(kind, name, revision, now);
        self.rebuild(author, now);
    }

    /// The store is known to have lost its data: the next list is of another one, however far that counts.
    pub(super) fn distrust(&mut self) {
        self.highest = u64::MAX;
    }

    /// A version that a bookmark tells.
    pub(super) fn passed(&mut self, revision: u64) {
        self.highest = self.highest.max(revision);
    }

    /// Until `finish_write`, a change of this object counts as ours.
    pub(super) fn begin_write(&mut self, kind: Kind, name: &str) {
        self.writing.push((kind, name.to_owned()));
    }

    pub(super) fn finish_write(&mut self, kind: Kind, name: &str) {
        if let Some(at) = self.writing.iter().position(|(k, n)| *k == kind && n == name) {
            self.writing.swap_remove(at);
        }
    }

    fn author(&self, kind: Kind, name: &str) -> Author {
        let is_own_pod = kind == Kind::Pods && name == self.name.as_str();
        let is_writing = self.writing.iter().any(|(k, n)| *k == kind && n == name);
        if is_own_pod || is_writing { Author::Us } else { Author::Others }
    }

    pub(super) fn watching(&mut self, kind: Kind) {
        self.alive.insert(kind);
        if self.is_alive() {
            self.signal.send_modify(|signal| signal.watch = WatchState::Alive);
        }
    }

    pub(super) fn lost(&mut self, kind: Kind) {
        self.alive.remove(&kind);
        self.signal.send_if_modified(|signal| {
            let was_alive = signal.watch == WatchState::Alive;
            if was_alive {
                signal.watch = WatchState::Lost;
            }
            was_alive
        });
    }

    /// Whether somebody holds the lock who is seen to renew it.
    pub(super) fn is_lock_held(&self, now: Instant) -> bool {
        self.state.lock_ends(self.ttl).is_some_and(|end| end > now)
    }

    /// When something ends that nobody will tell of: a lock, a claim.
    pub(super) fn next_end(&self, now: Instant) -> Option<Instant> {
        let ends = [self.state.lock_ends(self.ttl), self.state.claim_ends(self.ttl)];
        ends.into_iter().flatten().filter(|end| *end > now).min()
    }

    /// Time has passed.
    pub(super) fn tick(&mut self, now: Instant) {
        if self.state.entries(now, self.ttl) != self.entries {
            self.rebuild(Author::Others, now);
        }
    }

    /// The snapshot as it is now.
    pub(super) fn snapshot(&mut self, now: Instant) -> Arc<Snapshot> {
        self.tick(now);
        self.snapshot.clone()
    }

    fn rebuild(&mut self, author: Author, now: Instant) {
        let entries = self.state.entries(now, self.ttl);
        let is_news = entries != self.entries || self.losses.count() != self.snapshot.losses;
        self.entries = entries;
        let mut matters = false;
        if is_news {
            let (mut view, documents) = codec::assemble(&self.entries, &self.state.own());
            view.lock_ran_out = self.state.lock_ran_out(now, self.ttl);
            let version = self.snapshot.version + 1;
            let new = Arc::new(Snapshot { view, documents, version, losses: self.losses.count() });
            let old = std::mem::replace(&mut self.snapshot, new);
            matters = author == Author::Others && change::matters(&old, &self.snapshot, &self.name);
        }
        let version = self.snapshot.version;
        // Whoever sleeps until the end of a lock must hear that it was renewed.
        self.signal.send_modify(|signal| {
            signal.ends += 1;
            if matters {
                signal.relevant = version;
            }
        });
    }
}

/// The beginning of an object's unique name, as a number.
fn uid_of(object: &Object) -> u64 {
    let digits: String = object.metadata.uid.chars().filter(char::is_ascii_hexdigit).take(16).collect();
    u64::from_str_radix(&digits, 16).unwrap_or(0)
}
