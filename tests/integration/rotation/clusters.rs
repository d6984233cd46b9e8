//! The same app in two clusters.

use super::*;

/// Waits until the app has these client secrets of the operators and no other.
async fn wait_for_own(graph: &Graph, keys: &[String]) {
    eventually("each object has its own client secret and no other", || async {
        let live = graph.live_secrets(TENANT, CLIENT);
        let mut own: Vec<String> =
            live.iter().filter(|it| it.added_by.is_some()).map(|it| it.key_id.clone()).collect();
        let mut wanted = keys.to_vec();
        own.sort_unstable();
        wanted.sort_unstable();
        if own == wanted { Ok(()) } else { Err(format!("{own:?}, wanted {wanted:?}")) }
    })
    .await;
}

#[tokio::test]
async fn the_operators_of_two_clusters_leave_each_others_client_secrets() {
    let (first, graph) = start().await;
    let mut second = TestEnv::bare().await;
    second.authority = Some(first.entra.url());
    second.woodpecker.verify_with(&first.entra);
    second.woodpecker.check_validity_with(&first.entra);
    second.extra_args.extend(["--entra-identities".to_owned(), "--microsoft-graph".to_owned(), graph.url()]);
    second.start_operator().await;
    identity(&second, json!([grant(&second.namespace, TENANT, CLIENT)])).await;
    second.account("agency", json!({})).await;
    let envs = [&first, &second];
    for env in envs {
        let mut spec = rotating();
        merge(&mut spec, json!({"deletionPolicy": "Delete"}));
        env.credential("sales-eu", spec).await;
    }
    for env in envs {
        env.wait_until_ready("sales-eu").await;
    }
    let (of_first, of_second) =
        tokio::join!(rotate(&first, "sales-eu", "1"), rotate(&second, "sales-eu", "1"));
    let keys = [&of_first, &of_second].map(|object| current_key(object).unwrap());
    wait_for_own(&graph, &keys).await;
    for env in envs {
        let object = env.read("sales-eu").await;
        assert!(condition(&object, ConditionType::UnknownOwnSecrets).is_none(), "{object:#?}");
        assert!(rotation(&object).unknown_secrets.is_empty(), "{object:#?}");
        assert_sound(env, &["sales-eu"]).await;
    }

    second.delete("sales-eu").await;
    second.wait_until_gone("sales-eu").await;
    wait_for_own(&graph, &keys[..1]).await;
    assert_eq!(first.remote().len(), 1);
    assert_sound(&first, &["sales-eu"]).await;
}
