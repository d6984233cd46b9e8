//! The records of the encrypted store in Kubernetes. Every write is create-only or under the resource version that was
//! seen, so that one without an answer is settled by reading the record again.

pub mod watch;

use std::collections::BTreeSet;

use kube::api::{DeleteParams, ListParams, PostParams, Preconditions};
use kube::core::DeserializeGuard;
use kube::{Api, Client, ResourceExt};

use super::error::PassError;
use crate::destination::Operation;
use crate::resources::SealedGraphCredential;

/// Annotation on a record: uid of the object that it was sealed for last. A deleted object removes what its status does
/// not know of only where this says that it made it.
const SEALED_FOR: &str = "graph-credentials.io/sealed-for";

/// The object that the record was sealed for last, by its uid.
pub fn sealed_for(record: &SealedGraphCredential) -> Option<&str> {
    record.annotations().get(SEALED_FOR).map(String::as_str)
}

/// Notes on a record the object that it is sealed for.
pub fn seal_for(record: &mut SealedGraphCredential, uid: &str) {
    record.annotations_mut().insert(SEALED_FOR.to_owned(), uid.to_owned());
}

/// Reads a record.
pub async fn read(
    client: &Client,
    namespace: &str,
    name: &str,
) -> Result<Option<SealedGraphCredential>, PassError> {
    let read = api(client, namespace).get_opt(name).await;
    read.map_err(|source| {
        refusal(Operation::List, &source)
            .unwrap_or_else(|| PassError::ReadRecord { name: name.to_owned(), source })
    })
}

/// The ids of the credentials of all records of a namespace.
pub async fn credential_ids(client: &Client, namespace: &str) -> Result<BTreeSet<i64>, PassError> {
    let records: Api<DeserializeGuard<SealedGraphCredential>> = Api::namespaced(client.clone(), namespace);
    let mut ids = BTreeSet::new();
    let mut page = ListParams::default().limit(500);
    loop {
        let list = records
            .list(&page)
            .await
            .map_err(|source| refusal(Operation::List, &source).unwrap_or(PassError::ListRecords(source)))?;
        ids.extend(list.items.iter().filter_map(|record| Some(record.0.as_ref().ok()?.spec.credential_id)));
        match list.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => page = page.continue_token(&token),
            None => return Ok(ids),
        }
    }
}

/// Makes a record that does not exist, or replaces the version of it that was read. What came in between is a conflict.
pub async fn write(
    client: &Client,
    namespace: &str,
    record: &SealedGraphCredential,
) -> Result<SealedGraphCredential, PassError> {
    let name = record.name_any();
    let api = api(client, namespace);
    let (operation, written) = if record.metadata.resource_version.is_none() {
        (Operation::Create, api.create(&PostParams::default(), record).await)
    } else {
        (Operation::Update, api.replace(&name, &PostParams::default(), record).await)
    };
    written.map_err(|source| failure(operation, name, source))
}

/// Removes the version of a record that was read; one that is gone already counts as removed.
pub async fn remove(
    client: &Client,
    namespace: &str,
    record: &SealedGraphCredential,
) -> Result<(), PassError> {
    let preconditions = Preconditions {
        uid: record.metadata.uid.clone(),
        resource_version: record.metadata.resource_version.clone(),
    };
    let params = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() };
    match api(client, namespace).delete(&record.name_any(), &params).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(answer)) if answer.is_not_found() => Ok(()),
        Err(source) => Err(failure(Operation::Delete, record.name_any(), source)),
    }
}

fn failure(operation: Operation, name: String, source: kube::Error) -> PassError {
    match &source {
        kube::Error::Api(answer)
            if answer.is_conflict() || answer.is_already_exists() || answer.is_not_found() =>
        {
            PassError::Conflict
        }
        _ => refusal(operation, &source).unwrap_or(PassError::WriteRecord { name, source }),
    }
}

/// What the API server will go on refusing until somebody mends rights, quota or an admission policy.
fn refusal(operation: Operation, error: &kube::Error) -> Option<PassError> {
    match error {
        kube::Error::Api(answer) if matches!(answer.code, 400 | 403 | 422) => {
            Some(PassError::RecordRefused { operation, status: answer.code })
        }
        _ => None,
    }
}

fn api(client: &Client, namespace: &str) -> Api<SealedGraphCredential> {
    Api::namespaced(client.clone(), namespace)
}
