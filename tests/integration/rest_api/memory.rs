//! Secrets that arrive over HTTP leave the memory soon.

use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use super::*;
use crate::memory_zeroing::{Canary, find_in};

#[tokio::test]
async fn no_posted_secret_and_no_key_is_in_memory_ten_seconds_after_a_request() {
    let mut env = TestEnv::bare().await;
    // A connection must not be clean only because its lifetime is short here.
    env.time_scale = 1;
    let [first, second, rejected, cut_off, stray] = [(); 5].map(|()| Canary::new());
    let keys = [Canary::new(), Canary::new()].map(|key| key.text.replace(['~', '\\', '"'], "-"));
    env.entra.set_secrets(TENANT, CLIENT, &[&first.text, &second.text]);
    env.secret(KEYS, &[(&format!("{}.ci", env.namespace), &keys[0])]).await;
    let (server, address) = start(&env, &["--allow-core-dumps"]).await;
    let request = async |method: &str, path: &str, body: Value| {
        let headers = [("x-api-key", keys[0].as_str()), ("content-type", "application/json")];
        send(&address, method, path, &headers, body.to_string().as_bytes()).await
    };
    let created = request("POST", PATH, sample(json!({"client_secret": first.text}))).await;
    assert_eq!(created.status, 201, "{created:?}\n{}", server.log());
    let path = format!("{PATH}/{}", created.json()["credential_id"]);
    let rotation = json!({"client_secret": second.text, "secret_expires_at": EXPIRY});
    assert_eq!(request("PATCH", &path, rotation).await.status, 200);
    assert_eq!(request("POST", PATH, sample(json!({"client_secret": rejected.text}))).await.status, 422);
    assert_eq!(request("POST", PATH, sample(json!({"client_secrets": stray.text}))).await.status, 422);
    let wrong = [("x-api-key", keys[1].as_str())];
    assert_eq!(send(&address, "GET", PATH, &wrong, b"").await.status, 401);
    let mut connection = TcpStream::connect(&address).await.unwrap();
    let body = sample(json!({"client_secret": cut_off.text})).to_string();
    let request = format!(
        "POST {PATH} HTTP/1.1\r\nhost: a\r\nx-api-key: {}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{}",
        keys[0],
        body.len(),
        &body[..body.len() - 1]
    );
    connection.write_all(request.as_bytes()).await.unwrap();
    drop(connection);
    tokio::time::sleep(Duration::from_secs(10)).await;
    let control = find_in(&server, std::slice::from_ref(&env.namespace));
    assert!(!control.hits.is_empty(), "the search finds what is there");
    let secrets = [&first, &second, &rejected, &cut_off, &stray];
    let traces: Vec<String> = secrets.iter().flat_map(|secret| secret.traces()).chain(keys).collect();
    let found = find_in(&server, &traces);
    assert!(found.hits.is_empty(), "{:#?}", found.hits);
    assert_eq!(found.unread, 0, "every writable page was read");
}
