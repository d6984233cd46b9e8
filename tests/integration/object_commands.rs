//! The commands for the objects of a team: `status`, `describe`, `reconcile`, `suspend` and `resume`.

use graph_credential_operator::api::{MicrosoftGraphCredential, RECONCILE_REQUESTED_AT};
use kube::ResourceExt;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};

use crate::admin_cli::{CommandOutput, assert_help, line, run};
use crate::harness::{EXPIRY, TestEnv, eventually};

/// An environment with a ready credential `sales-eu`, and `sales-us`, whose Secret is missing.
async fn env() -> TestEnv {
    let env = TestEnv::start().await;
    env.secret("sales-eu-graph", &[("client_secret", "s3cret-one"), ("secret_expires_at", EXPIRY)]).await;
    env.credential("sales-eu", json!({})).await;
    env.credential(
        "sales-us",
        json!({"clientId": crate::admin_cli::OTHER_CLIENT, "secretRef": {"name": "missing"}}),
    )
    .await;
    env.wait_until_ready("sales-eu").await;
    eventually("the missing Secret is reported", || async {
        let object = env.read("sales-us").await;
        let conditions = object.status.map(|status| status.conditions).unwrap_or_default();
        if conditions.iter().any(|it| it.reason == "SecretNotFound") {
            Ok(())
        } else {
            Err(format!("{conditions:?}"))
        }
    })
    .await;
    env
}

async fn command(env: &TestEnv, args: &[&str]) -> CommandOutput {
    run(env, &[args, &["--namespace", &env.namespace]].concat()).await
}

async fn json_of(env: &TestEnv, args: &[&str]) -> Value {
    let printed = command(env, &[args, &["-o", "json"]].concat()).await;
    serde_json::from_str(&printed.out).unwrap_or_else(|error| panic!("{error}: {printed:?}"))
}

#[tokio::test]
async fn status_shows_first_what_needs_attention_and_who_must_act() {
    let env = env().await;
    let printed = command(&env, &["status"]).await;
    assert_eq!(printed.code, Some(3), "{printed:?}");
    let rows: Vec<&str> = printed.out.lines().collect();
    assert!(rows[0].starts_with("NAME") && rows[0].contains("DAYS LEFT"), "{}", printed.out);
    for (row, words) in [
        (rows[1], ["sales-us", "False", "SecretNotFound", "you"]),
        (rows[2], ["sales-eu", "True", "Ready", "nobody"]),
    ] {
        assert!(words.iter().all(|word| row.contains(word)), "{row}: {}", printed.out);
    }
    assert!(printed.out.contains("Or fix `spec.secretRef.name`"), "{}", printed.out);
    assert!(line(&printed.out, &["agency", "True", "Authenticated"]).is_some(), "{}", printed.out);
    assert!(!printed.out.contains('\u{1b}'), "no color outside a terminal: {:?}", printed.out);

    let wide = command(&env, &["status", "-o", "wide"]).await;
    let account = format!("{}/agency", env.namespace);
    assert!(line(&wide.out, &["sales-eu", "2027-", &account]).is_some(), "{}", wide.out);
    let names = command(&env, &["status", "-o", "name"]).await;
    assert!(
        names.out.starts_with("microsoftgraphcredential.graph-credentials.io/sales-us\n"),
        "{}",
        names.out
    );
    assert!(names.out.contains("woodpeckeraccount.graph-credentials.io/agency\n"), "{}", names.out);
}

#[tokio::test]
async fn status_is_for_programs_too() {
    let env = env().await;
    let json = json_of(&env, &["status"]).await;
    let first = &json["objects"][0];
    assert_eq!((&first["name"], &first["urgency"]), (&json!("sales-us"), &json!("NeedsAction")), "{json:#}");
    assert_eq!((&first["whoActs"], &first["daysLeft"]), (&json!("you"), &Value::Null), "{json:#}");
    let yaml = command(&env, &["status", "-o", "yaml"]).await;
    assert!(
        yaml.out.starts_with("objects:\n") && yaml.out.contains("reason: SecretNotFound"),
        "{}",
        yaml.out
    );
    let csv = command(&env, &["status", "-o", "csv"]).await;
    let rows: Vec<&str> = csv.out.lines().collect();
    assert!(rows[0].starts_with("kind,namespace,name,urgency,ready,reason,"), "{}", csv.out);
    assert!(
        rows[2]
            .starts_with(&format!("MicrosoftGraphCredential,{},sales-eu,Ready,True,Ready,", env.namespace)),
        "{}",
        csv.out
    );
    let by = json_of(&env, &["status", "--by", "account"]).await;
    let group = &by["groups"][0];
    assert_eq!((&group["credentials"], &group["needAction"]), (&json!(2), &json!(1)), "{by:#}");
    assert_eq!(group["name"], json!(format!("{}/agency", env.namespace)), "{by:#}");
}

