//! The agent's process, put together from the rooms: configuration, log, store, server, loop and API. Belongs to
//! `main`'s layer: it names all of them and decides nothing.
//!
//! Two threads matter: the loop with its runtime, and the API with another, so that no flood of requests delays a
//! renewal. The thread that writes the log is a third.

mod log;
mod peers;
mod wal_folders;
mod worker;

pub use wal_folders::wal_folders;

use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use nix::unistd::{User, geteuid, gethostname};
use tokio::sync::watch;

use self::peers::HttpPeers;
use self::worker::Worker;
use crate::agent::clock::SystemClock;
use crate::agent::cluster_file::ClusterFile;
use crate::agent::init_socket::{InitSocket, from_wire};
use crate::agent::lease_file::LeaseFile;
use crate::agent::{Agent, AgentHandle, Incarnation, Parts, Runtimes, at_start};
use crate::api;
use crate::config::{
    Account, CheckTls, Config, ConfigErrors, CtlConfig, Dynamic, HostFacts, KubernetesAccess, LogConfig, RestConfig,
    Unusable, inspect_data_dir,
};
use crate::core::policy::{Floor, Mode};
use crate::dcs::{self, LeaseToken, Store};
use crate::http::local_api;
use crate::postgres::volume::{self, Surroundings};
use crate::postgres::{LocalPostgres, kept_dynamic};
use crate::process::inherited_timer;
use crate::telemetry::Telemetry;
use crate::wire::{Handover, ToInit, receive_handover};

pub type Environment = Vec<(OsString, OsString)>;

const FAILED: u8 = 1;
const CONFIGURATION: u8 = 64;

/// How long the last lines of the log may take.
const FLUSH_LIMIT: Duration = Duration::from_secs(1);

/// How long after a failed start the API is tried again.
const API_RETRY: Duration = Duration::from_secs(2);

/// Blocking calls (names, files) run in at most so many threads.
const BLOCKING_THREADS: usize = 8;

/// What the agent is started with.
pub struct Given {
    /// To PID 1; what PID 1 says after the environment has not been read yet.
    pub socket: OwnedFd,
    /// The container's whole environment, secrets included.
    pub environment: Environment,
    /// Our own environment, which children inherit.
    pub inherited: Environment,
    /// At most one: a YAML file or a folder of them.
    pub arguments: Vec<OsString>,
}

/// What the configuration names for TLS that cannot be used. `tamada config check` tells it too.
pub fn unusable_settings(rest: &RestConfig, ctl: &CtlConfig) -> Vec<Unusable> {
    api::problems(rest, ctl)
}

/// Runs the agent until it is to end; the exit code, which PID 1 has been told.
pub fn agent(given: Given) -> u8 {
    let log = LogConfig::of_environment(&given.environment);
    match Beginning::of(given) {
        Ok(beginning) => beginning.run(),
        Err(failure) => failure.tell(log),
    }
}

/// Why there is no agent.
struct Failure {
    /// One line for each thing that is wrong.
    why: String,
    /// What a person should know as well.
    warnings: Vec<String>,
    code: u8,
    init: Option<InitSocket>,
    /// Where the configuration could be read.
    log: Option<Box<LogConfig>>,
}

impl Failure {
    fn tell(self, log: LogConfig) -> u8 {
        match Telemetry::start(self.log.map_or(log, |log| *log)) {
            Ok(telemetry) => {
                self.warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
                self.why.lines().for_each(|line| tracing::error!("{line}"));
                telemetry.flush(FLUSH_LIMIT);
            }
            Err(error) => eprintln!("cannot begin to log: {error}\n{}", self.why),
        }
        if let Some(init) = self.init {
            init.tell(ToInit::Bye(self.code));
        }
        self.code
    }
}

/// Everything that does not need a runtime.
struct Beginning {
    config: Config,
    instance: LocalPostgres,
    peers: HttpPeers,
    source: Source,
    telemetry: Telemetry,
    init: InitSocket,
    handover: Handover,
}

/// A later agent has a server to keep: what is broken on disk by now is told, and is no reason to stop a primary.
fn incarnation(handover: &Handover) -> Incarnation {
    if handover.starts > 1 { Incarnation::Later } else { Incarnation::First }
}

/// Where the configuration is read from, again and again.
struct Source {
    environment: Environment,
    file: Option<PathBuf>,
}

