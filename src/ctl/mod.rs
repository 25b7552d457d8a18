//! The operator's command line. It asks the members' REST API; the DCS only for what no member answers.
//!
//! Exit codes: 0 done, 1 refused or failed, 2 usage, 3 accepted but the outcome is not known, 64 configuration errors,
//! 69 nothing reachable. Unlike in Patroni, a refusal by a member is a failure for the caller too.

mod actions;
mod args;
mod clusters;
mod configuration;
mod health;
mod history;
mod kind;
mod list;
mod members;
mod prompt;
mod remove;
mod restart_order;
mod restarts;
mod settings;
mod store;
mod table;
mod yaml;

use std::ffi::OsString;
use std::path::PathBuf;

use clap::Parser;

use self::args::{Arguments, Command, ConfigCommand};
use crate::config::{CheckTls, CommandOptions, ConfigErrors};
use crate::core::PATRONI_VERSION;
use crate::http::HttpError;

/// Names the YAML file where no option does.
const CONFIG_FILE: &str = "PATRONICTL_CONFIG_FILE";

/// Why a command did not do what it was asked to.
#[derive(Debug, thiserror::Error)]
pub enum CtlError {
    /// A member refused, or an action failed.
    #[error("{0}")]
    Refused(String),
    /// A member took the request; what became of it is not known.
    #[error("{0}")]
    Unknown(String),
    #[error("{0}")]
    Unreachable(String),
    #[error("the configuration is wrong:\n{0}")]
    Configuration(ConfigErrors),
    #[error("{0}")]
    Http(#[from] HttpError),
    #[error("cannot start: {0}")]
    Runtime(std::io::Error),
}

impl CtlError {
    fn exit_code(&self) -> u8 {
        match self {
            CtlError::Refused(_) | CtlError::Runtime(_) => 1,
            CtlError::Unknown(_) => 3,
            CtlError::Configuration(_) => 64,
            CtlError::Unreachable(_) => 69,
            CtlError::Http(HttpError::Setting { .. } | HttpError::Url(_)) => 64,
            CtlError::Http(HttpError::Connect { .. } | HttpError::Tls { .. }) => 69,
            CtlError::Http(HttpError::Broken { .. } | HttpError::TooLong { .. }) => 3,
        }
    }
}

/// Carries out what the arguments, the command's name first, say; the process' exit code.
pub fn run(args: Vec<OsString>, environment: Vec<(OsString, OsString)>, unusable: CheckTls) -> u8 {
    let arguments = match Arguments::try_parse_from(args) {
        Ok(arguments) => arguments,
        Err(usage) => {
            // A closed pipe leaves nobody to tell.
            let _ = usage.print();
            return if usage.use_stderr() { 2 } else { 0 };
        }
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(CtlError::Runtime);
    match runtime.and_then(|runtime| runtime.block_on(carry_out(arguments, environment, unusable))) {
        Ok(()) => 0,
        Err(error) => {
            if let CtlError::Configuration(errors) = &error {
                errors.warnings.iter().for_each(|warning| prompt::warn(warning));
            }
            prompt::complain(&error.to_string());
            error.exit_code()
        }
    }
}

async fn carry_out(
    arguments: Arguments,
    environment: Vec<(OsString, OsString)>,
    unusable: CheckTls,
) -> Result<(), CtlError> {
    let by_variable = || environment.iter().find(|(name, value)| name == CONFIG_FILE && !value.is_empty());
    let file = arguments.file.or_else(|| by_variable().map(|(_, value)| PathBuf::from(value)));
    let asked = health::Asked::of(&environment);
    let purpose = match arguments.command {
        Command::Config(ConfigCommand::Check) => settings::Purpose::Check,
        _ => settings::Purpose::Ask,
    };
    let named = match &arguments.command {
        Command::Remove(options) => Some(options.cluster.clone()),
        _ => arguments.scope.clone(),
    };
    if let (Some(named), Some(scope)) = (&named, &arguments.scope)
        && named != scope
    {
        return Err(CtlError::Refused(format!("two clusters are named: {named}, and --scope {scope}")));
    }
    let options = CommandOptions { scope: named, namespace: arguments.namespace, context: arguments.context };
    let load = || settings::load(environment, file.as_deref(), &options, arguments.insecure.into(), purpose, unusable);
    match arguments.command {
        Command::Version => {
            let version = env!("CARGO_PKG_VERSION");
            prompt::print(&format!("tamada {version} (as Patroni {PATRONI_VERSION})"));
            Ok(())
        }
        Command::Health => health::run(asked, load).await,
        Command::List(options) => list::run(&load()?, &options).await,
        Command::Switchover(options) => actions::switchover(&load()?, &options).await,
        Command::Failover(options) => actions::failover(&load()?, &options).await,
        Command::Restart(options) => restarts::restart(&load()?, &options).await,
        Command::Reload(options) => restarts::reload(&load()?, &options).await,
        Command::Reinit(options) => restarts::reinitialize(&load()?, &options).await,
        Command::Pause(options) => configuration::pause(&load()?, options.wait.into()).await,
        Command::Resume(options) => configuration::resume(&load()?, options.wait.into()).await,
        Command::DemoteCluster(options) => kind::demote(&load()?, &options).await,
        Command::PromoteCluster(options) => kind::promote(&load()?, &options).await,
        Command::ShowConfig => configuration::run(&load()?, ConfigCommand::Show).await,
        Command::Config(command) => configuration::run(&load()?, command).await,
        Command::Flush(what) => restarts::flush(&load()?, what).await,
        Command::Remove(options) => remove::run(&load()?, &options).await,
        Command::History { format } => history::run(&load()?, format).await,
    }
}
