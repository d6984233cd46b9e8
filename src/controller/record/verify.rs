//! Verification of the REST API's records. A watch tells when each is due; no copy of a record is kept.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::error::Error;
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

use super::RecordController;
use super::status::{Proof, is_seen, next_status, notes, notice_due, status_due_at, verification_due_at};
use crate::controller::scope::Scope;
use crate::k8s::list;
use crate::k8s::watch::{Watched, Watching};
use crate::leadership::NotLeading;
use crate::microsoft::{App, Diagnosis, Verdict};
use crate::resources::SealedGraphCredential;
use crate::resources::conditions::{ConditionStatus, ConditionType, Reason, find};
use crate::secret::SecretText;
use crate::store::census::{Census, GuardedRecord};
use crate::store::envelope::Envelope;
use crate::store::keyring::KeyringError;
use crate::store::record::{self, is_of_rest, is_rest_record_name};
use crate::store::repository::{self, RecordError};
use crate::telemetry::logs::chain;
use crate::telemetry::metrics::RecordSeries;
use crate::telemetry::otlp;

/// Records that are verified at the same time.
const AT_A_TIME: usize = 4;

const KIND: &str = "SealedGraphCredential";

/// Namespace and name of a record.
type Place = (String, String);

/// Uid and generation of a record.
type Version = (Option<String>, Option<i64>);

/// An event of a watch, with the number of its scope.
type Seen = (usize, Event<GuardedRecord>);

/// When records are due.
struct Schedule {
    entries: HashMap<Place, Entry>,
    queue: BTreeSet<(Timestamp, Place)>,
}

/// What is known of a record between its verifications.
struct Entry {
    version: Version,
    /// Whether its status is about the secret that it holds.
    is_seen: bool,
    /// When it is to be verified, as its status has it.
    verification_due: Timestamp,
    /// When its status is to say something new.
    status_due: Timestamp,
    /// No verification before: the last one came to nothing, or the request that saved the secret may be about to say that it
    /// was verified.
    retry_at: Option<Timestamp>,
    /// Nothing before, because something was tried a moment ago.
    paused_until: Timestamp,
    /// Its place in the queue; none while it is being worked on.
    queued_at: Option<Timestamp>,
}

/// What the watch of a scope has brought.
struct Listing {
    scope: Scope,
    /// While a list is under way: what it has not brought yet.
    missing: HashSet<Place>,
    census: Census,
    is_listed: bool,
}

/// What became of a record that was due: the version that was looked at, and when to verify it again if no token was issued.
type Looked = (Place, Option<(Version, Option<Timestamp>)>);

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

/// Why there is no secret to be verified.
enum Unopened {
    /// Its key is not known, and cannot be looked up.
    Unknown(KeyringError),
    /// The record does not open under the keyring as it is.
    Lasting(Box<dyn Error + Send + Sync>),
}

// === impl RecordController ===