impl Source {
    /// Of an agent that starts beside a server that may run, or that reads its configuration again.
    fn read(&self) -> Result<Config, ConfigErrors> {
        Config::from_environment(
            self.environment.iter().cloned(),
            self.file.as_deref(),
            &Source::host(unusable_settings),
        )
    }

    fn read_for_start(&self) -> Result<Config, ConfigErrors> {
        Config::for_start(self.environment.iter().cloned(), self.file.as_deref(), &Source::host(unusable_settings))
    }

    fn host(unusable: CheckTls) -> HostFacts {
        HostFacts {
            host_name: gethostname().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default(),
            kubernetes: KubernetesAccess::look(),
            account: match User::from_uid(geteuid()) {
                Ok(Some(user)) => Account::Named(user.name),
                Ok(None) | Err(_) => Account::Unnamed,
            },
            inspect: Box::new(inspect_data_dir),
            unusable,
        }
    }
}

impl Beginning {
    fn of(given: Given) -> Result<Beginning, Failure> {
        let Given { socket, environment, inherited, mut arguments } = given;
        let failed = |why: String| Failure { why, warnings: Vec::new(), code: FAILED, init: None, log: None };
        let handover = receive_handover(&socket);
        let handover = handover.map_err(|error| failed(format!("cannot hear what PID 1 knows: {error}")))?;
        let timer = inherited_timer(handover.deadline)
            .map_err(|error| failed(format!("cannot take over the timer of PID 1's deadline: {error}")))?;
        let init = InitSocket::new(socket, timer);
        let init = init.map_err(|error| failed(format!("cannot speak with PID 1: {error}")))?;
        let refuse = |why: String, log| Failure {
            why,
            warnings: Vec::new(),
            code: CONFIGURATION,
            init: Some(init.clone()),
            log,
        };
        if arguments.len() > 1 {
            return Err(refuse("expected at most one argument, a YAML file".to_owned(), None));
        }
        let source = Source { environment, file: arguments.pop().map(PathBuf::from) };
        let config = match incarnation(&handover) {
            Incarnation::First => source.read_for_start(),
            Incarnation::Later => source.read(),
        };
        let config = config
            .map_err(|errors| Failure { warnings: errors.warnings.clone(), ..refuse(errors.to_string(), None) })?;
        let unusable = |why: String| refuse(why, Some(Box::new(config.log.clone())));
        // The cluster may name the programs too.
        let (cluster, _) = at_start(&config, kept_dynamic(&config.postgres.data_dir));
        let composed = config.with_cluster(&cluster.node);
        if let Some(missing) = composed.missing_programs() {
            return Err(unusable(missing));
        }
        let instance = LocalPostgres::new(Arc::new(composed), inherited);
        let instance = instance.map_err(|error| unusable(error.to_string()))?.with_hooks_of(&source.environment);
        let telemetry = log::begin(&config.log, incarnation(&handover)).map_err(|failed| {
            let log = Some(Box::new(log::on_standard_error(&config.log)));
            let code = if failed.is_configured { CONFIGURATION } else { FAILED };
            Failure { code, ..refuse(failed.why, log) }
        })?;
        let peers = HttpPeers::new(&config);
        Ok(Beginning { config, instance, peers, source, telemetry, init, handover })
    }

    fn run(self) -> u8 {
        let (init, telemetry) = (self.init.clone(), self.telemetry.clone());
        init.tell(ToInit::Ready);
        self.config.warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
        tell_place(&self.config.postgres.data_dir);
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().max_blocking_threads(BLOCKING_THREADS).build();
        let code = match runtime {
            Ok(runtime) => {
                let code = runtime.block_on(self.live());
                runtime.shutdown_background();
                code
            }
            Err(error) => {
                tracing::error!("cannot begin the loop: {error}");
                FAILED
            }
        };
        init.tell(ToInit::Bye(code));
        telemetry.flush(FLUSH_LIMIT);
        code
    }

    /// On the loop's runtime.
    async fn live(self) -> u8 {
        let config = &self.config;
        let file = match config.dcs.mode() {
            Mode::Single => {
                tracing::info!("no DCS is configured: this is a single server, without replicas and failover");
                None
            }
            Mode::Cluster => {
                let (namespace, scope, name) = (&config.namespace, &config.scope, config.name.as_str());
                Some(LeaseFile::new(&config.postgres.data_dir, namespace, scope, name))
            }
        };
        let kept = self.handover.lease.and_then(|token| LeaseToken::new(token.as_str()));
        let lease = kept.or_else(|| file.as_ref()?.load());
        let timing = Dynamic::default().timing.effective(Floor::Ours);
        match dcs::connect(config, timing, lease.as_ref()) {
            Ok(store) => self.with_store(store, file).await,
            Err(error) => fail(&error),
        }
    }

