//! Hostile requests: each gets a response, and none does harm.

use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use super::http::{read, send_raw};
use super::*;

const JSON: (&str, &str) = ("content-type", "application/json");

fn key() -> (&'static str, &'static str) {
    ("x-api-key", KEY)
}

#[tokio::test]
async fn invalid_bodies_get_a_documented_response() {
    let api = Api::start().await;
    let post = async |headers: &[(&str, &str)], body: &[u8]| {
        send(&api.address, "POST", PATH, &[&[key()], headers].concat(), body).await
    };
    let whole = sample(json!({})).to_string();
    let doubled = whole.replacen('{', "{\"client_secret\":\"other\",", 1);
    let deep = format!("{{\"name\":{}{}}}", "[".repeat(30_000), "]".repeat(30_000));
    let large = format!("{{\"name\":\"{}\"}}", "x".repeat(64 << 10));
    let huge = format!("{{\"name\":\"{}\"}}", "x".repeat(8 << 20));
    for (body, status) in [
        (&b""[..], 422),
        (b"\0\0\0\0", 422),
        (b"{\"name\":\"\xff\xfe\"}", 422),
        (b"\xef\xbb\xbf{}", 422),
        (b"null", 422),
        (b"[]", 422),
        (b"{\"tenant_id\":1e999}", 422),
        (doubled.as_bytes(), 422),
        (deep.as_bytes(), 422),
        (large.as_bytes(), 413),
        (huge.as_bytes(), 413),
    ] {
        let response = post(&[JSON], body).await;
        assert_eq!(response.status, status, "{:?}", &body[..body.len().min(40)]);
        if status == 422 {
            assert!(response.json()["message"].is_string(), "{response:?}");
        } else {
            response.is_problem("Payload Too Large", "The request body is longer than 64 KiB");
        }
    }
    for headers in [
        &[][..],
        &[("content-type", "text/plain")],
        &[("content-type", "application/x-www-form-urlencoded")],
        &[JSON, ("content-type", "text/plain")],
        &[JSON, ("content-encoding", "gzip")],
    ] {
        let response = post(headers, whole.as_bytes()).await;
        assert_eq!(response.status, 415, "{headers:?}");
    }
    assert_eq!(post(&[("content-type", "Application/JSON; charset=utf-8")], b"{}").await.status, 422);
    assert_eq!(api.records().await, []);
    assert_eq!(api.env.entra.requests().len(), 0);
    assert!(!api.server.log().contains("panicked"), "{}", api.server.log());
}

#[tokio::test]
async fn unknown_paths_and_methods_get_a_documented_response() {
    let api = Api::start().await;
    let id = api.created(json!({})).await;
    for (method, path, status) in [
        ("GET", "/", 404),
        ("GET", "/rest/v2/mailboxes/microsoft/credentials/", 404),
        ("GET", "/rest/v2/mailboxes/microsoft//credentials", 404),
        ("GET", "/rest/v2/mailboxes/microsoft/credentials/1/2", 404),
        ("DELETE", "/rest/v2/mailboxes/microsoft/credentials/0", 404),
        ("DELETE", "/rest/v2/mailboxes/microsoft/credentials/-1", 404),
        ("DELETE", "/rest/v2/mailboxes/microsoft/credentials/99999999999999999999999", 404),
        ("DELETE", "/rest/v2/mailboxes/microsoft/credentials/..%2f..%2fsecrets", 404),
        ("DELETE", "/rest/v2/mailboxes/microsoft/credentials/%ff%fe", 404),
        ("DELETE", "/rest/v2/mailboxes/microsoft/credentials/%00", 404),
        ("PUT", PATH, 405),
        ("DELETE", PATH, 405),
        ("PATCH", PATH, 405),
        ("OPTIONS", PATH, 405),
        ("TRACE", PATH, 405),
        ("BREW", PATH, 405),
        ("GET", "/rest/v2/mailboxes/microsoft/credentials/1", 405),
    ] {
        let response = send(&api.address, method, path, &[key(), JSON], b"{\"name\":\"x\"}").await;
        assert_eq!(response.status, status, "{method} {path}: {response:?}");
        let body = response.json();
        assert_eq!((body["status"].as_u64(), body["title"].is_string()), (Some(status.into()), true));
        assert_eq!(response.header("allow").is_some(), status == 405, "{method} {path}: {response:?}");
    }
    let head = api.request("HEAD", PATH, None).await;
    let whole = api.request("GET", PATH, None).await;
    assert_eq!((head.status, head.body.len()), (200, 0));
    assert_eq!(head.header("content-length"), whole.header("content-length"), "as GET, without the body");
    assert_eq!(api.request("HEAD", &format!("{PATH}/{id}"), None).await.status, 405);
    let query = api.request("GET", &format!("{PATH}?page=2&client_secret=x"), None).await;
    assert_eq!(query.json()["credentials"][0]["credential_id"], id, "a query is passed over");
}

