//! The agent: the one loop that observes, decides, acts and learns, and what it shows to and takes from the API.

mod act;
mod alarm;
mod authority;
mod background_task;
pub mod clock;
pub mod cluster_file;
mod cycle;
mod documents;
mod fence;
mod handed;
mod inbox;
pub mod init_link;
pub mod init_socket;
mod job;
mod kept_files;
pub mod lease_file;
pub mod mailbox;
mod member_state;
mod observe;
mod pace;
pub mod peers;
mod publish;
mod publisher;
mod questions;
mod remembered;
mod retain;
mod server;
mod services;
mod settings;
mod shared;
mod startup;
pub mod status;
mod upkeep;
mod work;

pub use cycle::{Agent, AgentHandle, Incarnation, Parts, Reread, Runtimes};
