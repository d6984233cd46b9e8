use std::convert::Infallible;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{Request, Response};
use jiff::Timestamp;
use kube::client::Body;
use serde_json::json;
use tokio::sync::Notify;

use super::*;
use crate::leadership::testing::{clock, sleep_of_the_machine};

const SECOND: Duration = Duration::from_secs(1);

/// The Secret of a keyring at an API server, which answers once it is told to.
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

    /// What a read finds is what is there when it begins.
    async fn serve(&self) -> Response<Body> {
        let (answer, is_held) = {
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
        answer.unwrap()
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
fn live() -> (Arc<LiveKeyring>, FakeSecret) {
    let (keyring, secret) = (keyring(), FakeSecret::default());
    secret.set(|state| (state.keyring, state.status) = (Some(keyring.clone()), 200));
    let served = secret.clone();
    let serve = move |_: Request<Body>| {
        let served = served.clone();
        async move { Ok::<_, Infallible>(served.serve().await) }
    };
    let client = Client::new(tower::service_fn(serve), "operators");
    let place = KeyringPlace { namespace: "operators".into(), name: "keyring".into() };
    let live = LiveKeyring::new(client, place, (keyring, clock()), clock, &Timing::STANDARD);
    (Arc::new(live), secret)
}

fn rotate(secret: &FakeSecret) -> KeyId {
    let mut key = None;
    secret.set(|state| key = Some(state.keyring.as_mut().unwrap().rotate(now()).unwrap()));
    key.unwrap()
}

/// Begins it, and lets it come to where it waits.
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
async fn a_view_of_less_than_a_minute_seals_and_an_older_one_is_read_again() {
    let (live, secret) = live();
    let added = rotate(&secret);
    tokio::time::advance(59 * SECOND).await;
    assert_ne!(live.for_sealing().await.unwrap().primary(), added);
    assert_eq!(secret.requests(), 0);
    sleep_of_the_machine(SECOND);
    assert_eq!(live.for_sealing().await.unwrap().primary(), added);
    assert_eq!(secret.requests(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_view_counts_from_the_beginning_of_its_read() {
    let (live, secret) = live();
    secret.set(|state| state.is_held = true);
    sleep_of_the_machine(60 * SECOND);
    let reader = live.clone();
    let sealing = begin(async move { reader.for_sealing().await }).await;
    let added = rotate(&secret);
    sleep_of_the_machine(60 * SECOND);
    secret.0.answers.notify_one();
    secret.set(|state| state.is_held = false);
    assert_eq!(sealing.await.unwrap().unwrap().primary(), added, "its first answer was old when it came");
    assert_eq!(secret.requests(), 2);
}

#[tokio::test(start_paused = true)]
async fn all_that_seal_share_one_read_also_where_it_fails() {
    let (live, secret) = live();
    for status in [200, 503] {
        secret.set(|state| (state.status, state.is_held) = (status, true));
        sleep_of_the_machine(60 * SECOND);
        let before = secret.requests();
        let mut all = Vec::new();
        for _ in 0..10 {
            let reader = live.clone();
            all.push(begin(async move { reader.for_sealing().await.is_ok() }).await);
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
    let (live, secret) = live();
    let earlier = live.current().primary();
    secret.set(|state| state.is_held = true);
    let confirm = || {
        let reader = live.clone();
        begin(async move { reader.confirmed(earlier).await.unwrap().primary() })
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
async fn a_reader_that_leaves_makes_room_for_the_next() {
    let (live, secret) = live();
    secret.set(|state| state.is_held = true);
    let reader = live.clone();
    begin(async move { reader.read_again().await.is_ok() }).await.abort();
    secret.set(|state| state.is_held = false);
    assert!(live.read_again().await.is_ok());
    assert_eq!(secret.requests(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_key_that_is_not_known_is_looked_up_and_a_look_up_that_fails_says_nothing() {
    let (live, secret) = live();
    let known = live.current().primary();
    let added = rotate(&secret);
    secret.set(|state| state.status = 429);
    assert!(live.holding(added).await.is_err());
    assert!(live.holding(known).await.is_ok(), "nothing is asked for a key that is known");
    secret.set(|state| state.status = 200);
    assert!(live.holding(added).await.unwrap().key(added).is_some());
    let absent = "00000000".parse().unwrap();
    assert!(live.holding(absent).await.unwrap().key(absent).is_none());
    assert_eq!(secret.requests(), 3);
}

#[tokio::test(start_paused = true)]
async fn look_ups_are_paced_and_shared() {
    let (live, secret) = live();
    let absent = "00000000".parse().unwrap();
    let began = clock();
    for _ in 0..5 {
        let all = (0..10).map(|_| live.holding(absent));
        assert!(futures::future::join_all(all).await.iter().all(Result::is_ok));
    }
    assert_eq!(secret.requests(), 5);
    assert!(clock() >= began + 5 * Timing::STANDARD.secret_poll_pace);
}

#[tokio::test(start_paused = true)]
async fn nothing_is_sealed_with_a_keyring_that_was_found_lost() {
    let (live, secret) = live();
    let news = live.news();
    secret.set(|state| state.status = 404);
    assert!(live.read_again().await.is_err_and(|error| error.is_lasting()));
    secret.set(|state| state.status = 503);
    assert!(live.for_sealing().await.is_err_and(|error| !error.is_lasting()));
    assert!(live.for_sealing().await.is_err());
    assert!(!news.has_changed().unwrap());
    secret.set(|state| state.status = 200);
    assert!(live.for_sealing().await.is_ok());
    assert!(news.has_changed().unwrap(), "it is back");
}

#[tokio::test(start_paused = true)]
async fn it_is_read_every_20_seconds() {
    let (live, secret) = live();
    let mut primary = live.primary();
    let stop = CancellationToken::new();
    let task = begin(live.clone().run(stop.clone())).await;
    let added = rotate(&secret);
    tokio::time::timeout(21 * SECOND, primary.changed()).await.unwrap().unwrap();
    assert_eq!((*primary.borrow(), live.current().primary()), (added, added));
    tokio::time::sleep(61 * SECOND).await;
    assert_eq!(secret.requests(), 4);
    stop.cancel();
    task.await.unwrap();
}

#[test]
fn a_rotation_is_no_news_and_keys_from_a_backup_are() {
    let before = keyring();
    let mut rotated = before.clone();
    rotated.rotate(at("2026-08-01T12:00:00Z")).unwrap();
    assert!(!brings_news(&before, &before) && !brings_news(&before, &rotated));
    assert!(!brings_news(&rotated, &before), "nothing comes in");
    assert!(brings_news(&rotated, &keyring()), "other keys");
    for created in ["2026-01-01T12:00:00Z", "2026-12-01T12:00:00Z"] {
        let mut merged = before.clone();
        merged.add_from(&Keyring::random(at(created)).unwrap(), at("2026-08-01T12:00:00Z")).unwrap();
        assert!(brings_news(&before, &merged), "keys from a backup");
    }
}
