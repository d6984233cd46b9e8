//! Watches one kind: lists it, follows changes, and retries failures with a back-off.
//!
//! It replaces kube's watcher, which starts each list with an event that resets kube's back-off, reopens a watch that
//! ended at once without waiting, keeps whole pages of unpruned objects in memory, and waits forever at a future
//! version.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use futures::{AsyncBufRead, AsyncBufReadExt, StreamExt};
use kube::api::{PartialObjectMeta, WatchParams};
use kube::core::request::Request;
use kube::core::{ObjectMeta, Status};
use kube::runtime::watcher::Event;
use kube::{Client, Resource, ResourceExt};
use serde::Deserialize;
use serde_json::value::RawValue;
use thiserror::Error;
use tokio::time::Instant;

use crate::core::error_chain::chain;
use crate::core::timing::Timing;
use crate::k8s::list::{self, ListError, PAGE, Page};
use crate::k8s::relist::{Relist, number};
use crate::k8s::streak::FailureStreak;
use crate::telemetry::metrics::Metrics;

#[derive(Clone)]
pub struct WatchClient {
    pub client: Client,
    pub timing: Timing,
    pub relist: Relist,
    pub metrics: Arc<Metrics>,
}

/// Parses an object, and keeps only the fields that are used.
pub type ReadObject<T> = fn(&[u8]) -> serde_json::Result<T>;

#[derive(Clone, Debug)]
pub struct WatchTarget<T> {
    kind: &'static str,
    path: String,
    is_metadata: bool,
    /// Whether the operator can work without the right to watch it.
    pub is_optional: bool,
    read: ReadObject<T>,
}

