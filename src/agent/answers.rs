//! The costly facts that were asked for, as they were last answered. Their age is for decisions to judge.

use crate::core::failsafe::Vouchers;
use crate::core::observation::{DivergenceReport, PeerReports};

#[derive(Debug, Default)]
pub(super) struct Answers {
    peers: PeerReports,
    divergence: Option<DivergenceReport>,
    vouchers: Option<Vouchers>,
}

impl Answers {
    /// Members that were not asked this time keep their last answer.
    pub(super) fn take_peers(&mut self, reports: PeerReports) {
        self.peers.extend(reports);
    }

    pub(super) fn take_divergence(&mut self, report: DivergenceReport) {
        self.divergence = Some(report);
    }

    pub(super) fn take_vouchers(&mut self, vouchers: Vouchers) {
        self.vouchers = Some(vouchers);
    }

    pub(super) fn vouchers(&self) -> Option<Vouchers> {
        self.vouchers.clone()
    }

    pub(super) fn peers(&self) -> PeerReports {
        self.peers.clone()
    }

    pub(super) fn divergence(&self) -> Option<DivergenceReport> {
        self.divergence.clone()
    }
}
