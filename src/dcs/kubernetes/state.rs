//! What the objects say, as keys: the form in which the codec reads every store. Pure: the time is given.
//!
//! Nothing in Kubernetes has a time to live. Whether a lock or a claim has run out each observer judges by its own clock,
//! from the moment at which it saw it change last.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Map, Value};
use tokio::time::Instant;

use super::objects::{Kind, Names, Object};
use crate::core::units::MemberName;
use crate::dcs::Key;
use crate::dcs::codec::{self, Entries, Entry, Own};

pub(super) const LEADER: &str = "leader";
pub(super) const ACQUIRE_TIME: &str = "acquireTime";
pub(super) const RENEW_TIME: &str = "renewTime";
pub(super) const TRANSITIONS: &str = "transitions";
pub(super) const TTL: &str = "ttl";
pub(super) const OPTIME: &str = "optime";
pub(super) const SLOTS: &str = "slots";
pub(super) const RETAIN_SLOTS: &str = "retain_slots";
pub(super) const STATUS: &str = "status";
/// Ours: which process holds the lock, and the renewal that it wrote. A renewal of anybody else tells of another holder.
pub(super) const HOLDER: &str = "tamada_holder";
/// Ours: which process claims `initialize`, and when it said so last.
pub(super) const CLAIM: &str = "tamada_claim";
const FAILSAFE: &str = "failsafe";
const RECORD: [&str; 5] = [LEADER, ACQUIRE_TIME, TTL, RENEW_TIME, TRANSITIONS];
pub(super) const SYNC: [&str; 3] = ["leader", "sync_standby", "quorum"];
pub(super) const FAILOVER: [&str; 3] = ["leader", "member", "scheduled_at"];
/// The lease of what is ours, where the codec asks for one.
const OURS: i64 = 1;

/// An object, and the version since which each annotation has had its value.
#[derive(Clone, Debug, Default)]
struct Known {
    object: Object,
    since: BTreeMap<String, u64>,
}

impl Known {
    fn take(&mut self, object: Object) {
        let revision = object.revision();
        let old = &self.object.metadata.annotations;
        self.since.retain(|name, _| object.metadata.annotations.contains_key(name));
        for (name, value) in &object.metadata.annotations {
            if old.get(name) != Some(value) {
                self.since.insert(name.clone(), revision);
            }
        }
        self.object = object;
    }
}

/// When a text was seen to change last.
#[derive(Clone, Debug, Default, PartialEq)]
struct Observed {
    texts: Vec<Option<String>>,
    at: Option<Instant>,
    /// The version of the object in which this holder was seen first.
    since: u64,
}

/// Everything that is known of the cluster's objects.
pub(super) struct State {
    pub(super) names: Names,
    name: MemberName,
    /// Names this member's process, and those before it whose word it goes on with.
    holder: String,
    objects: BTreeMap<Kind, BTreeMap<String, Known>>,
    lock: Observed,
    claim: Observed,
}

impl State {
    pub(super) fn new(names: Names, name: MemberName, holder: String) -> State {
        State { names, name, holder, objects: BTreeMap::new(), lock: Observed::default(), claim: Observed::default() }
    }

    pub(super) fn holder(&self) -> &str {
        &self.holder
    }

    pub(super) fn object(&self, kind: Kind, name: &str) -> Option<&Object> {
        self.objects.get(&kind)?.get(name).map(|known| &known.object)
    }

    pub(super) fn objects(&self, kind: Kind) -> impl Iterator<Item = &Object> {
        self.objects.get(&kind).into_iter().flatten().map(|(_, known)| &known.object)
    }

    pub(super) fn leader(&self) -> Option<&Object> {
        self.object(self.names.lock_kind(), &self.names.leader)
    }

    pub(super) fn own_pod(&self) -> Option<&Object> {
        self.object(Kind::Pods, self.name.as_str())
    }

    /// A new version of an object, unless it is an old one.
    pub(super) fn put(&mut self, kind: Kind, object: Object, now: Instant) {
        let objects = self.objects.entry(kind).or_default();
        let known = objects.entry(object.metadata.name.clone()).or_default();
        if known.object.revision() >= object.revision() {
            return;
        }
        known.take(object);
        self.observe(now);
    }

