//! A store with conditional writes and no policy: with leases that expire by its own clock, as etcd is one, or with objects
//! that stay, as in Kubernetes.

use std::collections::BTreeMap;

use tamada::core::decision::SyncKey;
use tamada::core::lock_seen::{LockSeen, StatusSeen};
use tamada::core::policy::Timing;
use tamada::core::units::{Lsn, MemberName, Revision, SystemId};
use tamada::core::view::{
    ClusterStatus, ClusterView, ConfigKey, History, HistoryEntry, Holder, Initialize, Leader, Member,
    SwitchoverRequest, SyncState,
};

/// What a release says of the leader: as the agent's has it.
#[derive(Clone, Copy, Debug)]
pub enum Word {
    HandedOver(Lsn),
    Unconfirmed(Lsn),
    GaveWay,
    Nothing,
}

/// Who judges whether a lock has run out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Expiry {
    #[default]
    ByStore,
    /// Each member by its own clock, since it saw the lock renewed last. Each renewal is a write, and each write of the lock
    /// misses if another one came before.
    Observed,
}

#[derive(Clone, Default)]
pub struct Store {
    pub expiry: Expiry,
    /// Lease number to the instant (ms) at which it ends, and its ttl.
    pub leases: BTreeMap<u64, (u64, u64)>,
    pub leader: Option<(MemberName, u64)>,
    /// The leader key's; it changes with each write of the key.
    pub leader_revision: u64,
    /// The version in which its holder took the lock.
    acquired: u64,
    /// What its holder wrote with the lock (ms).
    pub lock_ttl: u64,
    pub members: BTreeMap<MemberName, (Member, u64)>,
    /// The version of each record; it changes with each write.
    versions: BTreeMap<MemberName, u64>,
    pub initialize: Initialize,
    /// The lease of whoever claims `initialize`.
    pub claim: Option<u64>,
    pub status: ClusterStatus,
    status_revision: Option<Revision>,
    pub switchover: Option<SwitchoverRequest>,
    pub sync: SyncState,
    pub history: History,
    pub history_written_at: u64,
    /// What the cluster's configuration says.
    pub timing: Option<Timing>,
    pub is_paused: bool,
    /// How often it has lost data.
    pub losses: u64,
    revision: u64,
}

impl Store {
    pub fn new(expiry: Expiry) -> Store {
        Store { expiry, ..Store::default() }
    }

    pub fn expire(&mut self, now: u64) {
        if self.expiry == Expiry::Observed {
            return;
        }
        self.leases.retain(|_, (end, _)| *end > now);
        self.claim = self.claim.filter(|claim| self.leases.contains_key(claim));
        let leases = &self.leases;
        self.members.retain(|_, (_, lease)| leases.contains_key(lease));
        self.versions.retain(|name, _| self.members.contains_key(name));
        if let Some((_, lease)) = &self.leader
            && !leases.contains_key(lease)
        {
            self.leader = None;
        }
    }

    /// Whether the lease was still there.
    pub fn renew(&mut self, lease: u64, now: u64) -> bool {
        let lease = self.leases.get_mut(&lease);
        lease.map(|(end, ttl)| *end = (*end).max(now + *ttl)).is_some()
    }

    /// All that hangs on this lease moves to one of another ttl.
    pub fn retune(&mut self, lease: u64, now: u64, ttl: u64) {
        if let Some(lease) = self.leases.get_mut(&lease).filter(|lease| lease.1 != ttl) {
            *lease = (now + ttl, ttl);
        }
    }

    /// What a backup holds, or nothing, in place of what is there. Leases begin anew. None is longer than the ttl of today:
    /// whoever reads the store first reads the settings of the backup too, and goes by the longer ttl.
    pub fn forget(&mut self, backup: Store, now: u64) {
        let (revision, losses) = (self.revision, self.losses + 1);
        // The members write the cluster's settings back.
        let (is_paused, timing, expiry) = (self.is_paused, self.timing, self.expiry);
        *self = Store { revision, losses, is_paused, timing, expiry, ..backup };
        let longest = timing.map_or(u64::MAX, |timing| timing.ttl.as_millis() as u64);
        for (end, ttl) in self.leases.values_mut() {
            *ttl = longest.min(*ttl);
            *end = now + *ttl;
        }
    }

    pub fn grant(&mut self, now: u64, ttl: u64) -> u64 {
        let lease = self.next_revision();
        self.leases.insert(lease, (now + ttl, ttl));
        lease
    }

    pub fn acquire(&mut self, name: &MemberName, lease: u64, seen: LockSeen, rewrite: bool) -> bool {
        let is_lock_as_seen = seen.lock == self.lock_revision() && !self.holds(lease);
        let is_status_as_seen = match seen.status {
            StatusSeen::Any => true,
            StatusSeen::Absent => self.status_revision.is_none(),
            StatusSeen::At(revision) => self.status_revision == Some(revision),
        };
        let is_free = match self.expiry {
            Expiry::ByStore => (self.leader.is_none() || is_lock_as_seen) && is_status_as_seen,
            // The status is a part of the lock's object.
            Expiry::Observed => is_lock_as_seen,
        };
        if is_free && self.leases.contains_key(&lease) {
            self.leader = Some((name.clone(), lease));
            self.leader_revision = self.next_revision();
            self.acquired = self.leader_revision;
        }
        self.confirm(lease, rewrite, None)
    }

