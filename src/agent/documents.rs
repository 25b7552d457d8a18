//! The cluster's documents that a decision writes. Each write has its condition; a conflict is no failure, since the
//! next cycle reads what stands there now.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::background_task::{AtEnd, BackgroundTask, Report};
use super::cycle::Agent;
use super::publish::tell;
use crate::core::decision::DocumentStep;
use crate::core::local::{DataDir, Postgres, Running};
use crate::core::observation::Observation;
use crate::core::units::{Lsn, MemberName, Revision, Timeline};
use crate::core::view::{ConfigKey, History, HistoryEntry, Holder, Initialize};
use crate::dcs::{Content, Dcs, DcsError, Documents, Expect, Key, Snapshot, codec};
use crate::postgres::Instance;

/// How the race to initialise the cluster went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Claim {
    NotAsked,
    Won,
    Lost,
}

impl<D: Dcs, I: Instance> Agent<D, I> {
    /// The one document that a bootstrap waits for.
    pub(super) async fn claim(&self, steps: &[DocumentStep]) -> Claim {
        if !steps.contains(&DocumentStep::ClaimInitialize) {
            return Claim::NotAsked;
        }
        match self.replace(Key::Initialize, Content::Claim, self.as_seen(None)).await {
            Ok(()) => Claim::Won,
            Err(DcsError::Conflict { .. }) => {
                tracing::info!("failed to acquire initialize lock");
                Claim::Lost
            }
            Err(error) => {
                tracing::warn!("cannot claim the initialize key: {error}");
                Claim::Lost
            }
        }
    }

    pub(super) async fn write_documents(&mut self, steps: &[DocumentStep], seen: &Observation) {
        for step in steps {
            let written = match step {
                // Done before the bootstrap was begun.
                DocumentStep::ClaimInitialize => Ok(()),
                DocumentStep::UnclaimInitialize => self.unclaim(seen).await,
                DocumentStep::SetInitialize(id) => {
                    let expect = self.as_seen(self.documents().and_then(|documents| documents.initialize));
                    self.replace(Key::Initialize, Content::Text(id.to_string()), expect).await
                }
                DocumentStep::RestoreConfig => self.restore_config(seen).await,
                DocumentStep::ClearSwitchover { seen } => {
                    let nothing = Content::Json(Value::Object(Map::new()));
                    self.replace(Key::Failover, nothing, self.as_seen(Some(*seen))).await
                }
                DocumentStep::UpdateHistory => {
                    self.update_history(seen);
                    Ok(())
                }
            };
            match written {
                Ok(()) => {}
                Err(DcsError::Conflict { key }) => tracing::debug!("{key:?} was changed by somebody else"),
                Err(error) => tell(&error, format_args!("cannot carry out {step:?}")),
            }
        }
    }

    /// As they stand in the reading that this cycle's decision was made from.
    fn documents(&self) -> Option<&Documents> {
        self.reading.last().map(|snapshot| &snapshot.documents)
    }

    /// Only what still stands there as the decision saw it is replaced.
    fn as_seen(&self, revision: Option<Revision>) -> Expect {
        self.reading.last().map_or_else(|| Snapshot::default().expect(revision), |seen| seen.expect(revision))
    }

    /// The same, and only while the lock is ours.
    pub(super) fn as_seen_leading(&self, revision: Option<Revision>) -> Expect {
        self.reading
            .last()
            .map_or_else(|| Snapshot::default().expect_leading(revision), |seen| seen.expect_leading(revision))
    }

    pub(super) async fn replace(&self, key: Key, content: Content, expect: Expect) -> Result<(), DcsError> {
        let limit = self.short_patience();
        match self.shared.bounded(limit, self.shared.dcs.replace(key, content, expect, limit)).await {
            Some(written) => written,
            None => Err(DcsError::Unreachable { store: "the DCS", limit, detail: format!("writing {key:?}") }),
        }
    }

    /// Only while the key is still empty: a member with data may have written its identifier meanwhile.
    async fn unclaim(&self, seen: &Observation) -> Result<(), DcsError> {
        match seen.cluster.as_ref().map(|view| &view.initialize) {
            Ok(Initialize::InProgress(Holder::Us)) => {
                let expect = self.as_seen(self.documents().and_then(|documents| documents.initialize));
                self.replace(Key::Initialize, Content::Delete, expect).await
            }
            Ok(
                Initialize::Absent
                | Initialize::InProgress(Holder::Other)
                | Initialize::Done(_)
                | Initialize::Invalid(_),
            )
            | Err(_) => Ok(()),
        }
    }

    async fn restore_config(&self, seen: &Observation) -> Result<(), DcsError> {
        let expect = match seen.cluster.as_ref().map(|view| view.config) {
            Ok(ConfigKey::Valid) => return Ok(()),
            Ok(ConfigKey::Invalid) => Expect::Anything,
            Ok(ConfigKey::Missing) | Err(_) => self.as_seen(None),
        };
        let document = Content::Json(self.settings.document.clone());
        self.replace(Key::Config, document, expect).await
    }

