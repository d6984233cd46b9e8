//! What keeps this process from being ready, as it is at the moment of a scrape.

use std::fmt::Error;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;

use super::scrape;
use crate::telemetry::readiness::Readiness;

/// Asks what is waited for on each scrape.
#[derive(Debug)]
pub(super) struct Waiting(pub(super) Readiness);

impl Collector for Waiting {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), Error> {
        scrape::gauge(
            &mut encoder,
            "mgc_waiting",
            None,
            "1 for each thing that keeps this process from being ready, as /readyz names it; absent where nothing does.",
            self.0.pending().into_iter().map(|what| ([("what", what)], 1)),
        )
    }
}
