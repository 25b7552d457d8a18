//! Members that keep the lock in different kinds of objects do not see each other: whoever finds a lock of another kind that is
//! alive does not take its own.

use std::sync::Mutex;
use std::time::Duration;

use tokio::time::Instant;

use super::failure::Failure;
use super::objects::{Kind, Object};
use super::session::{Session, locked};
use super::state::{LEADER, RENEW_TIME};

/// Whether the locks of other kinds have been looked at, and what was seen of them.
#[derive(Default)]
pub(super) struct OtherModes(Mutex<Seen>);

#[derive(Default)]
enum Seen {
    #[default]
    Nothing,
    /// This renewal, since then.
    Lock { renewed: String, since: Instant },
    /// There is none, or it has not been renewed for a ttl.
    Dead,
}

impl Session {
    /// Before the lock is taken for the first time: a lock of another kind, in the same scope, must have run out. Kinds that
    /// there is no right to read are left out.
    pub(super) async fn refuse_other_modes(&self, limit: Duration) -> Result<(), Failure> {
        if matches!(*locked(&self.other_modes.0), Seen::Dead) {
            return Ok(());
        }
        let scope = self.names.scope.as_str();
        let others = [
            (Kind::Endpoints, scope.to_owned()),
            (Kind::ConfigMaps, format!("{scope}-leader")),
            (Kind::Leases, scope.to_owned()),
        ];
        for (kind, name) in others.into_iter().filter(|(kind, _)| *kind != self.names.lock_kind()) {
            let path = format!("{}/{name}", kind.path(&self.api.namespace().await?));
            let object = match self.api.ask::<Object>(&super::api::Ask::get(path), limit).await {
                Ok(object) => object,
                Err(Failure::Absent(_) | Failure::Unserved(_) | Failure::Denied(_)) => continue,
                Err(failure) => return Err(failure),
            };
            if let Some(leader) = object.annotation(LEADER).filter(|leader| !leader.is_empty()) {
                self.expect_dead(&object, kind, leader)?;
            }
        }
        *locked(&self.other_modes.0) = Seen::Dead;
        Ok(())
    }

    fn expect_dead(&self, object: &Object, kind: Kind, leader: &str) -> Result<(), Failure> {
        let renewed = object.annotation(RENEW_TIME).unwrap_or_default().to_owned();
        let now = Instant::now();
        let mut seen = locked(&self.other_modes.0);
        match &*seen {
            Seen::Lock { renewed: known, since } if *known == renewed => {
                if *since + self.timing().ttl <= now {
                    return Ok(());
                }
            }
            Seen::Lock { .. } | Seen::Nothing | Seen::Dead => *seen = Seen::Lock { renewed, since: now },
        }
        let name = &object.metadata.name;
        Err(Failure::Answer(format!(
            "{leader} holds the lock of this scope in the {} {name}, and this member keeps it in a {}: all members must be \
             configured alike (PATRONI_KUBERNETES_USE_ENDPOINTS, PATRONI_KUBERNETES_USE_LEASES); it is taken for dead when it \
             has not been renewed for ttl",
            kind.singular(),
            self.names.lock_kind().singular(),
        )))
    }
}
