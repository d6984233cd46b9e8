//! Hostile requests: each gets a response, and none does harm. The rest is the server and the handlers of `serve`, tested there.

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use super::*;
use crate::rest_api::hostile::resident;
use crate::rest_api::http::{read, send_raw};

#[tokio::test]
async fn hostile_requests_get_a_response_and_others_are_served() {
    let sandbox = Sandbox::start(&["--no-limits"]).await;
    let key = ("x-api-key", KEY);
    let (json_type, close) = (("content-type", "application/json"), ("connection", "close"));
    let deep = format!("{{\"credentials\":{}{}}}", "[".repeat(30_000), "]".repeat(30_000));
    let huge = format!("{{\"name\":\"{}\"}}", "x".repeat(8 << 20));
    for (path, body, status) in [
        (PATH, &b"\0\0"[..], 422),
        (PATH, b"{\"name\":\"\xff\xfe\"}", 422),
        (PATH, deep.as_bytes(), 422),
        (PATH, huge.as_bytes(), 413),
        ("/sandbox/reset", deep.as_bytes(), 400),
        ("/sandbox/reset", huge.as_bytes(), 400),
        ("/sandbox/reset", b"null", 400),
        ("/sandbox/clock", b"{\"advance\":\"P99999999999Y\"}", 400),
        ("/sandbox/clock", b"{\"advance\":\"P1Y\"}", 400),
        ("/sandbox/clock", b"{\"advance\":\"-P7000000D\"}", 400),
        ("/sandbox/clock", b"{\"advance\":\"P7000000D\"}", 400),
        ("/sandbox/clock", b"{\"now\":\"9999-12-31T23:59:59Z\"}", 400),
        ("/sandbox/next", b"{\"answer\":\"in-use\",\"times\":-1}", 400),
        ("/sandbox/next", b"{\"answer\":\"in-use\",\"times\":1e99}", 400),
    ] {
        let response = send(&sandbox.address, "POST", path, &[key, json_type, close], body).await;
        assert_eq!(response.status, status, "{path} {:?}", &body[..body.len().min(40)]);
    }
    for (method, path, status) in [
        ("GET", "/sandbox", 404),
        ("GET", "/sandbox/../openapi.json", 404),
        ("DELETE", "/rest/v2/mailboxes/microsoft/credentials/%ff%fe", 404),
        ("DELETE", "/rest/v2/mailboxes/microsoft/credentials/99999999999999999999999", 404),
        ("PUT", "/sandbox/reset", 405),
        ("GET", "/sandbox/next", 405),
        ("GET", "/sandbox/log?after=-1&after=x", 400),
    ] {
        let response = send(&sandbox.address, method, path, &[key, close], b"").await;
        assert_eq!(response.status, status, "{method} {path}: {response:?}");
    }
    for head in
        ["\0\0\0\0\r\n\r\n", "GET / HTTP/9.9\r\nhost: 127.0.0.1\r\n\r\n", "GET http:// HTTP/1.1\r\n\r\n"]
    {
        let response = send_raw(&sandbox.address, head.as_bytes()).await;
        assert!(response.is_none_or(|it| [400, 403, 404, 505].contains(&it.status)), "{head:?}");
    }
    assert_eq!(sandbox.create(json!({})).await.status, 201);
    assert!(!sandbox.process.log().contains("panicked"), "{}", sandbox.process.log());
}

#[tokio::test]
async fn half_bodies_and_large_seeds_use_little_memory() {
    let sandbox = Sandbox::start(&["--no-limits"]).await;
    let before = resident(&sandbox.process);
    let mut halves = Vec::new();
    for _ in 0..200 {
        let mut connection = TcpStream::connect(&sandbox.address).await.unwrap();
        let head = format!(
            "POST /sandbox/reset HTTP/1.1\r\nhost: {}\r\ncontent-length: {}\r\n\r\n",
            sandbox.address,
            1 << 20
        );
        let _partly = connection.write_all(head.as_bytes()).await;
        let half = vec![b' '; 1 << 19];
        // The server reads only some of them.
        let written = tokio::time::timeout(Duration::from_millis(20), connection.write_all(&half)).await;
        halves.push((connection, written.is_ok()));
    }
    let grown = resident(&sandbox.process).saturating_sub(before);
    assert!(grown < 32 << 10, "{grown} kB");
    drop(halves);
    let seed = |credentials: usize| json!({"credentials": vec![sample(json!({})); credentials]});
    let reset = |seed: Value| async { sandbox.request("POST", "/sandbox/reset", Some(seed)).await };
    let rejected = reset(seed(1001)).await;
    assert_eq!(rejected.status, 400);
    assert!(String::from_utf8_lossy(&rejected.body).contains("at most 1000"), "{rejected:?}");
    assert_eq!(reset(seed(1000)).await.status, 200);
    assert_eq!(sandbox.listed().await.len(), 1000);
}

#[tokio::test]
async fn a_slow_body_is_answered_in_time_and_blocks_no_other() {
    let sandbox = Sandbox::start(&["--no-limits"]).await;
    let mut slow = Vec::new();
    for path in [PATH, "/sandbox/reset"] {
        let mut connection = TcpStream::connect(&sandbox.address).await.unwrap();
        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: {}\r\nx-api-key: {KEY}\r\ncontent-type: application/json\r\n\
             connection: close\r\ncontent-length: 100\r\n\r\n{{",
            sandbox.address
        );
        connection.write_all(head.as_bytes()).await.unwrap();
        slow.push(connection);
    }
    assert_eq!(sandbox.create(json!({})).await.status, 201);
    for mut connection in slow {
        assert_eq!(read(&mut connection).await.expect("a response").status, 408);
    }
}
