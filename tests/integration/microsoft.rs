//! Each kind of response of Microsoft's token endpoint, and the result that the program shows.

use std::time::{Duration, Instant};

use graph_credential_operator::api::SealedGraphCredential;
use graph_credential_operator::api::conditions::{ConditionStatus, ConditionType};
use kit::entra::{AppState, Entra, Fault, Layout, RetryAfter};
use kube::ResourceExt;
use kube::api::{DeleteParams, ListParams};
use serde_json::{Value, json};

use crate::command_line::{CANARY, entra, verify};
use crate::harness::{CLIENT, EXPIRY, TENANT, TestEnv, condition, eventually};

/// The result of `verify` for the next response: exit code and reason.
async fn verify_result(entra: &Entra, secret: &str) -> (Option<i32>, String) {
    let printed = verify(entra, &["-o", "json"], secret).await;
    let json: Value = serde_json::from_str(&printed.out).unwrap_or_else(|_| panic!("{printed:?}"));
    (printed.code, json["reason"].as_str().unwrap_or_default().to_owned())
}

fn is(code: i32, reason: &str) -> (Option<i32>, String) {
    (Some(code), reason.to_owned())
}

#[tokio::test]
async fn rejections_are_distinguished_in_both_layouts_of_their_text() {
    let entra = entra().await;
    for layout in [Layout::Lines, Layout::OneLine] {
        entra.layout(layout);
        assert_eq!(verify_result(&entra, "wrong").await, is(3, "InvalidClientSecret"));
        entra.expire_secret(TENANT, CLIENT, CANARY);
        assert_eq!(verify_result(&entra, CANARY).await, is(3, "SecretExpired"));
        entra.set_secrets(TENANT, CLIENT, &[CANARY]);
        for (state, reason) in [
            (AppState::Disabled, "ApplicationDisabled"),
            (AppState::WithoutServicePrincipal, "ServicePrincipalMissing"),
            (AppState::PublicClient, "PublicClient"),
            (AppState::BlockedByPolicy, "ConditionalAccessBlocked"),
        ] {
            entra.set_state(TENANT, CLIENT, state);
            assert_eq!(verify_result(&entra, CANARY).await, is(3, reason), "{state:?}");
        }
        entra.set_state(TENANT, CLIENT, AppState::Active);
        entra.fail_next(1, Fault::MissingErrorCodes);
        assert_eq!(
            verify_result(&entra, "wrong").await,
            is(3, "InvalidClientSecret"),
            "from the description"
        );
        for (error, reason) in [
            ("invalid_client", "InvalidClientSecret"),
            ("unauthorized_client", "ApplicationNotFound"),
            ("invalid_grant", "VerificationRejected"),
        ] {
            entra.fail_next(1, Fault::UnknownCode(123_456, error.into()));
            assert_eq!(verify_result(&entra, CANARY).await, is(3, reason), "an unknown code beside {error}");
        }
        entra.fail_next(1, Fault::UnknownCode(123_456, "something_new".into()));
        assert_eq!(
            verify_result(&entra, CANARY).await,
            is(4, "MicrosoftUnavailable"),
            "an unknown error is no refusal"
        );
    }
    entra.remove_app(TENANT, CLIENT);
    assert_eq!(verify_result(&entra, CANARY).await, is(3, "ApplicationNotFound"));
    entra.remove_tenant(TENANT);
    assert_eq!(verify_result(&entra, CANARY).await, is(3, "TenantNotFound"));
}

#[tokio::test]
async fn a_blocked_tenant_a_restricting_proxy_and_a_policy_have_their_own_reasons() {
    let entra = entra().await;
    for (code, error, reason) in [
        (5_000_224, "invalid_request", "TenantBlocked"),
        (5_000_225, "interaction_required", "TenantBlocked"),
        (5_000_229, "invalid_tenant", "TenantBlocked"),
        (500_021, "invalid_request", "TenantRestricted"),
        (5_000_211, "access_denied", "TenantRestricted"),
        (530_035, "access_denied", "ConditionalAccessBlocked"),
        (530_099, "interaction_required", "ConditionalAccessBlocked"),
    ] {
        entra.fail_next(1, Fault::UnknownCode(code, error.into()));
        assert_eq!(verify_result(&entra, CANARY).await, is(3, reason), "{code}");
    }
}

