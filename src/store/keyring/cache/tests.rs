use std::convert::Infallible;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{Request, Response};
use jiff::Timestamp;
use kube::client::Body;
use serde_json::json;
use tokio::sync::Notify;

use crate::k8s::leadership::testing::{clock, suspend_machine};
use crate::store::keyring::cache::*;

const SECOND: Duration = Duration::from_secs(1);

/// The Secret of a keyring at a fake API server, which can hold back its responses.
#[derive(Clone, Default)]
struct FakeSecret(Arc<Fake>);

#[derive(Default)]
struct Fake {
    state: Mutex<State>,
    answers: Notify,
}

#[derive(Default)]
struct State {
    keyring: Option<Keyring>,
    status: u16,
    is_held: bool,
    requests: usize,
}

impl FakeSecret {
    fn set(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.0.state.lock());
    }

    fn requests(&self) -> usize {
        self.0.state.lock().requests
    }

    /// A read returns the state at its beginning.
    async fn serve(&self) -> Response<Body> {
        let (response, is_held) = {
            let mut state = self.0.state.lock();
            state.requests += 1;
            let json = state.keyring.as_ref().unwrap().to_json().unwrap();
            let secret = json!({"metadata": {}, "data": {"keyring.json": STANDARD.encode(json.expose())}});
            let reason = if state.status == 404 { "NotFound" } else { "" };
            let failure =
                json!({"kind": "Status", "status": "Failure", "code": state.status, "reason": reason});
            let body = if state.status == 200 { secret } else { failure };
            (
                Response::builder().status(state.status).body(body.to_string().into_bytes().into()),
                state.is_held,
            )
        };
        if is_held {
            self.0.answers.notified().await;
        }
        response.unwrap()
    }
}

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn now() -> Timestamp {
    at("2026-07-01T12:00:00Z")
}

fn keyring() -> Keyring {
    Keyring::random(now()).unwrap()
}

/// A keyring that was just read, and its Secret.
fn cache() -> (Arc<KeyringCache>, FakeSecret) {
    let (keyring, secret) = (keyring(), FakeSecret::default());
    secret.set(|state| (state.keyring, state.status) = (Some(keyring.clone()), 200));
    let served = secret.clone();
    let serve = move |_: Request<Body>| {
        let served = served.clone();
        async move { Ok::<_, Infallible>(served.serve().await) }
    };
    let client = Client::new(tower::service_fn(serve), "operators");
    let secret_ref = KeyringRef { namespace: "operators".into(), name: "keyring".into() };
    let cache = KeyringCache::new(client, secret_ref, (keyring, clock()), clock, &Timing::STANDARD);
    (Arc::new(cache), secret)
}

fn rotate(secret: &FakeSecret) -> KeyId {
    let mut key = None;
    secret.set(|state| key = Some(state.keyring.as_mut().unwrap().rotate(now()).unwrap()));
    key.unwrap()
}

/// Starts a task, and lets it run until it waits.
async fn begin<T: Send + 'static>(
    work: impl Future<Output = T> + Send + 'static,
) -> tokio::task::JoinHandle<T> {
    let task = tokio::spawn(work);
    for _ in 0..20 {
        tokio::task::yield_now().await;
    }
    task
}

#[tokio::test(start_paused = true)]
async fn a_keyring_older_than_a_minute_is_read_again_before_it_encrypts() {
    let (cache, secret) = cache();
    let added = rotate(&secret);
    tokio::time::advance(59 * SECOND).await;
    assert_ne!(cache.for_encryption().await.unwrap().primary(), added);
    assert_eq!(secret.requests(), 0);
    suspend_machine(SECOND);
    assert_eq!(cache.for_encryption().await.unwrap().primary(), added);
    assert_eq!(secret.requests(), 1);
}

#[tokio::test(start_paused = true)]
async fn the_age_of_a_keyring_counts_from_the_beginning_of_its_read() {
    let (cache, secret) = cache();
    secret.set(|state| state.is_held = true);
    suspend_machine(60 * SECOND);
    let reader = cache.clone();
    let sealing = begin(async move { reader.for_encryption().await }).await;
    let added = rotate(&secret);
    suspend_machine(60 * SECOND);
    secret.0.answers.notify_one();
    secret.set(|state| state.is_held = false);
    assert_eq!(
        sealing.await.unwrap().unwrap().primary(),
        added,
        "the first response was too old when it arrived"
    );
    assert_eq!(secret.requests(), 2);
}

