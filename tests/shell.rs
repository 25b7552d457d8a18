//! The real loop on the in-process store and a fake server, under tokio's paused clock: no real time passes, and
//! whatever has a bound is seen to keep it.

#[path = "shell/fake.rs"]
mod fake;
#[path = "shell/node.rs"]
mod node;
#[path = "shell/server.rs"]
mod server;
#[path = "shell/settings.rs"]
mod settings;
#[path = "shell/world.rs"]
mod world;

#[path = "shell/failover.rs"]
mod failover;
#[path = "shell/hangs.rs"]
mod hangs;
#[path = "shell/planned.rs"]
mod planned;
#[path = "shell/quiet.rs"]
mod quiet;
#[path = "shell/requests.rs"]
mod requests;
#[path = "shell/start.rs"]
mod start;