#[tokio::test]
async fn status_filters_by_expiry_and_reports_an_empty_namespace() {
    let env = env().await;
    let none = command(&env, &["status", "--expiring", "1d"]).await;
    assert_eq!((none.code, none.out.as_str()), (Some(0), ""), "{none:?}");
    let found = command(&env, &["status", "--expiring", "30000d"]).await;
    assert_eq!(found.code, Some(3), "{found:?}");
    let all = json_of(&env, &["status", "--expiring", "100000h"]).await;
    assert_eq!(all["objects"].as_array().map(Vec::len), Some(1), "{all:#}");
    let empty = run(&env, &["status", "-n", "no-such-namespace"]).await;
    assert_eq!((empty.code, empty.out.as_str()), (Some(0), ""), "{empty:?}");
    for printed in [&none, &empty] {
        assert!(printed.error.contains("nothing was found in namespace"), "{printed:?}");
    }
    let wrong = command(&env, &["status", "--expiring", "soon"]).await;
    assert_eq!(wrong.code, Some(2), "{wrong:?}");
    assert_help(&env, "status", &["Exit codes", "--all-namespaces", "--context", "--kubeconfig", "csv"])
        .await;
}

#[tokio::test]
async fn describe_says_why_and_what_happens_next() {
    let env = env().await;
    let printed = command(&env, &["describe", "sales-us"]).await;
    assert_eq!(printed.code, Some(0), "{printed:?}");
    for words in [
        ["state:", "needs action for", "SecretNotFound"],
        ["who acts:", "you", ""],
        ["what to do:", "Create it", ""],
        ["SecretReady", "False", "SecretNotFound"],
        ["account:", "agency", ""],
    ] {
        assert!(line(&printed.out, &words).is_some(), "{words:?}: {}", printed.out);
    }
    let ready = command(&env, &["describe", "sales-eu"]).await;
    for words in [
        ["registered:", "credential", "at account"],
        ["expires:", "2027-", "in "],
        ["Normal", "Registered", ""],
    ] {
        assert!(line(&ready.out, &words).is_some(), "{words:?}: {}", ready.out);
    }
    let json = json_of(&env, &["describe", "sales-eu"]).await;
    assert_eq!(
        (&json["urgency"], &json["kind"]),
        (&json!("Ready"), &json!("MicrosoftGraphCredential")),
        "{json:#}"
    );
    let account = command(&env, &["describe", "wpa/agency"]).await;
    assert!(line(&account.out, &["state:", "ready", "Authenticated"]).is_some(), "{}", account.out);
    let missing = command(&env, &["describe", "nobody"]).await;
    assert_eq!(missing.code, Some(1), "{missing:?}");
    assert!(
        missing.error.contains("there is no MicrosoftGraphCredential")
            && missing.error.contains("--namespace"),
        "{missing:?}"
    );
}

#[tokio::test]
async fn reconcile_asks_the_operator_and_shows_the_result() {
    let env = env().await;
    let unanswered = command(&env, &["reconcile", "sales-eu"]).await;
    assert_eq!(unanswered.code, Some(1), "{unanswered:?}");
    assert!(unanswered.error.contains("nothing was changed: add --yes"), "{unanswered:?}");
    assert!(!env.read("sales-eu").await.annotations().contains_key(RECONCILE_REQUESTED_AT));

    let tokens = env.entra.requests().len();
    let printed = command(&env, &["reconcile", "sales-eu", "--yes"]).await;
    assert_eq!(printed.code, Some(0), "{printed:?}");
    assert!(line(&printed.out, &["sales-eu", "True", "Ready"]).is_some(), "{printed:?}");
    assert!(printed.error.contains("context ") && printed.error.contains(&env.namespace), "{printed:?}");
    assert!(env.entra.requests().len() > tokens, "Microsoft was asked");

    let typed =
        command(&env, &["reconcile", "microsoftgraphcredential.graph-credentials.io/sales-eu", "--yes"])
            .await;
    assert_eq!(typed.code, Some(0), "{typed:?}");
    let all = command(&env, &["reconcile", "--all", "--yes"]).await;
    assert_eq!(all.code, Some(3), "{all:?}");
    assert!(line(&all.out, &["sales-us", "SecretNotFound"]).is_some(), "{all:?}");
    let json = json_of(&env, &["reconcile", "--all", "--yes"]).await;
    assert_eq!(json["objects"].as_array().map(Vec::len), Some(2), "{json:#}");
    let missing = command(&env, &["reconcile", "nobody", "--yes"]).await;
    assert_eq!(missing.code, Some(1), "{missing:?}");
    let neither = command(&env, &["reconcile", "--yes"]).await;
    assert_eq!(neither.code, Some(2), "{neither:?}");
}