#[tokio::test]
async fn codes_about_an_assertion_are_about_the_client_secret() {
    let entra = entra().await;
    let body = json!({"error": "invalid_client", "error_codes": [70_002, 50_012]}).to_string();
    entra.fail_next(1, Fault::Status(401, body, vec![]));
    assert_eq!(verify_result(&entra, CANARY).await, is(3, "InvalidClientSecret"));
}

#[tokio::test]
async fn the_first_json_value_of_a_response_counts_and_null_is_absent() {
    let entra = entra().await;
    for (status, body, expected) in [
        (
            401,
            "{\"error\":\"invalid_client\",\"error_codes\":[7000215]}<html>proxy</html>",
            is(3, "InvalidClientSecret"),
        ),
        (
            401,
            "{\"error\":\"invalid_client\",\"error_codes\":[7000222],\"error_description\":null,\"trace_id\":null}",
            is(3, "SecretExpired"),
        ),
        (200, "{\"access_token\":\"opaque\"}\n<!-- proxy -->", is(0, "TokenIssued")),
        (200, "{\"access_token\":null}", is(4, "MicrosoftUnavailable")),
    ] {
        entra.fail_next(1, Fault::Status(status, body.into(), vec![]));
        assert_eq!(verify_result(&entra, CANARY).await, expected, "{body}");
    }
}

#[tokio::test]
async fn a_malformed_response_is_not_treated_as_a_result() {
    let entra = entra().await;
    let html = ("content-type".to_owned(), "text/html".to_owned());
    for fault in [
        Fault::Html503,
        Fault::Empty504,
        Fault::TruncatedJson,
        Fault::NotJson,
        Fault::Reset,
        Fault::Status(200, format!("{{\"access_token\":\"{}\"}}", "x".repeat(300 << 10)), vec![]),
        Fault::Redirect307("http://127.0.0.1:9/".into()),
        Fault::Status(401, "<html>Authentication required by your proxy</html>".into(), vec![html]),
        Fault::Status(
            500,
            json!({"error": "invalid_client", "error_codes": [7_000_215]}).to_string(),
            vec![],
        ),
        Fault::Status(
            400,
            json!({"error": "temporarily_unavailable", "error_codes": [90_033]}).to_string(),
            vec![],
        ),
    ] {
        entra.fail_next(1, fault.clone());
        assert_eq!(verify_result(&entra, CANARY).await, is(4, "MicrosoftUnavailable"), "{fault:?}");
    }
    entra.fail_next(1, Fault::SlowBody(Duration::from_millis(300)));
    assert_eq!(verify_result(&entra, CANARY).await, is(0, "TokenIssued"), "slow is not lost");
    assert_eq!(entra.unexpected_requests().len(), 0, "nothing was sent elsewhere");
}

#[tokio::test]
async fn throttling_is_recognized_in_both_forms_and_as_a_loop() {
    let entra = entra().await;
    for retry_after in [RetryAfter::Seconds(30), RetryAfter::Date(Duration::from_secs(30))] {
        entra.fail_next(1, Fault::Throttled { retry_after });
        assert_eq!(verify_result(&entra, CANARY).await, is(4, "RateLimited"));
    }
    let looping = json!({"error": "invalid_grant", "error_codes": [50_196]}).to_string();
    entra.fail_next(1, Fault::Status(400, looping, vec![]));
    assert_eq!(verify_result(&entra, CANARY).await, is(4, "RateLimited"));
}

#[tokio::test]
async fn the_operator_waits_for_the_retry_after_of_microsoft() {
    let env = TestEnv::start().await;
    env.entra.fail_next(1, Fault::Throttled { retry_after: RetryAfter::Seconds(4) });
    env.credential("sales-eu", json!({})).await;
    let object =
        env.wait_for("sales-eu", ConditionType::Verified, ConditionStatus::Unknown, "RateLimited").await;
    let asked_at = env.entra.requests()[0].at;
    assert!(object.status.unwrap().next_verification_time.is_some());
    env.wait_until_ready("sales-eu").await;
    let requests = env.entra.requests();
    let waited = requests[1].at.duration_since(asked_at);
    assert!(waited.as_secs() >= 3, "tried again after {waited}");
}

