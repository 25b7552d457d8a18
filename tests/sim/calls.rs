//! Calls to the store and what becomes of them on their way: they arrive and are answered, or the answer is lost, or they
//! arrive long after the caller has given up, or twice, or never.

use tamada::core::decision::SyncKey;
use tamada::core::lock_seen::LockSeen;
use tamada::core::units::{Lsn, MemberName, Revision, SystemId};
use tamada::core::view::{HistoryEntry, Member, SyncState};

use super::store::{Expiry, Store, Word};
use super::world::World;

/// How late a call may arrive: more than a ttl.
const LATEST: u64 = 8_000;

/// One request, complete: whenever it arrives, it is carried out under its own conditions.
#[derive(Clone, Debug)]
pub enum Call {
    /// Create the leader key on this lease if it is as it was seen.
    Acquire {
        name: MemberName,
        lease: u64,
        seen: LockSeen,
        rewrite: bool,
    },
    /// Renew the lease, prove that the leader key hangs on it, and write the status along.
    Renew {
        lease: u64,
        /// The lock's, which a write of it must still find where that is its condition.
        revision: u64,
        rewrite: bool,
        optime: Option<Lsn>,
    },
    /// Remove the leader key if it hangs on this lease and still has this revision.
    Release {
        name: MemberName,
        lease: u64,
        revision: u64,
        word: Option<Word>,
    },
    Publish {
        lease: u64,
        record: Box<Member>,
        seen: Option<u64>,
    },
    Claim {
        lease: u64,
    },
    Unclaim,
    SetInitialize {
        id: SystemId,
        seen: u64,
    },
    ClearSwitchover {
        seen: Revision,
    },
    SetSync {
        lease: u64,
        key: Option<SyncKey>,
        seen: Option<Revision>,
    },
    SetHistory {
        lease: u64,
        entries: Vec<HistoryEntry>,
        seen: u64,
    },
}

/// What becomes of a call.
enum Fate {
    Answered,
    /// Carried out; nobody hears of it.
    AnswerLost,
    /// Nobody hears of it, and it is carried out then.
    Late(u64),
    /// Answered, and carried out once more then.
    Twice(u64),
    /// It never arrives.
    Lost,
}

impl Fate {
    /// What the story calls it; `None` where nothing is to be told.
    fn name(&self) -> Option<&'static str> {
        match self {
            Fate::Answered | Fate::Lost => None,
            Fate::AnswerLost => Some("call without an answer"),
            Fate::Late(_) => Some("call that comes late"),
            Fate::Twice(_) => Some("call that comes twice"),
        }
    }
}

impl World {
    /// `None`: no answer. What was asked may have happened, or may still happen.
    pub(super) fn call(&mut self, index: usize, call: Call, at: u64) -> Option<bool> {
        let fate = self.fate(index);
        if self.is_refused(index, &call) {
            return None;
        }
        if let Some(named) = fate.name() {
            self.reached.insert(named);
            self.log.add(|| format!("{} {} {named}: {call:?}", self.now, self.nodes[index].name));
        }
        match fate {
            Fate::Answered => Some(self.carry_out(call, at)),
            Fate::AnswerLost => {
                self.carry_out(call, at);
                None
            }
            Fate::Late(then) => {
                self.late.push((then, call));
                None
            }
            Fate::Twice(then) => {
                self.late.push((then, call.clone()));
                Some(self.carry_out(call, at))
            }
            Fate::Lost => None,
        }
    }

    fn fate(&mut self, index: usize) -> Fate {
        let then = self.now + 1 + self.rng.below(LATEST);
        match (self.connected(index), self.is_faulty()) {
            (true, false) => Fate::Answered,
            (false, false) => Fate::Lost,
            (false, true) if self.rng.one_in(3) => Fate::Late(then),
            (false, true) => Fate::Lost,
            (true, true) => match self.rng.below(self.calls_per_fault) {
                0 => Fate::AnswerLost,
                1 => Fate::Late(then),
                2 => Fate::Twice(then),
                _ => Fate::Answered,
            },
        }
    }

