//! The tasks that receive signals and requests, however long a cycle takes.

use std::sync::Arc;

use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::init_link::FromInit;
use super::mailbox::Request;
use super::services;
use super::shared::Shared;
use crate::dcs::Dcs;
use crate::postgres::Instance;

#[derive(Debug)]
pub(super) struct Listeners {
    /// Until they are listened to.
    ends: Option<(mpsc::Receiver<Request>, mpsc::UnboundedReceiver<FromInit>)>,
    tasks: Vec<JoinHandle<()>>,
}

impl Listeners {
    pub(super) fn new(mailbox: mpsc::Receiver<Request>, signals: mpsc::UnboundedReceiver<FromInit>) -> Self {
        Listeners { ends: Some((mailbox, signals)), tasks: Vec::new() }
    }

    pub(super) fn start<D: Dcs, I: Instance>(&mut self, shared: &Arc<Shared<D, I>>) {
        let Some((mailbox, mut signals)) = self.ends.take() else { return };
        let hearing = shared.clone();
        self.tasks.push(tokio::spawn(async move {
            while let Some(message) = signals.recv().await {
                hearing.hear(message);
            }
        }));
        self.tasks.push(tokio::spawn(services::serve(shared.clone(), mailbox)));
    }
}

impl Drop for Listeners {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}