#[tokio::test]
async fn roles_are_shown_and_required_roles_are_checked() {
    let env = TestEnv::start().await;
    env.entra.set_roles(TENANT, CLIENT, &["Mail.Send", "Mail.Read"]);
    env.credential("sales-eu", json!({"verification": {"requiredRoles": ["Mail.ReadWrite"]}})).await;
    let object = env
        .wait_for("sales-eu", ConditionType::Verified, ConditionStatus::False, "RequiredRolesMissing")
        .await;
    assert!(condition(&object, ConditionType::Verified).unwrap().message.contains("Mail.ReadWrite"));
    assert_eq!(object.status.unwrap().observed_roles, Some(vec!["Mail.Read".into(), "Mail.Send".into()]));
    assert_eq!(env.woodpecker.writes("agency"), 0);
    env.credential("sales-eu", json!({"verification": {"requiredRoles": ["Mail.Send"]}})).await;
    env.wait_until_ready("sales-eu").await;
}

/// An operator whose credential `sales-eu` is ready and which asks again 1, 2 and 4 seconds after rejections.
async fn ready_with_slow_confirmations() -> TestEnv {
    let mut env = TestEnv::bare().await;
    env.time_scale = 30;
    env.start_operator().await;
    env.secret("sales-eu-graph", &[("client_secret", "s3cret-one"), ("secret_expires_at", EXPIRY)]).await;
    env.account("agency", json!({})).await;
    env.credential("sales-eu", json!({})).await;
    env.wait_until_ready("sales-eu").await;
    env
}

#[tokio::test]
async fn a_single_rejection_of_a_verified_secret_does_not_end_readiness() {
    let env = ready_with_slow_confirmations().await;
    env.entra.fail_next(1, Fault::UnknownCode(700_016, "unauthorized_client".into()));
    env.request_reconcile("sales-eu").await;
    let object = env
        .wait_for("sales-eu", ConditionType::Verified, ConditionStatus::Unknown, "RejectionUnconfirmed")
        .await;
    assert!(condition(&object, ConditionType::Verified).unwrap().message.contains("AADSTS700016"));
    let ready = condition(&object, ConditionType::Ready).unwrap();
    assert_eq!((ready.status, ready.reason.as_str()), (ConditionStatus::True, "Ready"));
    let object =
        env.wait_for("sales-eu", ConditionType::Verified, ConditionStatus::True, "TokenIssued").await;
    let after = condition(&object, ConditionType::Ready).unwrap();
    assert_eq!(after.last_transition_time, ready.last_transition_time, "it was ready all the time");
    assert_eq!(env.entra.count(TENANT, CLIENT), 3, "the registration, the rejection and its confirmation");
}

#[tokio::test]
async fn the_fourth_rejection_of_a_verified_secret_counts_also_across_a_restart() {
    let mut env = ready_with_slow_confirmations().await;
    let before = env.entra.count(TENANT, CLIENT);
    env.entra.set_secrets(TENANT, CLIENT, &["s3cret-two"]);
    env.request_reconcile("sales-eu").await;
    env.wait_for("sales-eu", ConditionType::Verified, ConditionStatus::Unknown, "RejectionUnconfirmed").await;
    env.stop_operator().await;
    env.start_operator().await;
    let object =
        env.wait_for("sales-eu", ConditionType::Ready, ConditionStatus::False, "InvalidClientSecret").await;
    assert_eq!(env.entra.count(TENANT, CLIENT), before + 4);
    assert_eq!(object.status.unwrap().rejections.map(|rejections| rejections.count), Some(4));
}

