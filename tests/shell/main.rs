//! The real loop on the in-process store and a fake server, under tokio's paused clock: no real time passes, and
//! whatever has a bound is seen to keep it.

mod fake;
mod node;
mod server;
mod settings;
mod world;

mod amnesia;
mod documents;
mod failover;
mod hangs;
mod hooks;
mod planned;
mod quiet;
mod requests;
mod start;
mod watchdog;
