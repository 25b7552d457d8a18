//! What a backend hands to the next process of its member.

use std::fmt;

/// Enough for etcd's lease with what was last seen of the store, for a session of Consul, and for a session of ZooKeeper
/// with its password.
pub const LEASE_TOKEN_MAX: usize = 62;

/// A lease (etcd), a session (Consul, ZooKeeper) or whatever else makes keys ours, in the backend's own words. Short
/// printable ASCII, so that PID 1 and a line of a file can keep it; nobody else reads it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct LeaseToken(String);

impl LeaseToken {
    /// `None`: empty, too long, or not printable ASCII.
    pub fn new(text: impl Into<String>) -> Option<Self> {
        let text = text.into();
        let fits = (1..=LEASE_TOKEN_MAX).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic());
        fits.then_some(LeaseToken(text))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for LeaseToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_short_printable_text() {
        assert!(LeaseToken::new("694d9a7b3f2e").is_some());
        assert!(LeaseToken::new("x".repeat(LEASE_TOKEN_MAX)).is_some());
        for text in
            [String::new(), "a b".to_owned(), "a\nb".to_owned(), "ä".to_owned(), "x".repeat(LEASE_TOKEN_MAX + 1)]
        {
            assert_eq!(LeaseToken::new(text), None);
        }
    }
}