    pub fn holds(&self, lease: u64) -> bool {
        self.leader.as_ref().is_some_and(|(_, holder)| *holder == lease)
    }

    /// Whether the lock hangs on this lease; only then something is written.
    pub fn confirm(&mut self, lease: u64, rewrite: bool, optime: Option<Lsn>) -> bool {
        if !self.holds(lease) {
            return false;
        }
        if rewrite || self.expiry == Expiry::Observed {
            self.leader_revision = self.next_revision();
        }
        self.lock_ttl = self.leases.get(&lease).map_or(0, |(_, ttl)| *ttl);
        if optime.is_some() {
            self.status_revision = Some(Revision(self.next_revision()));
            self.status.optime = optime;
            (self.status.released_by, self.status.gave_way) = (None, None);
        }
        true
    }

    /// As a person does it.
    pub fn remove_leader(&mut self) -> bool {
        if self.expiry == Expiry::Observed {
            self.leader_revision = self.next_revision();
        }
        self.leader.take().is_some()
    }

    pub fn release(&mut self, name: &MemberName, lease: u64, revision: u64, word: Option<Word>) -> bool {
        if !self.holds(lease) || self.leader_revision != revision {
            return false;
        }
        self.leader = None;
        if self.expiry == Expiry::Observed {
            self.leader_revision = self.next_revision();
        }
        let Some(word) = word else { return true };
        self.status_revision = Some(Revision(self.next_revision()));
        (self.status.released_by, self.status.gave_way) = (None, None);
        match word {
            Word::HandedOver(position) => {
                (self.status.released_by, self.status.optime) = (Some(name.clone()), Some(position));
            }
            Word::Unconfirmed(position) => self.status.optime = Some(position),
            Word::GaveWay => self.status.gave_way = Some(name.clone()),
            Word::Nothing => {}
        }
        true
    }

    /// As a conditional write compares it. An object that nobody holds has one too.
    fn lock_revision(&self) -> Option<Revision> {
        let is_there = match self.expiry {
            Expiry::ByStore => self.leader.is_some(),
            Expiry::Observed => self.leader_revision > 0,
        };
        is_there.then_some(Revision(self.leader_revision))
    }

    pub fn record_version(&self, name: &MemberName) -> Option<u64> {
        self.versions.get(name).copied()
    }

    /// Over the record of this version alone.
    pub fn publish(&mut self, lease: u64, record: Member, seen: Option<u64>) -> bool {
        let writes = self.leases.contains_key(&lease) && self.record_version(&record.name) == seen;
        if writes {
            let version = self.next_revision();
            self.versions.insert(record.name.clone(), version);
            self.members.insert(record.name.clone(), (record, lease));
        }
        writes
    }

    pub fn claim(&mut self, lease: u64) -> bool {
        let free = self.initialize == Initialize::Absent && self.claim.is_none() && self.leases.contains_key(&lease);
        if free {
            self.claim = Some(lease);
        }
        free
    }

    pub fn request(&mut self, request: impl FnOnce(Revision) -> SwitchoverRequest) {
        let revision = Revision(self.next_revision());
        self.switchover = Some(request(revision));
    }

    /// Over the key that was seen alone.
    pub fn set_sync(&mut self, key: Option<SyncKey>, seen: Option<Revision>) -> bool {
        if self.sync.revision != seen {
            return false;
        }
        self.sync = match key {
            None => SyncState::default(),
            Some(SyncKey { leader, quorum, standbys }) => SyncState {
                leader: Some(leader),
                quorum: quorum as u32,
                standbys,
                revision: Some(Revision(self.next_revision())),
            },
        };
        true
    }

    fn next_revision(&mut self) -> u64 {
        self.revision += 1;
        self.revision
    }

    /// Changes with each write of `initialize`: what a conditional write compares.
    pub fn initialize_version(&self) -> u64 {
        match (&self.initialize, self.claim) {
            (_, Some(claim)) => claim,
            (Initialize::Done(id), None) => id.0,
            (_, None) => 0,
        }
    }

    pub fn set_initialize(&mut self, id: SystemId) {
        self.initialize = Initialize::Done(id);
        self.claim = None;
    }

    pub fn set_history(&mut self, entries: Vec<HistoryEntry>, now: u64) {
        self.history_written_at = now;
        self.history = History::Known(entries);
    }

    /// As the member with this lease reads it.
    pub fn view(&self, lease: u64) -> ClusterView {
        let leader = self.leader.as_ref().map(|(name, holder)| Leader {
            name: name.clone(),
            holder: if *holder == lease { Holder::Us } else { Holder::Other },
        });
        ClusterView {
            lock_revision: self.lock_revision(),
            status_revision: match self.expiry {
                Expiry::ByStore => self.status_revision,
                Expiry::Observed => self.lock_revision(),
            },
            leader_has_spoken: self
                .leader
                .as_ref()
                .is_some_and(|(name, _)| self.versions.get(name) >= Some(&self.acquired)),
            leader,
            members: self.members.iter().map(|(name, (member, _))| (name.clone(), member.clone())).collect(),
            initialize: match self.claim {
                Some(claim) if claim == lease => Initialize::InProgress(Holder::Us),
                Some(_) => Initialize::InProgress(Holder::Other),
                None => self.initialize.clone(),
            },
            config: ConfigKey::Valid,
            status: self.status.clone(),
            switchover: self.switchover.clone(),
            sync: self.sync.clone(),
            history: self.history.clone(),
            ..ClusterView::default()
        }
    }
}
