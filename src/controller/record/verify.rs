//! Verification of the REST API's records. A watch tells when each is due; no copy of a record is kept.

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

use self::schedule::{Due, Looked, Schedule};
use super::RecordController;
use super::status::{Proof, is_seen, next_status, notes, notice_due, status_due_at, verification_due_at};
use crate::controller::index::Named;
use crate::controller::scope::Scope;
use crate::controller::version::Version;
use crate::events::Note;
use crate::k8s::list;
use crate::k8s::watch::{Watched, Watching};
use crate::leadership::NotLeading;
use crate::microsoft::{App, Diagnosis, Verdict};
use crate::resources::conditions::{ConditionStatus, ConditionType, Reason, find};
use crate::resources::{SealedGraphCredential, SealedGraphCredentialStatus};
use crate::store::census::{Census, GuardedRecord};
use crate::store::envelope::Envelope;
use crate::store::record::{self, is_of_rest, is_rest_record_name};
use crate::store::repository::{self, RecordError};
use crate::telemetry::logs::chain;
use crate::telemetry::metrics::RecordSeries;
use crate::telemetry::otlp;

/// Records that are verified at the same time.
const AT_A_TIME: usize = 4;

/// An event of a watch, with the number of its scope.
type Seen = (usize, Event<GuardedRecord>);

/// What the watch of a scope has brought.
struct Listing {
    scope: Scope,
    /// While a list is under way: what it has not brought yet.
    missing: HashSet<Named>,
    census: Census,
    is_listed: bool,
}

/// What an attempt to verify a record came to.
#[derive(Default)]
struct Attempt {
    /// Nothing where Microsoft could not be asked.
    proof: Option<Proof>,
    /// When to try again, where no token was issued.
    again_in: Option<Duration>,
    /// By which Microsoft finds the request.
    ids: String,
}

// === impl RecordController ===

impl RecordController {
    /// Verifies records when they are due, until `stop`. What the first list holds is counted for `listed`.
    pub(super) async fn verify_records(&self, listed: oneshot::Sender<Census>) {
        let scopes = Scope::of(&self.served);
        let (tell, mut events) = mpsc::unbounded_channel();
        let watches = scopes.iter().enumerate().map(|(at, scope)| self.watch(at, scope, &tell));
        let mut watches = std::pin::pin!(futures::future::join_all(watches));
        let listing = |scope: &Scope| Listing {
            scope: scope.clone(),
            missing: HashSet::new(),
            census: Census::default(),
            is_listed: false,
        };
        let mut listings: Vec<Listing> = scopes.iter().map(listing).collect();
        let (mut listed, mut news) = (Some(listed), self.keyring.news());
        let mut schedule = Schedule::default();
        let mut looks = FuturesUnordered::new();
        loop {
            while looks.len() < AT_A_TIME
                && let Some(due) = schedule.take_due(Timestamp::now())
            {
                looks.push(self.look(due));
            }
            let wait = schedule.wait(Timestamp::now()).min(self.timing.record_retry);
            tokio::select! {
                // What a watch has brought is taken in before more is asked for.
                biased;
                () = self.stop.cancelled() => break,
                Some((at, event)) = events.recv() => {
                    if let Some(listing) = listings.get_mut(at) {
                        self.take_in(event, listing, &mut schedule);
                    }
                    if listings.iter().all(|listing| listing.is_listed) && let Some(listed) = listed.take() {
                        let mut census = Census::default();
                        for listing in &mut listings {
                            census.merge(std::mem::take(&mut listing.census));
                        }
                        let _is_waited_for = listed.send(census);
                    }
                }
                Some(looked) = looks.next() => schedule.looked(looked, Timestamp::now() + self.timing.record_retry),
                // What did not open before may do so now.
                _ = news.changed() => schedule.retry_all(),
                () = tokio::time::sleep(wait), if looks.len() < AT_A_TIME => {}
                _ = &mut watches => {}
            }
        }
        looks.collect::<Vec<_>>().await;
    }

