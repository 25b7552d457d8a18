//! From the environment and a file to a checked `Config`, or to everything that is wrong.

use std::ffi::OsString;
use std::path::Path;

use super::document::Document;
use super::effective::Effective;
use super::error::{ConfigErrors, Report, Reported};
use super::given::{CommandOptions, HostFacts, Purpose};
use super::machine::{check_files, check_tls, warn_of_old_version};
use super::mode::{Store, Wanted};
use super::raw::RawEnv;
use super::reader::Reader;
use super::{
    Config, CtlConfig, DcsConfig, RestConfig, addresses, bootstrap, etcd, kubernetes, log, node, server, unsupported,
    watchdog,
};

impl Config {
    /// The configuration of a node that runs. `file`: the path argument, a YAML file or a folder of them.
    pub fn from_environment(
        vars: impl Iterator<Item = (OsString, OsString)>,
        file: Option<&Path>,
        host: &HostFacts,
    ) -> Result<Config, ConfigErrors> {
        load(vars, file, &CommandOptions::default(), host, Purpose::Reload)
    }

    /// The same for a node that is to start: files and programs that are not there are told with everything else.
    pub fn for_start(
        vars: impl Iterator<Item = (OsString, OsString)>,
        file: Option<&Path>,
        host: &HostFacts,
    ) -> Result<Config, ConfigErrors> {
        load(vars, file, &CommandOptions::default(), host, Purpose::Start)
    }

    /// For commands, which also run where no member is: the data directory is empty where none is given, and so is the
    /// scope where Kubernetes is to tell it.
    pub fn for_command_line(
        vars: impl Iterator<Item = (OsString, OsString)>,
        file: Option<&Path>,
        options: &CommandOptions,
        host: &HostFacts,
    ) -> Result<Config, ConfigErrors> {
        load(vars, file, options, host, Purpose::CommandLine)
    }

    /// Each value in force with its origin, secrets redacted; what `tamada config check` prints.
    pub fn effective(&self) -> &Effective {
        &self.effective
    }
}

fn load(
    vars: impl Iterator<Item = (OsString, OsString)>,
    file: Option<&Path>,
    options: &CommandOptions,
    host: &HostFacts,
    purpose: Purpose,
) -> Result<Config, ConfigErrors> {
    let mut report = Report::default();
    let raw = RawEnv::read(vars, &mut report);
    let mut document = Document::gather(&raw, file, &mut report);
    options.given().for_each(|(path, option, value)| document.set_option(path, option, value));
    let mut reader = Reader::new(&document, &mut report, purpose);
    let (config, rest, ctl) = read(&mut reader, &raw, host);
    let files = std::mem::take(&mut reader.files);
    let mut lines = reader.finish();
    lines.retain(|path, _| !path.starts_with("environment."));
    if purpose == Purpose::Start {
        check_files(&files, &mut report);
        check_tls(&(host.unusable)(&rest, &ctl), &document, &mut report);
        config.iter().for_each(|config| warn_of_old_version(config, &mut report));
    }
    match config {
        Ok(config) if report.errors.is_empty() => Ok(Config {
            warnings: report.warnings,
            cluster_variables: document.cluster_variables,
            effective: Effective(lines),
            ..config
        }),
        _ => Err(ConfigErrors { errors: report.errors, warnings: report.warnings }),
    }
}

/// With the REST API's part and that of requests, which are looked at whatever else is wrong.
fn read(reader: &mut Reader<'_>, raw: &RawEnv, host: &HostFacts) -> (Result<Config, Reported>, RestConfig, CtlConfig) {
    let data_dir = server::data_dir(reader);
    let wanted = Wanted::of(reader, raw, host, data_dir.as_deref().ok());
    let mode = wanted.mode();
    let dcs = match wanted {
        Wanted::Single => Ok(DcsConfig::Single),
        Wanted::Cluster(Store::Etcd3) => etcd::read(reader).map(DcsConfig::Etcd3),
        Wanted::Cluster(Store::Kubernetes) => {
            kubernetes::read(reader, host).map(|config| DcsConfig::Kubernetes(Box::new(config)))
        }
        Wanted::WithoutDcs(reported) => Err(reported),
    };
    for store in Store::ALL {
        if !matches!(wanted, Wanted::Cluster(wanted) if wanted == store) {
            let _asked = reader.value(store.section());
        }
    }
    kubernetes::surroundings(reader);
    let rest = node::rest(reader, host, mode);
    let postgres = server::read(reader, host, mode, data_dir.clone().unwrap_or_default());
    unsupported::check(reader, mode);
    // PID 1 obeys it; it is read here so that a value that is no switch is an error.
    reader.switch_or("environment.no_new_privs", crate::core::policy::Switch::On);
    let malloc_arena_max = reader.text("environment.malloc_arena_max");
    let name = node::name(reader, host, wanted);
    let (tags, published_tags) = node::tags(reader, &name);
    let stop_timeout = node::stop_timeout(reader);
    let keep_discarded = node::keep_discarded(reader);
    let scope = node::scope(reader, wanted);
    let namespace = node::namespace(reader);
    let ctl = node::ctl(reader, rest.auth.clone());
    let log = log::read(reader);
    let watchdog = watchdog::read(reader, mode);
    let bootstrap = bootstrap::read(reader, &host.account, &postgres.superuser.username, mode);
    if let Ok(DcsConfig::Etcd3(etcd)) = &dcs {
        addresses::warn_of_loopback(reader, etcd, &postgres, &rest);
    }
    // Only now, so that everything has been read and all errors are told at once.
    let config = data_dir.and(dcs).map(|dcs| Config {
        name,
        stop_timeout,
        keep_discarded,
        scope,
        namespace,
        dcs,
        postgres,
        ctl: ctl.clone(),
        rest: rest.clone(),
        log,
        watchdog,
        tags,
        published_tags,
        bootstrap,
        warnings: Vec::new(),
        cluster_variables: Vec::new(),
        malloc_arena_max,
        account: host.account.clone(),
        effective: Effective::default(),
    });
    (config, rest, ctl)
}