    /// An object is gone: that of this version, or whichever there was.
    pub(super) fn remove(&mut self, kind: Kind, name: &str, revision: Option<u64>, now: Instant) {
        let objects = self.objects.entry(kind).or_default();
        // Another one of its name may have been made since.
        let is_newer = |known: &Known| revision.is_some_and(|revision| known.object.revision() > revision);
        if !objects.get(name).is_some_and(is_newer) {
            objects.remove(name);
        }
        self.observe(now);
    }

    /// Everything of a kind that there is; what was known and is not in it is gone.
    pub(super) fn replace(&mut self, kind: Kind, objects: Vec<Object>, now: Instant) {
        let names: Vec<&str> = objects.iter().map(|object| object.metadata.name.as_str()).collect();
        self.objects.entry(kind).or_default().retain(|name, _| names.contains(&name.as_str()));
        for object in objects {
            self.put(kind, object, now);
        }
        self.observe(now);
    }

    /// The store has begun anew, and counts its versions anew.
    pub(super) fn forget(&mut self) {
        self.objects.clear();
    }

    fn observe(&mut self, now: Instant) {
        let texts_of = |object: Option<&Object>, names: &[&str]| -> Vec<Option<String>> {
            names.iter().map(|name| object.and_then(|object| object.annotation(name)).map(str::to_owned)).collect()
        };
        let leader = self.leader();
        let (lock, revision) = (texts_of(leader, &RECORD), leader.map_or(0, Object::revision));
        let config = self.object(self.names.kind(), &self.names.config);
        let claim = texts_of(config, &[codec::key_path(Key::Initialize), CLAIM]);
        if lock != self.lock.texts || self.lock.at.is_none() {
            // Leader and time of acquisition.
            let is_same_holder = lock.iter().take(2).eq(self.lock.texts.iter().take(2));
            let since = if is_same_holder { self.lock.since } else { revision };
            self.lock = Observed { texts: lock, at: Some(now), since };
        }
        if claim != self.claim.texts || self.claim.at.is_none() {
            self.claim = Observed { texts: claim, at: Some(now), since: 0 };
        }
    }

    /// Whether the lock is this process's by what the object says, whether or not it has run out.
    pub(super) fn is_ours(&self, leader: &Object) -> bool {
        let renewed = leader.annotation(RENEW_TIME).unwrap_or_default();
        leader.annotation(LEADER) == Some(self.name.as_str())
            && leader.annotation(HOLDER).is_some_and(|holder| holder == holder_text(&self.holder, renewed))
    }

    /// When the lock that is held runs out, if nobody renews it. `None`: nobody holds it.
    pub(super) fn lock_ends(&self, own_ttl: Duration) -> Option<Instant> {
        let leader = self.leader()?;
        leader.annotation(LEADER).filter(|name| !name.is_empty())?;
        let ttl = leader.annotation(TTL).and_then(|ttl| ttl.parse().ok()).filter(|ttl| *ttl > 0);
        Some(self.lock.at? + ttl.map_or(own_ttl, Duration::from_secs))
    }

    /// The same of a claim of ours, or of another member of our kind, on `initialize`. A claim of Patroni has no end.
    pub(super) fn claim_ends(&self, own_ttl: Duration) -> Option<Instant> {
        let config = self.object(self.names.kind(), &self.names.config)?;
        let is_claim = config.annotation(codec::key_path(Key::Initialize)) == Some("");
        config.annotation(CLAIM).filter(|_| is_claim)?;
        Some(self.claim.at? + own_ttl)
    }

    /// The version in which the holder of the lock, present or former, was seen first.
    pub(super) fn held_since(&self) -> u64 {
        self.lock.since
    }

    fn claims(&self, config: &Object) -> bool {
        let by = config.annotation(CLAIM).and_then(|claim| claim.split(' ').next());
        by == Some(self.holder.as_str())
    }

    /// Whether the claim that stands there is this process's.
    pub(super) fn is_claim_ours(&self) -> bool {
        self.object(self.names.kind(), &self.names.config).is_some_and(|config| self.claims(config))
    }

    /// Whose the keys of `entries` are.
    pub(super) fn own(&self) -> Own {
        Own { name: self.name.clone(), lease: Some(OURS) }
    }

