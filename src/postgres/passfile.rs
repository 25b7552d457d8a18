//! Password files for libpq: the server's own, and those lent to one run of a program. The password of a certificate's key
//! has neither a variable nor a place in a password file; a service file (`PGSERVICEFILE`) may hold it.

use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use super::conf::conninfo::Conninfo;
use super::conf::pgpass;
use super::local::LocalPostgres;
use super::programs::Run;
use super::{PostgresError, files};
use crate::config::{Credentials, Secret};
use crate::core::local::Upstream;
use crate::core::view::Address;

/// The one service in a service file of ours.
const SERVICE: &str = "tamada";

/// They go with this value, also when the run that it is for is given up.
pub(super) struct LentSecrets {
    passfile: PathBuf,
    service_file: PathBuf,
    has_service: bool,
    has_password: bool,
}

impl LentSecrets {
    pub(super) fn passfile(&self) -> &Path {
        &self.passfile
    }

    /// The run with what it needs to find them. Without a password of ours it reads the account's own file.
    pub(super) fn lend_to(&self, run: Run) -> Run {
        let run = if self.has_password { run.env("PGPASSFILE", &self.passfile) } else { run };
        if self.has_service { run.env("PGSERVICEFILE", &self.service_file) } else { run }
    }

    /// What it connects with.
    pub(super) fn named_in(&self, conninfo: Conninfo) -> Conninfo {
        if self.has_service { conninfo.with("service", SERVICE) } else { conninfo }
    }
}

impl Drop for LentSecrets {
    fn drop(&mut self) {
        for file in [&self.passfile, &self.service_file] {
            let _ = files::remove_if_there(file);
        }
    }
}

impl LocalPostgres {
    /// The password file that `primary_conninfo` names.
    pub(super) fn write_passfile(&self, upstream: &Upstream) -> Result<(), PostgresError> {
        let Some(address) = upstream.address() else { return Ok(()) };
        let config = self.config();
        self.write_passfile_at(&config.postgres.pgpass, &address, &config.postgres.replication)
    }

    /// A password file for this server and these credentials; none where there is no password.
    fn write_passfile_at(
        &self,
        path: &Path,
        address: &Address,
        credentials: &Credentials,
    ) -> Result<(), PostgresError> {
        let Some(password) = &credentials.password else { return Ok(()) };
        let content = pgpass::content(&address.host, address.port, &credentials.username, password)
            .map_err(|cause| PostgresError::Refused(format!("user {}: {cause}", credentials.username)))?;
        write(path, &content)
            .map_err(|c| PostgresError::failed(format!("write the password file {}", path.display()), c))
    }

    /// For a run of a program.
    pub(super) fn lend_secrets(
        &self,
        job: &str,
        address: &Address,
        credentials: &Credentials,
    ) -> Result<LentSecrets, PostgresError> {
        let passfile = files::beside(&self.config().postgres.pgpass, job);
        let service_file = files::beside(&passfile, "service");
        let has_service = credentials.sslpassword.is_some();
        let has_password = credentials.password.is_some();
        let lent = LentSecrets { passfile, service_file, has_service, has_password };
        self.write_passfile_at(&lent.passfile, address, credentials)?;
        if let Some(sslpassword) = &credentials.sslpassword {
            let content = service(sslpassword)
                .map_err(|cause| PostgresError::Refused(format!("user {}: {cause}", credentials.username)))?;
            let attempted = || format!("write the service file {}", lent.service_file.display());
            write(&lent.service_file, &content).map_err(|cause| PostgresError::failed(attempted(), cause))?;
        }
        Ok(lent)
    }
}

fn write(path: &Path, content: &Secret) -> std::io::Result<()> {
    let made = path.parent().map_or(Ok(()), |dir| std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir));
    made.and_then(|()| files::replace_if_different(path, content.expose().as_bytes(), 0o600)).map(drop)
}

/// A value goes to the end of its line, without the space at that end (`fe-connect.c`, parseServiceFile); nothing is quoted.
fn service(sslpassword: &Secret) -> Result<Secret, &'static str> {
    let text = sslpassword.expose();
    if text.contains(['\n', '\r', '\0']) || text.ends_with(|c: char| c.is_ascii_whitespace()) {
        return Err("sslpassword has a line break or ends with white space, which libpq's service file cannot hold");
    }
    Ok(Secret::new(format!("[{SERVICE}]\nsslpassword={text}\n")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_s_password_stands_in_the_service_file_as_it_is() {
        let content = service(&Secret::new(" a=b # c")).expect("it fits");
        assert_eq!(content.expose(), "[tamada]\nsslpassword= a=b # c\n");
        for odd in ["two\nlines", "space at the end "] {
            let why = service(&Secret::new(odd)).map(drop).expect_err("it does not fit");
            assert!(!why.contains(odd));
        }
    }
}