#[tokio::test(start_paused = true)]
async fn concurrent_encryptions_share_one_read_even_if_it_fails() {
    let (cache, secret) = cache();
    for status in [200, 503] {
        secret.set(|state| (state.status, state.is_held) = (status, true));
        suspend_machine(60 * SECOND);
        let before = secret.requests();
        let mut all = Vec::new();
        for _ in 0..10 {
            let reader = cache.clone();
            all.push(begin(async move { reader.for_encryption().await.is_ok() }).await);
        }
        secret.0.answers.notify_one();
        for one in all {
            assert_eq!(one.await.unwrap(), status == 200);
        }
        assert_eq!(secret.requests() - before, 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_write_is_confirmed_by_a_read_that_began_after_it_and_one_serves_all_that_wait() {
    let (cache, secret) = cache();
    let earlier = cache.get().primary();
    secret.set(|state| state.is_held = true);
    let confirm = || {
        let reader = cache.clone();
        begin(async move { reader.reread_after_encryption(earlier).await.unwrap().primary() })
    };
    let first = confirm().await;
    let added = rotate(&secret);
    let mut later = Vec::new();
    for _ in 0..10 {
        later.push(confirm().await);
    }
    assert_eq!(secret.requests(), 1);
    secret.0.answers.notify_one();
    assert_eq!(first.await.unwrap(), earlier, "it was primary after that write");
    secret.set(|state| state.is_held = false);
    secret.0.answers.notify_one();
    for one in later {
        assert_eq!(one.await.unwrap(), added);
    }
    assert_eq!(secret.requests(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_read_does_not_block_the_next() {
    let (cache, secret) = cache();
    secret.set(|state| state.is_held = true);
    let reader = cache.clone();
    begin(async move { reader.refresh().await.is_ok() }).await.abort();
    secret.set(|state| state.is_held = false);
    assert!(cache.refresh().await.is_ok());
    assert_eq!(secret.requests(), 2);
}

#[tokio::test(start_paused = true)]
async fn an_unknown_key_is_looked_up_and_a_failed_lookup_decides_nothing() {
    let (cache, secret) = cache();
    let known = cache.get().primary();
    let added = rotate(&secret);
    secret.set(|state| state.status = 429);
    assert!(cache.with_key(added).await.is_err());
    assert!(cache.with_key(known).await.is_ok(), "a known key needs no request");
    secret.set(|state| state.status = 200);
    assert!(cache.with_key(added).await.unwrap().key(added).is_some());
    let absent = "00000000".parse().unwrap();
    assert!(cache.with_key(absent).await.unwrap().key(absent).is_none());
    assert_eq!(secret.requests(), 3);
}

#[tokio::test(start_paused = true)]
async fn lookups_are_paced_and_shared() {
    let (cache, secret) = cache();
    let absent = "00000000".parse().unwrap();
    let began = clock();
    for _ in 0..5 {
        let all = (0..10).map(|_| cache.with_key(absent));
        assert!(futures::future::join_all(all).await.iter().all(Result::is_ok));
    }
    assert_eq!(secret.requests(), 5);
    assert!(clock() >= began + 5 * Timing::STANDARD.secret_poll_pace);
}

#[tokio::test(start_paused = true)]
async fn a_keyring_that_was_found_lost_does_not_encrypt() {
    let (cache, secret) = cache();
    let changes = cache.changes();
    secret.set(|state| state.status = 404);
    assert!(cache.refresh().await.is_err_and(|error| error.is_lasting()));
    secret.set(|state| state.status = 503);
    assert!(cache.for_encryption().await.is_err_and(|error| !error.is_lasting()));
    assert!(cache.for_encryption().await.is_err());
    assert!(!changes.has_changed().unwrap());
    secret.set(|state| state.status = 200);
    assert!(cache.for_encryption().await.is_ok());
    assert!(changes.has_changed().unwrap(), "it is back");
}

#[tokio::test(start_paused = true)]
async fn the_keyring_is_read_every_20_seconds() {
    let (cache, secret) = cache();
    let mut primary = cache.primary();
    let stop = CancellationToken::new();
    let task = begin(cache.clone().run(stop.clone())).await;
    let added = rotate(&secret);
    tokio::time::timeout(21 * SECOND, primary.changed()).await.unwrap().unwrap();
    assert_eq!((*primary.borrow(), cache.get().primary()), (added, added));
    tokio::time::sleep(61 * SECOND).await;
    assert_eq!(secret.requests(), 4);
    stop.cancel();
    task.await.unwrap();
}

#[test]
fn a_rotation_is_no_change_and_keys_from_a_backup_are() {
    let before = keyring();
    let mut rotated = before.clone();
    rotated.rotate(at("2026-08-01T12:00:00Z")).unwrap();
    assert!(!can_decrypt_more(&before, &before) && !can_decrypt_more(&before, &rotated));
    assert!(!can_decrypt_more(&rotated, &before), "no key is added");
    assert!(can_decrypt_more(&rotated, &keyring()), "other keys");
    for created in ["2026-01-01T12:00:00Z", "2026-12-01T12:00:00Z"] {
        let mut merged = before.clone();
        merged.import(&Keyring::random(at(created)).unwrap(), at("2026-08-01T12:00:00Z")).unwrap();
        assert!(can_decrypt_more(&before, &merged), "keys from a backup");
    }
}