#[tokio::test]
async fn best_effort_continues_without_microsoft_and_stops_at_a_rejection() {
    let env = TestEnv::start().await;
    // Conditional Access blocks the operator's address. Woodpecker has another one.
    env.entra.fail_always(Fault::UnknownCode(53_003, "invalid_grant".into()));
    env.credential("sales-eu", json!({"verification": {"policy": "BestEffort"}})).await;
    let object = env.wait_until_ready("sales-eu").await;
    assert_eq!(condition(&object, ConditionType::Verified).unwrap().reason, "VerificationSkipped");
    assert_eq!(env.remote().len(), 1);

    env.entra.clear_faults();
    let writes = env.woodpecker.writes("agency");
    env.secret("sales-eu-graph", &[("client_secret", "wrong"), ("secret_expires_at", EXPIRY)]).await;
    env.wait_for("sales-eu", ConditionType::Verified, ConditionStatus::False, "InvalidClientSecret").await;
    assert_eq!(env.woodpecker.writes("agency"), writes);
}

#[tokio::test]
async fn disabled_verification_must_be_allowed_by_the_administrator() {
    let mut env = TestEnv::start().await;
    env.credential("sales-eu", json!({"verification": {"policy": "Disabled"}})).await;
    let object = env.wait_until_ready("sales-eu").await;
    let verified = condition(&object, ConditionType::Verified).unwrap();
    assert_eq!(verified.reason, "TokenIssued");
    assert!(verified.message.contains("--allow-unverified"), "{}", verified.message);
    env.stop_operator().await;
    env.extra_args = vec!["--allow-unverified".to_owned()];
    env.start_operator().await;
    let other = "00000000-0000-4000-8000-000000000001";
    env.entra.add_app(TENANT, other);
    env.entra.set_secrets(TENANT, other, &["s3cret-one"]);
    env.credential("unverified", json!({"clientId": other, "verification": {"policy": "Disabled"}})).await;
    let object = env.wait_until_ready("unverified").await;
    assert_eq!(condition(&object, ConditionType::Verified).unwrap().reason, "VerificationDisabled");
    assert_eq!(env.entra.count(TENANT, other), 0, "it was not verified");
}

#[tokio::test]
async fn deletions_and_repairs_continue_while_microsoft_hangs() {
    let mut env = TestEnv::bare().await;
    // A request to Microsoft may take 7.5 seconds.
    env.time_scale = 2;
    env.start_operator().await;
    env.secret("sales-eu-graph", &[("client_secret", "s3cret-one"), ("secret_expires_at", EXPIRY)]).await;
    env.account("agency", json!({})).await;
    let client = |number: u32| format!("00000000-0000-4000-8000-{number:012}");
    env.credential("leaves", json!({"deletionPolicy": "Delete"})).await;
    env.entra.add_app(TENANT, &client(0));
    env.entra.set_secrets(TENANT, &client(0), &["s3cret-one"]);
    env.credential("stays", json!({"clientId": client(0), "destination": {"woodpecker": null, "store": {}}}))
        .await;
    env.wait_until_ready("leaves").await;
    env.wait_until_ready("stays").await;
    let records = env.api::<SealedGraphCredential>();
    let record = records.list(&ListParams::default()).await.unwrap().items.remove(0).name_any();
    let (requests, hang) = (env.entra.requests().len(), Fault::Hang(Duration::from_secs(60)));
    env.entra.fail_next(10_000, hang);
    for number in 1..=100 {
        let spec = json!({"clientId": client(number), "destination": {"woodpecker": null, "store": {}}});
        env.credential(&format!("waits-{number}"), spec).await;
    }
    eventually("Microsoft hangs", || async {
        if env.entra.requests().len() >= requests + 5 { Ok(()) } else { Err(env.log()) }
    })
    .await;
    let started = Instant::now();
    records.delete(&record, &DeleteParams::default()).await.unwrap();
    env.delete("leaves").await;
    env.wait_until_gone("leaves").await;
    eventually("the record is re-created", || async {
        records.get(&record).await.map(drop).map_err(|error| format!("{error}\n{}", env.log()))
    })
    .await;
    // Sixteen requests at a time that wait for their time-out would take 45 seconds.
    assert!(started.elapsed() < Duration::from_secs(20), "it took {:?}", started.elapsed());
    assert_eq!(env.remote(), []);
}
