//! The backend of the sandbox: accounts and records in memory, encrypted only for a file, and verification by magic secrets.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;

use axum::extract::Request;
use axum::middleware::Next;
use axum::response::Response;
use http::HeaderValue;
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use parking_lot::Mutex;
use tokio::sync::Semaphore;

use super::data::Data;
use super::file::{FileError, StateFile};
use super::magic::Magic;
use super::request_log::RequestLog;
use super::{agency, answer, mailboxes};
use crate::api::{ClientId, SealedGraphCredential, TenantId};
use crate::core::error_chain::chain;
use crate::rest::{Account, Backend, NewSecret, Quota, RestError, UnknownFields};
use crate::secret_text::SecretText;
use crate::store::envelope::{AssociatedData, Envelope, SealError, Secrets};
use crate::store::keyring::Keyring;
use crate::store::repository::RecordError;

/// Most credentials of an account, as in `serve`.
pub(super) const MAX_CREDENTIALS: usize = 1000;

/// Most bodies of the sandbox's own routes that are read at once.
const MAX_BODIES: usize = 8;

pub(super) struct Sandbox {
    keyring: Keyring,
    data: Mutex<Data>,
    file: Option<StateFile>,
    unknown: UnknownFields,
    /// Answers to the next requests, whatever they are.
    next: Mutex<VecDeque<&'static Magic>>,
    /// Limits the memory of the bodies of the sandbox's own routes.
    pub bodies: Semaphore,
    pub quota: Arc<Quota>,
    pub log: RequestLog,
}

// === impl Sandbox ===

impl Sandbox {
    pub fn open(file: Option<&Path>, unknown: UnknownFields) -> Result<Self, FileError> {
        let (file, keyring, data) = match file {
            Some(path) => {
                let (file, keyring, data) = StateFile::open(path)?;
                (Some(file), keyring, data)
            }
            None => (None, Keyring::random(Timestamp::now())?, Data::initial()),
        };
        let quota = Arc::new(Quota::new(MAX_CREDENTIALS));
        count(&quota, &data);
        let (data, next, log) = (Mutex::new(data), Mutex::default(), RequestLog::default());
        let bodies = Semaphore::new(MAX_BODIES);
        Ok(Self { keyring, data, file, unknown, next, bodies, quota, log })
    }

    pub fn has_file(&self) -> bool {
        self.file.is_some()
    }

    pub fn view<T>(&self, view: impl FnOnce(&Data) -> T) -> T {
        view(&self.data.lock())
    }

    /// Changes the data, and writes them to the file. If either fails, nothing is changed.
    pub fn change<T, E: From<WriteFailed>>(
        &self,
        change: impl FnOnce(&mut Data) -> Result<T, E>,
    ) -> Result<T, E> {
        let mut data = self.data.lock();
        let Some(file) = &self.file else { return change(&mut data) };
        let mut changed = data.clone();
        let result = change(&mut changed)?;
        file.write(&changed).map_err(|error| {
            tracing::error!(error = chain(&error), "failed to write the sandbox's file");
            WriteFailed
        })?;
        *data = changed;
        Ok(result)
    }

    /// Replaces all data, and forgets what was planned and logged.
    pub fn replace_data(&self, new: &Data) -> Result<(), WriteFailed> {
        let before = self.change(|data| Ok::<_, WriteFailed>(std::mem::replace(data, new.clone())))?;
        before.ids().for_each(|(account, id)| self.quota.remove(account, id));
        count(&self.quota, new);
        self.next.lock().clear();
        self.log.clear();
        Ok(())
    }

    /// Plans answers to the next requests. Returns false if there would be more than `most`.
    pub fn plan(&self, magic: &'static Magic, times: usize, most: usize) -> bool {
        let mut next = self.next.lock();
        let has_room = next.len().saturating_add(times) <= most;
        if has_room {
            next.extend(std::iter::repeat_n(magic, times));
        }
        has_room
    }

    pub fn take_planned(&self) -> Option<&'static Magic> {
        self.next.lock().pop_front()
    }

    /// Plans an answer again that did not fit the request.
    pub fn put_back(&self, magic: &'static Magic) {
        self.next.lock().push_front(magic);
    }

    /// Encrypts secrets into a record as in the cluster, if there is a file. Without one, nothing reads them again.
    pub fn encrypt<'a>(
        &self,
        record: &mut SealedGraphCredential,
        secrets: impl Into<Secrets<'a>>,
    ) -> Result<(), SealError> {
        if self.file.is_none() {
            return Ok(());
        }
        record.spec.envelope =
            Envelope::seal(&self.keyring, AssociatedData::of(record), secrets)?.to_base64();
        Ok(())
    }

    /// Writes a record in place of the version that was read, or as a new one.
    fn put(&self, record: SealedGraphCredential) -> Result<SealedGraphCredential, RecordError> {
        let stored = self.change(|data| store(data, record).cloned().map_err(Failure::Record));
        stored.map_err(RecordError::from)
    }
}

/// The sandbox's file cannot be written.
#[derive(Debug)]
pub(super) struct WriteFailed;

enum Failure {
    Record(RecordError),
    Write,
}

impl From<WriteFailed> for Failure {
    fn from(_: WriteFailed) -> Self {
        Self::Write
    }
}

impl From<Failure> for RecordError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Record(error) => error,
            // What went wrong is logged; clients see an internal error.
            Failure::Write => {
                let source = kube::Error::Service("the sandbox's file cannot be written".into());
                RecordError::Write { name: "in the sandbox's file".to_owned(), source }
            }
        }
    }
}

