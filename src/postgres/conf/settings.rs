//! What a running server would have to change: the wanted parameters compared with its `pg_settings`.
//!
//! Values are compared as the server reads them, so that `9MB` equals `9216` in kB. Recovery parameters and
//! `hot_standby` are not compared here. The query itself is the caller's; [`SETTINGS_COLUMNS`] says what it selects.

use std::collections::{BTreeMap, BTreeSet};

use crate::config::units;

use super::values::number_text;
use super::{Parameters, parse_server_bool, recovery};

/// Columns of `pg_settings` in the order of [`SettingRow`]'s fields.
pub const SETTINGS_COLUMNS: &str = "name, setting, unit, vartype, context, source, pending_restart";

/// One row of `pg_settings`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SettingRow {
    pub name: String,
    pub setting: String,
    /// `8kB`, `ms` …
    pub unit: Option<String>,
    pub vartype: VarType,
    pub context: Context,
    pub source: String,
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

/// What came out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Comparison {
    /// Parameters for which the file has to be written and the server reloaded.
    pub changed: BTreeSet<String>,
    /// Those of them that take effect at a restart only.
    pub pending: PendingRestarts,
    /// Names without a dot that the server does not know; to be left out, with a warning.
    pub unknown: BTreeSet<String>,
}

/// Compares the wanted parameters with the server's. `last` is what was configured before: parameters that it has and
/// `wanted` has not are removed ones, and a change back to what the server runs with is a change as well.
pub fn compare(wanted: &Parameters, last: &Parameters, rows: &[SettingRow]) -> Comparison {
    let rows: BTreeMap<String, &SettingRow> = rows.iter().map(|row| (row.name.to_ascii_lowercase(), row)).collect();
    let mut result = Comparison::default();
    let is_compared = |name: &&String| !recovery::is_recovery_parameter(name) && *name != "hot_standby";
    for (name, value) in wanted.iter().filter(|(name, _)| is_compared(name)) {
        match rows.get(name) {
            Some(row) => compare_one(name, Some(value), last.get(name), row, &rows, &mut result),
            // Not there as long as its extension is not loaded.
            None if name.contains('.') => {
                if last.get(name) != Some(value) {
                    result.changed.insert(name.clone());
                }
            }
            None => {
                result.unknown.insert(name.clone());
            }
        }
    }
    for (name, value) in last.iter().filter(|(name, _)| is_compared(name) && !wanted.contains_key(*name)) {
        match rows.get(name) {
            Some(row) => compare_one(name, None, Some(value), row, &rows, &mut result),
            None if name.contains('.') => {
                result.changed.insert(name.clone());
            }
            None => {}
        }
    }
    result
}

fn compare_one(
    name: &str,
    wanted: Option<&String>,
    last: Option<&String>,
    row: &SettingRow,
    rows: &BTreeMap<String, &SettingRow>,
    result: &mut Comparison,
) {
    if row.context == Context::Internal {
        return;
    }
    let differs = match wanted {
        Some(wanted) if name == "wal_buffers" => !is_same(row, wanted) && !is_automatic_wal_buffers(row, wanted, rows),
        Some(wanted) => !is_same(row, wanted),
        None => true,
    };
    if differs && row.context == Context::Postmaster {
        let new_value = wanted.map_or_else(|| "?".to_owned(), |wanted| readable(row, wanted));
        let old_value = readable(row, &row.setting);
        result.pending.insert(row.name.clone(), PendingRestart { old_value, new_value });
    }
    let is_taken_back = wanted.zip(last).is_some_and(|(wanted, last)| !is_same_text(row, wanted, last));
    if differs || is_taken_back {
        result.changed.insert(name.to_owned());
    }
}

fn is_same(row: &SettingRow, wanted: &str) -> bool {
    is_same_text(row, &row.setting, wanted)
}

/// Whether two values of this parameter are one for the server. A value that it cannot read is no other's equal.
fn is_same_text(row: &SettingRow, one: &str, other: &str) -> bool {
    let unit = row.unit.as_deref();
    match row.vartype {
        VarType::Bool => both(one, other, parse_server_bool),
        VarType::Integer => both(one, other, |text| units::parse_int(text, unit)),
        VarType::Real => both(one, other, |text| units::parse_real(text, unit)),
        VarType::Enum => both(one, other, |text| Some(enum_word(text))),
        VarType::String => one == other,
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
    let counts = |name: &str| !recovery::is_recovery_parameter(name) && name != "hot_standby";
    rows.iter().filter(|row| row.pending_restart && counts(&row.name)).collect()
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
