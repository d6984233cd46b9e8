//! Requests for the lease, each within a bound. A write is always a replace under the version that was read.

use std::time::Duration;

use k8s_openapi::api::coordination::v1::Lease;
use kube::api::PostParams;
use kube::{Api, Client};
use thiserror::Error;

use crate::k8s::relist::Relist;

/// Why the lease could not be read or written.
#[derive(Debug, Error)]
pub enum LeaseError {
    /// The API server did not give it.
    #[error("failed to read Lease {0}: the operator needs the right to get it")]
    Read(String, #[source] kube::Error),
    /// The API server did not take it.
    #[error("failed to write Lease {0}: the operator needs the rights to create and update it")]
    Write(String, #[source] kube::Error),
    #[error("somebody else wrote Lease {0} meanwhile")]
    Conflict(String),
    /// No answer came in time. It may have been written.
    #[error("the API server did not answer a request for Lease {0} within {1:?}")]
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

    /// The lease as it is; nothing where there is none.
    pub(super) async fn read(&self, bound: Duration) -> Result<Option<Lease>, LeaseError> {
        let read = self.within(bound, self.api.get_opt(&self.name)).await?;
        let lease = read.map_err(|error| LeaseError::Read(self.place(), error))?;
        self.saw(lease.as_ref());
        Ok(lease)
    }

    /// Writes it at the resource version that it carries, or makes it where it carries none.
    pub(super) async fn write(&self, mut lease: Lease, bound: Duration) -> Result<Lease, LeaseError> {
        lease.metadata.name = Some(self.name.clone());
        let params = PostParams::default();
        let written = if lease.metadata.resource_version.is_some() {
            self.within(bound, self.api.replace(&self.name, &params, &lease)).await?
        } else {
            self.within(bound, self.api.create(&params, &lease)).await?
        };
        let lease = written.map_err(|error| match error {
            // It changed, or somebody else made it first.
            kube::Error::Api(answer) if answer.code == 409 => LeaseError::Conflict(self.place()),
            error => LeaseError::Write(self.place(), error),
        })?;
        self.saw(Some(&lease));
        Ok(lease)
    }

    /// A lease is written every few seconds: it is the first to show that etcd was restored to an earlier state.
    fn saw(&self, lease: Option<&Lease>) {
        self.relist.saw("Lease", lease.and_then(|lease| lease.metadata.resource_version.as_deref()));
    }

    async fn within<T>(
        &self,
        bound: Duration,
        request: impl Future<Output = T> + Send,
    ) -> Result<T, LeaseError> {
        tokio::time::timeout(bound, request).await.map_err(|_| LeaseError::Slow(self.place(), bound))
    }

    fn place(&self) -> String {
        format!("{}/{}", self.namespace, self.name)
    }
}
