//! Emulation of the vendor's limits.

use std::time::Duration;

use super::*;

#[tokio::test]
async fn the_requests_of_a_post_do_not_depend_on_the_number_of_records() {
    let mut env = TestEnv::bare().await;
    env.time_scale = 1;
    let api = Api::on(env).await;
    let requests_of_a_post = async || {
        let mark = api.env.cluster.audit_mark().unwrap();
        api.created(json!({})).await;
        let entries = api.env.cluster.audit_since(mark).unwrap();
        let of_posts = entries.into_iter().filter(|entry| {
            let is_ours = entry.namespace.as_deref() == Some(&api.env.namespace);
            is_ours && matches!(entry.resource.as_str(), "sealedgraphcredentials" | "secrets")
        });
        let of_posts = of_posts.filter(|entry| entry.name.as_deref() != Some(KEYS));
        of_posts.map(|entry| (entry.verb, entry.resource, entry.subresource)).collect::<Vec<_>>()
    };
    let id = api.created(json!({})).await;
    eventually("the record controller has listed all records", || async {
        let metrics = send_get(&api.server, "/metrics").await.1;
        let is_shown = metrics.contains(&format!("name=\"r-{id}\""));
        if is_shown { Ok(()) } else { Err(metrics) }
    })
    .await;
    let few = requests_of_a_post().await;
    crate::keyring_access::make_records(&api.env, 300).await;
    let many = requests_of_a_post().await;
    for (verb, resource, _) in few.iter().chain(&many) {
        assert!(verb != "list" && verb != "watch", "{verb} {resource}: {few:?} {many:?}");
    }
    let writes = |requests: &[(String, String, Option<String>)]| {
        requests.iter().filter(|(verb, ..)| verb != "get").cloned().collect::<Vec<_>>()
    };
    let records = "sealedgraphcredentials".to_owned();
    let expected = [
        ("create".to_owned(), records.clone(), None),
        ("update".to_owned(), records, Some("status".to_owned())),
    ];
    assert_eq!((writes(&few), writes(&many)), (expected.to_vec(), expected.to_vec()));
    let reads = |requests: &[(String, String, Option<String>)]| requests.len() - 2;
    assert!(reads(&few) <= 2 && reads(&many) <= 2, "{few:?} {many:?}");
}

#[tokio::test]
async fn the_credential_limit_of_an_account_counts_all_replicas() {
    let env = TestEnv::bare().await;
    let neighbour = put_two_keys(&env).await;
    let args = ["--rest-max-credentials", "3", "--watch-namespace", &neighbour];
    let (server, address) = start(&env, &args).await;
    let (_other, other_address) = start(&env, &args).await;
    let api = Api { env, server, address };
    // The number of attempts for one app is limited.
    let app = || {
        let client = format!("00000000-0000-4000-8000-{:012x}", getrandom::u64().unwrap() & 0xffff_ffff);
        api.env.entra.add_app(TENANT, &client);
        api.env.entra.set_secrets(TENANT, &client, &["s3cret-one"]);
        sample(json!({"client_id": client}))
    };
    let create = async || api.request("POST", PATH, Some(app())).await;
    let made = create().await;
    assert_eq!(made.status, 201, "{made:?}");
    assert_eq!(request_at(&other_address, "POST", PATH, Some(app())).await.status, 201);
    eventually("creates of another replica are counted", || async {
        let response = create().await;
        if response.status == 422 { Ok(()) } else { Err(format!("{response:?}")) }
    })
    .await;
    assert_eq!(api.listed().await.len(), 3);
    let verified = api.env.entra.requests().len();
    let rejected = create().await;
    assert_eq!((rejected.status, rejected.json()), (422, json!({"message": "TOO_MANY_CREDENTIALS"})));
    assert_eq!(api.env.entra.requests().len(), verified, "its secret is not sent to Microsoft");
    let body = app().to_string();
    let headers = [("x-api-key", OTHER_KEY), ("content-type", "application/json")];
    let other = send(&api.address, "POST", PATH, &headers, body.as_bytes()).await;
    assert_eq!(other.status, 201, "another account has room");
    let one = format!("{PATH}/{}", made.json()["credential_id"]);
    assert_eq!(api.request("DELETE", &one, None).await.status, 204);
    let both = tokio::join!(create(), create());
    let statuses: std::collections::BTreeSet<u16> = [both.0.status, both.1.status].into();
    assert_eq!(statuses, [201, 422].into(), "there is room for one");
}

#[tokio::test]
async fn with_the_vendors_limits_one_request_of_an_account_is_served_at_a_time() {
    let mut env = TestEnv::bare().await;
    env.time_scale = 1;
    let neighbour = put_two_keys(&env).await;
    let (server, address) =
        start(&env, &["--rest-emulate-rate-limits", "--watch-namespace", &neighbour]).await;
    let api = Api { env, server, address };
    api.env.entra.service_time(Duration::from_millis(500));
    let all = (0..9).map(|at| api.create(json!({"name": format!("{at}")})));
    let other = async {
        eventually("the queue is full", || async {
            if api.server.log().matches("\"status\":429").count() == 2 {
                Ok(())
            } else {
                Err(api.server.log())
            }
        })
        .await;
        let other = send(&api.address, "GET", PATH, &[("x-api-key", OTHER_KEY)], b"").await;
        (other.status, api.server.log().matches("\"status\":201").count() < 7)
    };
    let (responses, other) = tokio::join!(futures::future::join_all(all), other);
    assert_eq!(other, (200, true), "another account does not wait for the whole queue");
    let (made, dropped): (Vec<_>, Vec<_>) = responses.iter().partition(|response| response.status == 201);
    assert_eq!((made.len(), dropped.len()), (7, 2), "{responses:?}");
    for response in dropped {
        assert_eq!((response.status, response.header("retry-after")), (429, None));
        response.is_problem("Too Many Requests", "Too many requests; please try again later");
    }
    assert_eq!(api.env.entra.max_in_flight(), 1);
    assert_eq!(api.listed().await.len(), 7);
}
