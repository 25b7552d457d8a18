//! The agent: the one loop that observes, decides, acts and learns, and what it shows to and takes from the API.

pub mod mailbox;
pub mod status;
