//! Every watch of the program: lists one kind, follows its changes, and after a failure tries again with a back-off of
//! its own.
//!
//! kube's watcher begins each list with an event that resets kube's back-off, opens a watch that was ended at once
//! without any wait, holds whole pages of unpruned objects, and waits for ever at a version from the future.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use futures::{AsyncBufReadExt, StreamExt};
use kube::api::{PartialObjectMeta, WatchParams};
use kube::core::request::Request;
use kube::core::{ObjectMeta, Status};
use kube::runtime::watcher::Event;
use kube::{Client, Resource, ResourceExt};
use serde::Deserialize;
use serde_json::value::RawValue;
use thiserror::Error;
use tokio::time::Instant;

use super::list::{self, ListError, PAGE, Page};
use super::relist::{Relist, number};
use super::streak::Streak;
use crate::settings::Timing;
use crate::telemetry::logs::chain;
use crate::telemetry::metrics::Metrics;

#[derive(Clone)]
pub struct Watching {
    pub client: Client,
    pub timing: Timing,
    /// Has all watches list again.
    pub relist: Relist,
    pub metrics: Arc<Metrics>,
}

/// Reads an object, and keeps only what is used of it.
pub type ReadObject<T> = fn(&[u8]) -> serde_json::Result<T>;

#[derive(Clone, Debug)]
pub struct Watched<T> {
    kind: &'static str,
    /// Where the API server has it.
    path: String,
    is_metadata: bool,
    /// Whether the operator works without the right to it.
    pub is_optional: bool,
    read: ReadObject<T>,
}

