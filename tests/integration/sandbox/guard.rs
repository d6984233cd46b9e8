//! Websites that send requests to the sandbox, and what only a strict one rejects.

use super::*;
use crate::rest_api::http::send_raw;

/// The status of a request with these lines in its head.
async fn status(sandbox: &Sandbox, method: &str, path: &str, lines: &str) -> u16 {
    let head =
        format!("{method} {path} HTTP/1.1\r\nx-api-key: {KEY}\r\nconnection: close\r\n{lines}\r\n\r\n");
    send_raw(&sandbox.address, head.as_bytes()).await.expect("a response").status
}

#[tokio::test]
async fn a_website_can_neither_read_nor_write() {
    let sandbox = Sandbox::start(&["--allowed-host", "ci-sandbox"]).await;
    let own = format!("host: {}", sandbox.address);
    for (method, path) in [("GET", PATH), ("GET", "/"), ("GET", "/sandbox/log"), ("POST", "/sandbox/reset")] {
        // DNS rebinding: the name of the attacker leads to this machine.
        for host in
            ["attacker.example", "attacker.example:8445", "127.0.0.1.nip.example", "[::1].example", ""]
        {
            let refused = status(&sandbox, method, path, &format!("host: {host}")).await;
            assert!([400, 403].contains(&refused), "{method} {path} {host}: {refused}");
        }
        for lines in [String::new(), format!("{own}\r\nhost: attacker.example")] {
            let refused = status(&sandbox, method, path, &lines).await;
            assert!([400, 403].contains(&refused), "{method} {path} {lines}: {refused}");
        }
        let foreign =
            ["http://attacker.example", "null", "https://127.0.0.1", "http://localhost.attacker.example"];
        for origin in foreign {
            let refused = status(&sandbox, method, path, &format!("{own}\r\norigin: {origin}")).await;
            assert_eq!(refused, 403, "{method} {path} {origin}");
        }
        let twice = format!("{own}\r\norigin: http://{0}\r\norigin: http://a.example", sandbox.address);
        assert_eq!(status(&sandbox, method, path, &twice).await, 403);
        let same = format!("{own}\r\norigin: http://{}", sandbox.address);
        assert_eq!(status(&sandbox, method, path, &same).await, 200, "{method} {path}");
    }
    for host in ["localhost", "localhost:8445", "127.0.0.1", "[::1]:8445", "ci-sandbox:8445", "CI-sandbox"] {
        assert_eq!(status(&sandbox, "GET", PATH, &format!("host: {host}")).await, 200, "{host}");
    }
    let preflight =
        format!("{own}\r\norigin: http://attacker.example\r\naccess-control-request-method: POST");
    assert_eq!(status(&sandbox, "OPTIONS", PATH, &preflight).await, 403);
}

#[tokio::test]
async fn a_website_can_link_to_the_page_and_embed_nothing() {
    let sandbox = Sandbox::start(&[]).await;
    let own = format!("host: {}", sandbox.address);
    let others =
        [("GET", PATH), ("GET", "/sandbox/log"), ("GET", "/openapi.json"), ("POST", "/sandbox/reset")];
    // What a browser says about who caused the request, and whether it is another website.
    for (site, is_foreign) in [
        ("cross-site", true),
        ("same-site", true),
        ("unknown", true),
        ("same-origin", false),
        ("none", false),
    ] {
        let lines = format!("{own}\r\nsec-fetch-site: {site}");
        assert_eq!(status(&sandbox, "GET", "/", &lines).await, 200, "a link to the page: {site}");
        for (method, path) in others {
            let expected = if is_foreign { 403 } else { 200 };
            assert_eq!(status(&sandbox, method, path, &lines).await, expected, "{method} {path} {site}");
        }
        // The page's own requests have an origin, too, and so do those of a website.
        let foreign = format!("{lines}\r\norigin: http://attacker.example");
        assert_eq!(status(&sandbox, "GET", "/", &foreign).await, 403, "{site}");
    }
}

#[tokio::test]
async fn the_page_allows_no_other_script_and_no_frame() {
    let sandbox = Sandbox::start(&[]).await;
    let page = sandbox.request_with(&[], "GET", "/", None).await;
    let policy = page.header("content-security-policy").unwrap();
    assert!(policy.starts_with("default-src 'none'; script-src 'sha256-"), "{policy}");
    assert!(policy.contains("frame-ancestors 'none'") && !policy.contains("unsafe"), "{policy}");
    let text = String::from_utf8(page.body.clone()).unwrap();
    assert!(text.contains("Real secrets do not belong here") && text.contains(KEY), "{text}");
    assert!(!text.contains("https://") && !text.contains("src="), "nothing is loaded from elsewhere");
    for answer in sandbox.answers().await {
        assert!(text.contains(answer["client_secret"].as_str().unwrap()), "{answer}");
    }
}

#[tokio::test]
async fn unknown_fields_and_headers_are_rejected_only_by_a_strict_sandbox() {
    for (args, created, listed) in [(&[][..], 201, 200), (&["--strict"], 422, 400)] {
        let sandbox = Sandbox::start(args).await;
        assert_eq!(sandbox.create(json!({"flavor": "red"})).await.status, created);
        let headers = [("x-api-key", KEY), ("x-flavor", "red")];
        assert_eq!(sandbox.request_with(&headers, "GET", PATH, None).await.status, listed);
        let id = sandbox.create(json!({})).await.json()["credential_id"].clone();
        let moved = json!({"name": "x", "tenant_id": CLIENT});
        let moved = sandbox.request("PATCH", &format!("{PATH}/{id}"), Some(moved)).await;
        assert_eq!(moved.status, if created == 201 { 200 } else { 422 });
        let tenants: Vec<_> = sandbox.listed().await.iter().map(|it| it["tenant_id"].clone()).collect();
        assert!(tenants.iter().all(|it| it == TENANT), "{tenants:?}");
        let keys = "/rest/v2/agency/companies/20000001/api_keys";
        let key = json!({"label": "tests", "flavor": "red"});
        assert_eq!(sandbox.request("POST", keys, Some(key)).await.status, created);
        for query in ["page=0", "page=one", "active=perhaps"] {
            let companies = format!("/rest/v2/agency/companies?{query}");
            assert_eq!(sandbox.request("GET", &companies, None).await.status, listed, "{query}");
        }
    }
}