#[tokio::test]
async fn invalid_request_heads_close_only_their_connection() {
    let api = Api::start().await;
    let many = "x-one: 1\r\n".repeat(100);
    let long = format!("x: {}\r\n", "y".repeat(64 << 10));
    let good = format!("host: a\r\nx-api-key: {KEY}\r\n");
    for (head, statuses) in [
        (format!("GET {PATH} HTTP/1.1\r\n{good}{many}\r\n"), &[431][..]),
        (format!("GET {PATH} HTTP/1.1\r\n{good}{long}\r\n"), &[431]),
        (format!("GET /{} HTTP/1.1\r\n{good}\r\n", "a".repeat(70 << 10)), &[414, 431]),
        (format!("GET {PATH} HTTP/1.1\r\n{good}content-length: 1\r\ncontent-length: 2\r\n\r\n"), &[400]),
        (format!("GET {PATH} HTTP/1.1\r\n{good}content-length: -1\r\n\r\n"), &[400]),
        (format!("GET {PATH} HTTP/1.1\r\n{good}transfer-encoding: gzip\r\n\r\n"), &[400]),
        (format!("GET {PATH} HTTP/1.1\r\n{good}x y: 1\r\n\r\n"), &[400]),
        (format!("GET {PATH} HTTP/9.9\r\n{good}\r\n"), &[400, 505]),
        ("\0\0\0\0\r\n\r\n".to_owned(), &[400]),
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_owned(), &[400, 505]),
    ] {
        let response = send_raw(&api.address, head.as_bytes()).await;
        let status = response.as_ref().map(|response| response.status);
        // The connection of a request that is not read to its end may be reset before the client reads the
        // response, and HTTP/2 has its own way to reject.
        let may_be_silent = head.len() > 16 << 10 || head.starts_with("PRI");
        let is_documented = status.map_or(may_be_silent, |status| statuses.contains(&status));
        assert!(is_documented, "{:?}: {response:?}", &head[..head.len().min(80)]);
    }
    // A request smuggled in behind a body with two lengths gets one response, or none.
    let smuggled = format!(
        "POST {PATH} HTTP/1.1\r\n{good}content-type: application/json\r\ncontent-length: 4\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\nDELETE {PATH}/1 HTTP/1.1\r\n{good}\r\n"
    );
    let response = send_raw(&api.address, smuggled.as_bytes()).await;
    let text = response.map(|response| format!("{response:?}")).unwrap_or_default();
    assert!(!text.contains("404"), "the second request was answered: {text}");
    assert_eq!(api.listed().await, Vec::<Value>::new(), "others are served");
}

#[tokio::test]
async fn slow_clients_are_disconnected_and_block_no_other() {
    let api = Api::start().await;
    let head =
        format!("POST {PATH} HTTP/1.1\r\nhost: a\r\nx-api-key: {KEY}\r\ncontent-type: application/json\r\n");
    let mut slow_body = TcpStream::connect(&api.address).await.unwrap();
    slow_body.write_all(format!("{head}content-length: 100\r\n\r\n{{").as_bytes()).await.unwrap();
    let mut slow_head = TcpStream::connect(&api.address).await.unwrap();
    slow_head.write_all(head.as_bytes()).await.unwrap();
    let mut idle = TcpStream::connect(&api.address).await.unwrap();
    api.created(json!({})).await;
    let response = read(&mut slow_body).await.expect("a response");
    assert_eq!(response.status, 408);
    response.is_problem("Request Timeout", "The request body did not arrive in time");
    let response = read(&mut slow_head).await;
    assert!(response.is_none_or(|response| response.status == 408), "the head never came");
    let response = read(&mut idle).await;
    assert!(response.is_none_or(|response| response.status == 408), "nothing ever came");
}

#[tokio::test]
async fn connections_beyond_the_limit_wait_and_are_served_in_order() {
    let mut env = TestEnv::bare().await;
    // A client that is slow for a moment must not have to make room for others.
    env.time_scale = 1;
    put_key(&env, KEY).await;
    env.entra.service_time(Duration::from_millis(100));
    let (server, address) = start(&env, &["--rest-max-connections", "2"]).await;
    let api = Api { env, server, address };
    let all = (0..6).map(|at| api.created(json!({"name": format!("{at}")})));
    futures::future::join_all(all).await;
    assert_eq!(api.listed().await.len(), 6);
    assert!(api.env.entra.max_in_flight() <= 2, "{}", api.env.entra.max_in_flight());
}