#[derive(Debug, Error)]
pub enum WatchError {
    /// The list came to nothing.
    #[error(transparent)]
    List(#[from] ListError),
    /// A list came without a version to watch from.
    #[error("a list has no resource version")]
    NoVersion,
    #[error("failed to open a watch")]
    Open(#[source] kube::Error),
    /// The watch has brought something that cannot be read.
    #[error("failed to read an event of a watch as JSON")]
    Parse(#[from] serde_json::Error),
    /// The API server ended the watch with that word.
    #[error("the API server ended a watch")]
    Ended(#[source] Box<Status>),
    /// The API server accepted the watch and ended it at once.
    #[error("the API server ended a watch at once")]
    Brief,
}

/// A line of a watch. Its object is read without a tree of values before it, as kube's own events make one.
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
    watching: &'a Watching,
    watched: &'a Watched<T>,
    tell: F,
    /// Where the next watch begins; nothing where it takes a list first.
    from: Option<String>,
    newest: u64,
    /// The round of the last list.
    round: u64,
    /// Whether the last watch ended in another way than by its time, or brought nothing: `from` may lie in the future.
    is_in_doubt: bool,
    streak: Streak,
}

// === impl Watched ===

impl<T> Watched<T>
where
    T: Resource<DynamicType = ()>,
{
    /// Objects of a kind, in that namespace or in all.
    pub fn objects(kind: &'static str, namespace: Option<&str>, read: ReadObject<T>) -> Self {
        let path = T::url_path(&(), namespace);
        Self { kind, path, is_metadata: false, is_optional: false, read }
    }
}

impl<K> Watched<PartialObjectMeta<K>>
where
    K: Resource<DynamicType = ()>,
{
    /// The metadata of objects of a kind, in that namespace or in all.
    pub fn metadata(kind: &'static str, namespace: Option<&str>) -> Self {
        let path = K::url_path(&(), namespace);
        Self { kind, path, is_metadata: true, is_optional: false, read: |json| serde_json::from_slice(json) }
    }
}

// === impl Watching ===

impl Watching {
    /// Tells all that happens to what is watched, for ever: after each `Init` comes a list, from the API server's present
    /// state.
    pub async fn follow<T>(&self, watched: &Watched<T>, tell: impl FnMut(Event<T>)) -> Infallible
    where
        T: Resource<DynamicType = ()> + Send + 'static,
    {
        let mut follower = Follower {
            watching: self,
            watched,
            tell,
            from: None,
            newest: 0,
            round: self.relist.round(),
            is_in_doubt: false,
            streak: Streak::default(),
        };
        loop {
            if let Err(error) = Box::pin(follower.go_on()).await {
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
    async fn go_on(&mut self) -> Result<(), WatchError> {
        if self.watching.relist.round() != self.round {
            self.from = None;
        }
        let Some(from) = self.from.clone() else { return self.list().await };
        if self.is_in_doubt {
            let page = self.page(1, None, |_| Ok(())).await?;
            self.is_in_doubt = false;
            // The list is ahead of the watch, which has yet to bring what it missed.
            let version = page.resource_version;
            if number(version.as_deref()).is_some_and(|version| version < self.newest) {
                self.note(version.as_deref());
            }
            return Ok(());
        }
        self.is_in_doubt = true;
        self.watch(&from).await
    }

    async fn list(&mut self) -> Result<(), WatchError> {
        let round = self.watching.relist.round();
        if std::mem::replace(&mut self.round, round) != round {
            // Another watch has seen that versions went back.
            self.newest = 0;
        }
        self.is_in_doubt = false;
        (self.tell)(Event::Init);
        let mut token = None;
        let version = loop {
            let mut objects = Vec::new();
            let page = self
                .page(PAGE, token, |json| {
                    objects.push((self.watched.read)(json)?);
                    Ok(())
                })
                .await?;
            for object in objects {
                (self.tell)(Event::InitApply(object));
            }
            let version = page.resource_version.clone();
            token = page.next();
            if token.is_none() {
                break version.ok_or(WatchError::NoVersion)?;
            }
        };
        self.move_to(Some(version));
        (self.tell)(Event::InitDone);
        Ok(())
    }

    /// One page of a list of the present state: no version is asked for.
    async fn page(
        &self,
        limit: u32,
        token: Option<String>,
        item: impl FnMut(&[u8]) -> Result<(), ListError>,
    ) -> Result<Page, ListError> {
        let Watched { path, is_metadata, .. } = self.watched;
        list::page(&self.watching.client, (path, *is_metadata), limit, token, item).await
    }

    async fn watch(&mut self, from: &str) -> Result<(), WatchError> {
        let idle = u32::try_from(self.watching.timing.watch_idle.as_secs()).unwrap_or(u32::MAX).clamp(1, 290);
        let request = Request::new(self.watched.path.clone());
        let wanted = WatchParams { timeout: Some(idle), bookmarks: true, ..WatchParams::default() };
        let request = if self.watched.is_metadata {
            request.watch_metadata(&wanted, from)
        } else {
            request.watch(&wanted, from)
        };
        let request = request.map_err(|error| WatchError::Open(kube::Error::BuildRequest(error)))?;
        let opened = Instant::now();
        let mut events =
            self.watching.client.request_stream(request).await.map_err(WatchError::Open)?.lines();
        let silence = Duration::from_secs(u64::from(idle) + 5);
        let (mut has_brought, mut has_changed, mut has_broken_off) = (false, false, false);
        loop {
            let event = tokio::select! {
                () = self.watching.relist.is_after(self.round) => return Ok(()),
                event = tokio::time::timeout(silence, events.next()) => event.unwrap_or(None),
            };
            let Some(event) = event else { break };
            // Proxies cut watches, and an API server that ends does: what counts is how long it lived.
            let line = match event {
                Ok(line) => line,
                Err(error) => {
                    tracing::debug!(kind = self.watched.kind, error = chain(&error), "a watch broke off");
                    has_broken_off = true;
                    break;
                }
            };
            let Line { kind, object } = match serde_json::from_str(&line) {
                Err(error) if error.is_eof() => {
                    has_broken_off = true;
                    break;
                }
                line => line?,
            };
            has_brought = true;
            let json = object.get().as_bytes();
            match kind {
                Kind::Added | Kind::Modified => {
                    has_changed = true;
                    self.arrived((self.watched.read)(json)?, Event::Apply);
                }
                Kind::Deleted => {
                    has_changed = true;
                    self.arrived((self.watched.read)(json)?, Event::Delete);
                }
                Kind::Bookmark => {
                    let bookmark: Bookmark = serde_json::from_slice(json)?;
                    self.move_to(bookmark.metadata.resource_version);
                }
                Kind::Error => return Err(WatchError::Ended(serde_json::from_slice(json)?)),
            }
            if self.from.is_none() {
                return Ok(());
            }
        }
        let lived = opened.elapsed();
        if lived >= self.watching.timing.watch_reopen * 2 {
            self.works();
        }
        if lived < self.watching.timing.watch_brief && !has_changed {
            return Err(WatchError::Brief);
        }
        self.is_in_doubt = has_broken_off || !has_brought;
        Ok(())
    }

    /// A change of an object came.
    fn arrived(&mut self, object: T, event: fn(T) -> Event<T>) {
        self.works();
        self.move_to(object.resource_version());
        (self.tell)(event(object));
    }

    /// The next watch begins there, or with a list.
    fn move_to(&mut self, version: Option<String>) {
        self.from = version;
        if let Some(from) = self.from.clone() {
            self.note(Some(&from));
        }
    }

    /// That version was seen. Where it is older than one before, everything is listed again.
    fn note(&mut self, version: Option<&str>) {
        let Some(version) = number(version) else { return };
        if std::mem::replace(&mut self.newest, version) > version {
            self.from = None;
            self.round = self.watching.relist.raise(self.watched.kind);
        }
    }

    fn works(&mut self) {
        if self.streak.works() {
            tracing::info!(kind = self.watched.kind, path = self.watched.path, "the watch works again");
        }
    }

    /// Counts a failure, tells it once, and says how long to wait.
    fn failed(&mut self, error: &WatchError) -> Duration {
        let Watched { kind, path, is_optional, .. } = self.watched;
        if error.code() == Some(410) {
            self.from = None;
        }
        let words = format!("{error} {:?}", error.code());
        let (wait, is_news) = self.streak.fails(&words, &self.watching.timing);
        if *is_optional && error.code() == Some(403) {
            if is_news {
                tracing::info!(kind, path, "may not be watched: the operator goes on without");
            }
            return wait;
        }
        self.watching.metrics.kubernetes.watch_failed(kind);
        if is_news {
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
    /// The code by which the API server refused.
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
