//! Verification of the REST API's records. A watch determines when each is due; no copy of a record is kept.

mod schedule;

use std::collections::HashSet;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use jiff::Timestamp;
use kube::api::ObjectMeta;
use kube::runtime::watcher::Event;
use kube::{Resource, ResourceExt};
use tokio::sync::{mpsc, oneshot};
use tracing::field::Empty;
use tracing::{Instrument, Span};

use self::schedule::{Due, Reconciled, Schedule};
use crate::api::conditions::{ConditionStatus, ConditionType, Reason, find};
use crate::api::{Cloud, NamespacedName, SealedGraphCredential, SealedGraphCredentialStatus};
use crate::controller::record::RecordController;
use crate::controller::version::Version;
use crate::core::clock;
use crate::core::diagnosis::Diagnosis;
use crate::core::error_chain::chain;
use crate::core::event::EventBody;
use crate::core::status::record::{
    RecordVerification, delay_after_rejection, events, expiry_notice_due, next_status, status_due_at,
    status_is_current, verification_due_at,
};
use crate::core::status::undecryptable::Undecryptable;
use crate::core::token_result::TokenResult;
use crate::entra::AppCredential;
use crate::k8s::leadership::NotLeading;
use crate::k8s::list;
use crate::k8s::scope::Scope;
use crate::k8s::watch::{WatchClient, WatchTarget};
use crate::secret_text::SecretText;
use crate::store::envelope::{Envelope, MalformedEnvelope, OpenError};
use crate::store::key_usage::{KeyUsage, ParsedRecord};
use crate::store::record::{self, is_of_rest, is_rest_record_name};
use crate::store::repository::{self, RecordError};
use crate::telemetry::metrics::RecordSeries;
use crate::telemetry::otlp;

const MAX_CONCURRENT: usize = 4;

/// A watch event, with the index of its scope.
type WatchEvent = (usize, Event<ParsedRecord>);

/// The state of a scope's watch.
struct Listing {
    scope: Scope,
    /// While a list is in progress: the records that it has yet to contain.
    missing: HashSet<NamespacedName>,
    usage: KeyUsage,
    is_listed: bool,
}

/// The result of an attempt to verify a record.
#[derive(Default)]
struct Attempt {
    /// `None` if Microsoft could not be asked.
    verification: Option<RecordVerification>,
    /// When to try again, if there was no response to a token request.
    requeue_after: Option<Duration>,
    /// Ids by which Microsoft finds the request.
    request_ids: String,
}

// === impl RecordController ===

impl RecordController {
    /// Verifies records when they are due, until `stop`. The records of the first list are counted for `listed`.
    pub(super) async fn verify_records(&self, listed: oneshot::Sender<KeyUsage>) {
        let scopes = Scope::of(&self.served);
        let (sender, mut events) = mpsc::unbounded_channel();
        let watches = scopes.iter().enumerate().map(|(at, scope)| self.watch(at, scope, &sender));
        let mut watches = std::pin::pin!(futures::future::join_all(watches));
        let listing = |scope: &Scope| Listing {
            scope: scope.clone(),
            missing: HashSet::new(),
            usage: KeyUsage::default(),
            is_listed: false,
        };
        let mut listings: Vec<Listing> = scopes.iter().map(listing).collect();
        let (mut listed, mut changes) = (Some(listed), self.keyring.changes());
        let mut schedule = Schedule::default();
        let mut in_flight = FuturesUnordered::new();
        loop {
            while in_flight.len() < MAX_CONCURRENT
                && let Some(due) = schedule.take_due(Timestamp::now())
            {
                in_flight.push(self.reconcile_due(due));
            }
            let wait = schedule.wait(Timestamp::now()).min(self.timing.record_retry);
            tokio::select! {
                // Watch events are processed before more records are read.
                biased;
                () = self.stop.cancelled() => break,
                Some((at, event)) = events.recv() => {
                    if let Some(listing) = listings.get_mut(at) {
                        self.on_watch_event(event, listing, &mut schedule);
                    }
                    if listings.iter().all(|listing| listing.is_listed) && let Some(listed) = listed.take() {
                        let mut usage = KeyUsage::default();
                        for listing in &mut listings {
                            usage.merge(std::mem::take(&mut listing.usage));
                        }
                        let _is_waited_for = listed.send(usage);
                    }
                }
                Some(finished) = in_flight.next() => schedule.finished(finished, Timestamp::now(), self.timing.record_retry),
                // What did not decrypt before may do so now.
                _ = changes.changed() => schedule.retry_all(Timestamp::now()),
                () = tokio::time::sleep(wait), if in_flight.len() < MAX_CONCURRENT => {}
                _ = &mut watches => {}
            }
        }
        in_flight.collect::<Vec<_>>().await;
    }

