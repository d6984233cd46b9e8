//! Writes the status of a `WoodpeckerMailboxes`.

use std::time::Duration;

use jiff::Timestamp;
use kube::Resource;
use tokio::time::Instant;

use crate::api::WoodpeckerMailboxes;
use crate::api::conditions::{ConditionType, find};
use crate::controller::error::ReconcileError;
use crate::controller::index::Pruned;
use crate::controller::instrument::Completed;
use crate::controller::mailboxes::reconcile::Session;
use crate::controller::status_writer::replace_status;
use crate::core::error_chain::chain;
use crate::core::event::EventBody;
use crate::core::outcome::Outcome;
use crate::core::status::mailboxes::{Standing, report};

/// The event to emit, and how the reconcile ends.
type Written = (Option<EventBody>, Outcome);

impl Session<'_> {
    /// Writes the status if it changed, and plans the next reconcile.
    pub(super) async fn finish(
        mut self,
        standing: &Standing,
        requeue_after: Duration,
    ) -> Result<Completed, ReconcileError> {
        let (event, outcome) =
            if self.has_result { self.persist(standing).await? } else { self.write(standing).await? };
        if let Some(event) = event {
            self.context.events.emit(&self.object.object_ref(&()), &event).await;
        }
        let status = self.object.status.as_ref();
        let ready = status.and_then(|status| find(&status.conditions, ConditionType::Ready)).cloned();
        let timing = &self.context.policy.timing;
        let wait = requeue_after.min(timing.resync).max(timing.secret_poll_pace);
        Ok(Completed::new(outcome, wait).about(self.object.metadata.generation, ready.as_ref()))
    }

    /// Writes the next status if it differs from the last one, with its counts and conditions.
    pub(super) async fn write(&mut self, standing: &Standing) -> Result<Written, ReconcileError> {
        let before = self.object.status.clone().unwrap_or_default();
        let generation = self.object.metadata.generation.unwrap_or_default();
        let policy = self.object.spec.policy();
        let report = report(&before, self.status.clone(), policy, generation, standing, Timestamp::now());
        if report.status == before && self.object.status.is_some() {
            return Ok((None, report.outcome));
        }
        let (client, leadership) = (&self.context.client, &self.context.leadership);
        let written = replace_status(client, leadership, &(), &self.object, &report.status).await?;
        let Some(Pruned(written)) = written else { return Err(ReconcileError::Deleted) };
        self.context.on_written::<WoodpeckerMailboxes>(&written);
        self.object = written;
        self.status = self.object.status.clone().unwrap_or_default();
        Ok((report.event, report.outcome))
    }

    /// Writes the result of a request, which must not be lost: retries for a while, even if the object changed otherwise. If
    /// it cannot be written, the intent stays in the status, so that the mailboxes are looked up and not submitted again.
    async fn persist(&mut self, standing: &Standing) -> Result<Written, ReconcileError> {
        let timing = &self.context.policy.timing;
        let deadline = Instant::now() + timing.status_persist_timeout;
        let intent = self.object.status.as_ref().and_then(|status| status.pending.clone());
        loop {
            let error = match self.write(standing).await {
                Err(error @ (ReconcileError::Conflict | ReconcileError::WriteStatus(_))) => error,
                ended => return ended,
            };
            let is_rejected = matches!(
                &error,
                ReconcileError::WriteStatus(kube::Error::Api(status)) if status.is_invalid() || status.code == 400
            );
            if is_rejected || Instant::now() >= deadline {
                return Err(error);
            }
            tracing::info!(error = chain(&error), "retrying the status write");
            tokio::time::sleep((timing.status_persist_timeout / 600).max(Duration::from_millis(10))).await;
            let Ok(live) = self.context.read::<WoodpeckerMailboxes>(self.own).await else { continue };
            let live = live.filter(|live| live.metadata.uid == self.object.metadata.uid);
            let Some(live) = live else { return Err(ReconcileError::Deleted) };
            let pending = live.status.as_ref().and_then(|status| status.pending.clone());
            // The write may have been applied, with only its response lost.
            if pending != intent && pending != self.status.pending {
                tracing::error!("another process has changed what is pending; its version is kept");
                return Err(ReconcileError::Conflict);
            }
            // The spec stays as at the start of this reconcile, because a later change requeues the object.
            self.object.metadata.resource_version = live.metadata.resource_version;
            self.object.status = live.status;
        }
    }
}