    /// Reading the history files may take its time, so it does not hold the cycle up.
    fn update_history(&mut self, seen: &Observation) {
        let Ok(view) = &seen.cluster else { return };
        let timeline = match (&seen.local.postgres, &seen.local.data) {
            (Postgres::Running(Running::Primary(facts)), _) => Some(facts.timeline),
            // A leader that hands over before it has written it.
            (Postgres::Stopped, DataDir::Present(data)) => data.control.as_ref().map(|control| control.timeline),
            (_, _) => None,
        };
        let Some(timeline) = timeline else { return };
        let known = view.history.clone();
        let name = self.settings.config.name.clone();
        let max = self.settings.dynamic.max_timelines_history;
        let Some(last) = self.reading.last() else { return };
        let expect = last.expect_leading(last.documents.history.as_ref().map(|history| history.revision));
        let limit = self.short_patience();
        let shared = self.shared.clone();
        let work = async move {
            let entries = match shared.instance.history(timeline).await {
                Ok(entries) => merged_history(entries, &known, &name, timeline, max),
                Err(error) => return Report::Failed(error.to_string()),
            };
            let document = Content::Json(codec::history_document(&entries));
            // Somebody who leads since then may have written his own.
            match shared.dcs.replace(Key::History, document, expect, limit).await {
                Err(DcsError::Conflict { .. }) => Report::Done,
                written => Report::of(written, |()| Report::Done),
            }
        };
        self.background.begin(BackgroundTask::UpdateHistory, AtEnd::Wait, work);
    }
}

/// Our own history with what others have noted of the same switches, and our name at the one that we made.
fn merged_history(
    own: Vec<HistoryEntry>,
    known: &History,
    me: &MemberName,
    timeline: Timeline,
    max: usize,
) -> Vec<HistoryEntry> {
    let known: BTreeMap<(Timeline, Lsn), &HistoryEntry> = match known {
        History::Unknown => BTreeMap::new(),
        History::Known(entries) => entries.iter().map(|entry| ((entry.left, entry.at), entry)).collect(),
    };
    let count = own.len();
    let merged = own.into_iter().enumerate().map(|(at, entry)| {
        let is_ours = at + 1 == count && entry.left.0 + 1 == timeline.0;
        match known.get(&(entry.left, entry.at)) {
            Some(noted) if noted.new_leader.is_some() => {
                HistoryEntry { time: noted.time.clone(), new_leader: noted.new_leader.clone(), ..entry }
            }
            Some(_) | None if is_ours => HistoryEntry { new_leader: Some(me.clone()), ..entry },
            // Who made it is not known, and a time alone would be taken for a complete entry.
            Some(noted) => HistoryEntry { time: noted.time.clone(), ..entry },
            None => HistoryEntry { time: None, ..entry },
        }
    });
    let skipped = if max == 0 { 0 } else { count.saturating_sub(max) };
    merged.skip(skipped).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(left: u32, time: Option<&str>, leader: Option<&str>) -> HistoryEntry {
        HistoryEntry {
            left: Timeline(left),
            at: Lsn(u64::from(left) * 100),
            reason: "no recovery target specified".to_owned(),
            time: time.map(str::to_owned),
            new_leader: leader.map(MemberName::from),
        }
    }

    #[test]
    fn the_last_entry_gets_our_name_and_older_ones_keep_theirs() {
        let own = vec![entry(1, Some("t1"), None), entry(2, Some("t2"), None), entry(3, Some("t3"), None)];
        let known = History::Known(vec![entry(1, Some("noted"), Some("n9"))]);
        let merged = merged_history(own, &known, &"n1".into(), Timeline(4), 0);
        let expected = [entry(1, Some("noted"), Some("n9")), entry(2, None, None), entry(3, Some("t3"), Some("n1"))];
        assert_eq!(merged, expected);
    }

    #[test]
    fn an_entry_that_another_leader_completed_stays_as_it_is() {
        let known = History::Known(vec![entry(1, Some("noted"), Some("n9"))]);
        let merged = merged_history(vec![entry(1, Some("t1"), None)], &known, &"n1".into(), Timeline(2), 0);
        assert_eq!(merged, [entry(1, Some("noted"), Some("n9"))]);
    }

    #[test]
    fn only_the_last_entries_are_kept_when_a_maximum_is_set() {
        let own = (1..=5).map(|left| entry(left, Some("t"), None)).collect();
        let merged = merged_history(own, &History::Unknown, &"n1".into(), Timeline(6), 2);
        assert_eq!(merged, [entry(4, None, None), entry(5, Some("t"), Some("n1"))]);
    }

    #[test]
    fn the_first_timeline_has_an_empty_history() {
        assert_eq!(merged_history(Vec::new(), &History::Unknown, &"n1".into(), Timeline(1), 0), []);
    }
}
