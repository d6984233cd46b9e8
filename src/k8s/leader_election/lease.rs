//! Requests for the Lease, each with a time limit. A write always replaces the version that was read.

use std::time::Duration;

use k8s_openapi::api::coordination::v1::Lease;
use kube::api::PostParams;
use kube::{Api, Client};
use thiserror::Error;

use crate::k8s::relist::Relist;

/// Why the lease could not be read or written.
#[derive(Debug, Error)]
pub enum LeaseError {
    #[error("failed to read Lease {0}: the operator needs the right to get it")]
    Read(String, #[source] kube::Error),
    #[error("failed to write Lease {0}: the operator needs the rights to create and update it")]
    Write(String, #[source] kube::Error),
    #[error("Lease {0} was changed meanwhile")]
    Conflict(String),
    /// It may have been written all the same.
    #[error("the API server did not respond to a request for Lease {0} within {1:?}")]
    Slow(String, Duration),
}

/// The Lease object in the operator's namespace.
pub(super) struct LeaseApi {
    api: Api<Lease>,
    namespace: String,
    pub(super) name: String,
    relist: Relist,
}

// === impl LeaseApi ===

impl LeaseApi {
    pub(super) fn new(client: Client, namespace: &str, name: &str, relist: Relist) -> Self {
        let api = Api::namespaced(client, namespace);
        Self { api, namespace: namespace.to_owned(), name: name.to_owned(), relist }
    }

    /// The current lease, if it exists.
    pub(super) async fn read(&self, bound: Duration) -> Result<Option<Lease>, LeaseError> {
        let read = self.within(bound, self.api.get_opt(&self.name)).await?;
        let lease = read.map_err(|error| LeaseError::Read(self.full_name(), error))?;
        self.observe_version(lease.as_ref());
        Ok(lease)
    }

    /// Replaces the lease at its resource version, or creates it if it has none.
    pub(super) async fn write(&self, mut lease: Lease, bound: Duration) -> Result<Lease, LeaseError> {
        lease.metadata.name = Some(self.name.clone());
        let params = PostParams::default();
        let written = if lease.metadata.resource_version.is_some() {
            self.within(bound, self.api.replace(&self.name, &params, &lease)).await?
        } else {
            self.within(bound, self.api.create(&params, &lease)).await?
        };
        let lease = written.map_err(|error| match error {
            // It was changed or created meanwhile.
            kube::Error::Api(status) if status.code == 409 => LeaseError::Conflict(self.full_name()),
            error => LeaseError::Write(self.full_name(), error),
        })?;
        self.observe_version(Some(&lease));
        Ok(lease)
    }

    /// A lease is written every few seconds, so it is the first object to show that etcd was restored.
    fn observe_version(&self, lease: Option<&Lease>) {
        self.relist.observe("Lease", lease.and_then(|lease| lease.metadata.resource_version.as_deref()));
    }

    async fn within<T>(
        &self,
        bound: Duration,
        request: impl Future<Output = T> + Send,
    ) -> Result<T, LeaseError> {
        tokio::time::timeout(bound, request).await.map_err(|_| LeaseError::Slow(self.full_name(), bound))
    }

    fn full_name(&self) -> String {
        format!("{}/{}", self.namespace, self.name)
    }
}
