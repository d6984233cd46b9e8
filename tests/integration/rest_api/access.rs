//! Authentication and authorization: API keys and the accounts that they open.

use super::fault_proxy::FaultProxy;
use super::*;

/// Every route and method, each with a valid body.
fn requests(id: i64) -> Vec<(&'static str, String, Option<Value>)> {
    vec![
        ("GET", PATH.to_owned(), None),
        ("POST", PATH.to_owned(), Some(sample(json!({"name": "not to be"})))),
        ("PATCH", format!("{PATH}/{id}"), Some(json!({"name": "not to be"}))),
        ("DELETE", format!("{PATH}/{id}"), None),
        ("GET", format!("{PATH}/{id}"), None),
        ("PUT", PATH.to_owned(), None),
        ("GET", "/".to_owned(), None),
        ("GET", "/rest/v2/mailboxes".to_owned(), None),
    ]
}

#[tokio::test]
async fn requests_without_a_key_of_the_account_are_rejected() {
    let mut env = TestEnv::bare().await;
    let neighbour = put_two_keys(&env).await;
    env.log_filter = "trace";
    let (server, address) = start(&env, &["--watch-namespace", &neighbour]).await;
    let api = Api { env, server, address };
    let id = api.created(json!({})).await;
    let before = api.records().await;
    let bad: [&[(&str, &str)]; 8] = [
        &[],
        &[("x-api-key", "")],
        &[("x-api-key", "4711.a-key-of-the-stagf")],
        &[("x-api-key", "4711.a-key-of-the-stage0")],
        &[("x-api-key", KEY), ("x-api-key", KEY)],
        &[("x-api-key", KEY), ("x-api-key", "other")],
        &[("authorization", "Basic OjQ3MTEuYS1rZXktb2YtdGhlLXN0YWdl")],
        &[("api-key", KEY)],
    ];
    for headers in bad {
        for (method, path, body) in requests(id) {
            let headers = [headers, &[("content-type", "application/json")]].concat();
            let body = body.map(|body| body.to_string()).unwrap_or_default();
            let response = send(&api.address, method, &path, &headers, body.as_bytes()).await;
            assert_eq!(response.status, 401, "{method} {path} {headers:?}");
            response.is_problem("Unauthorized", "Invalid api key");
        }
    }
    let other = [("x-api-key", OTHER_KEY), ("content-type", "application/json")];
    let mut statuses = Vec::new();
    for (method, path, body) in requests(id) {
        let body = body.map(|body| body.to_string()).unwrap_or_default();
        let response = send(&api.address, method, &path, &other, body.as_bytes()).await;
        assert!(!String::from_utf8_lossy(&response.body).contains(&id.to_string()), "{response:?}");
        statuses.push(response.status);
    }
    assert_eq!(statuses, [200, 201, 404, 404, 405, 405, 404, 404], "another account's key");
    assert_eq!(api.records().await, before, "nothing of the account was touched");
    for secret in [KEY, OTHER_KEY, "s3cret-one", "4711.a-key-of-the-stagf"] {
        assert!(!api.server.log().contains(secret), "{secret} is in the log");
    }
    assert!(api.server.log().contains(&format!("{neighbour}.ci")), "keys are logged by their names");
}

#[tokio::test]
async fn a_request_for_a_company_is_rejected_and_changes_nothing() {
    let api = Api::start().await;
    let id = api.created(json!({})).await;
    let before = api.records().await;
    for company in ["4711", "", &api.env.namespace] {
        for (method, path, body) in requests(id) {
            let headers =
                [("x-api-key", KEY), ("content-type", "application/json"), ("X-Company-Id", company)];
            let body = body.map(|body| body.to_string()).unwrap_or_default();
            let response = send(&api.address, method, &path, &headers, body.as_bytes()).await;
            let word = json!({"message": "UNKNOWN_COMPANY"});
            assert_eq!((response.status, response.json()), (422, word), "{method} {path} {company:?}");
        }
    }
    assert_eq!(api.records().await, before);
    assert_eq!(api.env.entra.count(TENANT, CLIENT), 1, "nothing was verified");
    let unknown = [("x-api-key", OTHER_KEY), ("x-company-id", "4711")];
    assert_eq!(send(&api.address, "GET", PATH, &unknown, b"").await.status, 401, "the key comes first");
}

#[tokio::test]
async fn a_key_for_a_missing_namespace_saves_nothing_and_is_logged() {
    let env = TestEnv::bare().await;
    env.secret(KEYS, &[("nowhere.ci", KEY)]).await;
    let (server, address) = start(&env, &["--watch-namespace", "nowhere"]).await;
    assert_eq!(request_at(&address, "POST", PATH, Some(sample(json!({})))).await.status, 500);
    let log = server.log();
    assert!(log.contains("the namespace of an API key does not exist"), "{log}");
    assert_eq!(request_at(&address, "GET", PATH, None).await.json(), json!({"credentials": []}));
}

