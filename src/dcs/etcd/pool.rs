//! The endpoints, and the one connection to one of them that all calls share.
//!
//! Each call is tried on one node after the other until its deadline. What fails for good (a refusal, an answer) ends
//! it; what may work elsewhere or later is tried again. Requests must therefore bear being sent twice.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use etcd_client::ResponseHeader;
use tokio::time::{Instant, timeout};
use tracing::debug;

use super::dial::{Dialer, Endpoint};
use super::failure::Failure;
use super::link::{Link, Login, Logins};
use crate::core::policy::Timing;
use crate::core::units::Seconds;

/// The least time for one try, where the deadline allows it.
const TRY_MIN: Duration = Duration::from_millis(500);
/// A try that was shorter than this says nothing about the node.
const TRY_TELLING: Duration = Duration::from_millis(250);
const PAUSE_MIN: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_millis(1000);

pub(super) struct Pool {
    dialer: Dialer,
    pub(super) login: Logins,
    rotation: Mutex<Rotation>,
    link: tokio::sync::Mutex<Option<Arc<Link>>>,
    terms: Mutex<Terms>,
    /// The last trouble with each endpoint that has not answered since.
    troubles: Mutex<BTreeMap<String, String>>,
    timing: Mutex<Timing>,
}

struct Rotation {
    endpoints: Vec<Endpoint>,
    /// So many of them, from the first on, are configured; the others were learned.
    configured: usize,
    /// The endpoint to connect to next.
    next: usize,
}

/// The newest raft term heard of, and of which cluster: a node that answers with an older one has been left behind.
#[derive(Default)]
struct Terms {
    cluster: Option<u64>,
    term: u64,
    /// Answers in a row that were found stale.
    stale: usize,
}

/// One try of a call.
#[derive(Clone)]
pub(super) struct Try {
    pub(super) link: Arc<Link>,
    /// A former try of this call may have been carried out.
    pub(super) doubt: Doubt,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Doubt {
    None,
    SentBefore,
}

/// Where a call stands between its tries.
struct Course {
    end: Instant,
    pause: Duration,
    doubt: Doubt,
    logins: u32,
    tries: usize,
}

impl Pool {
    pub(super) fn new(endpoints: Vec<Endpoint>, dialer: Dialer, login: Option<Login>, timing: Timing) -> Self {
        Pool {
            dialer,
            login: Logins::new(login),
            rotation: Mutex::new(Rotation { configured: endpoints.len(), endpoints, next: 0 }),
            link: tokio::sync::Mutex::default(),
            terms: Mutex::default(),
            troubles: Mutex::default(),
            timing: Mutex::new(timing),
        }
    }

    pub(super) fn set_timing(&self, timing: Timing) {
        *lock(&self.timing) = timing;
    }

    pub(super) fn timing(&self) -> Timing {
        *lock(&self.timing)
    }

    /// How long one try may take when the whole call may take `deadline`.
    pub(super) fn share_of(&self, deadline: Duration) -> Duration {
        let tries = lock(&self.rotation).endpoints.len().max(2);
        (deadline / u32::try_from(tries).unwrap_or(u32::MAX)).max(TRY_MIN).min(deadline)
    }

    /// Ask until there is an answer or the deadline has come.
    pub(super) async fn call<T, F, A>(&self, deadline: Duration, request: F) -> Result<T, Failure>
    where
        F: Fn(Try) -> A,
        A: Future<Output = Result<T, Failure>>,
    {
        let share = self.share_of(deadline);
        let mut course = Course::until(Instant::now() + deadline);
        loop {
            let left = course.end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(Failure::Gone(self.summary()));
            }
            match self.attempt(share.min(left), &mut course, &request).await {
                Ok(answer) => return Ok(answer),
                Err(Failure::Gone(_) | Failure::Busy(_)) => self.breathe(&mut course).await,
                // Nothing was done: the token was refused first.
                Err(Failure::Token(_)) if course.logins == 1 => {}
                Err(failure) => return Err(failure),
            }
        }
    }

    async fn attempt<T, F, A>(&self, limit: Duration, course: &mut Course, request: &F) -> Result<T, Failure>
    where
        F: Fn(Try) -> A,
        A: Future<Output = Result<T, Failure>>,
    {
        course.tries += 1;
        let end = Instant::now() + limit;
        let link = match timeout(limit, self.link(limit)).await {
            Ok(Ok(link)) => link,
            Ok(Err((endpoint, failure))) => {
                self.note(&endpoint.to_string(), failure.detail());
                return Err(failure);
            }
            Err(_) => {
                let endpoint = lock(&self.rotation).current();
                self.note(&endpoint, &format!("no connection within {}", Seconds(limit)));
                return Err(Failure::Gone(String::new()));
            }
        };
        let left = end.saturating_duration_since(Instant::now());
        let asked = async {
            match request(Try { link: link.clone(), doubt: course.doubt }).await {
                Err(Failure::Token(detail)) => {
                    course.logins += 1;
                    link.log_in_again().await.and(Err(Failure::Token(detail)))
                }
                answer => answer,
            }
        };
        let label = link.endpoint.to_string();
        match timeout(left, asked).await {
            Ok(Ok(answer)) => {
                link.touch();
                lock(&self.troubles).remove(&label);
                Ok(answer)
            }
            Ok(Err(failure)) => {
                if matches!(failure, Failure::Gone(_)) {
                    course.doubt = Doubt::SentBefore;
                    self.retire(&link);
                }
                self.note(&label, failure.detail());
                Err(failure)
            }
            Err(_) => {
                course.doubt = Doubt::SentBefore;
                if limit >= TRY_TELLING {
                    self.retire(&link);
                }
                self.note(&label, &format!("no answer within {}", Seconds(left)));
                Err(Failure::Gone(String::new()))
            }
        }
    }