    async fn with_store(self, dcs: Store, lease_file: Option<LeaseFile>) -> u8 {
        let Beginning { config, instance, peers, source, telemetry, init, handover } = self;
        let (peers, incarnation) = (Arc::new(peers), incarnation(&handover));
        let cluster_file =
            lease_file.as_ref().map(|_| ClusterFile::new(&config.postgres.data_dir, &config.namespace, &config.scope));
        let rest = watch::Sender::new(Arc::new(config.rest.clone()));
        let listening = rest.subscribe();
        let mode = config.dcs.mode();
        let (scope, name) = (config.scope.clone(), config.name.as_str().to_owned());
        let known = peers.clone();
        let gauge = telemetry.clone();
        let log = api::LogGauge(Arc::new(move || {
            let backlog = gauge.backlog();
            (backlog.waiting, backlog.lost)
        }));
        let reread = move || {
            let config = source.read().map_err(|errors| errors.to_string())?;
            known.replace(&config).map_err(|error| error.to_string())?;
            telemetry.apply(config.log.clone());
            rest.send_replace(Arc::new(config.rest.clone()));
            Ok(config)
        };
        let (jobs, background) = match (Worker::start("jobs"), Worker::start("background")) {
            (Ok(jobs), Ok(background)) => (jobs, background),
            (Err(error), _) | (_, Err(error)) => return fail(&error),
        };
        let (agent, handle) = Agent::new(Parts {
            config,
            dcs,
            instance,
            clock: Arc::new(SystemClock),
            peers,
            init: Arc::new(init.clone()),
            runtimes: Runtimes { jobs: jobs.handle.clone(), background: background.handle.clone() },
            guard: from_wire(handover.guard),
            incarnation,
            lease_file,
            cluster_file,
            reread: Box::new(reread),
        });
        let announce = local_api::file(&scope, &name);
        let AgentHandle { mailbox, status, signals } = handle;
        let hearing = tokio::spawn(init.listen(signals));
        let api = api::Options { rest: listening, mode, status, mailbox, log, announce: Some(announce.clone()) };
        let code = serve(agent, incarnation, api).await;
        local_api::remove(&announce);
        hearing.abort();
        code
    }
}

/// Where the data are, at every start: whoever mounted a volume elsewhere sees it before they are lost.
fn tell_place(data_dir: &Path) {
    let is_below_pid_1 = std::os::unix::process::parent_id() == 1;
    let place =
        volume::place_of(data_dir, if is_below_pid_1 { Surroundings::Container } else { Surroundings::Unknown });
    tracing::info!("{place}");
    place.warning().iter().for_each(|warning| tracing::warn!("{warning}"));
}

/// The API listens only after the check for a namesake, which it would answer itself.
async fn serve(mut agent: Agent<Store, LocalPostgres>, incarnation: Incarnation, options: api::Options) -> u8 {
    if let Some(code) = agent.prepare().await {
        return code;
    }
    let api = match (api::start(options.clone()), incarnation) {
        (Ok(api), _) => tokio::spawn(std::future::ready(api)),
        (Err(error), Incarnation::First) => return fail(&error),
        (Err(error), Incarnation::Later) => {
            tracing::error!("there is no REST API until this is repaired: {error}");
            tokio::spawn(start_when_possible(options))
        }
    };
    let code = agent.run().await;
    api.abort();
    code
}

async fn start_when_possible(options: api::Options) -> api::Running {
    loop {
        tokio::time::sleep(API_RETRY).await;
        let options = options.clone();
        // The loop's thread does not wait for it.
        match tokio::task::spawn_blocking(move || api::start(options)).await {
            Ok(Ok(api)) => {
                tracing::info!("the REST API listens on {}", api.address);
                return api;
            }
            Ok(Err(error)) => tracing::debug!("the REST API cannot begin yet: {error}"),
            Err(error) => tracing::debug!("the REST API cannot begin yet: {error}"),
        }
    }
}

fn fail(error: &dyn std::error::Error) -> u8 {
    tracing::error!("{error}");
    FAILED
}