#[tokio::test]
async fn reconcile_reports_an_operator_that_does_not_respond() {
    let mut env = env().await;
    env.stop_operator().await;
    let printed = command(&env, &["reconcile", "sales-eu", "--yes", "--timeout", "1s"]).await;
    assert_eq!(printed.code, Some(1), "{printed:?}");
    assert!(
        printed.error.contains("the operator did not respond in time") && printed.error.contains("--timeout"),
        "{printed:?}"
    );
    let background = command(&env, &["reconcile", "sales-eu", "--yes", "--no-wait"]).await;
    assert_eq!(background.code, Some(0), "{background:?}");
}

#[tokio::test]
async fn suspend_and_resume_change_the_spec_and_name_the_gitops_tool() {
    let env = env().await;
    let labels = json!({"kustomize.toolkit.fluxcd.io/name": "mail", "kustomize.toolkit.fluxcd.io/namespace": "flux-system"});
    let patch = Patch::Merge(json!({"metadata": {"labels": labels}}));
    env.api::<MicrosoftGraphCredential>().patch("sales-eu", &PatchParams::default(), &patch).await.unwrap();
    let suspended = command(&env, &["suspend", "sales-eu", "--yes"]).await;
    assert_eq!(suspended.code, Some(0), "{suspended:?}");
    assert!(suspended.error.contains("flux suspend kustomization mail -n flux-system"), "{suspended:?}");
    assert_eq!(env.read("sales-eu").await.spec.suspend, Some(true));
    assert!(line(&suspended.out, &["sales-eu", "Suspended"]).is_some(), "{suspended:?}");

    let again = command(&env, &["suspend", "sales-eu", "--yes"]).await;
    assert_eq!(again.code, Some(0), "{again:?}");
    let reconciled = command(&env, &["reconcile", "sales-eu", "--yes"]).await;
    assert_eq!(reconciled.code, Some(1), "{reconciled:?}");
    assert!(reconciled.error.contains("resume it first"), "{reconciled:?}");

    let resumed = command(&env, &["resume", "sales-eu", "--yes"]).await;
    assert_eq!(resumed.code, Some(0), "{resumed:?}");
    assert_eq!(env.read("sales-eu").await.spec.suspend, None);
    assert!(line(&resumed.out, &["sales-eu", "True", "Ready"]).is_some(), "{resumed:?}");
}

#[tokio::test]
async fn a_named_context_or_kubeconfig_that_does_not_exist_is_an_error() {
    let env = TestEnv::bare().await;
    let context = command(&env, &["status", "--context", "nowhere"]).await;
    assert_eq!(context.code, Some(1), "{context:?}");
    assert!(context.error.contains("--context") && context.error.contains("nowhere"), "{context:?}");
    let file = command(&env, &["status", "--kubeconfig", "/no/such/file"]).await;
    assert_eq!(file.code, Some(1), "{file:?}");
    assert!(file.error.contains("--kubeconfig") && file.error.contains("/no/such/file"), "{file:?}");
}

#[tokio::test]
async fn describe_counts_who_else_waits_for_the_account() {
    let env = TestEnv::bare().await;
    for (name, account, reason, since) in [
        ("first", "agency", "Queued", "2026-11-24T08:00:00Z"),
        ("second", "agency", "Queued", "2026-11-24T08:00:05Z"),
        ("third", "agency", "Queued", "2026-11-24T08:00:09Z"),
        ("ready", "agency", "Ready", "2026-11-24T07:00:00Z"),
        ("elsewhere", "other", "Queued", "2026-11-24T07:00:00Z"),
    ] {
        let destination = json!({"woodpecker": {"accountRef": {"name": account}}});
        env.credential(name, json!({"destination": destination})).await;
        let condition = json!({
            "type": "Ready", "status": "Unknown", "reason": reason, "message": "x", "lastTransitionTime": since,
            "observedGeneration": 1,
        });
        let status = json!({"status": {"observedGeneration": 1, "conditions": [condition]}});
        let api = env.api::<MicrosoftGraphCredential>();
        api.patch_status(name, &PatchParams::default(), &Patch::Merge(&status)).await.unwrap();
    }
    let printed = command(&env, &["describe", "second"]).await;
    let words = ["queue:", "2 other credentials wait for the account", "1 of them longer"];
    assert!(line(&printed.out, &words).is_some(), "{printed:?}");
    let json = json_of(&env, &["describe", "third"]).await;
    assert_eq!(json["queue"], json!({"others": 2, "longer": 2, "isComplete": true}), "{json:#}");
    let ready = command(&env, &["describe", "ready"]).await;
    assert!(!ready.out.contains("queue:"), "{ready:?}");
}
