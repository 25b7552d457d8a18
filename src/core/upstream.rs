//! Whom a server follows: where its WAL comes from, whose history counts, and where a copy of the data is made from.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::units::MemberName;
use super::view::{Address, ClusterView, Member, MemberRole};

/// Where a standby streams from, or is to stream from.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Upstream {
    /// Nobody: neither `primary_conninfo` nor a slot. WAL comes from `restore_command`, where there is one.
    None,
    Member {
        name: MemberName,
        address: Address,
    },
    /// The server that a standby cluster follows.
    Remote(Remote),
    /// The archive that a standby cluster follows. As `None`, but for the member that leads the cluster.
    Archive,
    /// Somebody that is not a member we know (found in a running server's settings).
    Foreign,
}

impl Upstream {
    /// What others call a standby of it.
    pub fn role(&self) -> MemberRole {
        if self.is_elsewhere() { MemberRole::StandbyLeader } else { MemberRole::Replica }
    }

    /// Where it answers.
    pub fn address(&self) -> Option<Address> {
        match self {
            Upstream::Member { address, .. } => Some(address.clone()),
            Upstream::Remote(remote) => Some(remote.address()),
            Upstream::None | Upstream::Archive | Upstream::Foreign => None,
        }
    }

    /// Whether it is what a standby cluster follows: no member of this one.
    pub fn is_elsewhere(&self) -> bool {
        match self {
            Upstream::Remote(_) | Upstream::Archive => true,
            Upstream::None | Upstream::Member { .. } | Upstream::Foreign => false,
        }
    }
}

/// What a standby cluster follows.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Source {
    Remote(Remote),
    Archive,
}

impl Source {
    /// Whose history the members' WAL is to fit; an archive cannot be asked.
    pub fn history(&self) -> Option<HistoryOf> {
        match self {
            Source::Remote(_) => Some(HistoryOf::Remote),
            Source::Archive => None,
        }
    }
}

impl From<Source> for Upstream {
    fn from(source: Source) -> Self {
        match source {
            Source::Remote(remote) => Upstream::Remote(remote),
            Source::Archive => Upstream::Archive,
        }
    }
}

/// A server that is no member of this cluster.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Remote {
    /// A name or an address, or several with commas between them: then the one that takes writes is meant.
    pub host: String,
    pub port: u16,
    /// The slot that is used there; `None`: none is.
    pub slot: Option<String>,
}

impl Remote {
    /// The database is one that every server has, unless somebody has dropped it.
    pub fn address(&self) -> Address {
        Address { host: self.host.clone(), port: self.port, database: "postgres".to_owned() }
    }

    /// Whether it has several hosts, of which the one that takes writes is meant.
    pub fn is_choice(&self) -> bool {
        self.host.contains(',')
    }

    /// The member of this cluster that it is, if it is one.
    pub fn member_of<'a>(&self, view: &'a ClusterView) -> Option<&'a Member> {
        let is_named = |host: &str| self.host.split(',').any(|listed| listed.eq_ignore_ascii_case(host));
        view.members.values().find(|member| {
            member.address.as_ref().is_some_and(|address| address.port == self.port && is_named(&address.host))
        })
    }
}

impl fmt::Display for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} port {}", self.host, self.port)
    }
}

/// Whose history tells which WAL is the cluster's.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum HistoryOf {
    /// The leader.
    Member(MemberName),
    /// The server that a standby cluster follows.
    Remote,
}

impl HistoryOf {
    pub fn member(&self) -> Option<&MemberName> {
        match self {
            HistoryOf::Member(name) => Some(name),
            HistoryOf::Remote => None,
        }
    }
}

impl fmt::Display for HistoryOf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            HistoryOf::Member(name) => name.fmt(f),
            HistoryOf::Remote => f.write_str("the server that this standby cluster follows"),
        }
    }
}

impl From<MemberName> for HistoryOf {
    fn from(name: MemberName) -> Self {
        HistoryOf::Member(name)
    }
}

impl From<&str> for HistoryOf {
    fn from(name: &str) -> Self {
        HistoryOf::Member(name.into())
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct CloneSource {
    /// Of a member; of a server elsewhere it is its host.
    pub name: MemberName,
    pub address: Address,
    pub kind: CloneFrom,
}

impl CloneSource {
    pub fn remote(remote: &Remote) -> Self {
        let name = MemberName::new(remote.host.clone());
        CloneSource { name, address: remote.address(), kind: CloneFrom::Remote }
    }

    /// What a copy of it fits.
    pub fn history(&self) -> HistoryOf {
        match self.kind {
            CloneFrom::Leader | CloneFrom::Replica => HistoryOf::Member(self.name.clone()),
            CloneFrom::Remote => HistoryOf::Remote,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CloneFrom {
    Leader,
    Replica,
    /// The server that a standby cluster follows.
    Remote,
}

impl fmt::Display for CloneSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            CloneFrom::Leader => write!(f, "leader '{}'", self.name),
            CloneFrom::Replica => write!(f, "replica '{}'", self.name),
            CloneFrom::Remote => write!(f, "remote primary '{}' port {}", self.address.host, self.address.port),
        }
    }
}
