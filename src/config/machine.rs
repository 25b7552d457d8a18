//! Whether what a configuration names is there on this machine. Apart from reading it, since the command line is also
//! used where no PostgreSQL is.

use super::Config;

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
