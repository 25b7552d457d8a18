//! All objects at all versions since the last compaction, under one counter: what etcd is behind an API server.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use serde_json::{Value, json};

use super::resources::Resource;

/// Which object: the resource's place in the table, namespace, name. The order is that of lists.
pub type Key = (usize, String, String);

pub fn key(resource: &Resource, namespace: &str, name: &str) -> Key {
    (resource.index(), namespace.to_owned(), name.to_owned())
}

#[derive(Clone)]
pub struct Change {
    pub revision: u64,
    pub key: Key,
    pub before: Option<Arc<Value>>,
    /// What a watch shows: after a deletion the last state with the version of the deletion.
    pub object: Arc<Value>,
    pub is_deletion: bool,
}

/// How many changes are remembered.
const CHANGES_MAX: usize = 20_000;

/// What `Store::restore` goes back to.
#[derive(Clone)]
pub struct Snapshot {
    objects: BTreeMap<Key, Arc<Value>>,
    revision: u64,
}

/// The versions asked for are gone.
#[derive(Debug, PartialEq, Eq)]
pub struct Compacted {
    /// The oldest that is left.
    pub oldest: u64,
}

pub struct Store {
    objects: BTreeMap<Key, Arc<Value>>,
    log: VecDeque<Change>,
    revision: u64,
    /// Changes up to this one are no longer known.
    compacted: u64,
}

impl Store {
    pub fn new() -> Self {
        Store { objects: BTreeMap::new(), log: VecDeque::new(), revision: 1, compacted: 0 }
    }

    pub fn revision(&self) -> u64 {
        self.revision
    }

    pub fn get(&self, key: &Key) -> Option<Arc<Value>> {
        self.objects.get(key).cloned()
    }

    /// The objects of a resource as they are, in order; of one namespace or of all.
    pub fn list(&self, resource: &Resource, namespace: Option<&str>) -> Vec<(Key, Arc<Value>)> {
        select(&self.objects, resource.index(), namespace)
    }

    /// The same at an older version.
    pub fn list_at(
        &self,
        resource: &Resource,
        namespace: Option<&str>,
        revision: u64,
    ) -> Result<Vec<(Key, Arc<Value>)>, Compacted> {
        if revision < self.compacted {
            return Err(Compacted { oldest: self.compacted });
        }
        let index = resource.index();
        let mut objects: BTreeMap<Key, Arc<Value>> = select(&self.objects, index, namespace).into_iter().collect();
        for change in self.log.iter().rev().take_while(|change| change.revision > revision) {
            if change.key.0 != index || namespace.is_some_and(|namespace| namespace != change.key.1) {
                continue;
            }
            match &change.before {
                Some(before) => objects.insert(change.key.clone(), Arc::clone(before)),
                None => objects.remove(&change.key),
            };
        }
        Ok(objects.into_iter().collect())
    }

    /// The changes of a resource after a version, in order.
    pub fn changes(&self, resource: &Resource, after: u64) -> Result<Vec<Change>, Compacted> {
        if after < self.compacted {
            return Err(Compacted { oldest: self.compacted });
        }
        let index = resource.index();
        let newer = self.log.iter().rev().take_while(|change| change.revision > after);
        let mut changes: Vec<Change> = newer.filter(|change| change.key.0 == index).cloned().collect();
        changes.reverse();
        Ok(changes)
    }

    pub fn put(&mut self, key: Key, mut object: Value) -> Arc<Value> {
        self.revision += 1;
        object["metadata"]["resourceVersion"] = json!(self.revision.to_string());
        let object = Arc::new(object);
        let before = self.objects.insert(key.clone(), Arc::clone(&object));
        self.remember(Change { revision: self.revision, key, before, object: Arc::clone(&object), is_deletion: false });
        object
    }

    pub fn remove(&mut self, key: &Key) -> Option<Arc<Value>> {
        let before = self.objects.remove(key)?;
        self.revision += 1;
        let mut last = Value::clone(&before);
        last["metadata"]["resourceVersion"] = json!(self.revision.to_string());
        let object = Arc::new(last);
        self.remember(Change {
            revision: self.revision,
            key: key.clone(),
            before: Some(before),
            object: Arc::clone(&object),
            is_deletion: true,
        });
        Some(object)
    }

    /// Removes all that is in a namespace.
    pub fn empty(&mut self, namespace: &str) {
        let keys: Vec<Key> = self.objects.keys().filter(|key| key.1 == namespace).cloned().collect();
        keys.iter().for_each(|key| drop(self.remove(key)));
    }

    fn remember(&mut self, change: Change) {
        self.log.push_back(change);
        if self.log.len() > CHANGES_MAX
            && let Some(oldest) = self.log.pop_front()
        {
            self.compacted = oldest.revision;
        }
    }

    /// Forgets all older versions.
    pub fn compact(&mut self) {
        self.compacted = self.revision;
        self.log.clear();
    }

    pub fn snapshot(&self) -> Snapshot {
        Snapshot { objects: self.objects.clone(), revision: self.revision }
    }

    /// Objects and counter as they were: later versions will be given out a second time.
    pub fn restore(&mut self, snapshot: &Snapshot) {
        self.objects = snapshot.objects.clone();
        self.revision = snapshot.revision;
        self.log.clear();
        self.compacted = snapshot.revision;
    }
}

fn select(objects: &BTreeMap<Key, Arc<Value>>, index: usize, namespace: Option<&str>) -> Vec<(Key, Arc<Value>)> {
    let first = (index, namespace.unwrap_or_default().to_owned(), String::new());
    let of_resource = objects
        .range(first..)
        .take_while(|(key, _)| key.0 == index && namespace.is_none_or(|namespace| namespace == key.1));
    of_resource.map(|(key, object)| (key.clone(), Arc::clone(object))).collect()
}