fn count(quota: &Quota, data: &Data) {
    for (account, id) in data.ids() {
        // A seed may have more than an account can create.
        if let Ok(reserved) = quota.reserve(account, id) {
            reserved.commit();
        }
    }
}

/// Stores a record as the API server does: with a version of its own, and a generation that counts changes of the spec.
pub(super) fn store(
    data: &mut Data,
    mut record: SealedGraphCredential,
) -> Result<&SealedGraphCredential, RecordError> {
    let meta = &record.metadata;
    let key = (meta.namespace.clone().unwrap_or_default(), meta.name.clone().unwrap_or_default());
    let found = data.record(&key.0, &key.1);
    if found.and_then(|it| it.metadata.resource_version.as_ref()) != meta.resource_version.as_ref() {
        return Err(RecordError::Conflict);
    }
    let generation = match found {
        Some(found) if found.spec == record.spec => found.metadata.generation,
        Some(found) => found.metadata.generation.map(|it| it + 1),
        None => {
            record.metadata.uid = Some(record.spec.record_id.to_string());
            record.metadata.creation_timestamp = Some(Time(data.now()));
            Some(1)
        }
    };
    record.metadata.generation = generation;
    data.resource_version += 1;
    record.metadata.resource_version = Some(data.resource_version.to_string());
    let records = data.records.entry(key.0).or_default();
    Ok(records.entry(key.1).insert_entry(record).into_mut())
}

impl Backend for Arc<Sandbox> {
    fn authenticate(&self, key: &[u8]) -> Option<Arc<Account>> {
        self.data.lock().account(key)
    }

    fn company(&self, account: &Account, company: &HeaderValue) -> Result<Arc<Account>, RestError> {
        self.view(|data| agency::account(data, account, company)).map(Arc::new)
    }

    fn unknown_fields(&self) -> UnknownFields {
        self.unknown
    }

    async fn handle(&self, request: Request, next: Next) -> Response {
        answer::provoke(self, request, next).await
    }

    fn now(&self) -> Timestamp {
        self.data.lock().now()
    }

    async fn verify(
        &self,
        _namespace: &str,
        tenant: &TenantId,
        client: &ClientId,
        secret: &NewSecret,
    ) -> Result<(), RestError> {
        answer::verify(tenant, client, secret)
    }

    async fn list(
        &self,
        namespace: &str,
        add: impl FnMut(&SealedGraphCredential) + Send,
    ) -> Result<(), RestError> {
        let data = self.data.lock();
        data.records.get(namespace).into_iter().flat_map(|records| records.values()).for_each(add);
        Ok(())
    }

    async fn read(&self, namespace: &str, name: &str) -> Result<Option<SealedGraphCredential>, RecordError> {
        Ok(self.data.lock().record(namespace, name).cloned())
    }

    async fn metadata(&self, namespace: &str, name: &str) -> Result<Option<ObjectMeta>, RecordError> {
        Ok(self.data.lock().record(namespace, name).map(|record| record.metadata.clone()))
    }

    async fn same(
        &self,
        record: &SealedGraphCredential,
    ) -> Result<Option<SealedGraphCredential>, RecordError> {
        let data = self.data.lock();
        let (namespace, name) = (record.metadata.namespace.as_deref(), record.metadata.name.as_deref());
        let found = data.record(namespace.unwrap_or_default(), name.unwrap_or_default());
        Ok(found.filter(|found| found.spec.record_id == record.spec.record_id).cloned())
    }

    async fn create(
        &self,
        mut record: SealedGraphCredential,
        secret: &SecretText,
    ) -> Result<SealedGraphCredential, RecordError> {
        self.encrypt(&mut record, secret)?;
        self.put(record)
    }

    async fn replace(
        &self,
        _record: &SealedGraphCredential,
        mut changed: SealedGraphCredential,
        secret: &SecretText,
    ) -> Result<SealedGraphCredential, RecordError> {
        self.encrypt(&mut changed, secret)?;
        self.put(changed)
    }

    async fn replace_fields(
        &self,
        record: &SealedGraphCredential,
        mut changed: SealedGraphCredential,
    ) -> Result<SealedGraphCredential, RecordError> {
        if self.file.is_some() {
            let envelope = Envelope::from_base64(&record.spec.envelope)?;
            let (current, pending) = envelope.open_all(&self.keyring, AssociatedData::of(record))?;
            self.encrypt(&mut changed, Secrets { current: &current, pending: pending.as_ref() })?;
        }
        self.put(changed)
    }

    /// Nothing shows one.
    async fn update_status(&self, _record: SealedGraphCredential, _is_verified: bool) {}

    async fn remove(&self, namespace: &str, record: &ObjectMeta) -> Result<(), RecordError> {
        let removed = self.change(|data| {
            let name = record.name.as_deref().unwrap_or_default();
            let Some(found) = data.record(namespace, name) else { return Ok(()) };
            // A mailbox may have been connected since the request was let in.
            let is_used = mailboxes::uses(data, namespace, found.spec.credential_id);
            if is_used || found.metadata.resource_version != record.resource_version {
                return Err(Failure::Record(RecordError::Conflict));
            }
            data.records.get_mut(namespace).map(|records| records.remove(name));
            Ok(())
        });
        removed.map_err(RecordError::from)
    }
}