#[derive(Debug, Error)]
pub enum WatchError {
    #[error(transparent)]
    List(#[from] ListError),
    #[error("a list has no resource version")]
    NoVersion,
    #[error("failed to open a watch")]
    Open(#[source] kube::Error),
    #[error("failed to read an event of a watch as JSON")]
    Parse(#[from] serde_json::Error),
    #[error("the API server ended a watch")]
    Ended(#[source] Box<Status>),
    #[error("the API server ended a watch at once")]
    Brief,
}

/// A line of a watch. Unlike kube's events, it parses the object without a tree of values first.
#[derive(Deserialize)]
struct Line<'a> {
    #[serde(rename = "type")]
    kind: Kind,
    #[serde(borrow)]
    object: &'a RawValue,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
enum Kind {
    Added,
    Modified,
    Deleted,
    Bookmark,
    Error,
}

#[derive(Deserialize)]
struct Bookmark {
    metadata: ObjectMeta,
}

struct Follower<'a, T, F> {
    client: &'a WatchClient,
    target: &'a WatchTarget<T>,
    emit: F,
    /// The version where the next watch starts; `None` if a list is needed first.
    from: Option<String>,
    newest: u64,
    /// The round of the last list.
    round: u64,
    /// Whether the last watch ended early or delivered nothing, so `from` may be a future version.
    is_in_doubt: bool,
    failures: FailureStreak,
}

// === impl WatchTarget ===

impl<T> WatchTarget<T>
where
    T: Resource<DynamicType = ()>,
{
    /// The objects of a kind in one namespace or in all.
    pub fn objects(kind: &'static str, namespace: Option<&str>, read: ReadObject<T>) -> Self {
        let path = T::url_path(&(), namespace);
        Self { kind, path, is_metadata: false, is_optional: false, read }
    }
}

impl<K> WatchTarget<PartialObjectMeta<K>>
where
    K: Resource<DynamicType = ()>,
{
    /// The metadata of the objects of a kind in one namespace or in all.
    pub fn metadata(kind: &'static str, namespace: Option<&str>) -> Self {
        let path = K::url_path(&(), namespace);
        Self { kind, path, is_metadata: true, is_optional: false, read: |json| serde_json::from_slice(json) }
    }
}

// === impl WatchClient ===

impl WatchClient {
    /// Emits all events of the target, forever. Each `Init` is followed by a list of the API server's current state.
    pub async fn follow<T>(&self, target: &WatchTarget<T>, emit: impl FnMut(Event<T>)) -> Infallible
    where
        T: Resource<DynamicType = ()> + Send + 'static,
    {
        let mut follower = Follower {
            client: self,
            target,
            emit,
            from: None,
            newest: 0,
            round: self.relist.round(),
            is_in_doubt: false,
            failures: FailureStreak::default(),
        };
        loop {
            if let Err(error) = Box::pin(follower.step()).await {
                let wait = follower.failed(&error);
                tokio::time::sleep(wait).await;
            }
        }
    }
}

// === impl Follower ===

impl<T, F> Follower<'_, T, F>
where
    T: Resource<DynamicType = ()> + Send + 'static,
    F: FnMut(Event<T>),
{
    /// Lists, or watches until the watch ends.
    async fn step(&mut self) -> Result<(), WatchError> {
        if self.client.relist.round() != self.round {
            self.from = None;
        }
        let Some(from) = self.from.clone() else { return self.list().await };
        if self.is_in_doubt {
            let page = self.page(1, None, |_| Ok(())).await?;
            self.is_in_doubt = false;
            // The list may be ahead of the watch, which has yet to deliver what it missed.
            let version = page.resource_version;
            if number(version.as_deref()).is_some_and(|version| version < self.newest) {
                self.observe_version(version.as_deref());
            }
            return Ok(());
        }
        self.is_in_doubt = true;
        self.watch(&from).await
    }

    async fn list(&mut self) -> Result<(), WatchError> {
        let round = self.client.relist.round();
        if std::mem::replace(&mut self.round, round) != round {
            // Another watch noticed that versions went back.
            self.newest = 0;
        }
        self.is_in_doubt = false;
        (self.emit)(Event::Init);
        let mut token = None;
        let version = loop {
            let mut objects = Vec::new();
            let page = self
                .page(PAGE, token, |json| {
                    objects.push((self.target.read)(json)?);
                    Ok(())
                })
                .await?;
            for object in objects {
                (self.emit)(Event::InitApply(object));
            }
            let version = page.resource_version.clone();
            token = page.next();
            if token.is_none() {
                break version.ok_or(WatchError::NoVersion)?;
            }
        };
        self.continue_from(Some(version));
        (self.emit)(Event::InitDone);
        Ok(())
    }

    /// One page of the current state, without a requested version.
    async fn page(
        &self,
        limit: u32,
        token: Option<String>,
        item: impl FnMut(&[u8]) -> Result<(), ListError>,
    ) -> Result<Page, ListError> {
        let WatchTarget { path, is_metadata, .. } = self.target;
        list::page(&self.client.client, (path, *is_metadata), limit, token, item).await
    }

    async fn watch(&mut self, from: &str) -> Result<(), WatchError> {
        let idle = u32::try_from(self.client.timing.watch_idle.as_secs()).unwrap_or(u32::MAX).clamp(1, 290);
        let opened = Instant::now();
        let mut events = self.open(idle, from).await.map_err(WatchError::Open)?.lines();
        let silence = Duration::from_secs(u64::from(idle) + 5);
        let (mut has_delivered, mut has_changed, mut was_interrupted) = (false, false, false);
        loop {
            let event = tokio::select! {
                () = self.client.relist.round_ended(self.round) => return Ok(()),
                event = tokio::time::timeout(silence, events.next()) => event.unwrap_or(None),
            };
            let Some(event) = event else { break };
            // Proxies and stopping API servers cut watches, so only the time that a watch lasted counts.
            let line = match event {
                Ok(line) => line,
                Err(error) => {
                    tracing::debug!(kind = self.target.kind, error = chain(&error), "a watch broke off");
                    was_interrupted = true;
                    break;
                }
            };
            let event: Line<'_> = match serde_json::from_str(&line) {
                Err(error) if error.is_eof() => {
                    was_interrupted = true;
                    break;
                }
                line => line?,
            };
            has_delivered = true;
            has_changed |= !matches!(event.kind, Kind::Bookmark);
            self.on_event(&event)?;
            if self.from.is_none() {
                return Ok(());
            }
        }
        let lasted = opened.elapsed();
        if lasted >= self.client.timing.watch_reopen * 2 {
            self.succeeded();
        }
        if lasted < self.client.timing.watch_brief && !has_changed {
            return Err(WatchError::Brief);
        }
        self.is_in_doubt = was_interrupted || !has_delivered;
        Ok(())
    }

    async fn open(&self, idle: u32, from: &str) -> kube::Result<impl AsyncBufRead + Unpin + use<T, F>> {
        let request = Request::new(self.target.path.clone());
        let wanted = WatchParams { timeout: Some(idle), bookmarks: true, ..WatchParams::default() };
        let request = if self.target.is_metadata {
            request.watch_metadata(&wanted, from)
        } else {
            request.watch(&wanted, from)
        };
        self.client.client.request_stream(request.map_err(kube::Error::BuildRequest)?).await
    }

    fn on_event(&mut self, event: &Line<'_>) -> Result<(), WatchError> {
        let json = event.object.get().as_bytes();
        match event.kind {
            Kind::Added | Kind::Modified => self.changed((self.target.read)(json)?, Event::Apply),
            Kind::Deleted => self.changed((self.target.read)(json)?, Event::Delete),
            Kind::Bookmark => {
                let bookmark: Bookmark = serde_json::from_slice(json)?;
                self.continue_from(bookmark.metadata.resource_version);
            }
            Kind::Error => return Err(WatchError::Ended(serde_json::from_slice(json)?)),
        }
        Ok(())
    }

    fn changed(&mut self, object: T, event: fn(T) -> Event<T>) {
        self.succeeded();
        self.continue_from(object.resource_version());
        (self.emit)(event(object));
    }

    /// Sets where the next watch starts.
    fn continue_from(&mut self, version: Option<String>) {
        self.from = version;
        if let Some(from) = self.from.clone() {
            self.observe_version(Some(&from));
        }
    }

    /// Records a version. If it is older than the last one, everything is listed again.
    fn observe_version(&mut self, version: Option<&str>) {
        let Some(version) = number(version) else { return };
        if std::mem::replace(&mut self.newest, version) > version {
            self.from = None;
            self.round = self.client.relist.trigger(self.target.kind);
        }
    }

    fn succeeded(&mut self) {
        if self.failures.record_success() {
            tracing::info!(kind = self.target.kind, path = self.target.path, "the watch works again");
        }
    }

    /// Counts a failure, logs a repeated one at debug level, and returns how long to wait.
    fn failed(&mut self, error: &WatchError) -> Duration {
        let WatchTarget { kind, path, is_optional, .. } = self.target;
        if error.code() == Some(410) {
            self.from = None;
        }
        let text = format!("{error} {:?}", error.code());
        let (wait, is_new) = self.failures.record_failure(&text, &self.client.timing);
        if *is_optional && error.code() == Some(403) {
            if is_new {
                tracing::info!(kind, path, "may not be watched; the operator works without");
            }
            return wait;
        }
        self.client.metrics.kubernetes.watch_failed(kind);
        if is_new {
            tracing::warn!(
                kind,
                path,
                error = chain(error),
                "a watch failed and is tried again until it works"
            );
        } else {
            tracing::debug!(kind, path, error = chain(error), ?wait, "a watch failed once more");
        }
        wait
    }
}

// === impl WatchError ===

impl WatchError {
    /// The status code, if the API server rejected the request.
    fn code(&self) -> Option<u16> {
        match self {
            Self::List(ListError::Request(kube::Error::Api(status)))
            | Self::Open(kube::Error::Api(status))
            | Self::Ended(status) => Some(status.code),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests;
