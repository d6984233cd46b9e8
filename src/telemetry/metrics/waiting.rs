//! What keeps this process from being ready, as it is at the moment of a scrape.

use std::fmt::Error;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet};
use prometheus_client::registry::Registry;

use super::scrape;
use crate::telemetry::readiness::Readiness;

/// Asks what is waited for on each scrape.
#[derive(Debug)]
struct Waiting(Readiness);

#[derive(Debug, EncodeLabelSet)]
struct WhatLabels {
    what: String,
}

pub(super) fn register(registry: &mut Registry, readiness: Readiness) {
    registry.register_collector(Box::new(Waiting(readiness)));
}

impl Collector for Waiting {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), Error> {
        scrape::gauge(
            &mut encoder,
            "mgc_waiting",
            None,
            "1 for each thing that keeps this process from being ready, as /readyz names it; absent where nothing does.",
            self.0.pending().into_iter().map(|what| (WhatLabels { what }, 1)),
        )
    }
}