    async fn watch(&self, at: usize, scope: &Scope, tell: &mpsc::UnboundedSender<Seen>) {
        let watching = Watching {
            client: self.client.clone(),
            timing: self.timing,
            relist: self.relist.clone(),
            metrics: self.metrics.clone(),
        };
        let mut watched = Watched::objects("SealedGraphCredential", scope.namespace(), list::guarded);
        watched.is_optional = true;
        let tell = |event| {
            if let Some(observer) = &self.observer {
                observer(scope, &event);
            }
            let _is_taken_in = tell.send((at, event));
        };
        match watching.follow(&watched, tell).await {}
    }

    fn take_in(&self, event: Event<GuardedRecord>, listing: &mut Listing, schedule: &mut Schedule) {
        match event {
            Event::Init => {
                let covered = schedule.records().filter(|place| listing.scope.covers(&place.namespace));
                (listing.missing, listing.census) = (covered.cloned().collect(), Census::default());
            }
            Event::InitApply(record) => {
                listing.missing.remove(&Named::of(&record));
                if !listing.is_listed {
                    listing.census.add(&record);
                }
                self.apply(record, schedule);
            }
            Event::Apply(record) => self.apply(record, schedule),
            Event::Delete(record) => self.forget(&Named::of(&record), schedule),
            Event::InitDone => {
                listing.is_listed = true;
                listing.missing.drain().for_each(|place| self.forget(&place, schedule));
            }
        }
    }

    fn apply(&self, record: GuardedRecord, schedule: &mut Schedule) {
        match record.0 {
            Ok(record) if is_of_rest(&record) => {
                self.metrics.rest.show_record(&series(&record));
                schedule.apply(&record, Timestamp::now(), self.timing.rest_request);
            }
            Err(invalid) if invalid.metadata.name.as_deref().is_some_and(is_rest_record_name) => {
                self.metrics.rest.show_record(&unreadable(&invalid.metadata));
                schedule.apply_unreadable(&invalid.metadata);
            }
            Ok(_) | Err(_) => {}
        }
    }

    fn forget(&self, place: &Named, schedule: &mut Schedule) {
        if schedule.forget(place) {
            self.metrics.rest.forget_record(&place.namespace, &place.name);
        }
    }

    /// Reads a record that is due, and does what is due: the watch may be behind.
    async fn look(&self, (place, version, retry_at): Due) -> Looked {
        let read = repository::read(&self.client, &place.namespace, &place.name);
        let record = match self.stop.run_until_cancelled(read).await {
            Some(Ok(Some(record))) if is_of_rest(&record) => record,
            Some(Err(error)) => {
                tracing::warn!(record = place.name, error = chain(&error), "a record cannot be verified");
                return (place, None);
            }
            // The watch brings what is new about it.
            _ => return (place, None),
        };
        if Version::of_record(&record.metadata) != version {
            return (place, None);
        }
        let retry_at = self.look_after(&record, retry_at).await;
        (place, Some((version, retry_at)))
    }

    /// Verifies a record if that is due, and writes down what is new about it. Returns when to try again, if no token was
    /// issued.
    async fn look_after(
        &self,
        record: &SealedGraphCredential,
        retry_at: Option<Timestamp>,
    ) -> Option<Timestamp> {
        let now = Timestamp::now();
        let attempt = if verification_due_at(record).max(retry_at.unwrap_or(Timestamp::MIN)) <= now {
            self.stop.run_until_cancelled(self.verify(record).instrument(span(record))).await
        } else if status_due_at(record, now) <= now {
            Some(Ok(Attempt::default()))
        } else {
            return retry_at;
        };
        let Some(Ok(Attempt { proof, again_in, ids })) = attempt else { return retry_at };
        let retry_at = match again_in {
            Some(wait) => Some(now + wait),
            None => retry_at.filter(|_| proof.is_none()),
        };
        // Of a secret that others have changed nothing is said before it could be tried.
        if proof.is_none() && !is_seen(record) {
            return retry_at;
        }
        let (mut status, notice) = (next_status(record, proof.as_ref(), now), notice_due(record, now));
        let notes = notes(record, &status, proof.is_some().then_some(ids), notice);
        status.expiry_notice_days = notice.or(status.expiry_notice_days);
        if record.status.as_ref() == Some(&status) {
            return retry_at;
        }
        match self.tell(record, status, notes).await {
            // A verdict that is lost is found out again: soon, but where the API server refuses to note it.
            Err(RecordError::Refused { .. }) if proof.is_some() => {
                Some(retry_at.unwrap_or(now + self.timing.stalled_probe))
            }
            Err(_) if proof.is_some() => None,
            _ => retry_at,
        }
    }

