//! What a process is built on, and a reload therefore leaves as it is until the next start.

use std::path::PathBuf;

use super::{Config, DcsConfig, EtcdConfig};

impl Config {
    /// Puts the values that only a start can take over back to those in force; the names of those that differ.
    pub fn keep_until_next_start(&mut self, in_force: &Config) -> Vec<&'static str> {
        let mut kept = Kept(Vec::new());
        kept.value("name", &mut self.name, &in_force.name);
        kept.value("scope", &mut self.scope, &in_force.scope);
        kept.value("namespace", &mut self.namespace, &in_force.namespace);
        let (new, old) = (&mut self.postgres, &in_force.postgres);
        kept.value("postgresql.data_dir", &mut new.data_dir, &old.data_dir);
        kept.value("postgresql.config_dir", &mut new.config_dir, &old.config_dir);
        kept.value("postgresql.config_base_name", &mut new.config_base_name, &old.config_base_name);
        kept.value("postgresql.bin_dir", &mut new.bin_dir, &old.bin_dir);
        kept.value("postgresql.bin_name", &mut new.bin_name, &old.bin_name);
        kept.value("postgresql.pgpass", &mut new.pgpass, &old.pgpass);
        kept.value("postgresql.database", &mut new.database, &old.database);
        kept.value("restapi.request_queue_size", &mut self.rest.request_queue_size, &in_force.rest.request_queue_size);
        match (&mut self.dcs, &in_force.dcs) {
            (DcsConfig::Single, DcsConfig::Single) => {}
            (DcsConfig::Etcd3(new), DcsConfig::Etcd3(old)) => kept.etcd(new, old),
            (DcsConfig::Kubernetes(new), DcsConfig::Kubernetes(old)) => kept.value("kubernetes", new, old),
            (new, old) => {
                kept.0.push("the DCS");
                *new = old.clone();
            }
        }
        kept.0
    }
}

struct Kept(Vec<&'static str>);

impl Kept {
    fn value<T: PartialEq + Clone>(&mut self, name: &'static str, new: &mut T, old: &T) {
        if new != old {
            self.0.push(name);
            new.clone_from(old);
        }
    }

    /// The credentials are taken over. The certificates' files are read at each connection, but always the same ones.
    fn etcd(&mut self, new: &mut EtcdConfig, old: &EtcdConfig) {
        self.value("etcd3.hosts", &mut new.endpoints, &old.endpoints);
        self.value("etcd3.protocol", &mut new.scheme, &old.scheme);
        self.value("etcd3.use_proxies", &mut new.use_proxies, &old.use_proxies);
        let files: [(_, &mut Option<PathBuf>, _); 3] = [
            ("etcd3.cacert", &mut new.cacert, &old.cacert),
            ("etcd3.cert", &mut new.cert, &old.cert),
            ("etcd3.key", &mut new.key, &old.key),
        ];
        files.into_iter().for_each(|(name, new, old)| self.value(name, new, old));
    }
}
