//! What the command line takes from the configuration: the same sources as the member's, read anew.

use std::ffi::OsString;
use std::path::Path;

use jiff::Zoned;
use jiff::civil::DateTime;
use jiff::fmt::temporal::DateTimeParser;
use nix::unistd::{User, geteuid, gethostname};

use super::CtlError;
use crate::config::{
    Account, CheckTls, CommandOptions, Config, DcsConfig, HostFacts, KubernetesAccess, inspect_data_dir,
};
use crate::http::local_api::OwnApi;
use crate::http::{Caller, Client};

/// Whether `-k` was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Insecure {
    AsConfigured,
    Yes,
}

impl From<bool> for Insecure {
    fn from(given: bool) -> Self {
        if given { Insecure::Yes } else { Insecure::AsConfigured }
    }
}

/// What the settings are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Members and the DCS are asked, perhaps from a machine without a member.
    Ask,
    /// Whether a member could start with them.
    Check,
}

/// Whose API the loopback address may lead to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Beside {
    /// A member's of the cluster that is meant.
    Member,
    /// Nobody's, or that of a cluster elsewhere.
    Others,
}

#[derive(Clone, Debug)]
pub struct Settings {
    pub config: Config,
    pub beside: Beside,
}

impl Settings {
    pub fn client(&self, caller: Caller) -> Result<Client, CtlError> {
        Ok(Client::new(caller, &self.config.ctl, &self.config.rest)?)
    }

    /// The own member's API, over loopback.
    pub fn own_url(&self) -> String {
        OwnApi::new(&self.config.rest.listen, self.config.rest.tls.as_ref()).url
    }
}

pub fn load(
    environment: Vec<(OsString, OsString)>,
    file: Option<&Path>,
    options: &CommandOptions,
    insecure: Insecure,
    purpose: Purpose,
    unusable: CheckTls,
) -> Result<Settings, CtlError> {
    let (vars, host) = (environment.into_iter(), host_facts(unusable));
    let config = match purpose {
        Purpose::Ask => Config::for_command_line(vars, file, options, &host),
        Purpose::Check => Config::for_start(vars, file, &host),
    };
    let mut config = config.map_err(CtlError::Configuration)?;
    if insecure == Insecure::Yes {
        config.ctl.insecure = true;
    }
    let is_elsewhere = options.namespace.is_some() || options.context.is_some();
    // A member's own commands have its variables.
    let is_found = matches!(&config.dcs, DcsConfig::Kubernetes(kubernetes) if kubernetes.is_found);
    let beside = if is_elsewhere || is_found { Beside::Others } else { Beside::Member };
    Ok(Settings { config, beside })
}

/// This machine, as the member itself sees it: where root calls, PostgreSQL runs as `postgres`.
fn host_facts(unusable: CheckTls) -> HostFacts {
    let uid = geteuid();
    let named = match uid.is_root() {
        true => User::from_name("postgres"),
        false => User::from_uid(uid),
    };
    HostFacts {
        host_name: gethostname().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default(),
        kubernetes: KubernetesAccess::look(),
        account: named.ok().flatten().map_or(Account::Unnamed, |user| Account::Named(user.name)),
        inspect: Box::new(inspect_data_dir),
        unusable,
    }
}

/// A time as a person types it: without an offset it is local.
pub fn with_offset(text: &str) -> Result<String, CtlError> {
    let unparsable = || {
        let advice = "It should be in an unambiguous format (e.g. ISO 8601)";
        CtlError::Refused(format!("Unable to parse scheduled timestamp ({text}). {advice}"))
    };
    let civil: Result<DateTime, _> = text.trim().parse();
    let has_offset =
        DateTimeParser::new().parse_pieces(text.trim()).is_ok_and(|pieces| pieces.to_numeric_offset().is_some());
    match civil {
        Ok(local) if !has_offset => {
            let zone = Zoned::now().time_zone().clone();
            let zoned = local.to_zoned(zone).map_err(|_| unparsable())?;
            Ok(zoned.strftime("%Y-%m-%dT%H:%M:%S%:z").to_string())
        }
        // The member reads more forms than we do, and says so when it can read none.
        Ok(_) => Ok(text.to_owned()),
        Err(_) if text.trim().is_empty() => Err(unparsable()),
        Err(_) => Ok(text.to_owned()),
    }
}