    /// The cluster's keys at this moment. A lock or a claim that has run out is nobody's.
    pub(super) fn entries(&self, now: Instant, own_ttl: Duration) -> Entries {
        let mut entries = Entries::new();
        self.add_leader(&mut entries, now, own_ttl);
        self.add_config(&mut entries, now, own_ttl);
        let mut add_fields = |name: &str, path: &str, fields: &[&str]| {
            let Some(object) = self.object(self.names.kind(), name) else { return };
            let text = |field: &&str| Some(((*field).to_owned(), object.annotation(field)?.into()));
            let value: Map<String, Value> = fields.iter().filter_map(text).collect();
            let value = Value::Object(value).to_string().into_bytes();
            entries.insert(path.to_owned(), Entry { value, revision: object.revision(), lease: 0 });
        };
        add_fields(&self.names.failover, codec::key_path(Key::Failover), &FAILOVER);
        add_fields(&self.names.sync, codec::key_path(Key::Sync), &SYNC);
        for (name, known) in self.objects.get(&Kind::Pods).into_iter().flatten() {
            let Some(record) = known.object.annotation(STATUS) else { continue };
            // Only whether it was written since the lock was taken counts.
            let has_spoken = known.since.get(STATUS).is_some_and(|since| *since > self.lock.since);
            let revision = if has_spoken { u64::MAX } else { 0 };
            let entry = Entry { value: record.as_bytes().to_vec(), revision, lease: 0 };
            entries.insert(codec::member_key(&MemberName::new(name.as_str())), entry);
        }
        entries
    }

    /// Whether somebody holds the lock by its object, and has not been seen to renew it for its ttl.
    pub(super) fn lock_ran_out(&self, now: Instant, own_ttl: Duration) -> bool {
        self.lock_ends(own_ttl).is_some_and(|end| end <= now)
    }

    /// A lock that nobody holds has a version too, by which it is taken.
    fn add_leader(&self, entries: &mut Entries, now: Instant, own_ttl: Duration) {
        let Some(leader) = self.leader() else { return };
        let revision = leader.revision();
        let is_held = self.lock_ends(own_ttl).is_some_and(|end| end > now);
        let holder = leader.annotation(LEADER).filter(|_| is_held).unwrap_or_default();
        let lease = if self.is_ours(leader) { OURS } else { 0 };
        entries.insert(codec::LEADER.to_owned(), Entry { value: holder.as_bytes().to_vec(), revision, lease });
        let json = |text: &str| serde_json::from_str(text).unwrap_or_else(|_| Value::from(text));
        let mut status = Map::new();
        for name in [OPTIME, SLOTS, RETAIN_SLOTS] {
            status.extend(leader.annotation(name).map(|text| (name.to_owned(), json(text))));
        }
        for name in codec::OWN_STATUS {
            status.extend(leader.annotation(name).map(|text| (name.to_owned(), text.into())));
        }
        let value = Value::Object(status).to_string().into_bytes();
        entries.insert(codec::STATUS.to_owned(), Entry { value, revision, lease: 0 });
        if let Some(failsafe) = leader.annotation(FAILSAFE) {
            let value = failsafe.as_bytes().to_vec();
            entries.insert(FAILSAFE.to_owned(), Entry { value, revision, lease: 0 });
        }
    }

    fn add_config(&self, entries: &mut Entries, now: Instant, own_ttl: Duration) {
        let configs = self.objects.get(&self.names.kind());
        let Some(known) = configs.and_then(|configs| configs.get(&self.names.config)) else { return };
        let has_lapsed = self.claim_ends(own_ttl).is_some_and(|end| end <= now);
        for key in [Key::Initialize, Key::Config, Key::History] {
            let path = codec::key_path(key);
            let Some(text) = known.object.annotation(path) else { continue };
            if key == Key::Initialize && has_lapsed {
                continue;
            }
            let lease = if key == Key::Initialize && text.is_empty() && self.claims(&known.object) { OURS } else { 0 };
            let revision = known.since.get(path).copied().unwrap_or(0);
            entries.insert(path.to_owned(), Entry { value: text.as_bytes().to_vec(), revision, lease });
        }
    }
}

/// The text of `HOLDER` after this renewal.
pub(super) fn holder_text(holder: &str, renewed: &str) -> String {
    format!("{holder} {renewed}")
}
