//! One connection to one etcd node, with the lease keepalive's stream on it.
//!
//! A link is never mended: whoever finds it of no use retires it, everything on it ends, and the pool makes another.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use etcd_client::{
    Channel, Client, ConnectOptions, KvClient, LeaseClient, LeaseKeepAliveStream, LeaseKeeper, WatchClient,
};
use hyper_util::rt::TokioIo;
use tokio::sync::watch;
use tokio::time::Instant;

use super::dial::{Dialer, Endpoint, Stream};
use super::failure::Failure;
use super::patience::Patience;
use crate::config::{EtcdConfig, Secret};
use crate::core::policy::Timing;
use crate::dcs::causes::with_causes;

#[derive(Clone, Debug)]
pub(super) struct Login {
    username: String,
    password: Secret,
}

impl Login {
    pub(super) fn of(config: &EtcdConfig) -> Option<Self> {
        let (username, password) = config.username.clone().zip(config.password.clone())?;
        Some(Login { username, password })
    }
}

/// The login that is in force, for all links alike.
#[derive(Clone)]
pub(super) struct Logins(Arc<Mutex<Option<Login>>>);

impl Logins {
    pub(super) fn new(login: Option<Login>) -> Self {
        Logins(Arc::new(Mutex::new(login)))
    }

    pub(super) fn set(&self, login: Option<Login>) {
        *self.lock() = login;
    }

    fn get(&self) -> Option<Login> {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Option<Login>> {
        self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

/// Whether a lease still lived when it was to be renewed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Alive {
    Yes,
    No,
}

pub(super) struct Link {
    pub(super) endpoint: Endpoint,
    client: Client,
    pub(super) patience: Patience,
    login: Logins,
    keepalive: tokio::sync::Mutex<Option<Keepalive>>,
    answered: Mutex<Instant>,
    retired: watch::Sender<bool>,
}

struct Keepalive {
    keeper: LeaseKeeper,
    answers: LeaseKeepAliveStream,
}

impl Link {
    pub(super) async fn open(
        dialer: &Dialer,
        endpoint: Endpoint,
        login: Logins,
        timing: Timing,
        limit: Duration,
    ) -> Result<Link, Failure> {
        let (stream, patience) = dialer.dial(&endpoint, timing, limit).await.map_err(Failure::Gone)?;
        let channel = channel_on(stream, &endpoint).await?;
        let client = match log_in(channel.clone(), login.get().as_ref()).await {
            Err(Failure::AuthIsOff) => log_in(channel, None).await?,
            done => done?,
        };
        Ok(Link {
            endpoint,
            client,
            patience,
            login,
            keepalive: tokio::sync::Mutex::default(),
            answered: Mutex::new(Instant::now()),
            retired: watch::Sender::new(false),
        })
    }

    pub(super) fn kv(&self) -> KvClient {
        self.client.kv_client()
    }

    pub(super) fn lease(&self) -> LeaseClient {
        self.client.lease_client()
    }

    pub(super) fn watch(&self) -> WatchClient {
        self.client.watch_client()
    }

    /// The URLs of the cluster's nodes.
    pub(super) async fn members(&self) -> Result<Vec<String>, Failure> {
        let answer = self.client.cluster_client().member_list().await?;
        Ok(answer.members().iter().flat_map(|member| member.client_urls().to_vec()).collect())
    }

    /// Get a new token; without credentials there is nothing to get.
    pub(super) async fn log_in_again(&self) -> Result<(), Failure> {
        let Some(Login { username, password }) = self.login.get() else {
            return Err(Failure::Denied("no user name and password are configured".to_owned()));
        };
        let user = (username, password.expose().to_owned());
        match self.client.clone().update_user(Some(user)).await.map_err(Failure::from) {
            Ok(()) | Err(Failure::AuthIsOff) => Ok(()),
            Err(failure) => Err(failure),
        }
    }

    /// Renew the lease. The stream survives only whole exchanges: an answer that comes too late must not be taken for
    /// that of the next request.
    pub(super) async fn keep_alive(&self, lease: i64) -> Result<Alive, Failure> {
        let mut slot = self.keepalive.lock().await;
        let used = match slot.take().filter(|open| open.keeper.id() == lease) {
            Some(mut open) => {
                open.keeper.keep_alive().await?;
                let ended = || Failure::Gone("the keepalive stream ended".to_owned());
                let answer = open.answers.message().await?.ok_or_else(ended)?;
                if answer.ttl() <= 0 { None } else { Some(open) }
            }
            None => match self.lease().keep_alive(lease).await.map_err(Failure::from) {
                Ok((keeper, answers)) => Some(Keepalive { keeper, answers }),
                Err(Failure::LeaseGone) => None,
                Err(failure) => return Err(failure),
            },
        };
        self.touch();
        let alive = if used.is_some() { Alive::Yes } else { Alive::No };
        *slot = used;
        Ok(alive)
    }

    /// The node has just answered.
    pub(super) fn touch(&self) {
        *self.answered() = Instant::now();
    }

    pub(super) fn since_answer(&self) -> Duration {
        self.answered().elapsed()
    }

    fn answered(&self) -> MutexGuard<'_, Instant> {
        self.answered.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    pub(super) fn retire(&self) {
        self.retired.send_replace(true);
    }

    pub(super) fn is_retired(&self) -> bool {
        *self.retired.borrow()
    }

    /// Returns when the link has been retired.
    pub(super) async fn retired(&self) {
        // The sender lives as long as the link does.
        let _ = self.retired.subscribe().wait_for(|retired| *retired).await;
    }
}

async fn log_in(channel: tonic::transport::Channel, login: Option<&Login>) -> Result<Client, Failure> {
    // A node that has lost its leader ends the watch instead of leaving it silent.
    let mut options = ConnectOptions::new().with_require_leader(true);
    if let Some(Login { username, password }) = login {
        options = options.with_user(username, password.expose());
    }
    Ok(Client::from_channel(Channel::Tonic(channel), Some(options)).await?)
}

/// HTTP/2 on this stream and no other: once it has broken the channel only fails. No pings: the renewals show whether the
/// node answers, and the kernel whether it can be reached.
async fn channel_on(stream: Box<dyn Stream>, endpoint: &Endpoint) -> Result<tonic::transport::Channel, Failure> {
    let invalid = |error| Failure::Answer(format!("cannot use the endpoint {endpoint}: {}", with_causes(&error)));
    let target = tonic::transport::Endpoint::from_shared(format!("http://{endpoint}")).map_err(invalid)?;
    let mut stream = Some(TokioIo::new(stream));
    let connector = tower::service_fn(move |_| {
        let stream = stream.take().ok_or_else(|| std::io::Error::other("the connection is closed"));
        std::future::ready(stream)
    });
    target.connect_with_connector(connector).await.map_err(|error| Failure::Gone(with_causes(&error)))
}
