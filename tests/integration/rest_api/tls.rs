//! TLS with certificate and key from files.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use kit::tls::Authority;
use reqwest::Certificate;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use super::http::{read, send_raw};
use super::*;

/// Certificate and key of a test environment.
struct Files {
    certificate: PathBuf,
    key: PathBuf,
}

impl Files {
    fn of(env: &TestEnv) -> Self {
        let at = |name: &str| env.cluster.dir().join(format!("{}-{name}.pem", env.namespace));
        Self { certificate: at("certificate"), key: at("key") }
    }

    fn write(&self, authority: &Authority) {
        let (certificate, key) = authority.issue(&["localhost"]).unwrap();
        fs::write(&self.certificate, certificate).unwrap();
        fs::write(&self.key, key).unwrap();
    }

    async fn serve(&self, env: TestEnv, more: &[&str]) -> Api {
        put_key(&env, KEY).await;
        let files = [self.certificate.to_str().unwrap(), self.key.to_str().unwrap()];
        let args = [&["--rest-tls-cert", files[0], "--rest-tls-key", files[1]], more].concat();
        let (server, address) = start(&env, &args).await;
        Api { env, server, address }
    }
}

/// The status of a list for a client that trusts only this authority, on a new connection.
async fn status(api: &Api, authority: &Authority) -> Result<u16, String> {
    let _another_test_was_first = rustls::crypto::ring::default_provider().install_default();
    let trusted = Certificate::from_pem(authority.pem().as_bytes()).unwrap();
    let client = reqwest::Client::builder().tls_certs_only([trusted]).no_proxy().build().unwrap();
    let port = api.address.rsplit_once(':').unwrap().1;
    let request = client.get(format!("https://localhost:{port}{PATH}")).header("x-api-key", KEY);
    let response = request.timeout(Duration::from_secs(10)).send().await;
    response.map(|response| response.status().as_u16()).map_err(|error| format!("{error:?}"))
}

async fn wait_for_certificate(api: &Api, authority: &Authority) {
    eventually("the certificate is served", || async {
        match status(api, authority).await {
            Ok(200) => Ok(()),
            other => Err(format!("{other:?}\n{}", api.server.log())),
        }
    })
    .await;
}

#[tokio::test]
async fn the_tls_certificate_is_reloaded_from_its_files() {
    let (first, second) = (Authority::new().unwrap(), Authority::new().unwrap());
    let env = TestEnv::bare().await;
    let files = Files::of(&env);
    files.write(&first);
    let api = files.serve(env, &[]).await;
    assert_eq!(status(&api, &first).await, Ok(200));
    assert!(status(&api, &second).await.is_err(), "the certificate is the files'");
    let plain = format!("GET {PATH} HTTP/1.1\r\nhost: a\r\nx-api-key: {KEY}\r\n\r\n");
    assert!(send_raw(&api.address, plain.as_bytes()).await.is_none(), "nothing is sent in plain text");
    fs::write(&files.certificate, "-----BEGIN CERTIFICATE-----\nbroken").unwrap();
    eventually("readiness says what is wrong", || async {
        let (status, text) = send_get(&api.server, "/readyz").await;
        if status == 200 && text.contains("--rest-tls-cert") { Ok(()) } else { Err(text) }
    })
    .await;
    assert_eq!(status(&api, &first).await, Ok(200), "the last one stays in use");
    files.write(&second);
    wait_for_certificate(&api, &second).await;
    assert!(status(&api, &first).await.is_err());
    let (_, ready) = send_get(&api.server, "/readyz").await;
    assert!(!ready.contains("rest-tls"), "{ready}");
}

#[tokio::test]
async fn failed_tls_handshakes_block_no_other_client() {
    let authority = Authority::new().unwrap();
    let env = TestEnv::bare().await;
    let files = Files::of(&env);
    files.write(&authority);
    let api = files.serve(env, &["--rest-max-connections", "2"]).await;
    let mut silent = TcpStream::connect(&api.address).await.unwrap();
    let mut odd = TcpStream::connect(&api.address).await.unwrap();
    odd.write_all(b"\x16\x03\x01\xff\xff\0\0\0\0").await.unwrap();
    assert_eq!(status(&api, &authority).await, Ok(200), "{}", api.server.log());
    assert!(read(&mut silent).await.is_none());
    assert!(read(&mut odd).await.is_none());
}

#[tokio::test]
async fn mismatched_tls_files_are_reported_with_their_flag() {
    let authority = Authority::new().unwrap();
    let env = TestEnv::bare().await;
    put_key(&env, KEY).await;
    let (files, other) = (Files::of(&env), Files { key: "/nonexistent".into(), ..Files::of(&env) });
    files.write(&authority);
    let own_key = fs::read_to_string(&files.key).unwrap();
    let (_, foreign_key) = authority.issue(&["localhost"]).unwrap();
    for (pair, key, expected) in [
        (&other, own_key.as_str(), "--rest-tls-key /nonexistent"),
        (&files, &foreign_key, "cannot be used with the certificate"),
        (&files, "not a key", "--rest-tls-key"),
    ] {
        fs::write(&files.key, key).unwrap();
        let (certificate, key) = (pair.certificate.to_str().unwrap(), pair.key.to_str().unwrap());
        let args = [
            "serve",
            "--rest-bind-address",
            "127.0.0.1:0",
            "--rest-tls-cert",
            certificate,
            "--rest-tls-key",
            key,
        ];
        let server = env.launch_with(&args).await;
        let exit = server.wait(Duration::from_secs(30)).await.expect("it ends");
        assert!(!exit.success() && server.log().contains(expected), "{expected}: {}", server.log());
    }
    let alone = Command::new(env!("CARGO_BIN_EXE_graph-credential-operator"))
        .args(["serve", "--rest-tls-cert", "x"])
        .output()
        .unwrap();
    assert_eq!(alone.status.code(), Some(2));
    assert!(String::from_utf8(alone.stderr).unwrap().contains("--rest-tls-key"));
}
