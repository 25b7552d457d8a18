//! Whether what a configuration names is there on this machine. Apart from reading it, since the command line is also
//! used where no member is.

use std::io::ErrorKind;
use std::path::PathBuf;

use super::document::Document;
use super::error::{ConfigError, Report};
use super::{Config, Unusable, Weight};

/// A file that a setting names.
#[derive(Debug)]
pub(super) struct NamedFile {
    /// The setting, as errors name it.
    pub place: String,
    pub path: PathBuf,
}

/// Files that are not there, and directories in their place, are errors. What may not be read is left to whoever reads it,
/// perhaps as another user.
pub(super) fn check_files(files: &[NamedFile], report: &mut Report) {
    for NamedFile { place, path } in files {
        let what = match std::fs::metadata(path) {
            Ok(file) if file.is_dir() => "a directory",
            Err(error) if error.kind() == ErrorKind::NotFound => "no such file",
            Ok(_) | Err(_) => continue,
        };
        report.error(ConfigError::new(place, format!("{path:?} given, {what}"), "a file that is there"));
    }
}

/// What is there and of no use. One error for each setting: a file that is not there is told already.
pub(super) fn check_tls(unusable: &[Unusable], document: &Document, report: &mut Report) {
    for Unusable { setting, given, accepted, weight } in unusable {
        let place = document.place(setting);
        match weight {
            Weight::Error if report.errors.iter().any(|error| error.at == place) => {}
            Weight::Error => {
                report.error(ConfigError::new(place, given, *accepted));
            }
            Weight::Warning => report.warn(format!("{place}: {given}; {accepted}")),
        }
    }
}

/// PostgreSQL's majors that get no fixes any more, with the month of their last.
const UNSUPPORTED_MAJORS: [(&str, &str); 2] = [("13", "November 2025"), ("14", "November 2026")];

/// A warning where the data or the programs are of a major version past its end of life.
pub(super) fn warn_of_old_version(config: &Config, report: &mut Report) {
    let of_data = std::fs::read_to_string(config.postgres.data_dir.join("PG_VERSION")).ok();
    let of_data = of_data.as_deref().map(str::trim);
    let parts = config.postgres.bin_dir.iter().flat_map(|dir| dir.iter()).filter_map(|part| part.to_str());
    let found: Vec<&str> = of_data.into_iter().chain(parts).collect();
    if let Some((major, end)) = UNSUPPORTED_MAJORS.iter().find(|(major, _)| found.contains(major)) {
        report
            .warn(format!("PostgreSQL {major} gets no security fixes any more, the last were those of {end}: upgrade"));
    }
}

impl Config {
    /// What is wrong with the folder of PostgreSQL's programs, where one is given.
    pub fn missing_programs(&self) -> Option<String> {
        let dir = self.postgres.bin_dir.as_ref()?;
        let server = self.postgres.bin_name.get("postgres").map_or("postgres", String::as_str);
        let is_there = dir.join(server).is_file();
        let accepted = "the folder of PostgreSQL's programs (PATRONI_POSTGRESQL_BIN_DIR)";
        (!is_there).then(|| format!("postgresql.bin_dir: {dir:?} has no program {server}; expected: {accepted}"))
    }
}
