//! The components that keep this process from being ready, read on each scrape.

use std::fmt::Error;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;

use crate::telemetry::metrics::scrape;
use crate::telemetry::readiness::Readiness;

#[derive(Debug)]
pub(super) struct NotReadyCollector(pub(super) Readiness);

impl Collector for NotReadyCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), Error> {
        scrape::gauge(
            &mut encoder,
            "graph_credential_operator_not_ready",
            None,
            "1 for each component that keeps this process from being ready, as /readyz names it; absent if it is ready.",
            self.0.pending_components().into_iter().map(|component| ([("component", component)], 1)),
        )
    }
}
