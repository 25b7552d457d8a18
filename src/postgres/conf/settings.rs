//! What a running server takes up at a restart only: the wanted parameters compared with its `pg_settings`.
//!
//! Values are compared as the server reads them, so that `9MB` equals `9216` in kB. Recovery parameters and
//! `hot_standby` are not compared here. The query itself is the caller's; [`SETTINGS_COLUMNS`] says what it selects.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::config::units;

use super::values::number_text;
use super::{Parameters, parse_server_bool, recovery};

/// Columns of `pg_settings` in the order of [`SettingRow`]'s fields.
pub const SETTINGS_COLUMNS: &str = "name, setting, unit, vartype, context, pending_restart";

/// One row of `pg_settings`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SettingRow {
    pub name: String,
    pub setting: String,
    /// `8kB`, `ms` …
    pub unit: Option<String>,
    pub vartype: VarType,
    pub context: Context,
    /// The file holds another value that only a restart will bring.
    pub pending_restart: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VarType {
    Bool,
    Enum,
    Integer,
    Real,
    String,
}

impl VarType {
    /// A type that is not known is compared as text.
    pub fn from_word(word: &str) -> Self {
        match word {
            "bool" => VarType::Bool,
            "enum" => VarType::Enum,
            "integer" => VarType::Integer,
            "real" => VarType::Real,
            _ => VarType::String,
        }
    }
}

/// When a parameter may change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Context {
    /// Never.
    Internal,
    /// Only at a start.
    Postmaster,
    /// On reload or in a session.
    Reload,
}

impl Context {
    pub fn from_word(word: &str) -> Self {
        match word {
            "internal" => Context::Internal,
            "postmaster" => Context::Postmaster,
            _ => Context::Reload,
        }
    }
}

/// As published: values in the largest unit that says them exactly.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PendingRestart {
    pub old_value: String,
    pub new_value: String,
}

pub type PendingRestarts = BTreeMap<String, PendingRestart>;

/// As published: `{"max_connections": {"old_value": "60", "new_value": "120"}}`.
pub fn pending_json(pending: &PendingRestarts) -> Map<String, Value> {
    let entry = |(name, entry): (&String, &PendingRestart)| {
        (name.clone(), json!({"old_value": entry.old_value, "new_value": entry.new_value}))
    };
    pending.iter().map(entry).collect()
}

/// Which of the wanted parameters (checked ones, see [`super::validate`]) a server with these settings takes up at a
/// restart only. `last` is what was configured before: parameters that it has and `wanted` has not are removed ones.
pub fn pending_restarts(wanted: &Parameters, last: &Parameters, rows: &[SettingRow]) -> PendingRestarts {
    let rows: BTreeMap<String, &SettingRow> = rows.iter().map(|row| (row.name.to_ascii_lowercase(), row)).collect();
    let kept = wanted.iter().map(|(name, value)| (name, Some(value)));
    let removed = last.keys().filter(|name| !wanted.contains_key(*name)).map(|name| (name, None));
    let compared = kept.chain(removed).filter(|(name, _)| is_reported(name));
    let pending = compared.filter_map(|(name, wanted)| {
        let row = rows.get(name)?;
        let keeps = match wanted {
            Some(wanted) if name == "wal_buffers" => {
                is_same(row, wanted) || is_automatic_wal_buffers(row, wanted, &rows)
            }
            Some(wanted) => is_same(row, wanted),
            None => false,
        };
        if row.context != Context::Postmaster || keeps {
            return None;
        }
        let new_value = wanted.map_or_else(|| "?".to_owned(), |wanted| readable(row, wanted));
        Some((row.name.clone(), PendingRestart { old_value: readable(row, &row.setting), new_value }))
    });
    pending.collect()
}

fn is_reported(name: &str) -> bool {
    !recovery::is_recovery_parameter(name) && name != "hot_standby"
}

/// Whether the server reads this value as the one it has. A value that it cannot read is not.
fn is_same(row: &SettingRow, wanted: &str) -> bool {
    let (current, unit) = (row.setting.as_str(), row.unit.as_deref());
    match row.vartype {
        VarType::Bool => both(current, wanted, parse_server_bool),
        VarType::Integer => both(current, wanted, |text| units::parse_int(text, unit)),
        VarType::Real => both(current, wanted, |text| units::parse_real(text, unit)),
        VarType::Enum => both(current, wanted, |text| Some(enum_word(text))),
        VarType::String => current == wanted,
    }
}

fn both<T: PartialEq>(one: &str, other: &str, parse: impl Fn(&str) -> Option<T>) -> bool {
    parse(one).zip(parse(other)).is_some_and(|(one, other)| one == other)
}

