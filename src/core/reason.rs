//! Why a decision was taken: a closed list, each with one sentence for people and one stable code for programs.

/// Placeholder until `decide` is here.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    Starting,
}
