//! After the request was written: follow the statuses until the new leader is known.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use super::refusal::Kind;
use crate::agent::status::{ClusterStatusDocuments, Status};
use crate::api::answer::{self, Answer};
use crate::api::state::State;
use crate::core::units::MemberName;

/// How long a status may say nothing new before the DCS is asked whether the request is still there.
const DOUBT: Duration = Duration::from_secs(1);

/// What one look at the cluster tells.
#[derive(Debug, PartialEq, Eq)]
enum Sight {
    NewLeader(MemberName),
    /// Neither a new leader nor the request: refused, or the look is older than the request.
    RequestGone,
    Pending,
}

fn look(cluster: &ClusterStatusDocuments, before: Option<&MemberName>) -> Sight {
    match cluster.view.leader.as_ref().map(|leader| &leader.name) {
        Some(name) if Some(name) != before => Sight::NewLeader(name.clone()),
        _ if cluster.view.switchover.is_none() => Sight::RequestGone,
        Some(_) | None => Sight::Pending,
    }
}

/// `before` is the leader at the time of the request.
pub async fn for_new_leader(
    state: &State,
    mut statuses: watch::Receiver<Arc<Status>>,
    kind: Kind,
    before: Option<MemberName>,
    candidate: Option<&str>,
) -> Answer {
    let loop_wait = state.status().timing.loop_wait;
    let limit = 2 * loop_wait.max(Duration::from_secs(10));
    let end = Instant::now() + limit;
    while Instant::now() < end {
        let change = tokio::time::timeout_at(end.min(Instant::now() + DOUBT), statuses.changed()).await;
        if let Ok(Err(_)) = change {
            // The loop has ended: nobody here can tell any more.
            return answer::hang_up();
        }
        let cluster = statuses.borrow_and_update().cluster.clone();
        // An outage says nothing: what was asked for goes on.
        let Some(cluster) = cluster else { continue };
        match look(&cluster, before.as_ref()) {
            Sight::NewLeader(leader) => return success(kind, &leader, candidate),
            Sight::Pending => {}
            Sight::RequestGone => match confirmed(state, before.as_ref()).await {
                Some(Sight::NewLeader(leader)) => return success(kind, &leader, candidate),
                Some(Sight::RequestGone) => return answer::text(503, format!("{} failed", title(kind))),
                Some(Sight::Pending) | None => {}
            },
        }
    }
    let text =
        format!("{} status unknown after {} seconds; operation may still be in progress", title(kind), limit.as_secs());
    answer::text(503, text)
}

/// A look that is certainly younger than the request.
async fn confirmed(state: &State, before: Option<&MemberName>) -> Option<Sight> {
    let read = state.cluster().await?;
    (*read).as_ref().map(|cluster| look(cluster, before))
}

fn title(kind: Kind) -> &'static str {
    match kind {
        Kind::Switchover => "Switchover",
        Kind::Failover => "Failover",
    }
}

fn success(kind: Kind, leader: &MemberName, candidate: Option<&str>) -> Answer {
    let (inside, first) = match kind {
        Kind::Switchover => ("switched over", "Switched over"),
        Kind::Failover => ("failed over", "Failed over"),
    };
    match candidate {
        Some(candidate) if candidate != leader.as_str() => {
            answer::text(200, format!("{first} to \"{leader}\" instead of \"{candidate}\""))
        }
        Some(_) | None => answer::text(200, format!("Successfully {inside} to \"{leader}\"")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::mailbox::Mailbox;
    use crate::api::fixture;
    use crate::api::settings::Settings;
    use crate::api::state::LogGauge;
    use crate::core::policy::Mode;
    use tokio::sync::mpsc;

    async fn state(status: watch::Receiver<Arc<Status>>, mailbox: Mailbox) -> State {
        let settings = Settings::load(&fixture::open_settings()).await.expect("settings");
        State::new(Mode::Cluster, mailbox, LogGauge::default(), status, Arc::new(settings))
    }

    async fn text(answer: Answer) -> String {
        let body = axum::body::to_bytes(answer.into_body(), 1000).await.expect("a body");
        String::from_utf8(body.to_vec()).expect("text")
    }

    #[tokio::test(start_paused = true)]
    async fn gives_up_in_the_end_without_having_asked_the_store() {
        for (loop_wait, seconds) in [(1, 20), (10, 20), (15, 30)] {
            let mut pending = fixture::with_request();
            pending.timing.loop_wait = Duration::from_secs(loop_wait);
            let (_status, seen) = watch::channel(Arc::new(pending));
            let (mailbox, mut asked) = mpsc::channel(1);
            let state = state(seen, mailbox).await;
            let began = Instant::now();
            let answer = for_new_leader(&state, state.follow(), Kind::Switchover, Some("n0".into()), None).await;
            assert_eq!((began.elapsed().as_secs(), answer.status().as_u16()), (seconds, 503));
            let expected =
                format!("Switchover status unknown after {seconds} seconds; operation may still be in progress");
            assert_eq!(text(answer).await, expected);
            assert!(asked.try_recv().is_err());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn ends_when_the_loop_has_ended() {
        let (status, seen) = watch::channel(Arc::new(fixture::with_request()));
        let (mailbox, _asked) = mpsc::channel(1);
        let state = state(seen, mailbox).await;
        let statuses = state.follow();
        drop(status);
        let answer = for_new_leader(&state, statuses, Kind::Failover, None, Some("n1")).await;
        assert!(answer.extensions().get::<answer::HangUp>().is_some());
    }
}