#[tokio::test]
async fn only_the_openapi_description_is_served_without_a_key() {
    let api = Api::start().await;
    let response = send(&api.address, "GET", "/openapi.json", &[], b"").await;
    assert_eq!((response.status, response.header("content-type")), (200, Some("application/json")));
    assert_eq!(response.json()["paths"].as_object().unwrap().len(), 2);
    for (method, path, status) in
        [("POST", "/openapi.json", 405), ("GET", "/openapi.json/", 401), ("GET", "/docs", 401)]
    {
        let response = send(&api.address, method, path, &[], b"").await;
        assert_eq!(response.status, status, "{method} {path}");
        assert!(response.json()["title"].is_string());
    }
}

#[tokio::test]
async fn api_keys_are_reloaded_from_their_secret() {
    let api = Api::start().await;
    let status = async |key: &str| send(&api.address, "GET", PATH, &[("x-api-key", key)], b"").await.status;
    let becomes = async |key: &str, expected: u16| {
        eventually(&format!("{key} is answered with {expected}"), || async {
            let status = status(key).await;
            if status == expected { Ok(()) } else { Err(format!("{status}\n{}", api.server.log())) }
        })
        .await;
    };
    assert_eq!((status(KEY).await, status(OTHER_KEY).await), (200, 401));
    api.env.secret(KEYS, &[(&format!("{}.next", api.env.namespace), OTHER_KEY)]).await;
    becomes(OTHER_KEY, 200).await;
    becomes(KEY, 401).await;
    api.env.delete_secret(KEYS).await;
    becomes(OTHER_KEY, 401).await;
    let (_, ready) = send_get(&api.server, "/readyz").await;
    assert!(ready.contains("there is no Secret"), "{ready}");
    put_key(&api.env, KEY).await;
    becomes(KEY, 200).await;
    api.env.secret_exactly(KEYS, &[("not-a-name", KEY)]).await;
    becomes(KEY, 401).await;
    for _ in 0..3 {
        let (_, ready) = send_get(&api.server, "/readyz").await;
        let is_reported = ["no usable API key", "not-a-name", "all requests are denied"]
            .iter()
            .all(|it| ready.contains(it));
        assert!(is_reported, "it still reports it: {ready}");
        tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    }
    put_key(&api.env, KEY).await;
    becomes(KEY, 200).await;
    let (_, ready) = send_get(&api.server, "/readyz").await;
    assert!(!ready.contains("API key"), "{ready}");
}

#[tokio::test]
async fn unreadable_api_keys_deny_all_requests() {
    let mut env = TestEnv::bare().await;
    env.limit_operator(&["get"]).await;
    let api = Api::on(env).await;
    let status = async |address: &str| send(address, "GET", PATH, &[("x-api-key", KEY)], b"").await.status;
    assert_eq!(status(&api.address).await, 200);
    api.env.grant(&[]).await;
    eventually("a Secret that may not be read closes the API", || async {
        let status = status(&api.address).await;
        if status == 401 { Ok(()) } else { Err(format!("{status}\n{}", api.server.log())) }
    })
    .await;
    let (_, ready) = send_get(&api.server, "/readyz").await;
    assert!(ready.contains("may not read the Secret; all requests are denied"), "{ready}");
    let mut env = api.env;
    let fault_proxy = FaultProxy::before(&mut env).await;
    env.time_scale = 60;
    let (server, address) = start(&env, &[]).await;
    fault_proxy.fail(KEYS);
    eventually("an unreadable Secret is reported", || async {
        let (_, ready) = send_get(&server, "/readyz").await;
        if ready.contains("stay in use") { Ok(()) } else { Err(ready) }
    })
    .await;
    assert_eq!(status(&address).await, 200, "not yet");
    eventually("after five minutes it closes the API", || async {
        let status = status(&address).await;
        if status == 401 { Ok(()) } else { Err(format!("{status}\n{}", server.log())) }
    })
    .await;
    fault_proxy.recover();
    eventually("it opens again", || async {
        let status = status(&address).await;
        if status == 200 { Ok(()) } else { Err(format!("{status}\n{}", server.log())) }
    })
    .await;
}

#[tokio::test]
async fn without_a_usable_key_the_program_does_not_start() {
    let env = TestEnv::bare().await;
    let ends = async |expected: &[&str]| {
        let server = env.launch_with(&["serve", "--rest-bind-address", "127.0.0.1:0"]).await;
        let exit = server.wait(std::time::Duration::from_secs(30)).await.expect("it ends");
        assert!(!exit.success());
        let log = server.log();
        assert!(expected.iter().all(|text| log.contains(text)), "{expected:?} in {log}");
    };
    ends(&["there is no Secret", KEYS, "<namespace>.<name>"]).await;
    let short = format!("{}.ci", env.namespace);
    env.secret(KEYS, &[("not-a-name", KEY), (&short, "short"), ("elsewhere.ci", OTHER_KEY)]).await;
    ends(&["no usable API key", "not-a-name", "16 to 512", "elsewhere.ci", "is not served"]).await;
}
