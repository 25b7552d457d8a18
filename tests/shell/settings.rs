//! The configuration of a node in these tests.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Map, Value, json};
use tamada::config::*;
use tamada::core::policy::Switch;
use tamada::core::units::MemberName;
use tamada::core::view::Tags;

fn place(host: &str, port: u16) -> HostPort {
    HostPort { host: host.to_owned(), port }
}

fn account(username: &str) -> Credentials {
    Credentials { username: username.to_owned(), password: None, options: BTreeMap::new(), sslpassword: None }
}

/// A member of the cluster `demo` with ttl 30, loop_wait 10, retry_timeout 10.
pub fn config(name: &str) -> Config {
    with_document(name, json!({"ttl": 30, "loop_wait": 10, "retry_timeout": 10}))
}

pub fn with_document(name: &str, document: Value) -> Config {
    let Value::Object(document) = document else { panic!("a document is an object") };
    Config {
        name: MemberName::from(name),
        scope: "demo".to_owned(),
        namespace: "service".to_owned(),
        dcs: DcsConfig::Etcd3(EtcdConfig {
            endpoints: vec![place("etcd", 2379)],
            srv: None,
            scheme: Scheme::Http,
            use_proxies: Switch::Off,
            username: None,
            password: None,
            cacert: None,
            cert: None,
            key: None,
        }),
        postgres: PostgresConfig {
            listen_addresses: "0.0.0.0".to_owned(),
            port: 5432,
            connect_address: place(name, 5432),
            proxy_address: None,
            data_dir: "/nowhere".into(),
            config_dir: None,
            config_base_name: "postgresql".to_owned(),
            custom_conf: None,
            bin_dir: None,
            bin_name: BTreeMap::new(),
            pgpass: "/nowhere/pgpass".into(),
            database: "postgres".to_owned(),
            superuser: account("postgres"),
            replication: account("replicator"),
            rewind: None,
            use_unix_socket: Switch::Off,
            use_unix_socket_repl: Switch::Off,
            pg_ctl_timeout: Duration::from_secs(60),
            krbsrvname: None,
            callbacks: Callbacks::default(),
            basebackup: Vec::new(),
            rewind_options: Vec::new(),
            remove_data_directory_on_rewind_failure: Switch::Off,
            remove_data_directory_on_diverged_timelines: Switch::Off,
            local: ServerSettings::default(),
        },
        rest: RestConfig {
            listen: place("0.0.0.0", 8008),
            connect_address: place(name, 8008),
            auth: None,
            tls: None,
            allowlist: Vec::new(),
            allowlist_include_members: Switch::Off,
            http_extra_headers: BTreeMap::new(),
            https_extra_headers: BTreeMap::new(),
            request_queue_size: 5,
        },
        ctl: CtlConfig::default(),
        log: LogConfig { format: LogFormat::Plain, level: LogLevel::Info, static_fields: Map::new() },
        tags: Tags::default(),
        published_tags: Map::new(),
        bootstrap: BootstrapConfig { dcs: document, initdb: Vec::new(), pg_hba: Vec::new(), post_bootstrap: Vec::new() },
        warnings: Vec::new(),
    }
}
