//! What a process leaves to the next one of its member: the word by which the lock is known to be its own, and what it has
//! seen of the store, so that a store that has lost its data meanwhile is recognised.

use crate::dcs::LeaseToken;

const LOST: &str = "lost";

/// What a former process of this member has seen of the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Past {
    /// A store that had lost its data, and nobody had taken the lock since.
    Lost,
    Seen {
        /// In which the last leader's lock was seen first.
        revision: u64,
        /// Of the object that names the cluster, once there is one.
        config: Option<u64>,
    },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Kept {
    /// 16 hexadecimal digits.
    pub(super) holder: String,
    pub(super) past: Option<Past>,
}

impl Kept {
    /// `holder`, `holder-lost`, or `holder-revision` with or without `-config`, in hexadecimal. Whatever else it is counts as
    /// nothing: then it is a new holder.
    pub(super) fn read(token: Option<&LeaseToken>) -> Self {
        let number = |text: &str| u64::from_str_radix(text, 16).ok();
        let seen = |revision: &str, config| Some(Past::Seen { revision: number(revision)?, config });
        let parts: Vec<&str> = token.map_or(Vec::new(), |token| token.as_str().split('-').collect());
        let past = match parts[..] {
            [_] => Some(None),
            [_, LOST] => Some(Some(Past::Lost)),
            [_, revision] => seen(revision, None).map(Some),
            [_, revision, config] => number(config).and_then(|config| seen(revision, Some(config))).map(Some),
            _ => None,
        };
        let holder = parts.first().filter(|holder| holder.len() == 16 && number(holder).is_some());
        match (holder, past) {
            (Some(holder), Some(past)) => Kept { holder: (*holder).to_owned(), past },
            (_, _) => Kept { holder: new_holder(), past: None },
        }
    }

    pub(super) fn token(&self) -> Option<LeaseToken> {
        let holder = &self.holder;
        LeaseToken::new(match self.past {
            None => holder.clone(),
            Some(Past::Lost) => format!("{holder}-{LOST}"),
            Some(Past::Seen { revision, config: None }) => format!("{holder}-{revision:x}"),
            Some(Past::Seen { revision, config: Some(config) }) => format!("{holder}-{revision:x}-{config:x}"),
        })
    }
}

/// A word that no other process has.
fn new_holder() -> String {
    let mut bytes = [0; 8];
    // OpenSSL's generator ends the process where it cannot be seeded, long before this.
    if openssl::rand::rand_bytes(&mut bytes).is_err() {
        bytes = std::process::id().to_be_bytes().repeat(2).try_into().unwrap_or_default();
    }
    format!("{:016x}", u64::from_be_bytes(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_reads_back() {
        let pasts = [
            None,
            Some(Past::Lost),
            Some(Past::Seen { revision: u64::MAX, config: None }),
            Some(Past::Seen { revision: 7, config: Some(u64::MAX) }),
        ];
        for past in pasts {
            let kept = Kept { holder: "00c0ffee00c0ffee".to_owned(), past };
            assert_eq!(Kept::read(kept.token().as_ref()), kept);
        }
        for broken in ["x", "1-2", "00c0ffee00c0ffee-x", "00c0ffee00c0ffee-1-2-3", "-"] {
            let kept = Kept::read(LeaseToken::new(broken).as_ref());
            assert!(kept.past.is_none() && kept.holder.len() == 16 && kept.holder != "00c0ffee00c0ffee", "{broken}");
        }
        assert_ne!(Kept::read(None), Kept::read(None));
    }
}