    /// The calls that arrive now. A store that is down takes them up when it is back.
    pub(super) fn late_arrivals(&mut self) {
        if self.store_down_until > self.now {
            return;
        }
        let now = self.now;
        let (due, later) = std::mem::take(&mut self.late).into_iter().partition(|(at, _)| *at <= now);
        self.late = later;
        for (_, call) in due {
            self.log.add(|| format!("{now} arrives late: {call:?}"));
            self.carry_out(call, now);
        }
    }

    /// A lease that lives, a new one if need be; without an answer the old one, whatever became of it.
    pub(super) fn living_lease(&mut self, index: usize) -> u64 {
        let (now, ttl) = (self.now, self.nodes[index].timing.ttl.as_millis() as u64);
        if self.connected(index) {
            let lease = self.nodes[index].lease;
            self.store.retune(lease, now, ttl);
            if !self.store.renew(lease, now) {
                self.nodes[index].lease = self.store.grant(now, ttl);
            }
        }
        self.nodes[index].lease
    }

    /// Nothing is said of the lock or a claim before a reading has shown that the store has lost its data.
    fn is_refused(&self, index: usize, call: &Call) -> bool {
        matches!(call, Call::Acquire { .. } | Call::Renew { .. } | Call::Claim { .. } | Call::SetSync { .. })
            && self.nodes[index].losses != self.store.losses
    }

    /// The answer to a lock's call says whether the lock is the caller's.
    fn carry_out(&mut self, call: Call, at: u64) -> bool {
        let store: &mut Store = &mut self.store;
        match call {
            Call::Acquire { name, lease, seen, rewrite } => {
                store.renew(lease, at);
                store.acquire(&name, lease, seen, rewrite)
            }
            Call::Renew { lease, revision, rewrite, optime } => {
                let is_as_seen = store.expiry == Expiry::ByStore || store.leader_revision == revision;
                let renewed = is_as_seen && store.renew(lease, at) && store.confirm(lease, rewrite, optime);
                if renewed && optime.is_some() {
                    self.released = None;
                    self.publish_slots(lease);
                }
                renewed
            }
            Call::Release { name, lease, revision, word } => {
                let released = store.release(&name, lease, revision, word);
                match word.filter(|_| released) {
                    Some(Word::HandedOver(position)) => self.released = Some((self.now, position.0)),
                    Some(Word::Unconfirmed(_) | Word::GaveWay | Word::Nothing) => self.released = None,
                    None => {}
                }
                released
            }
            Call::Publish { lease, record, seen } => store.publish(lease, *record, seen),
            Call::Claim { lease } => store.claim(lease),
            Call::Unclaim => {
                store.claim = None;
                true
            }
            Call::SetInitialize { id, seen } => {
                if store.initialize_version() == seen {
                    store.set_initialize(id);
                }
                true
            }
            Call::ClearSwitchover { seen } => {
                store.switchover = store.switchover.take().filter(|request| request.revision != seen);
                true
            }
            Call::SetSync { lease, key, seen } => {
                // Where it is another object than the lock, its own version alone is a condition.
                let may = store.expiry == Expiry::Observed || store.holds(lease);
                let is_written = may && store.set_sync(key, seen);
                if is_written {
                    let SyncState { leader, quorum, standbys, .. } = self.store.sync.clone();
                    self.log.add(|| format!("{} the sync key: {leader:?} {quorum} of {standbys:?}", self.now));
                }
                true
            }
            Call::SetHistory { lease, entries, seen } => {
                // Where it is another object than the lock, its own version alone is a condition.
                let may = store.expiry == Expiry::Observed || store.holds(lease);
                if store.history_written_at == seen && may {
                    store.set_history(entries, self.now);
                }
                true
            }
        }
    }
}
