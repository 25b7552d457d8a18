//! What a process leaves to the next one of its member: its lease, and what it has seen of the store, so that a store
//! that has lost its data meanwhile is recognised.

use super::cache::Past;
use crate::dcs::LeaseToken;

const LOST: &str = "lost";

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Kept {
    pub(super) lease: Option<i64>,
    pub(super) past: Option<Past>,
}

impl Kept {
    /// `lease`, `lease-lost`, or `lease-cluster-leader` with or without `-initialize`, numbers in hexadecimal. Whatever else
    /// it is counts as nothing.
    pub(super) fn read(token: Option<&LeaseToken>) -> Self {
        let number = |text: &str| u64::from_str_radix(text, 16).ok();
        let read = |lease: &str, past: Option<Past>| Some(Kept { lease: Some(number(lease)?.cast_signed()), past });
        let seen = |cluster: &str, leader: &str, initialize: Option<u64>| {
            Some(Past::Seen { cluster: number(cluster)?, leader: number(leader)?, initialize })
        };
        let parts: Vec<&str> = token.map_or(Vec::new(), |token| token.as_str().split('-').collect());
        let kept = match parts[..] {
            [lease] => read(lease, None),
            [lease, LOST] => read(lease, Some(Past::Lost)),
            [lease, cluster, leader] => seen(cluster, leader, None).and_then(|past| read(lease, Some(past))),
            [lease, cluster, leader, initialize] => number(initialize)
                .and_then(|initialize| seen(cluster, leader, Some(initialize)))
                .and_then(|past| read(lease, Some(past))),
            _ => None,
        };
        kept.unwrap_or_default()
    }

    /// `None` without a lease.
    pub(super) fn token(&self) -> Option<LeaseToken> {
        let lease = self.lease?.cast_unsigned();
        match self.past {
            None => LeaseToken::new(format!("{lease:x}")),
            Some(Past::Lost) => LeaseToken::new(format!("{lease:x}-{LOST}")),
            Some(Past::Seen { cluster, leader, initialize }) => {
                let short = format!("{lease:x}-{cluster:x}-{leader:x}");
                // Revisions of more than 44 bits would find no room.
                let whole = initialize.and_then(|initialize| LeaseToken::new(format!("{short}-{initialize:x}")));
                whole.or_else(|| LeaseToken::new(short))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_reads_back() {
        let revision = (1 << 44) - 1;
        let pasts = [
            None,
            Some(Past::Lost),
            Some(Past::Seen { cluster: u64::MAX, leader: u64::MAX, initialize: None }),
            Some(Past::Seen { cluster: u64::MAX, leader: revision, initialize: Some(revision) }),
        ];
        for past in pasts {
            let kept = Kept { lease: Some(-2), past };
            assert_eq!(Kept::read(kept.token().as_ref()), kept);
        }
        assert_eq!(Kept::read(None), Kept::default());
        for broken in ["x", "1-2", "x-lost", "1-2-x", "1-2-3-x", "1-2-3-4-5", "-"] {
            assert_eq!(Kept::read(LeaseToken::new(broken).as_ref()), Kept::default(), "{broken}");
        }
    }
}
