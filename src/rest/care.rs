//! Looking after what was saved: each record is proved again once in a while and says on its status whether it still works
//! and until when. Done by one process at a time, the leader: a controller, or a `serve` where there is none.

mod judgement;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::error::Error;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::StreamExt;
use futures::stream;
use jiff::Timestamp;
use kube::api::ObjectMeta;
use kube::{Client, Resource, ResourceExt};
use tokio_util::sync::CancellationToken;
use tracing::field::Empty;
use tracing::{Instrument, Span};

pub(super) use self::judgement::{Proof, is_seen, next_status};
use self::judgement::{notes, notice_due, proof_due_at};
use crate::events::Events;
use crate::leadership::{Leadership, NotLeading};
use crate::microsoft::{App, Diagnosis, TokenEndpoint, Verdict};
use crate::resources::SealedGraphCredential;
use crate::resources::conditions::{ConditionStatus, ConditionType, Reason, find};
use crate::secret::SecretText;
use crate::settings::Timing;
use crate::store::census::{ListError, Pages};
use crate::store::envelope::Envelope;
use crate::store::keyring::{KeyringError, LiveKeyring};
use crate::store::record::{self, is_of_rest, is_rest_record_name};
use crate::store::repository::{self, RecordError, Repository};
use crate::telemetry::logs::chain;
use crate::telemetry::metrics::{Metrics, RecordSeries};
use crate::telemetry::otlp;

/// Records looked at at the same time.
const AT_A_TIME: usize = 4;

/// Looks after the records of the REST API.
pub struct Care {
    /// Client of the Kubernetes API.
    pub client: Client,
    /// The namespaces that are served; none means all.
    pub served: Vec<String>,
    /// What records are opened with.
    pub keyring: Arc<LiveKeyring>,
    /// What proves secrets, while this process holds the lease.
    pub token_endpoint: TokenEndpoint,
    /// Whether it does.
    pub leadership: Leadership,
    /// Where it is told that one stops working, or expires.
    pub events: Events,
    /// Where records are shown.
    pub metrics: Arc<Metrics>,
    /// The waits.
    pub timing: Timing,
    /// Cancelled when no new step may begin.
    pub stop: CancellationToken,
}

/// What an attempt to prove a record came to.
#[derive(Default)]
struct Attempt {
    /// Nothing where Microsoft could not be asked.
    proof: Option<Proof>,
    /// When to try again, where no token was issued.
    again_in: Option<Duration>,
    /// By which Microsoft finds the request.
    ids: String,
}

/// What is kept from one round to the next.
#[derive(Default)]
struct Memory {
    /// When a record that was not proved is tried again, by its uid: the generation that was tried, and the time.
    retries: Mutex<HashMap<String, (Option<i64>, Timestamp)>>,
    /// What a scrape shows, by namespace and name.
    shown: Mutex<BTreeMap<Place, RecordSeries>>,
}

/// Namespace and name of a record.
type Place = (String, String);

/// What is to be done about a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Due {
    /// Nothing yet.
    Nothing,
    /// Something new is to be said of it.
    Words,
    /// It is to be proved again.
    Proof,
}

/// Why there is no secret to be proved.
enum Unopened {
    /// Its key is not known, and cannot be looked up.
    Unknown(KeyringError),
    /// The record does not open under the keyring as it is.
    Lasting(Box<dyn Error + Send + Sync>),
}

// === impl Care ===

impl Care {
    /// Looks at all records again and again, until `stop`. What is being written down by then is finished and told.
    pub async fn run(&self) {
        let (memory, mut news) = (Memory::default(), self.keyring.news());
        loop {
            if let Err(error) = self.round(&memory).await {
                tracing::warn!(error = chain(&error), "not all records can be looked after; trying again");
            }
            tokio::select! {
                () = self.stop.cancelled() => break,
                // What did not open before may do so now.
                _ = news.changed() => lock(&memory.retries).clear(),
                () = tokio::time::sleep(self.timing.record_care) => {}
            }
        }
        // Whoever looks after them next shows them.
        self.metrics.rest.show_records(&[]);
    }

    /// Lists all records first, and shows them; then looks after those that something is due for, however long that takes.
    async fn round(&self, memory: &Memory) -> Result<(), ListError> {
        let (mut pages, mut failure) = (Pages::new(&self.client, &self.served), None);
        let (mut shown, mut due, mut uids) = (BTreeMap::new(), Vec::new(), BTreeSet::new());
        loop {
            let page = match self.stop.run_until_cancelled(pages.next()).await {
                None => return Ok(()),
                Some(Ok(Some(page))) => page,
                Some(Ok(None)) => break,
                Some(Err(error)) => {
                    pages.skip_namespace();
                    failure = Some(error);
                    continue;
                }
            };
            let now = Timestamp::now();
            for guarded in page {
                match guarded.0 {
                    Ok(record) if is_of_rest(&record) => {
                        shown.insert(place(&record), series(&record));
                        uids.extend(record.uid());
                        if self.due(&record, memory, now) != Due::Nothing {
                            due.push(place(&record));
                        }
                    }
                    Ok(_) => {}
                    Err(invalid) => {
                        let series = unreadable(invalid.metadata);
                        shown.extend(series.map(|it| ((it.namespace.clone(), it.name.clone()), it)));
                    }
                }
            }
        }
        let is_whole = failure.is_none();
        {
            let mut last = lock(&memory.shown);
            if is_whole {
                last.clear();
                lock(&memory.retries).retain(|uid, _| uids.contains(uid));
            }
            // What could not be listed is shown as it was.
            last.extend(shown);
        }
        self.show(memory);
        let looks = due.into_iter().map(|place| self.look_again(place, memory));
        stream::iter(looks).buffer_unordered(AT_A_TIME).collect::<()>().await;
        self.show(memory);
        failure.map_or(Ok(()), Err)
    }

