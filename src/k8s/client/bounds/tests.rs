use std::convert::Infallible;
use std::future::poll_fn;

use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{ListParams, WatchParams};
use kube::{Api, Client};
use tower::{ServiceExt, service_fn};

use crate::k8s::client::bounds::*;

/// A body that sends a part and then stalls forever.
struct Stalled(Option<&'static [u8]>);

impl Body for Stalled {
    type Data = axum::body::Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Infallible>>> {
        match self.0.take() {
            Some(part) => Poll::Ready(Some(Ok(Frame::data(part.into())))),
            None => Poll::Pending,
        }
    }
}

/// A body that sends a frame every two seconds, forever.
struct Ticks(tokio::time::Interval);

impl Body for Ticks {
    type Data = &'static [u8];
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Infallible>>> {
        self.0.poll_tick(cx).map(|_| Some(Ok(Frame::data(&b"event"[..]))))
    }
}

const TWO_SECONDS: Duration = Duration::from_secs(2);

fn layer(metrics: &Arc<Metrics>) -> BoundedLayer {
    BoundedLayer {
        metrics: metrics.clone(),
        host: "api:443".into(),
        within: Duration::from_secs(30),
        secret_watch: Duration::from_secs(5),
    }
}

/// A client whose responses stall.
fn stalled() -> Client {
    let service = service_fn(async |_: Request<kube::client::Body>| {
        Ok::<_, Infallible>(Response::new(Stalled(Some(b"{\"kind\":"))))
    });
    Client::new(layer(&Arc::default()).layer(service), "mail")
}

/// Requests a path, and returns the `Connection` header sent and how long the response lasted, at most a minute.
async fn ask(path: &str) -> (Option<HeaderValue>, Duration) {
    let mut service = layer(&Arc::default()).layer(service_fn(async |request: Request<()>| {
        let mut response =
            Response::new(Ticks(tokio::time::interval_at(Instant::now() + TWO_SECONDS, TWO_SECONDS)));
        *response.headers_mut() = request.headers().clone();
        Ok::<_, Infallible>(response)
    }));
    let response = service.call(Request::get(path).body(()).unwrap()).await.unwrap();
    let header = response.headers().get(CONNECTION).cloned();
    let start = Instant::now();
    let mut body = response.into_body();
    let all = async {
        while poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await.is_some_and(|it| it.is_ok()) {}
    };
    let _minute_over = tokio::time::timeout(Duration::from_mins(1), all).await;
    (header, start.elapsed())
}

#[tokio::test(start_paused = true)]
async fn a_response_that_stalls_fails_in_time() {
    let start = Instant::now();
    let maps: Api<ConfigMap> = Api::default_namespaced(stalled());
    for response in [maps.get("x").await.map(drop), maps.list(&ListParams::default()).await.map(drop)] {
        let error = crate::core::error_chain::chain(&response.unwrap_err());
        assert!(error.contains("did not end it in time"), "{error}");
    }
    assert_eq!(start.elapsed().as_secs(), 60);
}

#[tokio::test(start_paused = true)]
async fn a_response_that_does_not_begin_fails_in_time() {
    let (start, metrics) = (Instant::now(), Arc::new(Metrics::new()));
    let never = service_fn(|_: Request<kube::client::Body>| {
        std::future::pending::<Result<Response<Stalled>, Infallible>>()
    });
    let maps: Api<ConfigMap> = Api::default_namespaced(Client::new(layer(&metrics).layer(never), "mail"));
    assert!(maps.get("x").await.is_err());
    assert!(maps.watch(&WatchParams::default(), "0").await.is_err());
    assert_eq!(start.elapsed().as_secs(), 60);
    let text = metrics.render().unwrap();
    let line = r#"rest_client_requests_total{code="<error>",method="GET",host="api:443"} 2"#;
    assert!(text.contains(line), "{text}");
}

#[tokio::test(start_paused = true)]
async fn a_watch_has_no_time_limit() {
    let maps: Api<ConfigMap> = Api::default_namespaced(stalled());
    let mut events = Box::pin(maps.watch(&WatchParams::default(), "0").await.unwrap());
    let next = tokio::time::timeout(Duration::from_hours(1), futures::StreamExt::next(&mut events)).await;
    assert!(next.is_err(), "it goes on");
}

#[tokio::test(start_paused = true)]
async fn a_watch_of_secrets_ends_soon_after_its_first_event_on_a_connection_that_is_closed() {
    for path in ["/api/v1/secrets?watch=true", "/api/v1/namespaces/mail/secrets?limit=1&watch=true"] {
        let (header, time) = ask(path).await;
        assert_eq!(header, Some(HeaderValue::from_static("close")), "{path}");
        assert!((7..8).contains(&time.as_secs()), "{path}: {time:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn other_requests_for_secrets_have_the_usual_time_limit() {
    for path in ["/api/v1/secrets?limit=500", "/api/v1/namespaces/mail/secrets/sales-eu-graph"] {
        let (header, time) = ask(path).await;
        assert_eq!(header, Some(HeaderValue::from_static("close")), "{path}");
        assert_eq!(time.as_secs(), 30, "{path}: {time:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn connections_of_other_requests_are_kept() {
    for path in [
        "/api/v1/namespaces/secrets",
        "/api/v1/namespaces/secrets/events?watch=true",
        "/apis/graph-credentials.io/v1alpha1/secrets?watch=true",
        "/readyz",
    ] {
        let (header, time) = ask(path).await;
        assert_eq!(header, None, "{path}");
        assert_eq!(time.as_secs(), if path.contains("watch") { 60 } else { 30 }, "{path}: {time:?}");
    }
}

#[tokio::test]
async fn responses_failures_and_watches_are_counted() {
    let metrics = Arc::new(Metrics::new());
    let service =
        layer(&metrics).layer(service_fn(async |request: Request<()>| match request.uri().path() {
            "/lost" => Err("no response"),
            "/refused/secrets" => Ok(Response::builder().status(403).body(()).unwrap()),
            _ => Ok(Response::new(())),
        }));
    let ask = async |path: &str| {
        let request = Request::builder().uri(path).body(()).unwrap();
        let _answer = service.clone().oneshot(request).await;
    };
    ask("/api/v1/namespaces/mail/secrets?watch=true").await;
    ask("/refused/secrets?watch=true").await;
    ask("/lost").await;
    let text = metrics.render().unwrap();
    for line in [
        r#"rest_client_requests_total{code="200",method="GET",host="api:443"} 1"#,
        r#"rest_client_requests_total{code="403",method="GET",host="api:443"} 1"#,
        r#"rest_client_requests_total{code="<error>",method="GET",host="api:443"} 1"#,
        r#"graph_credential_operator_watch_opens_total{kind="Secret"} 1"#,
    ] {
        assert!(text.contains(line), "{line}\n{text}");
    }
}
