//! The output of `pg_controldata` (under `LANG=C`) as types.
//!
//! Fields are looked up by name, so that those that a version adds or moves don't matter. What every supported version
//! prints and decisions depend on is required; the rest is optional. Running the program is not done here.

use std::collections::BTreeMap;

use crate::core::local::{ClusterState, Control};
use crate::core::policy::Switch;
use crate::core::units::{Lsn, SystemId, Timeline};

use super::history::{CheckpointEnd, LocalPosition};

/// What a data directory's control file says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ControlData {
    pub control: Control,
    pub system_id: SystemId,
    /// `Latest checkpoint's REDO location`.
    pub redo: Option<Lsn>,
    /// `Min recovery ending loc's timeline`; `None` when it is 0.
    pub recovery_end_timeline: Option<Timeline>,
    /// `Data page checksum version`; 0 means that there are none.
    pub checksum_version: u32,
    pub wal_log_hints: Switch,
    /// In bytes.
    pub wal_segment_size: Option<u64>,
    pub wal_page_size: Option<u64>,
    pub minimums: StandbyMinimums,
}

/// What the primary ran with when this WAL was written: a standby may not have less.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StandbyMinimums {
    pub max_connections: Option<u32>,
    pub max_prepared_transactions: Option<u32>,
    pub max_locks_per_transaction: Option<u32>,
    pub max_worker_processes: Option<u32>,
    pub max_wal_senders: Option<u32>,
}