#[tokio::test]
async fn an_account_has_a_share_of_the_connections_and_blocks_no_other_account() {
    let mut env = TestEnv::bare().await;
    env.time_scale = 1;
    let neighbour = put_two_keys(&env).await;
    let args = ["--rest-max-connections", "4", "--watch-namespace", &neighbour];
    let (server, address) = start(&env, &args).await;
    let api = Api { env, server, address };
    api.env.entra.service_time(Duration::from_secs(3));
    let busy = async { tokio::join!(api.create(json!({})), api.create(json!({"name": "second"}))) };
    let others = async {
        eventually("two requests are under way", || async {
            if api.env.entra.in_flight() == 2 { Ok(()) } else { Err(api.server.log()) }
        })
        .await;
        for _ in 0..3 {
            let one_more = api.request("GET", PATH, None).await;
            assert_eq!((one_more.status, one_more.header("retry-after")), (429, Some("1")), "{one_more:?}");
            one_more.is_problem("Too Many Requests", "Too many requests; please try again later");
        }
        let other = send(&api.address, "GET", PATH, &[("x-api-key", OTHER_KEY)], b"").await;
        assert_eq!((other.status, api.env.entra.in_flight()), (200, 2), "another account has its own");
    };
    let ((first, second), ()) = tokio::join!(busy, others);
    assert_eq!((first.status, second.status), (201, 201));
    assert_eq!(api.listed().await.len(), 2, "there is room again");
}

#[tokio::test]
async fn unauthenticated_connections_are_evicted_for_authenticated_ones() {
    let mut env = TestEnv::bare().await;
    env.time_scale = 1;
    put_key(&env, KEY).await;
    let (server, address) = start(&env, &["--rest-max-connections", "4"]).await;
    let api = Api { env, server, address };
    let mut idle = Vec::new();
    for _ in 0..16 {
        idle.push(TcpStream::connect(&api.address).await.unwrap());
    }
    let started = std::time::Instant::now();
    api.created(json!({})).await;
    // Each of the four connection slots is free again after one second, and 16 connections come first.
    assert!(started.elapsed() < Duration::from_secs(12), "{:?}", started.elapsed());
    let response = read(&mut idle[0]).await;
    assert!(response.is_none(), "its connection was closed: {response:?}");
}

#[tokio::test]
async fn a_flood_of_invalid_requests_does_not_grow_the_memory() {
    let api = Api::start().await;
    let flood = async || {
        let body = format!("{{\"name\":\"{}\"}}", "x".repeat(60 << 10));
        for _ in 0..20 {
            let headers = [key(), JSON];
            let all = (0..16).map(|_| send(&api.address, "POST", PATH, &headers, body.as_bytes()));
            futures::future::join_all(all).await;
        }
    };
    flood().await;
    let before = resident(&api.server);
    flood().await;
    flood().await;
    let after = resident(&api.server);
    assert!(after < before + (16 << 10), "{before} kB became {after} kB");
}

#[tokio::test]
async fn an_account_at_its_limit_is_listed_in_little_memory() {
    let mut env = TestEnv::bare().await;
    env.time_scale = 1;
    let mut api = Api::on(env).await;
    crate::keyring_access::make_records(&api.env, 1000).await;
    // It counts the credentials before it serves anything.
    (api.server, api.address) = start(&api.env, &[]).await;
    let rejected = api.create(json!({})).await;
    assert_eq!((rejected.status, rejected.json()), (422, json!({"message": "TOO_MANY_CREDENTIALS"})));
    let before = resident(&api.server);
    // In two rounds, because with all requests at once the last one would wait long on a busy machine.
    for _ in 0..2 {
        let all = futures::future::join_all((0..24).map(|_| api.listed())).await;
        assert!(all.iter().all(|listed| listed.len() == 1000));
    }
    let peak = memory(&api.server, "VmHWM:");
    assert!(peak < before + (72 << 10), "{before} kB became {peak} kB");
    assert_eq!(api.request("DELETE", &format!("{PATH}/1"), None).await.status, 204);
    api.created(json!({})).await;
}

/// Resident memory in kB. Source: `proc(5)`.
pub fn resident(process: &Process) -> u64 {
    memory(process, "VmRSS:")
}

fn memory(process: &Process, field: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", process.pid())).unwrap();
    let line = status.lines().find(|line| line.starts_with(field)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}
