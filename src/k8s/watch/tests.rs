use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use http::{Request as HttpRequest, Response};
use http_body::{Body, Frame};
use k8s_openapi::api::core::v1::ConfigMap;
use tokio::time::{Sleep, sleep};

use crate::k8s::watch::*;

/// A body that ends after a time.
struct TimedBody(VecDeque<String>, Pin<Box<Sleep>>);

impl Body for TimedBody {
    type Data = axum::body::Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Infallible>>> {
        if let Some(part) = self.0.pop_front() {
            return Poll::Ready(Some(Ok(Frame::data(part.into()))));
        }
        self.1.as_mut().poll(cx).map(|()| None)
    }
}

/// A response: a code, the parts of its body, and how long until its end.
type Reply = (u16, Vec<String>, Duration);

/// A fake API server and a log of its requests.
struct Server {
    client: WatchClient,
    asked: Arc<Mutex<Vec<(u64, String)>>>,
}

impl Server {
    /// `answer` gets the request's query and the number of requests before it.
    fn new(answer: impl Fn(&str, usize) -> Reply + Send + Sync + 'static) -> Self {
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (log, answer, start) = (asked.clone(), Arc::new(answer), Instant::now());
        let service = tower::service_fn(move |request: HttpRequest<kube::client::Body>| {
            let query = request.uri().query().unwrap_or_default().to_owned();
            let mut log = log.lock().unwrap();
            let (code, parts, lasts) = answer(&query, log.len());
            log.push((start.elapsed().as_secs(), query));
            let body = TimedBody(parts.into(), Box::pin(sleep(lasts)));
            let answer = Response::builder().status(code).body(body).unwrap();
            std::future::ready(Ok::<_, Infallible>(answer))
        });
        let client = WatchClient {
            client: Client::new(service, "mail"),
            timing: Timing::STANDARD,
            relist: Relist::default(),
            metrics: Arc::default(),
        };
        Self { client, asked }
    }

    /// The events that are emitted in that time.
    async fn events(&self, time: Duration) -> Vec<String> {
        let mut events = Vec::new();
        let target = WatchTarget::objects("ConfigMap", None, |json| {
            let map: ConfigMap = serde_json::from_slice(json)?;
            Ok(ConfigMap { data: None, ..map })
        });
        let follow = self.client.follow(&target, |event| {
            events.push(match event {
                Event::Init => "init".to_owned(),
                Event::InitApply(map) => format!("listed {} {:?}", map.name_any(), map.data),
                Event::InitDone => "done".to_owned(),
                Event::Apply(map) => format!("applied {} {:?}", map.name_any(), map.data),
                Event::Delete(map) => format!("deleted {}", map.name_any()),
            });
        });
        let _time_over = tokio::time::timeout(time, follow).await;
        events
    }

    /// The queries so far that contain `part`.
    fn queries(&self, part: &str) -> Vec<String> {
        let asked = self.asked.lock().unwrap();
        asked.iter().map(|(_, query)| query.clone()).filter(|query| query.contains(part)).collect()
    }
}

const SECONDS: fn(u64) -> Duration = Duration::from_secs;

fn is_watch(query: &str) -> bool {
    query.contains("watch=true")
}

fn map(name: &str, version: u64) -> String {
    format!(
        r#"{{"metadata":{{"name":"{name}","namespace":"mail","resourceVersion":"{version}"}},"data":{{"fat":"x"}}}}"#
    )
}

