//! What a process leaves to the next one of its member: its lease, and what it has seen of the store, so that a store
//! that has lost its data meanwhile is recognised.

use super::cache::Past;
use crate::dcs::LeaseToken;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Kept {
    pub(super) lease: Option<i64>,
    pub(super) past: Option<Past>,
}

impl Kept {
    /// `lease` or `lease-cluster-revision`, in hexadecimal. Whatever else it is counts as nothing.
    pub(super) fn read(token: Option<&LeaseToken>) -> Self {
        let number = |text: &str| u64::from_str_radix(text, 16).ok();
        let parts: Option<Vec<u64>> =
            token.map_or(Some(Vec::new()), |token| token.as_str().split('-').map(number).collect());
        match parts.as_deref() {
            Some([lease]) => Kept { lease: Some(lease.cast_signed()), past: None },
            Some([lease, cluster, leader]) => {
                let past = Past { cluster: *cluster, leader: *leader };
                Kept { lease: Some(lease.cast_signed()), past: Some(past) }
            }
            Some(_) | None => Kept::default(),
        }
    }

    /// `None` without a lease.
    pub(super) fn token(&self) -> Option<LeaseToken> {
        let lease = self.lease?.cast_unsigned();
        LeaseToken::new(match self.past {
            Some(Past { cluster, leader }) => format!("{lease:x}-{cluster:x}-{leader:x}"),
            None => format!("{lease:x}"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_reads_back() {
        let past = Some(Past { cluster: u64::MAX, leader: u64::MAX });
        for kept in [Kept { lease: Some(-2), past: None }, Kept { lease: Some(i64::MIN), past }] {
            assert_eq!(Kept::read(kept.token().as_ref()), kept);
        }
        assert_eq!(Kept::read(None), Kept::default());
        for broken in ["x", "1-2", "1-2-x", "1-2-3-4", "-"] {
            assert_eq!(Kept::read(LeaseToken::new(broken).as_ref()), Kept::default(), "{broken}");
        }
    }
}
