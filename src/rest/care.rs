//! Looking after what was saved: each record is proved again once in a while and says on its status whether it still works
//! and until when. Done by one process at a time, the leader: a controller, or a `serve` where there is none.

mod judgement;

use std::collections::HashMap;
use std::error::Error;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::StreamExt;
use futures::stream;
use jiff::Timestamp;
use kube::api::ObjectMeta;
use kube::{Client, ResourceExt};
use tokio_util::sync::CancellationToken;
use tracing::field::Empty;
use tracing::{Instrument, Span};

use self::judgement::proof_due_at;
pub(super) use self::judgement::{Proof, is_seen, next_status};
use crate::leadership::{Leadership, NotLeading};
use crate::microsoft::{App, Diagnosis, TokenEndpoint, Verdict};
use crate::resources::SealedGraphCredential;
use crate::resources::conditions::{ConditionStatus, ConditionType, Reason, find};
use crate::secret::SecretText;
use crate::settings::Timing;
use crate::store::census::{ListError, Pages};
use crate::store::envelope::Envelope;
use crate::store::keyring::LiveKeyring;
use crate::store::record::{self, is_of_rest, is_rest_record_name};
use crate::store::records::{self, RecordError};
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
    /// Where records are shown.
    pub metrics: Arc<Metrics>,
    /// The waits.
    pub timing: Timing,
    /// Cancelled when no new step may begin.
    pub stop: CancellationToken,
}

/// When a record that was not proved is tried again, by its uid: the generation that was tried, and the time.
type Retries = Mutex<HashMap<String, (Option<i64>, Timestamp)>>;

// === impl Care ===

impl Care {
    /// Looks at all records again and again, until `stop`.
    pub async fn run(&self) {
        let retries = Retries::default();
        loop {
            let Some(round) = self.stop.run_until_cancelled(self.round(&retries)).await else { break };
            if let Err(error) = round {
                tracing::warn!(error = chain(&error), "the records cannot be looked after; trying again");
            }
            let pause = tokio::time::sleep(self.timing.record_care);
            if self.stop.run_until_cancelled(pause).await.is_none() {
                break;
            }
        }
        // Whoever looks after them next shows them.
        self.metrics.rest.show_records(&[]);
    }

    async fn round(&self, retries: &Retries) -> Result<(), ListError> {
        let mut pages = Pages::new(&self.client, &self.served);
        let mut shown = Vec::new();
        let mut uids = Vec::new();
        while let Some(page) = pages.next().await? {
            let mut ours = Vec::new();
            for guarded in page {
                match guarded.0 {
                    Ok(record) => ours.extend(Some(record).filter(is_of_rest)),
                    Err(invalid) => shown.extend(unreadable(invalid.metadata)),
                }
            }
            let looks: Vec<_> = ours.into_iter().map(|record| self.look_after(record, retries)).collect();
            let looked: Vec<_> = stream::iter(looks).buffer_unordered(AT_A_TIME).collect().await;
            for record in looked {
                uids.extend(record.uid());
                shown.push(series(&record));
            }
        }
        lock(retries).retain(|uid, _| uids.contains(uid));
        self.metrics.rest.show_records(&shown);
        Ok(())
    }

    /// Proves a record where that is due, and writes down what is new about it. Returns it as it is then.
    async fn look_after(&self, record: SealedGraphCredential, retries: &Retries) -> SealedGraphCredential {
        let now = Timestamp::now();
        let uid = record.uid().unwrap_or_default();
        let retry_at = lock(retries)
            .get(&uid)
            .filter(|(generation, _)| *generation == record.metadata.generation)
            .map(|(_, at)| *at);
        let due_at = proof_due_at(&record).max(retry_at.unwrap_or(Timestamp::MIN));
        let proof = if due_at <= now {
            self.prove(&record).instrument(span(&record)).await
        } else {
            Ok((None, None))
        };
        let Ok((proof, wait)) = proof else { return record };
        match wait {
            Some(wait) => drop(lock(retries).insert(uid, (record.metadata.generation, now + wait))),
            None if proof.is_some() => drop(lock(retries).remove(&uid)),
            None => {}
        }
        // Of a secret that was changed by other hands nothing is said before it could be tried.
        if proof.is_none() && !is_seen(&record) {
            return record;
        }
        let status = next_status(&record, proof.as_ref(), now);
        if record.status.as_ref() == Some(&status) || self.leadership.admit_write().is_err() {
            return record;
        }
        let changed = SealedGraphCredential { status: Some(status), ..record.clone() };
        match records::write_status(&self.client, &changed).await {
            Ok(written) => written,
            Err(RecordError::Conflict) => record,
            Err(error) => {
                tracing::warn!(record = record.name_any(), error = chain(&error), "a status is not written");
                record
            }
        }
    }

    /// Asks Microsoft for a token. Returns what that proved, nothing where it could not be asked, and when to try again
    /// where no token was issued.
    async fn prove(
        &self,
        record: &SealedGraphCredential,
    ) -> Result<(Option<Proof>, Option<Duration>), NotLeading> {
        let secret = match self.open(record).await {
            Ok(secret) => secret,
            Err(error) => {
                tracing::warn!(record = record.name_any(), error = chain(&*error), "a record does not open");
                return Ok((Some(Proof::Unopened), Some(self.timing.stalled_probe)));
            }
        };
        let spec = &record.spec;
        let cloud = spec.cloud.unwrap_or_default();
        let app = App { cloud, tenant: &spec.tenant_id, client: &spec.client_id };
        let verdict = self.token_endpoint.prove(app, &secret).await?;
        Ok(match verdict {
            Verdict::Issued { .. } => (Some(Proof::Issued), None),
            Verdict::NotIssued { diagnosis: Diagnosis::Refused(refusal), .. } => {
                tracing::warn!(record = record.name_any(), reason = %refusal.reason, "a saved secret is refused");
                (Some(Proof::Refused(refusal)), Some(self.timing.stalled_probe))
            }
            Verdict::NotIssued { retry_after, .. } => (None, Some(retry_after.unwrap_or_default())),
        })
    }

    async fn open(&self, record: &SealedGraphCredential) -> Result<SecretText, Box<dyn Error + Send + Sync>> {
        let key = Envelope::from_base64(&record.spec.envelope)?.key_id();
        let keyring = self.keyring.holding(key).await?;
        Ok(record::open(record, &keyring)?)
    }
}

fn lock(retries: &Retries) -> MutexGuard<'_, HashMap<String, (Option<i64>, Timestamp)>> {
    retries.lock().unwrap_or_else(PoisonError::into_inner)
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
