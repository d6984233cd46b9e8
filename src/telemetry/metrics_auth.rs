//! Authorization for `/metrics`, as in other controllers: clients whose bearer token the Kubernetes API authenticates, and
//! that may `get` the non-resource URL `/metrics`.

use std::collections::HashMap;
use std::time::Duration;

use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec, UserInfo};
use k8s_openapi::api::authorization::v1::{
    NonResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec,
};
use kube::api::PostParams;
use kube::{Api, Client};
use parking_lot::Mutex;
use sha2::{Digest, Sha256};
use tokio::sync::Semaphore;
use tokio::time::Instant;

use crate::core::error_chain::chain;

/// Most cached decisions; with more clients, there are more requests to the Kubernetes API.
const MAX_CACHED: usize = 256;

/// Concurrent reviews: anyone can make up tokens, which must not flood the Kubernetes API.
const MAX_REVIEWS: usize = 2;

/// Authorizes clients at the Kubernetes API, and caches the decisions by a digest of the token.
pub struct MetricsAuthorizer {
    client: Client,
    cache_ttl: Duration,
    decisions: Mutex<HashMap<[u8; 32], (Instant, Decision)>>,
    reviews: Semaphore,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    Allowed,
    Unauthenticated,
    Forbidden,
    /// The Kubernetes API could not be asked.
    Unavailable,
}

// === impl MetricsAuthorizer ===

impl MetricsAuthorizer {
    pub fn new(client: Client, cache_ttl: Duration) -> Self {
        Self { client, cache_ttl, decisions: Mutex::default(), reviews: Semaphore::new(MAX_REVIEWS) }
    }

    /// Decides about a request with that `Authorization` header.
    pub async fn authorize(&self, authorization: Option<&str>) -> Decision {
        let token = authorization.and_then(|header| {
            let (scheme, token) = header.split_once(' ')?;
            scheme.eq_ignore_ascii_case("bearer").then_some(token.trim())
        });
        let Some(token) = token.filter(|token| !token.is_empty()) else { return Decision::Unauthenticated };
        let digest = Sha256::digest(token.as_bytes()).into();
        if let Some(known) = self.cached(&digest) {
            return known;
        }
        // The semaphore is never closed.
        let _permit = self.reviews.acquire().await;
        // Another request with the same token may have been decided meanwhile.
        if let Some(known) = self.cached(&digest) {
            return known;
        }
        match self.review(token).await {
            Ok(decision) => {
                self.cache(digest, decision);
                decision
            }
            Err(error) => {
                tracing::warn!(
                    error = chain(&error),
                    "failed to authorize a metrics request: the operator needs the right to create tokenreviews and subjectaccessreviews"
                );
                Decision::Unavailable
            }
        }
    }

    async fn review(&self, token: &str) -> Result<Decision, kube::Error> {
        let params = PostParams::default();
        let review = TokenReview {
            spec: TokenReviewSpec { token: Some(token.to_owned()), ..TokenReviewSpec::default() },
            ..TokenReview::default()
        };
        let known = Api::all(self.client.clone()).create(&params, &review).await?.status.unwrap_or_default();
        let Some(user) = known.user.filter(|_| known.authenticated == Some(true)) else {
            return Ok(Decision::Unauthenticated);
        };
        let review = SubjectAccessReview { spec: metrics_access(user), ..SubjectAccessReview::default() };
        let response = Api::all(self.client.clone()).create(&params, &review).await?;
        let is_allowed = response.status.is_some_and(|status| status.allowed);
        Ok(if is_allowed { Decision::Allowed } else { Decision::Forbidden })
    }

    fn cached(&self, digest: &[u8; 32]) -> Option<Decision> {
        let decisions = self.decisions.lock();
        let (at, decision) = decisions.get(digest)?;
        (at.elapsed() < self.cache_ttl).then_some(*decision)
    }

    fn cache(&self, digest: [u8; 32], decision: Decision) {
        let mut decisions = self.decisions.lock();
        decisions.retain(|_, (at, _)| at.elapsed() < self.cache_ttl);
        if decisions.len() >= MAX_CACHED && decision == Decision::Allowed {
            // Made-up tokens must not evict clients that may scrape.
            let other = decisions.iter().find(|(_, (_, other))| *other != Decision::Allowed);
            if let Some(other) = other.map(|(digest, _)| *digest) {
                decisions.remove(&other);
            }
        }
        if decisions.len() < MAX_CACHED {
            decisions.insert(digest, (Instant::now(), decision));
        }
    }
}

fn metrics_access(user: UserInfo) -> SubjectAccessReviewSpec {
    SubjectAccessReviewSpec {
        user: user.username,
        uid: user.uid,
        groups: user.groups,
        extra: user.extra,
        non_resource_attributes: Some(NonResourceAttributes {
            path: Some("/metrics".to_owned()),
            verb: Some("get".to_owned()),
        }),
        ..SubjectAccessReviewSpec::default()
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use http::{Request, Response};
    use kube::client::Body;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn made_up_tokens_do_not_evict_allowed_clients() {
        let unused =
            tower::service_fn(async |_: Request<Body>| Ok::<_, Infallible>(Response::new(Body::empty())));
        let authorizer = MetricsAuthorizer::new(Client::new(unused, "default"), Duration::from_mins(1));
        for number in 0..1000_u64 {
            let mut digest = [0; 32];
            digest[..8].copy_from_slice(&number.to_be_bytes());
            authorizer.cache(digest, Decision::Unauthenticated);
        }
        authorizer.cache([255; 32], Decision::Allowed);
        assert_eq!(authorizer.cached(&[255; 32]), Some(Decision::Allowed));
        assert_eq!(authorizer.decisions.lock().len(), MAX_CACHED);
        tokio::time::advance(Duration::from_mins(1)).await;
        assert_eq!(authorizer.cached(&[255; 32]), None);
    }

    #[tokio::test(start_paused = true)]
    async fn made_up_tokens_do_not_flood_the_kubernetes_api() {
        let asked = Arc::new(AtomicUsize::new(0));
        let count = asked.clone();
        let never = tower::service_fn(move |_: Request<Body>| {
            count.fetch_add(1, Ordering::Relaxed);
            std::future::pending::<Result<Response<Body>, Infallible>>()
        });
        let authorizer =
            Arc::new(MetricsAuthorizer::new(Client::new(never, "default"), Duration::from_mins(1)));
        for number in 0..50 {
            let authorizer = authorizer.clone();
            tokio::spawn(
                async move { authorizer.authorize(Some(&format!("Bearer made-up-{number}"))).await },
            );
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(asked.load(Ordering::Relaxed), MAX_REVIEWS);
    }
}