    async fn watch(&self, at: usize, scope: &Scope, sender: &mpsc::UnboundedSender<WatchEvent>) {
        let watching = WatchClient {
            client: self.client.clone(),
            timing: self.timing,
            relist: self.relist.clone(),
            metrics: self.metrics.clone(),
        };
        let mut watched = WatchTarget::objects("SealedGraphCredential", scope.namespace(), list::guarded);
        watched.is_optional = true;
        let on_event = |event| {
            if let Some(observer) = &self.observer {
                observer(scope, &event);
            }
            let _is_taken_in = sender.send((at, event));
        };
        match watching.follow(&watched, on_event).await {}
    }

    fn on_watch_event(&self, event: Event<ParsedRecord>, listing: &mut Listing, schedule: &mut Schedule) {
        match event {
            Event::Init => {
                let covered = schedule.records().filter(|name| listing.scope.covers(&name.namespace));
                (listing.missing, listing.usage) = (covered.cloned().collect(), KeyUsage::default());
            }
            Event::InitApply(record) => {
                listing.missing.remove(&NamespacedName::of(&record));
                if !listing.is_listed {
                    listing.usage.add(&record);
                }
                self.apply(record, schedule);
            }
            Event::Apply(record) => self.apply(record, schedule),
            Event::Delete(record) => self.forget(&NamespacedName::of(&record), schedule),
            Event::InitDone => {
                listing.is_listed = true;
                listing.missing.drain().for_each(|name| self.forget(&name, schedule));
            }
        }
    }

    fn apply(&self, record: ParsedRecord, schedule: &mut Schedule) {
        match record.0 {
            Ok(record) if is_of_rest(&record) => {
                self.metrics.rest.set_record(&series(&record));
                schedule.apply(&record, Timestamp::now(), &self.timing);
            }
            Err(invalid) if invalid.metadata.name.as_deref().is_some_and(is_rest_record_name) => {
                self.metrics.rest.set_record(&unreadable(&invalid.metadata));
                schedule.apply_unreadable(&invalid.metadata, Timestamp::now());
            }
            Ok(_) | Err(_) => {}
        }
    }

    fn forget(&self, name: &NamespacedName, schedule: &mut Schedule) {
        if schedule.forget(name) {
            self.metrics.rest.remove_record(&name.namespace, &name.name);
        }
    }

    /// Reads a record that is due, because the watch may lag, and reconciles it.
    async fn reconcile_due(&self, (name, version, retry_at): Due) -> Reconciled {
        let read = repository::read(&self.client, &name.namespace, &name.name);
        let record = match self.stop.run_until_cancelled(read).await {
            Some(Ok(Some(record))) if is_of_rest(&record) => record,
            Some(Err(error)) => {
                tracing::warn!(
                    record = name.name,
                    error = chain(&error),
                    "failed to read a record that is due for verification"
                );
                return (name, None);
            }
            // The watch delivers the change.
            _ => return (name, None),
        };
        if Version::of_record(&record.metadata) != version {
            return (name, None);
        }
        let retry_at = self.reconcile(&record, retry_at).await;
        (name, Some((version, retry_at)))
    }

    /// Verifies a record if that is due, and writes its status if it changed. Returns when to try again, if no token
    /// was issued.
    async fn reconcile(
        &self,
        record: &SealedGraphCredential,
        retry_at: Option<Timestamp>,
    ) -> Option<Timestamp> {
        let now = Timestamp::now();
        let retry_at = retry_at.map(|at| clock::planned(at, now));
        let attempt = if verification_due_at(record, &self.timing, now)
            .max(retry_at.unwrap_or(Timestamp::MIN))
            <= now
        {
            self.stop.run_until_cancelled(self.verify(record).instrument(span(record))).await
        } else if status_due_at(record, now) <= now {
            Some(Ok(Attempt::default()))
        } else {
            return retry_at;
        };
        let Some(Ok(Attempt { verification, requeue_after, request_ids })) = attempt else { return retry_at };
        let retry_at = match requeue_after {
            Some(wait) => Some(now + wait.max(self.timing.record_retry)),
            None => retry_at.filter(|_| verification.is_none()),
        };
        // A secret that was changed externally keeps its status until it could be verified.
        if verification.is_none() && !status_is_current(record) {
            return retry_at;
        }
        let (mut status, notice) =
            (next_status(record, verification.as_ref(), now), expiry_notice_due(record, now));
        let is_rejected = matches!(verification, Some(RecordVerification::Rejected(_)));
        let retry_at =
            if is_rejected { Some(now + delay_after_rejection(&status, &self.timing)) } else { retry_at };
        let events = events(record, &status, verification.is_some().then_some(request_ids), notice);
        status.expiry_notice_days = notice.or(status.expiry_notice_days);
        if record.status.as_ref() == Some(&status) {
            return retry_at;
        }
        match self.write_and_emit(record, status, events).await {
            // A result that could not be written is determined again soon, unless the API server rejects the write.
            Err(RecordError::Rejected { .. }) if verification.is_some() => {
                Some(now + self.timing.stalled_probe)
            }
            Err(_) if verification.is_some() => None,
            _ => retry_at,
        }
    }