    /// The current connection, or a new one to the next endpoint.
    async fn link(&self, limit: Duration) -> Result<Arc<Link>, (Endpoint, Failure)> {
        let mut current = self.link.lock().await;
        if let Some(link) = current.as_ref().filter(|link| !link.is_retired()) {
            return Ok(link.clone());
        }
        *current = None;
        let endpoint = lock(&self.rotation).advance();
        let opened = Link::open(&self.dialer, endpoint.clone(), self.login.clone(), self.timing(), limit).await;
        let link = Arc::new(opened.map_err(|failure| (endpoint, failure))?);
        *current = Some(link.clone());
        Ok(link)
    }

    /// Learn the addresses of more nodes. Where as many are configured as there are, these are the ones to use.
    pub(super) fn complete(&self, urls: &[String]) {
        let known: Vec<_> = urls.iter().filter_map(|url| self.dialer.endpoint_of(url)).collect();
        let mut rotation = lock(&self.rotation);
        if known.len() > rotation.configured {
            let configured = rotation.configured;
            rotation.endpoints.truncate(configured);
            let new: Vec<_> = known.into_iter().filter(|endpoint| !rotation.endpoints.contains(endpoint)).collect();
            rotation.endpoints.extend(new);
        }
    }

    /// Everything on this connection ends; the next call gets another, to another node where there is one.
    pub(super) fn retire(&self, link: &Arc<Link>) {
        link.retire();
        // Waiting for whoever is connecting would cost the caller time that it does not have.
        if let Ok(mut current) = self.link.try_lock()
            && current.as_ref().is_some_and(|current| Arc::ptr_eq(current, link))
        {
            *current = None;
        }
    }

    /// Look at an answer's header: `Err` when the node has been left behind by its cluster.
    pub(super) fn check(&self, header: &ResponseHeader) -> Result<(), Failure> {
        let nodes = lock(&self.rotation).endpoints.len();
        let mut terms = lock(&self.terms);
        let is_same = *terms.cluster.get_or_insert(header.cluster_id()) == header.cluster_id();
        if is_same && header.raft_term() < terms.term && terms.stale < 2 * nodes {
            terms.stale += 1;
            return Err(Failure::Gone(format!("its raft term {} is older than {}", header.raft_term(), terms.term)));
        }
        if !is_same {
            debug!("the etcd cluster's id has changed");
        }
        *terms = Terms { cluster: Some(header.cluster_id()), term: header.raft_term(), stale: 0 };
        Ok(())
    }

    fn note(&self, endpoint: &str, trouble: &str) {
        if !trouble.is_empty() {
            lock(&self.troubles).insert(endpoint.to_owned(), trouble.to_owned());
        }
    }

    fn summary(&self) -> String {
        let troubles = lock(&self.troubles);
        let lines = troubles.iter().map(|(endpoint, trouble)| format!("{endpoint}: {trouble}"));
        lines.collect::<Vec<_>>().join("; ")
    }

    /// After a whole round of failures a pause, growing from round to round.
    async fn breathe(&self, course: &mut Course) {
        let nodes = lock(&self.rotation).endpoints.len();
        if course.tries.is_multiple_of(nodes.max(1)) {
            let left = course.end.saturating_duration_since(Instant::now());
            tokio::time::sleep(course.pause.min(left)).await;
            course.pause = (course.pause * 2).min(PAUSE_MAX);
        }
    }
}

impl Rotation {
    /// The endpoint that was tried last.
    fn current(&self) -> String {
        self.endpoints[(self.next + self.endpoints.len() - 1) % self.endpoints.len()].to_string()
    }

    /// The endpoint to connect to now. The next one to connect goes to the one after it.
    fn advance(&mut self) -> Endpoint {
        let at = self.next % self.endpoints.len();
        self.next = (at + 1) % self.endpoints.len();
        self.endpoints[at].clone()
    }
}

impl Course {
    fn until(end: Instant) -> Self {
        Course { end, pause: PAUSE_MIN, doubt: Doubt::None, logins: 0, tries: 0 }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}