/// Enumerations that also take booleans show `on` and `off`.
fn enum_word(text: &str) -> String {
    match parse_server_bool(text) {
        Some(true) => "on".to_owned(),
        Some(false) => "off".to_owned(),
        None => text.trim().to_lowercase(),
    }
}

/// Whether one of the two is -1 and the other what the server computes for it: a 32nd part of `shared_buffers`, at
/// least 8 blocks, at most one WAL segment (`xlog.c`, XLOGChooseNumBuffers).
fn is_automatic_wal_buffers(row: &SettingRow, wanted: &str, rows: &BTreeMap<String, &SettingRow>) -> bool {
    let number = |name: &str| rows.get(name).and_then(|row| row.setting.parse::<i64>().ok());
    let automatic = || {
        let shared_buffers = number("shared_buffers")?;
        // Servers before 11 told the segment's size in blocks; those are not served.
        let segment = number("wal_segment_size")? / number("wal_block_size").filter(|size| *size > 0)?;
        Some((shared_buffers / 32).clamp(8, segment.max(8)))
    };
    let (Some(wanted), Some(current)) = (units::parse_int(wanted, row.unit.as_deref()), number("wal_buffers")) else {
        return false;
    };
    automatic().is_some_and(|automatic| (wanted, current) == (-1, automatic) || (wanted, current) == (automatic, -1))
}

/// The server's own list after a reload: what waits for a restart, with the current value. The new one has to be asked
/// of the program (`postgres -C`). Recovery parameters and `hot_standby` are left out.
pub fn pending_of_server(rows: &[SettingRow]) -> Vec<&SettingRow> {
    rows.iter().filter(|row| row.pending_restart && is_reported(&row.name)).collect()
}

const MEMORY: [(&str, f64); 5] = [
    ("TB", 1024.0 * 1024.0 * 1024.0 * 1024.0),
    ("GB", 1024.0 * 1024.0 * 1024.0),
    ("MB", 1024.0 * 1024.0),
    ("kB", 1024.0),
    ("B", 1.0),
];
/// In microseconds.
const TIME: [(&str, f64); 6] = [("d", 86_400e6), ("h", 3_600e6), ("min", 60e6), ("s", 1e6), ("ms", 1e3), ("us", 1.0)];

/// A value of this parameter for people: numbers with a unit in the largest one that is exact, `16384` times `8kB` as
/// `128MB`. Special values (0, negative ones) have no unit.
pub fn readable(row: &SettingRow, value: &str) -> String {
    let number = match row.vartype {
        VarType::Integer => units::parse_int(value, row.unit.as_deref()).map(|number| number as f64),
        VarType::Real => units::parse_real(value, row.unit.as_deref()),
        VarType::Bool | VarType::Enum | VarType::String => None,
    };
    let Some(number) = number else { return value.to_owned() };
    let in_units = || {
        let unit = row.unit.as_deref().filter(|_| number > 0.0)?;
        let one = |text: &str| units::parse_real(&format!("1{unit_name}", unit_name = name_of(unit)), Some(text));
        let (table, smallest) = if one("B").is_some() { (&MEMORY[..], "B") } else { (&TIME[..], "us") };
        let factor = one(smallest)? * multiplier(unit);
        let amount = (number * factor).round();
        let (name, size) = table.iter().find(|(_, size)| amount >= *size && amount % size == 0.0)?;
        Some(format!("{}{name}", number_text(amount / size)))
    };
    in_units().unwrap_or_else(|| number_text(number))
}

fn name_of(unit: &str) -> &str {
    unit.trim_start_matches(|c: char| c.is_ascii_digit())
}