impl StandbyMinimums {
    /// By the parameter's name.
    pub fn by_name(&self) -> [(&'static str, Option<u32>); 5] {
        [
            ("max_connections", self.max_connections),
            ("max_prepared_transactions", self.max_prepared_transactions),
            ("max_locks_per_transaction", self.max_locks_per_transaction),
            ("max_worker_processes", self.max_worker_processes),
            ("max_wal_senders", self.max_wal_senders),
        ]
    }
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadControlData {
    #[error("the output of pg_controldata has no field {0:?}")]
    Missing(&'static str),
    #[error("the output of pg_controldata has {value:?} as {field:?}")]
    Invalid { field: &'static str, value: String },
}

impl ControlData {
    pub fn parse(output: &str) -> Result<ControlData, BadControlData> {
        let fields = Fields::of(output);
        let state = fields.required("Database cluster state", cluster_state)?;
        let recovery_end = Some(fields.required("Minimum recovery ending location", lsn)?).filter(|lsn| lsn.0 != 0);
        let recovery_end_timeline: u32 = fields.required("Min recovery ending loc's timeline", number)?;
        let checkpoint_timeline: u32 = fields.required("Latest checkpoint's TimeLineID", number)?;
        let control = Control {
            state,
            // A promotion notes its timeline with the end of recovery; its checkpoint comes later.
            timeline: Timeline(
                recovery_end.map_or(checkpoint_timeline, |_| recovery_end_timeline.max(checkpoint_timeline)),
            ),
            checkpoint: fields.required("Latest checkpoint location", lsn)?,
            recovery_end,
            wal_end: None,
        };
        Ok(ControlData {
            control,
            system_id: SystemId(fields.required("Database system identifier", system_identifier)?),
            redo: fields.optional("Latest checkpoint's REDO location", lsn),
            recovery_end_timeline: Some(Timeline(recovery_end_timeline)).filter(|timeline| timeline.0 != 0),
            checksum_version: fields.required("Data page checksum version", number)?,
            wal_log_hints: fields.required("wal_log_hints setting", switch)?,
            wal_segment_size: fields.optional("Bytes per WAL segment", number),
            wal_page_size: fields.optional("WAL block size", number),
            minimums: StandbyMinimums {
                max_connections: fields.optional("max_connections setting", number),
                max_prepared_transactions: fields.optional("max_prepared_xacts setting", number),
                max_locks_per_transaction: fields.optional("max_locks_per_xact setting", number),
                max_worker_processes: fields.optional("max_worker_processes setting", number),
                max_wal_senders: fields.optional("max_wal_senders setting", number),
            },
        })
    }

    /// Whether pg_rewind can work on this directory: it must be able to see every changed page in the WAL.
    pub fn may_be_rewound(&self) -> bool {
        self.checksum_version != 0 || self.wal_log_hints == Switch::On
    }

    /// Where this stopped server's WAL ends. `None`: it crashed, and crash
    /// recovery must come first.
    pub fn local_position(&self) -> Option<LocalPosition> {
        let control = &self.control;
        let recovering = match control.state {
            ClusterState::ShutDownInRecovery | ClusterState::InArchiveRecovery => {
                control.recovery_end.zip(self.recovery_end_timeline)
            }
            ClusterState::ShutDown => None,
            ClusterState::StartingUp
            | ClusterState::ShuttingDown
            | ClusterState::InCrashRecovery
            | ClusterState::InProduction => return None,
        };
        // Without a minimum recovery point a server in recovery had been a primary and replayed nothing of another's.
        Some(match recovering {
            Some((at, timeline)) => LocalPosition::Recovering { timeline, at },
            None => LocalPosition::ShutDown {
                timeline: control.timeline,
                checkpoint: control.checkpoint,
                end: CheckpointEnd::NotAsked,
            },
        })
    }
}

/// Name to value, both trimmed; the word `Current`, which old versions write before settings, is taken away.
struct Fields<'a>(BTreeMap<&'a str, &'a str>);

impl<'a> Fields<'a> {
    fn of(output: &'a str) -> Self {
        let pairs = output.lines().filter_map(|line| line.split_once(':'));
        Fields(
            pairs.map(|(name, value)| (name.strip_prefix("Current ").unwrap_or(name).trim(), value.trim())).collect(),
        )
    }

    fn get(&self, field: &str) -> Option<&'a str> {
        self.0.get(field).copied()
    }

    fn required<T>(&self, field: &'static str, parse: fn(&str) -> Option<T>) -> Result<T, BadControlData> {
        let value = self.get(field).ok_or(BadControlData::Missing(field))?;
        parse(value).ok_or_else(|| BadControlData::Invalid { field, value: value.to_owned() })
    }

    fn optional<T>(&self, field: &str, parse: fn(&str) -> Option<T>) -> Option<T> {
        self.get(field).and_then(parse)
    }
}

fn number<T: std::str::FromStr>(text: &str) -> Option<T> {
    text.parse().ok()
}

fn lsn(text: &str) -> Option<Lsn> {
    text.parse().ok()
}

/// At least ten digits; a zeroed control file has fewer.
fn system_identifier(text: &str) -> Option<u64> {
    text.parse().ok().filter(|_| text.len() >= 10)
}

fn switch(text: &str) -> Option<Switch> {
    match text {
        "on" => Some(Switch::On),
        "off" => Some(Switch::Off),
        _ => None,
    }
}

fn cluster_state(text: &str) -> Option<ClusterState> {
    match text {
        "starting up" => Some(ClusterState::StartingUp),
        "shut down" => Some(ClusterState::ShutDown),
        "shut down in recovery" => Some(ClusterState::ShutDownInRecovery),
        "shutting down" => Some(ClusterState::ShuttingDown),
        "in crash recovery" => Some(ClusterState::InCrashRecovery),
        "in archive recovery" => Some(ClusterState::InArchiveRecovery),
        "in production" => Some(ClusterState::InProduction),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// From a server of version 15, stopped cleanly after initdb with checksums.
    const SHUT_DOWN: &str = "\
pg_control version number:            1300
Catalog version number:               202209061
Database system identifier:           7711009027230859524
Database cluster state:               shut down
pg_control last modified:             Sun Nov 22 14:53:15 2026
Latest checkpoint location:           0/17414D0
Latest checkpoint's REDO location:    0/17414D0
Latest checkpoint's REDO WAL file:    000000010000000000000001
Latest checkpoint's TimeLineID:       1
Latest checkpoint's PrevTimeLineID:   1
Latest checkpoint's full_page_writes: on
Latest checkpoint's NextXID:          0:724
Latest checkpoint's oldestCommitTsXid:0
Time of latest checkpoint:            Sun Nov 22 14:53:15 2026
Fake LSN counter for unlogged rels:   0/3E8
Minimum recovery ending location:     0/0
Min recovery ending loc's timeline:   0
Backup start location:                0/0
Backup end location:                  0/0
End-of-backup record required:        no
wal_level setting:                    replica
wal_log_hints setting:                off
max_connections setting:              100
max_worker_processes setting:         8
max_wal_senders setting:              10
max_prepared_xacts setting:           0
max_locks_per_xact setting:           64
track_commit_timestamp setting:       off
Database block size:                  8192
WAL block size:                       8192
Bytes per WAL segment:                16777216
Data page checksum version:           1
Mock authentication nonce:            701d1df1d78b02d4da817bd647194fb388d971bcfd6d5639209f9e4ed1042bc2
";

    fn with(replacements: &[(&str, &str)]) -> String {
        replacements.iter().fold(SHUT_DOWN.to_owned(), |text, (field, value)| {
            let line = text.lines().find(|line| line.starts_with(field)).expect("the field is there").to_owned();
            text.replace(&line, &format!("{field}   {value}"))
        })
    }

    #[test]
    fn every_field_that_decisions_need_is_read() {
        let data = ControlData::parse(SHUT_DOWN).expect("complete");
        let expected = ControlData {
            control: Control {
                state: ClusterState::ShutDown,
                timeline: Timeline(1),
                checkpoint: Lsn(0x174_14D0),
                recovery_end: None,
                wal_end: None,
            },
            system_id: SystemId(7_711_009_027_230_859_524),
            redo: Some(Lsn(0x174_14D0)),
            recovery_end_timeline: None,
            checksum_version: 1,
            wal_log_hints: Switch::Off,
            wal_page_size: Some(8192),
            wal_segment_size: Some(16 << 20),
            minimums: StandbyMinimums {
                max_connections: Some(100),
                max_prepared_transactions: Some(0),
                max_locks_per_transaction: Some(64),
                max_worker_processes: Some(8),
                max_wal_senders: Some(10),
            },
        };
        assert_eq!(data, expected);
        assert!(data.may_be_rewound());
    }

    #[test]
    fn old_field_names_are_understood() {
        let old = SHUT_DOWN.replace("wal_log_hints setting", "Current wal_log_hints setting");
        assert_eq!(ControlData::parse(&old), ControlData::parse(SHUT_DOWN));
    }

    #[test]
    fn a_directory_without_checksums_and_hints_cannot_be_rewound() {
        let without = ControlData::parse(&with(&[("Data page checksum version:", "0")])).expect("complete");
        assert!(!without.may_be_rewound());
        let text = with(&[("Data page checksum version:", "0"), ("wal_log_hints setting:", "on")]);
        assert!(ControlData::parse(&text).expect("complete").may_be_rewound());
    }

    #[test]
    fn the_local_position_depends_on_how_the_server_ended() {
        let position = |state: &str, end: &str, timeline: &str| {
            let text = with(&[
                ("Database cluster state:", state),
                ("Minimum recovery ending location:", end),
                ("Min recovery ending loc's timeline:", timeline),
            ]);
            ControlData::parse(&text).expect("complete").local_position()
        };
        let primary = LocalPosition::ShutDown {
            timeline: Timeline(1),
            checkpoint: Lsn(0x174_14D0),
            end: CheckpointEnd::NotAsked,
        };
        let standby = LocalPosition::Recovering { timeline: Timeline(2), at: Lsn(0x200_02A8) };
        assert_eq!(position("shut down", "0/0", "0"), Some(primary));
        assert_eq!(position("shut down in recovery", "0/20002A8", "2"), Some(standby));
        assert_eq!(position("in archive recovery", "0/20002A8", "2"), Some(standby));
        assert_eq!(position("in archive recovery", "0/0", "2"), Some(primary));
        assert_eq!(position("shut down in recovery", "0/20002A8", "0"), Some(primary));
        assert_eq!(position("in production", "0/0", "0"), None);
        assert_eq!(position("shutting down", "0/20002A8", "2"), None);
    }

    #[test]
    fn a_promotion_counts_before_its_checkpoint() {
        let text = with(&[
            ("Database cluster state:", "in production"),
            ("Minimum recovery ending location:", "0/20002A8"),
            ("Min recovery ending loc's timeline:", "2"),
        ]);
        assert_eq!(ControlData::parse(&text).expect("complete").control.timeline, Timeline(2));
    }

    #[test]
    fn what_is_missing_or_odd_is_named() {
        assert_eq!(ControlData::parse(""), Err(BadControlData::Missing("Database cluster state")));
        let odd = ControlData::parse(&with(&[("Database cluster state:", "unrecognized status code")]));
        let value = "unrecognized status code".to_owned();
        assert_eq!(odd, Err(BadControlData::Invalid { field: "Database cluster state", value }));
        let zeroed = ControlData::parse(&with(&[("Database system identifier:", "0")]));
        assert!(matches!(zeroed, Err(BadControlData::Invalid { field: "Database system identifier", .. })));
    }
}
