//! Who may scrape: whoever the Kubernetes API knows by their token and lets `get` the non-resource URL `/metrics`, as with
//! other controllers.

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

use super::logs::chain;

/// Most answers that are remembered; with more scrapers than that, the Kubernetes API is asked more often.
const MOST_ANSWERS: usize = 256;

/// Questions to the Kubernetes API at the same time: anybody can make up tokens, and it has more to do.
const QUESTIONS: usize = 2;

/// Asks the Kubernetes API who may scrape, and remembers its answers for a while, by a digest of the token.
pub struct Scrapers {
    client: Client,
    lasts: Duration,
    answers: Mutex<HashMap<[u8; 32], (Instant, Admission)>>,
    questions: Semaphore,
}

/// What becomes of a scrape.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// The scraper may.
    Granted,
    /// Nobody is known by that token.
    Unknown,
    /// Somebody is known, who may not.
    Forbidden,
    /// The Kubernetes API does not say.
    Unclear,
}

// === impl Scrapers ===

impl Scrapers {
    /// An answer holds for that long.
    pub fn new(client: Client, lasts: Duration) -> Self {
        Self { client, lasts, answers: Mutex::default(), questions: Semaphore::new(QUESTIONS) }
    }

    /// What becomes of a scrape with that `Authorization` header.
    pub async fn admit(&self, authorization: Option<&str>) -> Admission {
        let token = authorization.and_then(|header| {
            let (scheme, token) = header.split_once(' ')?;
            scheme.eq_ignore_ascii_case("bearer").then_some(token.trim())
        });
        let Some(token) = token.filter(|token| !token.is_empty()) else { return Admission::Unknown };
        let digest = Sha256::digest(token.as_bytes()).into();
        if let Some(known) = self.remembered(&digest) {
            return known;
        }
        // It is never closed.
        let _asks = self.questions.acquire().await;
        // Who waited with the same token has the answer of the first.
        if let Some(known) = self.remembered(&digest) {
            return known;
        }
        match self.ask(token).await {
            Ok(admission) => {
                self.remember(digest, admission);
                admission
            }
            Err(error) => {
                tracing::warn!(
                    error = chain(&error),
                    "the Kubernetes API does not say who scrapes: create on tokenreviews and subjectaccessreviews is needed"
                );
                Admission::Unclear
            }
        }
    }

    async fn ask(&self, token: &str) -> Result<Admission, kube::Error> {
        let params = PostParams::default();
        let review = TokenReview {
            spec: TokenReviewSpec { token: Some(token.to_owned()), ..TokenReviewSpec::default() },
            ..TokenReview::default()
        };
        let known = Api::all(self.client.clone()).create(&params, &review).await?.status.unwrap_or_default();
        let Some(user) = known.user.filter(|_| known.authenticated == Some(true)) else {
            return Ok(Admission::Unknown);
        };
        let review = SubjectAccessReview { spec: may_scrape(user), ..SubjectAccessReview::default() };
        let answer = Api::all(self.client.clone()).create(&params, &review).await?;
        let may = answer.status.is_some_and(|status| status.allowed);
        Ok(if may { Admission::Granted } else { Admission::Forbidden })
    }

    fn remembered(&self, digest: &[u8; 32]) -> Option<Admission> {
        let answers = self.answers.lock();
        let (at, admission) = answers.get(digest)?;
        (at.elapsed() < self.lasts).then_some(*admission)
    }

    fn remember(&self, digest: [u8; 32], admission: Admission) {
        let mut answers = self.answers.lock();
        answers.retain(|_, (at, _)| at.elapsed() < self.lasts);
        if answers.len() >= MOST_ANSWERS && admission == Admission::Granted {
            // Whoever sends made-up tokens makes nobody forget those that scrape.
            let other = answers.iter().find(|(_, (_, other))| *other != Admission::Granted);
            if let Some(other) = other.map(|(digest, _)| *digest) {
                answers.remove(&other);
            }
        }
        if answers.len() < MOST_ANSWERS {
            answers.insert(digest, (Instant::now(), admission));
        }
    }
}

/// The question whether that user may scrape.
fn may_scrape(user: UserInfo) -> SubjectAccessReviewSpec {
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
    async fn made_up_tokens_make_nobody_forget_who_scrapes() {
        let nobody =
            tower::service_fn(async |_: Request<Body>| Ok::<_, Infallible>(Response::new(Body::empty())));
        let scrapers = Scrapers::new(Client::new(nobody, "default"), Duration::from_mins(1));
        for number in 0..1000_u64 {
            let mut digest = [0; 32];
            digest[..8].copy_from_slice(&number.to_be_bytes());
            scrapers.remember(digest, Admission::Unknown);
        }
        scrapers.remember([255; 32], Admission::Granted);
        assert_eq!(scrapers.remembered(&[255; 32]), Some(Admission::Granted));
        assert_eq!(scrapers.answers.lock().len(), MOST_ANSWERS);
        tokio::time::advance(Duration::from_mins(1)).await;
        assert_eq!(scrapers.remembered(&[255; 32]), None);
    }
    #[tokio::test(start_paused = true)]
    async fn made_up_tokens_do_not_flood_the_kubernetes_api() {
        let asked = Arc::new(AtomicUsize::new(0));
        let count = asked.clone();
        let never = tower::service_fn(move |_: Request<Body>| {
            count.fetch_add(1, Ordering::Relaxed);
            std::future::pending::<Result<Response<Body>, Infallible>>()
        });
        let scrapers = Arc::new(Scrapers::new(Client::new(never, "default"), Duration::from_mins(1)));
        for number in 0..50 {
            let scrapers = scrapers.clone();
            tokio::spawn(async move { scrapers.admit(Some(&format!("Bearer made-up-{number}"))).await });
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(asked.load(Ordering::Relaxed), QUESTIONS);
    }
}