fn list(version: u64, items: &[String], token: &str) -> Reply {
    let items = items.join(",");
    let list =
        format!(r#"{{"metadata":{{"resourceVersion":"{version}","continue":"{token}"}},"items":[{items}]}}"#);
    (200, vec![list], Duration::ZERO)
}

fn event(kind: &str, object: &str) -> String {
    format!("{{\"type\":\"{kind}\",\"object\":{object}}}\n")
}

fn watch(events: &[String], lasts: u64) -> Reply {
    (200, events.to_vec(), SECONDS(lasts))
}

fn rejection(code: u16) -> String {
    format!(r#"{{"kind":"Status","apiVersion":"v1","status":"Failure","message":"no","code":{code}}}"#)
}

/// Attempts at least three quarters of 1, 2, 4, 8, 16 and 30 seconds apart.
const ATTEMPTS_IN_A_MINUTE: std::ops::RangeInclusive<usize> = 6..=8;

#[tokio::test(start_paused = true)]
async fn a_failing_list_is_retried_with_back_off() {
    let server = Server::new(|_, _| (403, vec![rejection(403)], Duration::ZERO));
    server.events(SECONDS(60)).await;
    let attempts = server.queries("limit=").len();
    assert!(ATTEMPTS_IN_A_MINUTE.contains(&attempts), "{attempts}");
}

#[tokio::test(start_paused = true)]
async fn a_watch_that_fails_after_each_list_is_retried_with_back_off() {
    let error = event("ERROR", &rejection(410));
    let server =
        Server::new(
            move |query, _| {
                if is_watch(query) { watch(std::slice::from_ref(&error), 0) } else { list(7, &[], "") }
            },
        );
    server.events(SECONDS(60)).await;
    let lists = server.queries("limit=").len();
    assert!(ATTEMPTS_IN_A_MINUTE.contains(&lists), "{lists}");
}

#[tokio::test(start_paused = true)]
async fn a_watch_that_ends_at_once_is_reopened_with_back_off() {
    let server = Server::new(|query, _| if is_watch(query) { watch(&[], 0) } else { list(7, &[], "") });
    server.events(SECONDS(60)).await;
    let watches = server.queries("watch=true").len();
    assert!(ATTEMPTS_IN_A_MINUTE.contains(&watches), "{watches}");
}

#[tokio::test(start_paused = true)]
async fn a_watch_that_lasted_a_while_is_reopened_at_once() {
    let server = Server::new(|query, _| if is_watch(query) { watch(&[], 10) } else { list(7, &[], "") });
    server.events(SECONDS(59)).await;
    assert_eq!(server.queries("watch=true").len(), 6);
}

#[tokio::test(start_paused = true)]
async fn a_watch_that_breaks_off_within_a_line_is_reopened_as_if_it_had_ended() {
    let half = r#"{"type":"ADDED","object":{"metadata""#.to_owned();
    let server =
        Server::new(
            move |query, _| {
                if is_watch(query) { watch(std::slice::from_ref(&half), 10) } else { list(7, &[], "") }
            },
        );
    server.events(SECONDS(59)).await;
    assert_eq!(server.queries("watch=true").len(), 6);
    let lists = server.queries("limit=1").len();
    assert_eq!(lists, 6, "a list, and a check of the current version before each further watch");
}

#[tokio::test(start_paused = true)]
async fn an_event_resets_the_back_off_and_a_list_does_not() {
    // Every other watch delivers something before it breaks off.
    let server = Server::new(|query, nth| {
        let now = 7 + u64::try_from(nth).unwrap();
        let change = event("MODIFIED", &map("a", now + 1));
        let error = event("ERROR", &rejection(500));
        match (is_watch(query), nth % 4) {
            (true, 1) => watch(&[change, error], 0),
            (true, _) => watch(&[error], 0),
            (false, _) => list(now, &[], ""),
        }
    });
    server.client.metrics.kubernetes.watch_failed("ConfigMap");
    server.events(SECONDS(30)).await;
    assert!(server.queries("watch=true").len() > 8, "{:?}", server.asked.lock().unwrap());
    assert_eq!(server.client.relist.round(), 0, "a list may be ahead of a watch that missed something");
}

#[tokio::test(start_paused = true)]
async fn all_pages_and_changes_are_emitted_pruned() {
    let server = Server::new(|query, nth| match (is_watch(query), nth) {
        (true, 2) => watch(&[event("ADDED", &map("c", 8)), event("DELETED", &map("a", 9))], 100),
        (true, _) => watch(&[], 100),
        (false, 0) => list(0, &[map("a", 3)], "more"),
        (false, _) => list(7, &[map("b", 4)], ""),
    });
    let events = server.events(SECONDS(150)).await;
    assert_eq!(events, ["init", "listed a None", "listed b None", "done", "applied c None", "deleted a"]);
    assert!(server.queries("watch=true")[1].contains("resourceVersion=9"), "it continues where it was");
}

#[tokio::test(start_paused = true)]
async fn a_version_that_went_back_makes_every_watch_list_again() {
    let server = Server::new(|query, nth| match (is_watch(query), nth) {
        (true, 1) => watch(&[event("MODIFIED", &map("a", 9))], 20),
        (true, 2) => watch(&[event("MODIFIED", &map("a", 5))], 1_000),
        (true, _) => watch(&[], 1_000),
        (false, 0) => list(7, &[], ""),
        (false, _) => list(6, &[map("a", 5)], ""),
    });
    let events = server.events(SECONDS(60)).await;
    assert_eq!(events[..3], ["init", "done", "applied a None"]);
    assert!(events.ends_with(&["init".into(), "listed a None".into(), "done".into()]), "{events:?}");
    assert_eq!(server.client.relist.round(), 1, "once, for all watches");
    assert!(
        server.queries("limit=").iter().all(|query| !query.contains("resourceVersion")),
        "the current state"
    );
}

#[tokio::test(start_paused = true)]
async fn a_watch_may_deliver_older_versions_than_a_check_of_the_current_one() {
    let server = Server::new(|query, nth| match (is_watch(query), nth) {
        (true, 1) => watch(&[], 10),
        (true, _) => watch(&[event("MODIFIED", &map("a", 120))], 1_000),
        (false, 0) => list(7, &[], ""),
        (false, _) => list(150, &[], ""),
    });
    assert_eq!(server.events(SECONDS(60)).await, ["init", "done", "applied a None"]);
    assert_eq!(server.client.relist.round(), 0, "nothing went back");
}

#[tokio::test(start_paused = true)]
async fn a_watch_at_a_future_version_is_detected() {
    // The API server holds the watch open and sends nothing: its versions are older.
    let server = Server::new(|query, nth| match (is_watch(query), nth) {
        (true, _) => watch(&[], 200),
        (false, 0) => list(900, &[], ""),
        (false, _) => list(100, &[map("a", 50)], ""),
    });
    let events = server.events(SECONDS(201)).await;
    assert_eq!(events, ["init", "done", "init", "listed a None", "done"]);
}

#[tokio::test(start_paused = true)]
async fn an_older_version_seen_elsewhere_makes_all_watches_list_again() {
    let server = Server::new(|query, nth| match (is_watch(query), nth) {
        (true, _) => watch(&[], 200),
        (false, 0) => list(7, &[], ""),
        (false, _) => list(5, &[], ""),
    });
    let relist = server.client.relist.clone();
    let events = tokio::join!(server.events(SECONDS(20)), async {
        tokio::time::sleep(SECONDS(10)).await;
        relist.observe("lease", Some("9"));
        relist.observe("lease", Some("8"));
    });
    assert_eq!(events.0, ["init", "done", "init", "done"]);
    assert_eq!(server.client.relist.round(), 1, "listing again starts no further round");
}