fn multiplier(unit: &str) -> f64 {
    unit[..unit.len() - name_of(unit).len()].parse().unwrap_or(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All for a restart but the fixed ones, whatever they are in a server.
    const ROWS: [(&str, &str, &str, VarType, Context); 15] = [
        ("work_mem", "9216", "kB", VarType::Integer, Context::Postmaster),
        ("shared_buffers", "16384", "8kB", VarType::Integer, Context::Postmaster),
        ("wal_buffers", "512", "8kB", VarType::Integer, Context::Postmaster),
        ("wal_segment_size", "16777216", "B", VarType::Integer, Context::Internal),
        ("wal_block_size", "8192", "", VarType::Integer, Context::Internal),
        ("max_connections", "60", "", VarType::Integer, Context::Postmaster),
        ("autovacuum_vacuum_cost_delay", "2", "ms", VarType::Real, Context::Postmaster),
        ("checkpoint_timeout", "300", "s", VarType::Integer, Context::Postmaster),
        ("huge_pages", "try", "", VarType::Enum, Context::Postmaster),
        ("synchronous_commit", "on", "", VarType::Enum, Context::Postmaster),
        ("fsync", "on", "", VarType::Bool, Context::Postmaster),
        ("TimeZone", "Etc/UTC", "", VarType::String, Context::Postmaster),
        ("hot_standby", "on", "", VarType::Bool, Context::Postmaster),
        ("primary_conninfo", "", "", VarType::String, Context::Postmaster),
        ("pg_stat_statements.max", "5000", "", VarType::Integer, Context::Postmaster),
    ];

    fn rows() -> Vec<SettingRow> {
        let row = |(name, setting, unit, vartype, context): (&str, &str, &str, VarType, Context)| SettingRow {
            name: name.to_owned(),
            setting: setting.to_owned(),
            unit: Some(unit.to_owned()).filter(|unit| !unit.is_empty()),
            vartype,
            context,
            pending_restart: matches!(name, "max_connections" | "hot_standby" | "primary_conninfo"),
        };
        ROWS.map(row).to_vec()
    }

    fn parameters(pairs: &[(&str, &str)]) -> Parameters {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    fn pending(wanted: &[(&str, &str)], last: &[(&str, &str)]) -> Vec<String> {
        pending_restarts(&parameters(wanted), &parameters(last), &rows())
            .into_keys()
            .map(|name| name.to_lowercase())
            .collect()
    }

    #[test]
    fn values_are_compared_as_the_server_reads_them() {
        let same = [
            ("work_mem", "9MB"),
            ("shared_buffers", "128MB"),
            ("wal_buffers", "-1"),
            ("wal_buffers", "4MB"),
            ("autovacuum_vacuum_cost_delay", "2000us"),
            ("checkpoint_timeout", "5min"),
            ("huge_pages", "TRY"),
            ("synchronous_commit", "true"),
            ("fsync", "yes"),
            ("timezone", "Etc/UTC"),
            ("hot_standby", "off"),
            ("primary_conninfo", "host=elsewhere"),
            ("wal_block_size", "4096"),
            ("pg_stat_statements.max", "5000"),
            ("my.knob", "1"),
        ];
        for (name, value) in same {
            assert_eq!(pending(&[(name, value)], &[(name, value)]), [""; 0], "{name}");
        }
        let different =
            [("work_mem", "9kB"), ("fsync", "off"), ("huge_pages", "on"), ("timezone", "utc"), ("wal_buffers", "2MB")];
        for (name, value) in different {
            assert_eq!(pending(&[(name, value)], &[(name, value)]), [name], "{name}");
        }
    }

    #[test]
    fn what_needs_a_restart_is_told_with_both_values() {
        let wanted = parameters(&[("max_connections", "120"), ("shared_buffers", "1536MB"), ("bogus", "1")]);
        let result = pending_restarts(&wanted, &parameters(&[("huge_pages", "on")]), &rows());
        let expected = json!({
            "huge_pages": {"old_value": "try", "new_value": "?"},
            "max_connections": {"old_value": "60", "new_value": "120"},
            "shared_buffers": {"old_value": "128MB", "new_value": "1536MB"},
        });
        assert_eq!(Value::Object(pending_json(&result)), expected);
    }

    #[test]
    fn what_is_taken_back_waits_for_no_restart() {
        assert_eq!(pending(&[("max_connections", "60")], &[("max_connections", "120")]), [""; 0]);
        assert_eq!(pending(&[], &[("my.knob", "1")]), [""; 0]);
    }

    #[test]
    fn the_servers_own_list_leaves_out_what_is_not_reported() {
        let rows = rows();
        let names: Vec<&str> = pending_of_server(&rows).iter().map(|row| row.name.as_str()).collect();
        assert_eq!(names, ["max_connections"]);
    }

    #[test]
    fn numbers_are_shown_in_the_largest_exact_unit() {
        let rows = rows();
        let row = |name: &str| rows.iter().find(|row| row.name == name).expect("a known row");
        let cases = [
            ("shared_buffers", "16384", "128MB"),
            ("shared_buffers", "16385", "131080kB"),
            ("work_mem", "1048576", "1GB"),
            ("wal_buffers", "-1", "-1"),
            ("checkpoint_timeout", "300", "5min"),
            ("checkpoint_timeout", "90", "90s"),
            ("autovacuum_vacuum_cost_delay", "2.5", "2500us"),
            ("max_connections", "0100", "64"),
            ("fsync", "on", "on"),
            ("work_mem", "lots", "lots"),
        ];
        for (name, value, expected) in cases {
            assert_eq!(readable(row(name), value), expected, "{name} {value}");
        }
    }
}
