//! The container's own health, for HEALTHCHECK: one request over loopback, nothing else.

use std::time::Duration;

use hyper::Method;

use super::CtlError;
use super::settings::Settings;
use crate::http::{Caller, endpoint};

/// Below the usual timeout of a health check.
const LIMIT: Duration = Duration::from_secs(3);

pub async fn run(settings: &Settings) -> Result<(), CtlError> {
    let url = endpoint(&settings.own_url(), "/health");
    let answer = settings.client(Caller::Itself)?.send(Method::GET, &url, None, LIMIT).await;
    // Health is a yes or no: whatever keeps the API from answering is a no.
    let answer = answer.map_err(|error| CtlError::Refused(error.to_string()))?;
    let state = answer.json().and_then(|status| Some(status.get("state")?.as_str()?.to_owned()));
    match (answer.code, state) {
        (200, _) => Ok(()),
        (_, Some(state)) => Err(CtlError::Refused(format!("PostgreSQL is not running: {state}"))),
        (code, None) => Err(CtlError::Refused(format!("{url} answers {code}"))),
    }
}