    /// Writes a record's status, and emits its events.
    async fn write_and_emit(
        &self,
        record: &SealedGraphCredential,
        mut status: SealedGraphCredentialStatus,
        events: Vec<EventBody>,
    ) -> Result<(), RecordError> {
        let regarding = record.object_ref(&());
        let (events, was_emitted) = self.events.publish_notice(&regarding, events).await;
        if !was_emitted {
            status.expiry_notice_days = record.status.as_ref().and_then(|before| before.expiry_notice_days);
        }
        let changed = SealedGraphCredential { status: Some(status), ..record.clone() };
        if let Err(error) = self.repository().write_status(&changed).await {
            let (record, text) = (record.name_any(), chain(&error));
            if matches!(error, RecordError::Conflict | RecordError::NotLeading(_)) {
                tracing::debug!(record, error = text, "failed to write a record's status");
            } else {
                tracing::warn!(record, error = text, "failed to write a record's status");
            }
            return Err(error);
        }
        for note in &events {
            self.events.publish(&regarding, note).await;
        }
        Ok(())
    }

    /// Requests a token from Microsoft.
    async fn verify(&self, record: &SealedGraphCredential) -> Result<Attempt, NotLeading> {
        let secret = match self.decrypt(record).await {
            Ok(secret) => secret,
            Err(attempt) => return Ok(attempt),
        };
        let spec = &record.spec;
        let app = AppCredential { cloud: Cloud::Global, tenant: &spec.tenant_id, client: &spec.client_id };
        let result = self.token_endpoint.verify(app, &secret).await?;
        Ok(match result {
            TokenResult::Issued { .. } => {
                Attempt { verification: Some(RecordVerification::Issued), ..Attempt::default() }
            }
            TokenResult::NotIssued { diagnosis: Diagnosis::Rejected(rejection), request_ids, .. } => {
                let record = record.name_any();
                tracing::warn!(record, reason = %rejection.reason, "Microsoft rejected a saved secret");
                Attempt {
                    verification: Some(RecordVerification::Rejected(rejection)),
                    request_ids: request_ids.summary(),
                    ..Attempt::default()
                }
            }
            TokenResult::NotIssued { retry_after, .. } => {
                Attempt { requeue_after: Some(retry_after.unwrap_or_default()), ..Attempt::default() }
            }
        })
    }

    /// Decrypts the record, or returns an attempt that ends here.
    async fn decrypt(&self, record: &SealedGraphCredential) -> Result<SecretText, Attempt> {
        let undecryptable = |cause| Attempt {
            verification: Some(RecordVerification::NotDecrypted(cause)),
            requeue_after: Some(self.timing.stalled_probe),
            request_ids: String::new(),
        };
        if record.spec.cloud.is_some_and(|cloud| cloud != Cloud::Global) {
            tracing::warn!(record = record.name_any(), "the cloud of a record was changed");
            return Err(undecryptable(Undecryptable::CloudChanged));
        }
        let keyring = match Envelope::from_base64(&record.spec.envelope) {
            Ok(envelope) => match self.keyring.with_key(envelope.key_id()).await {
                Ok(keyring) => keyring,
                Err(error) => {
                    tracing::warn!(
                        error = chain(&error),
                        "failed to read the keyring to verify a record; trying again"
                    );
                    return Err(Attempt {
                        requeue_after: Some(self.timing.record_retry),
                        ..Attempt::default()
                    });
                }
            },
            // A malformed envelope decrypts with no key.
            Err(_) => self.keyring.get(),
        };
        record::open(record, &keyring).map_err(|error| {
            tracing::warn!(record = record.name_any(), error = chain(&error), "a record cannot be decrypted");
            undecryptable(match error {
                OpenError::UnknownKey(_) => Undecryptable::KeyMissing,
                OpenError::Malformed(MalformedEnvelope::UnknownVersion(3..)) => Undecryptable::LaterFormat,
                _ => Undecryptable::Changed,
            })
        })
    }
}

fn span(record: &SealedGraphCredential) -> Span {
    let object = NamespacedName::of(record).to_string();
    let span = tracing::error_span!(parent: None, "record", object, trace_id = Empty);
    otlp::record_trace_id(&span);
    span
}

fn series(record: &SealedGraphCredential) -> RecordSeries {
    let conditions = record.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default();
    let ready = find(conditions, ConditionType::Ready);
    RecordSeries {
        namespace: record.namespace().unwrap_or_default(),
        name: record.name_any(),
        is_ready: ready.is_some_and(|ready| ready.status == ConditionStatus::True),
        reason: ready.map_or_else(|| "NotObserved".to_owned(), |ready| ready.reason.clone()),
        expires_at: Some(record.spec.secret_expires_at.0.as_second()),
    }
}

fn unreadable(metadata: &ObjectMeta) -> RecordSeries {
    let NamespacedName { namespace, name } = NamespacedName::of_meta(metadata);
    let reason = Reason::InvalidObject.as_str().to_owned();
    RecordSeries { namespace, name, is_ready: false, reason, expires_at: None }
}
