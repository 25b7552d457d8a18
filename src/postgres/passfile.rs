//! Password files for libpq: the server's own, and those lent to one run of a program.

use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use super::conf::pgpass;
use super::local::LocalPostgres;
use super::{PostgresError, files};
use crate::config::{Credentials, Secret};
use crate::core::local::Upstream;
use crate::core::view::Address;

/// Goes with this value, also when the run that it is for is given up.
pub(super) struct LentPassfile(PathBuf);

impl LentPassfile {
    pub(super) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for LentPassfile {
    fn drop(&mut self) {
        let _ = files::remove_if_there(&self.0);
    }
}

impl LocalPostgres {
    /// The password file that `primary_conninfo` names.
    pub(super) fn write_passfile(&self, upstream: &Upstream) -> Result<(), PostgresError> {
        let Upstream::Member { address, .. } = upstream else { return Ok(()) };
        let config = self.config();
        self.write_passfile_at(&config.postgres.pgpass, address, &config.postgres.replication)
    }

    /// A password file for this server and these credentials; none where there is no password.
    fn write_passfile_at(
        &self,
        path: &Path,
        address: &Address,
        credentials: &Credentials,
    ) -> Result<(), PostgresError> {
        let Some(password) = &credentials.password else { return Ok(()) };
        let content: Secret = pgpass::content(&address.host, address.port, &credentials.username, password)
            .map_err(|cause| PostgresError::Refused(format!("user {}: {cause}", credentials.username)))?;
        let made =
            path.parent().map_or(Ok(()), |dir| std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir));
        made.and_then(|()| files::replace_if_different(path, content.expose().as_bytes(), 0o600))
            .map(drop)
            .map_err(|cause| PostgresError::failed(format!("write the password file {}", path.display()), cause))
    }

    /// One for a run of a program.
    pub(super) fn lend_passfile(
        &self,
        job: &str,
        address: &Address,
        credentials: &Credentials,
    ) -> Result<LentPassfile, PostgresError> {
        let lent = LentPassfile(files::beside(&self.config().postgres.pgpass, job));
        self.write_passfile_at(&lent.0, address, credentials)?;
        Ok(lent)
    }
}
