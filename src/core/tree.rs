//! The tag `replicatefrom`: a member streams from the one that it names in place of the leader, in trees of any depth.

use std::fmt;

use super::local::LastRole;
use super::policy::Policy;
use super::units::MemberName;
use super::view::{ClusterView, Member};

/// Whether this member streams from us, who lead or do not.
pub fn streams_from(policy: &Policy, view: &ClusterView, role: LastRole, member: &Member) -> bool {
    let leads = |name: &MemberName| view.leader.as_ref().is_some_and(|leader| leader.name == *name);
    let named = member.tags.replicatefrom.as_ref();
    match role {
        // A circle follows the leader as a whole: whoever may be in one has its slot in any case.
        LastRole::Primary => {
            named
                .is_none_or(|named| *named == policy.name || *named == member.name || !view.members.contains_key(named))
                || is_in_circle(view, member)
        }
        LastRole::Standby => named == Some(&policy.name) && !leads(&member.name) && !is_in_circle(view, member),
    }
}

fn is_in_circle(view: &ClusterView, member: &Member) -> bool {
    let mut above = member.tags.replicatefrom.as_ref();
    for _step in 0..view.members.len() {
        match above {
            Some(name) if *name == member.name => return true,
            Some(name) => above = named_by(view, name),
            None => return false,
        }
    }
    false
}

/// Why `replicatefrom` is not heeded: the member follows the leader.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotHeeded {
    Itself,
    /// From the one that is named on to this member.
    Circle(Vec<MemberName>),
    /// It has no record, or one that does not say where its PostgreSQL answers.
    NotThere(MemberName),
}

impl fmt::Display for NotHeeded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NotHeeded::Itself => f.write_str("the tag replicatefrom names this member itself: it follows the leader"),
            NotHeeded::Circle(names) => {
                let names: Vec<&str> = names.iter().map(MemberName::as_str).collect();
                write!(
                    f,
                    "the tags replicatefrom lead in a circle ({}): this member follows the leader",
                    names.join(", ")
                )
            }
            NotHeeded::NotThere(name) => {
                write!(f, "the tag replicatefrom names {name}, which is not there: this member follows the leader")
            }
        }
    }
}

/// The member that `replicatefrom` names; `None`: it names nobody, or the leader is to be followed anyhow.
pub fn parent<'a>(policy: &Policy, view: &'a ClusterView) -> Result<Option<&'a Member>, NotHeeded> {
    let Some(named) = &policy.tags.replicatefrom else { return Ok(None) };
    if *named == policy.name {
        return Err(NotHeeded::Itself);
    }
    let mut above = vec![named.clone()];
    while let Some(next) = above.last().and_then(|last| named_by(view, last)) {
        if *next == policy.name {
            above.push(next.clone());
            return Err(NotHeeded::Circle(above));
        }
        if above.contains(next) {
            // A circle that we are not in: its members follow the leader.
            break;
        }
        above.push(next.clone());
    }
    let there = view.members.get(named).filter(|member| member.address.is_some());
    there.map(Some).ok_or_else(|| NotHeeded::NotThere(named.clone()))
}

/// The physical slot on the primary by which our feedback reaches it: our own, or that of the one at the top of our branch of
/// the tree. `None`: a member on the way streams from nobody.
pub fn slot_on_primary(policy: &Policy, view: &ClusterView) -> Option<String> {
    if policy.tags.nostream {
        return None;
    }
    let leads = |member: &&Member| view.leader.as_ref().is_some_and(|leader| leader.name == member.name);
    let parent = parent(policy, view).ok().flatten();
    let Some(mut top) = parent.filter(|member| !leads(member)) else { return Some(policy.name.slot_name()) };
    for _step in 0..view.members.len() {
        if top.tags.nostream {
            return None;
        }
        let above = named_by(view, &top.name).and_then(|name| view.members.get(name));
        match above.filter(|member| !leads(member)) {
            Some(above) => top = above,
            None => return Some(top.name.slot_name()),
        }
    }
    None
}

/// The member that this one follows by its tag. The leader follows nobody here.
fn named_by<'a>(view: &'a ClusterView, name: &MemberName) -> Option<&'a MemberName> {
    let leads = view.leader.as_ref().is_some_and(|leader| leader.name == *name);
    let named = view.members.get(name)?.tags.replicatefrom.as_ref()?;
    (!leads && view.members.contains_key(named)).then_some(named)
}