    /// Writes a record's status, and publishes what there is to tell with it.
    async fn tell(
        &self,
        record: &SealedGraphCredential,
        mut status: SealedGraphCredentialStatus,
        notes: Vec<Note>,
    ) -> Result<(), RecordError> {
        let regarding = record.object_ref(&());
        let (notes, is_given) = self.events.publish_notice(&regarding, notes).await;
        if !is_given {
            status.expiry_notice_days = record.status.as_ref().and_then(|before| before.expiry_notice_days);
        }
        let changed = SealedGraphCredential { status: Some(status), ..record.clone() };
        if let Err(error) = self.repository().write_status(&changed).await {
            let (record, text) = (record.name_any(), chain(&error));
            if matches!(error, RecordError::Conflict | RecordError::NotLeading(_)) {
                tracing::debug!(record, error = text, "a status is not written");
            } else {
                tracing::warn!(record, error = text, "a status is not written");
            }
            return Err(error);
        }
        for note in &notes {
            self.events.publish(&regarding, note).await;
        }
        Ok(())
    }

    /// Asks Microsoft for a token.
    async fn verify(&self, record: &SealedGraphCredential) -> Result<Attempt, NotLeading> {
        let stalled = Some(self.timing.stalled_probe);
        let keyring = match Envelope::from_base64(&record.spec.envelope) {
            Ok(envelope) => match self.keyring.holding(envelope.key_id()).await {
                Ok(keyring) => keyring,
                Err(error) => {
                    tracing::warn!(
                        error = chain(&error),
                        "a record is not verified without the keyring; trying again"
                    );
                    return Ok(Attempt { again_in: Some(self.timing.record_retry), ..Attempt::default() });
                }
            },
            // It opens under no key.
            Err(_) => self.keyring.current(),
        };
        let secret = match record::open(record, &keyring) {
            Ok(secret) => secret,
            Err(error) => {
                tracing::warn!(record = record.name_any(), error = chain(&error), "a record does not open");
                return Ok(Attempt { proof: Some(Proof::Unopened), again_in: stalled, ids: String::new() });
            }
        };
        let spec = &record.spec;
        let cloud = spec.cloud.unwrap_or_default();
        let app = App { cloud, tenant: &spec.tenant_id, client: &spec.client_id };
        let verdict = self.token_endpoint.prove(app, &secret).await?;
        Ok(match verdict {
            Verdict::Issued { .. } => Attempt { proof: Some(Proof::Issued), ..Attempt::default() },
            Verdict::NotIssued { diagnosis: Diagnosis::Refused(refusal), trace, .. } => {
                tracing::warn!(record = record.name_any(), reason = %refusal.reason, "a saved secret is refused");
                Attempt { proof: Some(Proof::Refused(refusal)), again_in: stalled, ids: trace.ids() }
            }
            Verdict::NotIssued { retry_after, .. } => {
                Attempt { again_in: Some(retry_after.unwrap_or_default()), ..Attempt::default() }
            }
        })
    }
}

/// The span of a verification of a record.
fn span(record: &SealedGraphCredential) -> Span {
    let object = Named::of(record).to_string();
    let span = tracing::error_span!(parent: None, "record", object, trace_id = Empty);
    otlp::note_trace_id(&span);
    span
}

/// What a scrape shows of a record.
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

/// What a scrape shows of a record that cannot be read.
fn unreadable(metadata: &ObjectMeta) -> RecordSeries {
    let Named { namespace, name } = Named::of_meta(metadata);
    let reason = Reason::InvalidObject.as_str().to_owned();
    RecordSeries { namespace, name, is_ready: false, reason, expires_at: None }
}