impl RecordController {
    /// Verifies records when they are due, until `stop`. What the first list holds is counted for `listed`.
    pub(super) async fn verify_records(&self, listed: oneshot::Sender<Census>) {
        let scopes = Scope::of(&self.served);
        let (tell, mut events) = mpsc::unbounded_channel();
        let watches = scopes.iter().enumerate().map(|(at, scope)| self.watch(at, scope, &tell));
        let mut watches = std::pin::pin!(futures::future::join_all(watches));
        let mut listings: Vec<Listing> = scopes.iter().cloned().map(Listing::new).collect();
        let (mut listed, mut news) = (Some(listed), self.keyring.news());
        let mut schedule = Schedule { entries: HashMap::new(), queue: BTreeSet::new() };
        let mut looks = FuturesUnordered::new();
        loop {
            while looks.len() < AT_A_TIME
                && let Some((place, version, retry_at)) = schedule.take_due(Timestamp::now())
            {
                looks.push(self.look(place, version, retry_at));
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
        // Whoever runs the controller next shows them.
        self.metrics.rest.forget_records();
    }

    async fn watch(&self, at: usize, scope: &Scope, tell: &mpsc::UnboundedSender<Seen>) {
        let watching = Watching {
            client: self.client.clone(),
            timing: self.timing,
            relist: self.relist.clone(),
            metrics: self.metrics.clone(),
        };
        let watched = Watched::<GuardedRecord>::objects(KIND, scope.namespace(), list::guarded).optional();
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
                let covered =
                    schedule.entries.keys().filter(|(namespace, _)| listing.scope.covers(namespace));
                (listing.missing, listing.census) = (covered.cloned().collect(), Census::default());
            }
            Event::InitApply(record) => {
                listing.missing.remove(&place(record.meta()));
                if !listing.is_listed {
                    listing.census.add(&record);
                }
                self.apply(record, schedule);
            }
            Event::Apply(record) => self.apply(record, schedule),
            Event::Delete(record) => self.forget(&place(record.meta()), schedule),
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

    fn forget(&self, place: &Place, schedule: &mut Schedule) {
        if schedule.forget(place) {
            self.metrics.rest.forget_record(&place.0, &place.1);
        }
    }

    /// Reads a record that is due, and does what is due: the watch may be behind.
    async fn look(&self, place: Place, version: Version, retry_at: Option<Timestamp>) -> Looked {
        let read = repository::read(&self.client, &place.0, &place.1);
        let record = match self.stop.run_until_cancelled(read).await {
            Some(Ok(Some(record))) if is_of_rest(&record) => record,
            Some(Err(error)) => {
                tracing::warn!(record = place.1, error = chain(&error), "a record cannot be verified");
                return (place, None);
            }
            // The watch brings what is new about it.
            _ => return (place, None),
        };
        if version_of(&record.metadata) != version {
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
        let regarding = record.object_ref(&());
        let (notes, is_given) = self.events.publish_notice(&regarding, notes).await;
        if !is_given {
            status.expiry_notice_days = record.status.as_ref().and_then(|before| before.expiry_notice_days);
        }
        let changed = SealedGraphCredential { status: Some(status), ..record.clone() };
        match self.repository().write_status(&changed).await {
            Ok(_) => {
                for note in &notes {
                    self.events.publish(&regarding, note).await;
                }
            }
            Err(error) => {
                match &error {
                    RecordError::Conflict | RecordError::NotLeading(_) => {
                        tracing::debug!(
                            record = record.name_any(),
                            error = chain(&error),
                            "a status is not written"
                        );
                    }
                    error => {
                        tracing::warn!(
                            record = record.name_any(),
                            error = chain(error),
                            "a status is not written"
                        );
                    }
                }
                // A verdict that is lost is found out again: soon, but where the API server refuses to note it.
                if proof.is_some() {
                    let is_refused = matches!(error, RecordError::Refused { .. });
                    return is_refused.then(|| retry_at.unwrap_or(now + self.timing.stalled_probe));
                }
            }
        }
        retry_at
    }

    /// Asks Microsoft for a token.
    async fn verify(&self, record: &SealedGraphCredential) -> Result<Attempt, NotLeading> {
        let stalled = Some(self.timing.stalled_probe);
        let secret = match self.open(record).await {
            Ok(secret) => secret,
            Err(Unopened::Unknown(error)) => {
                tracing::warn!(
                    error = chain(&error),
                    "a record is not verified without the keyring; trying again"
                );
                return Ok(Attempt { again_in: Some(self.timing.record_retry), ..Attempt::default() });
            }
            Err(Unopened::Lasting(error)) => {
                tracing::warn!(record = record.name_any(), error = chain(&*error), "a record does not open");
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

    async fn open(&self, record: &SealedGraphCredential) -> Result<SecretText, Unopened> {
        let lasting = |error: Box<dyn Error + Send + Sync>| Unopened::Lasting(error);
        let envelope = Envelope::from_base64(&record.spec.envelope).map_err(|error| lasting(error.into()))?;
        let keyring = self.keyring.holding(envelope.key_id()).await.map_err(Unopened::Unknown)?;
        record::open(record, &keyring).map_err(|error| lasting(error.into()))
    }
}

// === impl Schedule ===

impl Schedule {
    /// Takes in a record as it is now. One whose secret is new is left alone at first: whoever saves a secret has verified
    /// it, and says so by the end of the request.
    fn apply(&mut self, record: &SealedGraphCredential, now: Timestamp, request: Duration) {
        let (place, version) = (place(&record.metadata), version_of(&record.metadata));
        let before = self.entries.get(&place).filter(|before| before.version == version);
        let is_new = before.is_none() && !is_seen(record);
        let entry = Entry {
            version,
            is_seen: is_seen(record),
            verification_due: verification_due_at(record),
            status_due: status_due_at(record, now),
            retry_at: before.map_or_else(|| is_new.then(|| now + request), |before| before.retry_at),
            paused_until: before.map_or(Timestamp::MIN, |before| before.paused_until),
            queued_at: None,
        };
        self.put(place, entry);
    }

    /// Nothing is ever due about a record that cannot be read.
    fn apply_unreadable(&mut self, metadata: &ObjectMeta) {
        let entry = Entry {
            version: version_of(metadata),
            is_seen: false,
            verification_due: Timestamp::MAX,
            status_due: Timestamp::MAX,
            retry_at: None,
            paused_until: Timestamp::MIN,
            queued_at: None,
        };
        self.put(place(metadata), entry);
    }

    fn put(&mut self, place: Place, mut entry: Entry) {
        let before = self.entries.remove(&place);
        let is_worked_on = before.as_ref().is_some_and(|before| before.queued_at.is_none());
        if let Some(at) = before.and_then(|before| before.queued_at) {
            self.queue.remove(&(at, place.clone()));
        }
        if !is_worked_on {
            entry.queued_at = Some(entry.due_at());
            self.queue.insert((entry.due_at(), place.clone()));
        }
        self.entries.insert(place, entry);
    }

    /// Returns whether it was known.
    fn forget(&mut self, place: &Place) -> bool {
        let Some(entry) = self.entries.remove(place) else { return false };
        if let Some(at) = entry.queued_at {
            self.queue.remove(&(at, place.clone()));
        }
        true
    }

    /// The next record that is due, to be worked on.
    fn take_due(&mut self, now: Timestamp) -> Option<(Place, Version, Option<Timestamp>)> {
        self.queue.first().filter(|(at, _)| *at <= now)?;
        let (_, place) = self.queue.pop_first()?;
        let entry = self.entries.get_mut(&place)?;
        entry.queued_at = None;
        Some((place, entry.version.clone(), entry.retry_at))
    }

    /// Until the next record is due.
    fn wait(&self, now: Timestamp) -> Duration {
        let next = self.queue.first().map_or(Timestamp::MAX, |(at, _)| *at);
        Duration::try_from(next.duration_since(now)).unwrap_or_default()
    }

    /// A record was worked on. It is not taken again before `paused_until`: the watch brings what was written.
    fn looked(&mut self, (place, outcome): Looked, paused_until: Timestamp) {
        let Some(entry) = self.entries.get_mut(&place) else { return };
        entry.paused_until = paused_until;
        match outcome {
            Some((version, retry_at)) if entry.version == version => entry.retry_at = retry_at,
            Some(_) | None => {}
        }
        // It may have been deleted and created again meanwhile.
        if entry.queued_at.is_none() {
            let at = entry.due_at();
            entry.queued_at = Some(at);
            self.queue.insert((at, place));
        }
    }

    /// Everything is tried again that was put off.
    fn retry_all(&mut self) {
        self.queue.clear();
        for (place, entry) in &mut self.entries {
            entry.retry_at = entry.retry_at.filter(|_| !entry.is_seen);
            entry.paused_until = Timestamp::MIN;
            if entry.queued_at.is_some() {
                entry.queued_at = Some(entry.due_at());
                self.queue.insert((entry.due_at(), place.clone()));
            }
        }
    }
}

// === impl Entry ===

impl Entry {
    fn due_at(&self) -> Timestamp {
        let verification_due = self.verification_due.max(self.retry_at.unwrap_or(Timestamp::MIN));
        verification_due.min(self.status_due).max(self.paused_until)
    }
}

// === impl Listing ===

impl Listing {
    fn new(scope: Scope) -> Self {
        Self { scope, missing: HashSet::new(), census: Census::default(), is_listed: false }
    }
}

fn place(metadata: &ObjectMeta) -> Place {
    (metadata.namespace.clone().unwrap_or_default(), metadata.name.clone().unwrap_or_default())
}

fn version_of(metadata: &ObjectMeta) -> Version {
    (metadata.uid.clone(), metadata.generation)
}

/// The span of a verification of a record.
fn span(record: &SealedGraphCredential) -> Span {
    let object = format!("{}/{}", record.namespace().unwrap_or_default(), record.name_any());
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
    let (namespace, name) = place(metadata);
    let reason = Reason::InvalidObject.as_str().to_owned();
    RecordSeries { namespace, name, is_ready: false, reason, expires_at: None }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const REQUEST: Duration = Duration::from_mins(1);

    fn at(text: &str) -> Timestamp {
        format!("2026-11-24T{text}Z").parse().unwrap()
    }

    fn record(uid: &str, generation: i64) -> SealedGraphCredential {
        serde_json::from_value(json!({
            "metadata": {"namespace": "mail", "name": "r-1", "uid": uid, "generation": generation},
            "spec": {
                "recordId": "0123456789abcdef0123456789abcdef", "credentialId": 1,
                "tenantId": "bbfb2db7-aaf4-4f7c-9dc2-2c9160d1cb32",
                "clientId": "e1c6ac69-480e-4a17-9b85-3467967bd179",
                "secretExpiresAt": "2027-11-28T23:59:59Z", "name": "x", "envelope": "e"
            }
        }))
        .unwrap()
    }

    fn verified(record: &SealedGraphCredential, now: Timestamp) -> SealedGraphCredential {
        SealedGraphCredential {
            status: Some(next_status(record, Some(&Proof::Issued), now)),
            ..record.clone()
        }
    }

    fn empty() -> Schedule {
        Schedule { entries: HashMap::new(), queue: BTreeSet::new() }
    }

    /// When the one record is due.
    fn due(schedule: &Schedule) -> Vec<Timestamp> {
        schedule.queue.iter().map(|(at, _)| *at).collect()
    }

    #[test]
    fn a_new_secret_waits_for_its_request_and_a_verified_one_for_a_day() {
        let mut schedule = empty();
        let now = at("08:00:00");
        schedule.apply(&record("1", 1), now, REQUEST);
        assert_eq!(due(&schedule), [at("08:01:00")]);
        schedule.apply(&record("1", 1), at("08:00:30"), REQUEST);
        assert_eq!(due(&schedule), [at("08:01:00")], "it is the same one");
        schedule.apply(&verified(&record("1", 1), now), now, REQUEST);
        assert_eq!(due(&schedule), [now + Duration::from_hours(24)]);
        schedule.apply(&record("1", 2), at("09:00:00"), REQUEST);
        assert_eq!(due(&schedule), [at("09:01:00")], "another secret");
        assert!(schedule.forget(&("mail".into(), "r-1".into())));
        assert!(due(&schedule).is_empty() && schedule.entries.is_empty());
    }

    #[test]
    fn what_is_worked_on_is_not_taken_twice_and_then_left_alone_for_a_while() {
        let mut schedule = empty();
        schedule.apply(&record("1", 1), at("08:00:00"), REQUEST);
        assert!(schedule.take_due(at("08:00:59")).is_none());
        let (place, version, _) = schedule.take_due(at("08:01:00")).unwrap();
        schedule.apply(&record("1", 1), at("08:01:01"), REQUEST);
        assert!(schedule.take_due(at("08:02:00")).is_none(), "it is worked on");
        let retry_at = Some(at("08:30:00"));
        schedule.looked((place.clone(), Some((version, retry_at))), at("08:03:00"));
        assert_eq!(due(&schedule), [at("08:30:00")], "no token was issued");
        schedule.retry_all();
        assert_eq!(due(&schedule), [at("08:30:00")], "it was never seen: its request may still be under way");
        let seen = verified(&record("1", 1), at("07:00:00") - Duration::from_hours(24));
        schedule.apply(&seen, at("08:04:00"), REQUEST);
        assert_eq!(due(&schedule), [at("08:30:00")]);
        schedule.retry_all();
        assert_eq!(due(&schedule), [at("07:00:00")], "the keyring holds more");
        let (place, version, _) = schedule.take_due(at("08:05:00")).unwrap();
        schedule.apply(&record("2", 1), at("08:06:00"), REQUEST);
        schedule.looked((place, Some((version, Some(at("23:00:00"))))), at("08:06:30"));
        assert_eq!(due(&schedule), [at("08:07:00")], "it was re-created meanwhile");
    }

    #[test]
    fn a_record_that_goes_while_it_is_worked_on_is_gone() {
        let mut schedule = empty();
        schedule.apply(&record("1", 1), at("08:00:00"), REQUEST);
        let (place, version, _) = schedule.take_due(at("08:01:00")).unwrap();
        assert!(schedule.forget(&place));
        schedule.looked((place, Some((version, None))), at("08:03:00"));
        assert!(due(&schedule).is_empty());
    }
}
