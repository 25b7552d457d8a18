//! The server's Unix sockets: their folders, and the socket and lock files that a killed server leaves there.
//!
//! PostgreSQL refuses to start when the number in a socket's lock file belongs to any process or thread of its user.
//! After a power failure that may be anything: process numbers start anew with the container.
//!
//! **Invariant:** the socket of a living server stays, also of one in another container that shares the folder. A
//! socket is stale only if nobody accepts connections on it and its lock file names no living server.

use std::io::ErrorKind;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use super::local::LocalPostgres;
use super::pidfile::PidFile;
use super::postmaster::read_pid_file;
use super::process::{self, Folder, Process};
use super::{PostgresError, files};

/// Where Debian's builds of the server have their socket, a folder that no setting names.
const PACKAGED_SOCKETS: &str = "/var/run/postgresql";
const SETTING: &str = "unix_socket_directories";

impl LocalPostgres {
    /// Makes the folders for sockets and removes what a killed server has left in them. Only while no server of ours
    /// runs.
    pub(super) async fn prepare_sockets(&self) -> Result<(), PostgresError> {
        self.check_socket_dirs()?;
        let port = self.config().postgres.port;
        let dirs = self.socket_dirs().await;
        let names = self.programs.server_names();
        let removed = self.on_disk(move || {
            dirs.iter().for_each(|dir| remove_stale(dir, port, &names));
            Ok(())
        });
        removed.await.map_err(|cause| PostgresError::failed("look for stale sockets", cause))
    }

    /// A folder for sockets that was set, is absolute and does not exist is made: /run is empty after a restart.
    fn check_socket_dirs(&self) -> Result<(), PostgresError> {
        let parameters = self.wanted_parameters();
        let dirs = parameters.get(SETTING).unwrap_or_default().to_owned();
        if dirs.is_empty() && Path::new(PACKAGED_SOCKETS).parent().is_some_and(files::is_writable) {
            // An empty /run where nobody was root to prepare it; without the folder the server itself says what it lacks.
            let _ = std::fs::create_dir_all(PACKAGED_SOCKETS);
        }
        for dir in absolute(&dirs) {
            std::fs::create_dir_all(&dir).map_err(|cause| {
                PostgresError::failed(format!("make {} of unix_socket_directories", dir.display()), cause)
            })?;
            if !files::is_writable(&dir) {
                return Err(PostgresError::Refused(format!(
                    "unix_socket_directories: {} is not writable for the user that PostgreSQL runs as",
                    dir.display()
                )));
            }
        }
        Ok(())
    }

    /// The folders that the next start uses, and the one that the last one used. The server's own program is asked where
    /// our settings do not say it (the user's file may), once, and again after a start that failed.
    async fn socket_dirs(&self) -> Vec<PathBuf> {
        let wanted = self.wanted_parameters().get(SETTING).map(str::to_owned);
        let known = wanted.or_else(|| self.memory().socket_dirs.clone());
        let setting = match known {
            Some(dirs) => dirs,
            None => self.setting_on_disk(SETTING).await.unwrap_or_default(),
        };
        let mut dirs = absolute(&setting);
        dirs.extend(read_pid_file(&self.data_dir).and_then(|file| file.socket_dir));
        self.memory().socket_dirs = Some(setting);
        dirs
    }
}

fn absolute(setting: &str) -> Vec<PathBuf> {
    setting.split(',').map(str::trim).filter(|dir| dir.starts_with('/')).map(PathBuf::from).collect()
}

/// Removes this port's socket and lock file from a folder if they are stale.
fn remove_stale(dir: &Path, port: u16, server_names: &[String]) {
    let socket = dir.join(format!(".s.PGSQL.{port}"));
    let lock = files::beside(&socket, "lock");
    let Ok(text) = std::fs::read_to_string(&lock) else { return };
    if is_served(&socket) {
        return;
    }
    // Without a number the server refuses it as bogus or, if it is empty, as one that is being written.
    let named = PidFile::parse(&text);
    if named.as_ref().is_none_or(|file| is_server(file, server_names)) {
        return;
    }
    // The lock file last: without it the socket would be anybody's.
    let removed = files::remove_if_there(&socket).and_then(|()| files::remove_if_there(&lock));
    let number = named.map_or(0, |file| file.pid);
    match removed {
        Ok(()) => tracing::info!("removed the stale lock file {}: process {number} is not its server", lock.display()),
        Err(error) => tracing::warn!("cannot remove the stale lock file {}: {error}", lock.display()),
    }
}

/// Whether somebody accepts connections there, in whatever container. What cannot be told counts as yes.
fn is_served(socket: &Path) -> bool {
    match UnixStream::connect(socket) {
        Ok(_) => true,
        Err(error) => !matches!(error.kind(), ErrorKind::ConnectionRefused | ErrorKind::NotFound),
    }
}

/// Whether the process that a lock file names may be the server that wrote it.
fn is_server(file: &PidFile, server_names: &[String]) -> bool {
    // Neither a thread nor a zombie is one, although both can be signalled.
    let process = match Process::find(file.pid) {
        Ok(Some(process)) => process,
        Ok(None) => return false,
        Err(_cannot_be_told) => return true,
    };
    let name = process::executable(process.pid()).and_then(|path| Some(path.file_name()?.to_str()?.to_owned()));
    let name = name.or_else(|| process::command_name(process.pid()));
    let works_elsewhere = process::working_directory(process.pid())
        .is_some_and(|folder| Folder::at(&file.data_dir).is_some_and(|data| data != folder));
    name.is_none_or(|name| server_names.contains(&name)) && !works_elsewhere
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_judged_stays() {
        let folder = tempfile::tempdir().expect("a folder");
        let (socket, lock) = (folder.path().join(".s.PGSQL.5432"), folder.path().join(".s.PGSQL.5432.lock"));
        let names = ["postgres".to_owned()];
        let program = std::env::current_exe().expect("we run");
        let own_name = [program.file_name().expect("a file").to_string_lossy().into_owned()];
        let left = |text: String, names: &[String]| {
            std::fs::write(&lock, text).expect("written");
            std::fs::write(&socket, "").expect("written");
            remove_stale(folder.path(), 5432, names);
            assert_eq!(socket.exists(), lock.exists());
            lock.exists()
        };
        let own = std::process::id();
        let here = std::env::current_dir().expect("a folder");
        assert!(left(String::new(), &names), "it is being written");
        assert!(!left(format!("{own}\n/data\n1\n5432\n/run\n"), &names));
        assert!(left(format!("{own}\n{}\n1\n5432\n/run\n", here.display()), &own_name), "it may be the server");
        assert!(!left(format!("{own}\n{}\n1\n5432\n/run\n", folder.path().display()), &own_name), "another one's data");
        let _served = std::os::unix::net::UnixListener::bind(&socket).expect("bound");
        std::fs::write(&lock, format!("{own}\n/data\n1\n5432\n/run\n")).expect("written");
        remove_stale(folder.path(), 5432, &names);
        assert!(socket.exists() && lock.exists());
    }
}
