//! Tests of publishing events.

use std::convert::Infallible;

use http::{Request, Response};
use kube::client::Body;

use crate::k8s::events::*;

/// Events with a fake API server that answers the nth request with a code and a reason, and a log of what it received.
fn at(response: fn(usize) -> (u16, &'static str)) -> (Events, Arc<Mutex<Vec<Event>>>) {
    let sent = Arc::new(Mutex::new(Vec::new()));
    let log = sent.clone();
    let service = tower::service_fn(move |request: Request<Body>| {
        let log = log.clone();
        async move {
            let body = request.into_body().collect_bytes().await.unwrap();
            let nth = log.lock().len();
            log.lock().push(serde_json::from_slice::<Event>(&body).unwrap());
            let (code, reason) = response(nth);
            let body = match code {
                0 => return std::future::pending().await,
                201 => body.to_vec(),
                _ => format!(r#"{{"kind":"Status","status":"Failure","code":{code},"reason":"{reason}"}}"#)
                    .into(),
            };
            Ok::<_, Infallible>(Response::builder().status(code).body(Body::from(body)).unwrap())
        }
    });
    let client = Client::new(service, "mail");
    let (time_out, repeats_after) = (Duration::from_secs(5), Duration::from_secs(600));
    (Events::new(client, "pod".into(), time_out, repeats_after), sent)
}

fn object() -> ObjectReference {
    let (name, namespace) = (Some("sender".into()), Some("mail".into()));
    ObjectReference { name, namespace, ..ObjectReference::default() }
}

fn note(text: &str, is_warning: bool) -> EventBody {
    EventBody {
        is_warning,
        reason: "Rejected",
        action: "Verify",
        text: text.into(),
        request_ids: String::new(),
    }
}

fn texts(sent: &Mutex<Vec<Event>>) -> Vec<String> {
    sent.lock().iter().filter_map(|event| event.note.clone()).collect()
}

#[tokio::test(start_paused = true)]
async fn an_event_whose_response_is_lost_is_sent_again_under_its_name() {
    let (events, sent) = at(|nth| if nth == 0 { (0, "") } else { (409, "AlreadyExists") });
    events.publish(&object(), &note("rejected", true)).await;
    events.publish(&object(), &note("rejected", true)).await;
    let names: Vec<_> = sent.lock().iter().map(|event| event.metadata.name.clone()).collect();
    assert_eq!(names.len(), 2, "the second event is suppressed");
    assert_eq!(names[0], names[1]);
}

#[tokio::test(start_paused = true)]
async fn an_event_is_sent_three_times_if_it_may_succeed_and_once_if_it_is_rejected() {
    for (response, times) in [
        ((|_| (500, "")) as fn(usize) -> _, 3),
        (|_| (409, "Conflict"), 3),
        (|_| (401, "Unauthorized"), 3),
        (|_| (403, "Forbidden"), 1),
        (|nth| if nth == 0 { (429, "") } else { (201, "") }, 2),
    ] {
        let (events, sent) = at(response);
        events.publish(&object(), &note("rejected", true)).await;
        assert_eq!(sent.lock().len(), times);
        let is_published = response(times - 1).0 == 201;
        events.publish(&object(), &note("rejected", true)).await;
        assert_eq!(sent.lock().len() == times, is_published, "an unpublished event is emitted again");
    }
}

#[tokio::test(start_paused = true)]
async fn warnings_are_published_first_and_a_drain_waits_for_all() {
    let (events, sent) = at(|_| (201, ""));
    for text in ["registered", "removed", "removed"] {
        events.emit(&object(), &note(text, false)).await;
    }
    events.emit(&object(), &note("rejected", true)).await;
    let (draining, running) = (events.clone(), events.clone());
    tokio::select! {
        () = running.run() => panic!("it ends with the program"),
        () = draining.drain(Duration::from_secs(1)) => {}
    }
    assert_eq!(texts(&sent), ["rejected", "registered", "removed"]);
}

#[tokio::test(start_paused = true)]
async fn a_drain_ends_in_time() {
    let (events, _sent) = at(|_| (0, ""));
    events.emit(&object(), &note("rejected", true)).await;
    tokio::select! {
        () = events.clone().run() => panic!("it ends with the program"),
        () = events.drain(Duration::from_secs(1)) => {}
    }
}

#[tokio::test]
async fn a_long_name_stays_valid() {
    let (events, _sent) = at(|_| (201, ""));
    let long = format!("{}.{}", "a".repeat(219), "b".repeat(30));
    let event = events.event(&ObjectReference { name: Some(long), ..object() }, &note("rejected", true));
    let name = event.metadata.name.unwrap();
    assert!(name.len() <= 253 && !name.contains(".."), "{name}");
}

#[test]
fn a_long_note_is_truncated_at_a_character_boundary() {
    let long = "ü".repeat(600);
    assert_eq!(truncated(&long, MAX_NOTE_LENGTH).len(), 1024);
    assert_eq!(truncated(&format!("x{long}"), MAX_NOTE_LENGTH).len(), 1023);
    assert_eq!(truncated("short", MAX_NOTE_LENGTH), "short");
}

#[test]
fn request_ids_are_kept_if_the_text_is_too_long() {
    let note_of = |text: &str, ids: &str| {
        let (text, request_ids) = (text.to_owned(), ids.to_owned());
        full_note(&EventBody { is_warning: true, reason: "Rejected", action: "Verify", text, request_ids })
    };
    assert_eq!(note_of("rejected", "trace 1"), "rejected [trace 1]");
    assert_eq!(note_of("rejected", ""), "rejected");
    let long = note_of(&"x".repeat(2000), "trace 1");
    assert_eq!((long.len(), long.ends_with("x [trace 1]")), (1024, true));
    assert!(note_of(&"x".repeat(2000), &"y".repeat(2000)).len() <= 1024);
}