    fn show(&self, memory: &Memory) {
        let shown: Vec<RecordSeries> = lock(&memory.shown).values().cloned().collect();
        self.metrics.rest.show_records(&shown);
    }

    /// Reads a record anew and looks after it: the list may have been a while ago.
    async fn look_again(&self, place: Place, memory: &Memory) {
        let read = repository::read(&self.client, &place.0, &place.1);
        let Some(read) = self.stop.run_until_cancelled(read).await else { return };
        let record = match read {
            Ok(Some(record)) if is_of_rest(&record) => self.look_after(record, memory).await,
            Ok(_) => {
                lock(&memory.shown).remove(&place);
                return;
            }
            Err(error) => {
                tracing::warn!(record = place.1, error = chain(&error), "a record cannot be looked after");
                return;
            }
        };
        lock(&memory.shown).insert(place, series(&record));
    }

    /// What is to be done about a record. One that is new is left alone at first: whoever saves a secret has proved it, and
    /// says so by the end of the request.
    fn due(&self, record: &SealedGraphCredential, memory: &Memory, now: Timestamp) -> Due {
        let (uid, generation) = (record.uid().unwrap_or_default(), record.metadata.generation);
        let mut retries = lock(&memory.retries);
        let retry_at = retries.get(&uid).filter(|(tried, _)| *tried == generation).map(|(_, at)| *at);
        if !is_seen(record) && retry_at.is_none() {
            retries.insert(uid, (generation, now + self.timing.rest_request));
            return Due::Nothing;
        }
        if proof_due_at(record).max(retry_at.unwrap_or(Timestamp::MIN)) <= now {
            return Due::Proof;
        }
        // Of a secret that was changed by other hands nothing is said before it could be tried.
        let has_news = is_seen(record)
            && (notice_due(record, now).is_some() || record.status != Some(next_status(record, None, now)));
        if has_news { Due::Words } else { Due::Nothing }
    }

    /// Proves a record where that is due, and writes down what is new about it. Returns it as it is then.
    async fn look_after(&self, record: SealedGraphCredential, memory: &Memory) -> SealedGraphCredential {
        let now = Timestamp::now();
        let uid = record.uid().unwrap_or_default();
        let attempt = match self.due(&record, memory, now) {
            Due::Nothing => return record,
            Due::Words => Some(Ok(Attempt::default())),
            Due::Proof => self.stop.run_until_cancelled(self.prove(&record).instrument(span(&record))).await,
        };
        let Some(Ok(Attempt { proof, again_in, ids })) = attempt else { return record };
        match again_in {
            Some(wait) => {
                let _last = lock(&memory.retries).insert(uid, (record.metadata.generation, now + wait));
            }
            None if proof.is_some() => {
                let _last = lock(&memory.retries).remove(&uid);
            }
            None => {}
        }
        // Of a secret that was changed by other hands nothing is said before it could be tried.
        if proof.is_none() && !is_seen(&record) {
            return record;
        }
        let (mut status, notice) = (next_status(&record, proof.as_ref(), now), notice_due(&record, now));
        let notes = notes(&record, &status, proof.is_some().then_some(ids), notice);
        status.expiry_notice_days = notice.or(status.expiry_notice_days);
        if record.status.as_ref() == Some(&status) {
            return record;
        }
        let changed = SealedGraphCredential { status: Some(status), ..record.clone() };
        let repository = Repository::new(self.client.clone(), self.keyring.clone(), self.leadership.clone());
        match repository.write_status(&changed).await {
            Ok(written) => {
                for note in &notes {
                    self.events.publish(&written.object_ref(&()), note).await;
                }
                written
            }
            Err(RecordError::Conflict | RecordError::NotLeading(_)) => record,
            Err(error) => {
                tracing::warn!(record = record.name_any(), error = chain(&error), "a status is not written");
                record
            }
        }
    }

    /// Asks Microsoft for a token.
    async fn prove(&self, record: &SealedGraphCredential) -> Result<Attempt, NotLeading> {
        let stalled = Some(self.timing.stalled_probe);
        let secret = match self.open(record).await {
            Ok(secret) => secret,
            Err(Unopened::Unknown(error)) => {
                tracing::warn!(
                    error = chain(&error),
                    "a record is not proved without the keyring; trying again"
                );
                return Ok(Attempt { again_in: Some(self.timing.record_care), ..Attempt::default() });
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

fn place(record: &SealedGraphCredential) -> Place {
    (record.namespace().unwrap_or_default(), record.name_any())
}

fn lock<T>(memory: &Mutex<T>) -> MutexGuard<'_, T> {
    memory.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The span of a proof of a record.
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

/// What a scrape shows of a record that cannot be read; nothing where its name is not one of the REST API's.
fn unreadable(metadata: ObjectMeta) -> Option<RecordSeries> {
    let name = metadata.name.filter(|name| is_rest_record_name(name))?;
    Some(RecordSeries {
        namespace: metadata.namespace.unwrap_or_default(),
        name,
        is_ready: false,
        reason: Reason::InvalidObject.as_str().to_owned(),
        expires_at: None,
    })
}
