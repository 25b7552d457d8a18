//! The container's own health, for HEALTHCHECK: one request over loopback, nothing else.

use std::ffi::OsString;
use std::path::Path;
use std::time::Duration;

use hyper::Method;

use super::CtlError;
use super::settings::Settings;
use crate::http::local_api::{self, OwnApi};
use crate::http::{Caller, Client, endpoint};

/// Below the usual timeout of a health check.
const LIMIT: Duration = Duration::from_secs(3);

/// The member that is asked, as far as the environment names it.
#[derive(Debug, Default)]
pub struct Asked {
    scope: Option<String>,
    name: Option<String>,
}

impl Asked {
    pub fn of(environment: &[(OsString, OsString)]) -> Self {
        let value = |name: &str| {
            let found = environment.iter().find(|(other, value)| other == name && !value.is_empty());
            found.and_then(|(_, value)| value.to_str()).map(str::to_owned)
        };
        Asked { scope: value("PATRONI_SCOPE"), name: value("PATRONI_NAME") }
    }
}

/// The configuration is loaded only where no member has said how it is reached.
pub async fn run(asked: Asked, load: impl FnOnce() -> Result<Settings, CtlError>) -> Result<(), CtlError> {
    let file = local_api::find(Path::new(local_api::FOLDER), asked.scope.as_deref(), asked.name.as_deref());
    let said = file.and_then(|file| {
        // An encrypted key needs its password, which only the configuration has.
        local_api::as_owner(&file, || {
            OwnApi::read(&file).and_then(|own| Some((Client::of_own_member(&own).ok()?, own.url)))
        })
    });
    let (client, url) = match said {
        Some(said) => said,
        None => {
            let settings = load()?;
            (settings.client(Caller::Itself)?, settings.own_url())
        }
    };
    let url = endpoint(&url, "/health");
    let answer = client.send(Method::GET, &url, None, LIMIT).await;
    // Health is a yes or no: whatever keeps the API from answering is a no.
    let answer = answer.map_err(|error| CtlError::Refused(error.to_string()))?;
    let state = answer.json().and_then(|status| Some(status.get("state")?.as_str()?.to_owned()));
    match (answer.code, state) {
        (200, _) => Ok(()),
        (_, Some(state)) => Err(CtlError::Refused(format!("PostgreSQL is not running: {state}"))),
        (code, None) => Err(CtlError::Refused(format!("{url} answers {code}"))),
    }
}
