//! The rules of the CRDs: the API server checks all of them, and those in CEL are also evaluated client-side.
//! Each error names the field, the problem and what to do.

mod readable;

use graph_credential_operator::api::timestamp::LATEST;
use graph_credential_operator::api::{MicrosoftGraphCredential, SealedGraphCredential, WoodpeckerAccount};
use kube::core::cel::{validate_cel, validate_cel_update};
use serde_json::{Value, json};

use crate::harness::{CLIENT, EXPIRY, TENANT, TestEnv, merge, plain_spec};

const OTHER: &str = "00000000-0000-4000-8000-000000000001";

/// Checks that the API server rejects the spec with a message that contains each of `words`.
async fn rejected(env: &TestEnv, spec: Value, words: &[&str]) {
    let response = env.try_credential("refused", spec.clone()).await;
    let error = message(response.expect_err(&format!("{spec} is refused")));
    for word in words {
        assert!(error.contains(word), "{spec}: {word:?} is missing in {error}");
    }
}

/// The message that a user sees, without the prefix of the error type.
fn message(error: kube::Error) -> String {
    match error {
        kube::Error::Api(status) => status.message,
        error => panic!("it is no refusal: {error}"),
    }
}

#[tokio::test]
async fn a_credential_with_an_invalid_field_is_rejected_with_field_and_remedy() {
    let env = TestEnv::bare().await;
    let woodpecker = |over: Value| {
        let mut whole = json!({"accountRef": {"name": "agency"}});
        merge(&mut whole, over);
        json!({"destination": {"woodpecker": whole}})
    };
    for (spec, words) in [
        (json!({"tenantId": "contoso.onmicrosoft.com"}), ["spec.tenantId", "must be a GUID", "Tenant ID"]),
        (json!({"tenantId": format!("{TENANT}\n")}), ["spec.tenantId", "must be a GUID", "Tenant ID"]),
        (json!({"clientId": "my-app"}), ["spec.clientId", "must be a GUID", "App registrations"]),
        (json!({"cloud": "China"}), ["spec.cloud", "only with destination.store", "remove cloud"]),
        (json!({"cloud": "Germany"}), ["spec.cloud", "Unsupported value", "USGovernment"]),
        (json!({"displayName": " padded"}), ["spec.displayName", "white space", "must not"]),
        (
            json!({"secretRef": {"name": "Not A Name"}}),
            ["spec.secretRef.name", "must be the name", "lower-case"],
        ),
        (
            json!({"secretRef": {"clientSecretKey": "a/b"}}),
            ["spec.secretRef.clientSecretKey", "must be a key", "letters"],
        ),
        (
            json!({"secretRef": {"expiresAtKey": "a b"}}),
            ["spec.secretRef.expiresAtKey", "must be a key", "letters"],
        ),
        (
            json!({"secretExpiresAt": "2027-11-28"}),
            ["spec.secretExpiresAt", "must be a date with time", "such as"],
        ),
        (
            json!({"expiryWarning": "30m"}),
            ["spec.expiryWarning", "must be a duration between 1h and 8760h", "such as 720h"],
        ),
        (
            json!({"verification": {"interval": "1m"}}),
            ["spec.verification.interval", "must be a duration between 15m and 720h", "such as 24h"],
        ),
        (
            json!({"secretExpiresAt": "2027-02-29T00:00:00Z"}),
            ["spec.secretExpiresAt", "must be a date with time", "such as"],
        ),
        (
            json!({"expiryWarning": "+720h"}),
            ["spec.expiryWarning", "must be a duration between 1h and 8760h", "such as 720h"],
        ),
        (
            json!({"verification": {"interval": "1 day"}}),
            ["spec.verification.interval", "hours, minutes and seconds", "such as 24h"],
        ),
        (
            json!({"verification": {"policy": "Never"}}),
            ["spec.verification.policy", "Unsupported value", "BestEffort"],
        ),
        (json!({"deletionPolicy": "Orphan"}), ["spec.deletionPolicy", "Unsupported value", "Retain"]),
        (
            json!({"destination": {"woodpecker": null}}),
            ["spec.destination", "exactly one", "add one of them"],
        ),
        (json!({"destination": {"store": {}}}), ["spec.destination", "exactly one", "remove the other"]),
        (
            woodpecker(json!({"accountRef": {"name": "My Agency"}})),
            ["accountRef.name", "must be the name of a WoodpeckerAccount", "lower-case"],
        ),
        (
            woodpecker(json!({"accountRef": {"namespace": "a.b"}})),
            ["accountRef.namespace", "must be the name of a namespace", "lower-case"],
        ),
        (
            woodpecker(json!({"adoption": {"policy": "CreateOnly", "credentialId": 7}})),
            ["adoption.credentialId", "CreateOnly forbids", "remove one"],
        ),
        (
            woodpecker(json!({"adoption": {"credentialId": 0}})),
            ["adoption.credentialId", "must be a positive number", "see the ID"],
        ),
    ] {
        rejected(&env, spec, &words).await;
    }
}

#[tokio::test]
async fn immutable_fields_cannot_change_except_in_case() {
    let env = TestEnv::bare().await;
    env.credential("refused", json!({})).await;
    for (spec, words) in [
        (json!({"tenantId": OTHER}), ["spec.tenantId", "immutable", "create a new object"]),
        (json!({"clientId": OTHER}), ["spec.clientId", "immutable", "create a new object"]),
        (
            json!({"destination": {"woodpecker": null, "store": {}}}),
            ["spec.destination", "immutable", "create a new object"],
        ),
    ] {
        rejected(&env, spec, &words).await;
    }
    env.credential("refused", json!({"tenantId": TENANT.to_uppercase(), "clientId": CLIENT.to_uppercase()}))
        .await;
    env.credential("sealed", json!({"cloud": "China", "destination": {"woodpecker": null, "store": {}}}))
        .await;
    let error = env
        .try_credential(
            "sealed",
            json!({"destination": {"woodpecker": null, "store": {}}, "cloud": "Global"}),
        )
        .await
        .map_err(message)
        .expect_err("the cloud cannot change");
    assert!(error.contains("spec.cloud") && error.contains("immutable"), "{error}");
}

#[tokio::test]
async fn an_explicit_null_means_unset_except_for_enums() {
    let env = TestEnv::bare().await;
    let apply = async |fields: &[&str]| {
        let mut spec = plain_spec(json!({}));
        for field in fields {
            spec[*field] = Value::Null;
        }
        let whole = json!({
            "apiVersion": "graph-credentials.io/v1alpha1", "kind": "MicrosoftGraphCredential",
            "metadata": {"name": "nulls", "namespace": env.namespace}, "spec": spec
        });
        let api: kube::Api<MicrosoftGraphCredential> = env.api();
        api.patch("nulls", &kube::api::PatchParams::apply("kubectl"), &kube::api::Patch::Apply(whole)).await
    };
    let created =
        apply(&["displayName", "verification", "expiryWarning", "suspend", "secretExpiresAt"]).await.unwrap();
    assert_eq!((created.spec.display_name, created.spec.verification), (None, None));
    for field in ["cloud", "deletionPolicy"] {
        let error = apply(&[field]).await.map_err(message).expect_err("it is refused");
        assert!(error.contains(&format!("spec.{field}")) && error.contains("supported values"), "{error}");
    }
}

#[tokio::test]
async fn a_secret_that_never_expires_can_be_declared() {
    let env = TestEnv::bare().await;
    let created = env.credential("never", json!({"secretExpiresAt": "9999-12-31T23:59:59Z"})).await;
    assert_eq!(created.spec.secret_expires_at.map(|at| at.0), Some(LATEST));
}

#[tokio::test]
async fn an_account_with_an_invalid_field_is_rejected_with_field_and_remedy() {
    let env = TestEnv::bare().await;
    let key = json!({"name": "agency-key"});
    let selecting =
        |selector: Value| json!({"apiKeySecretRef": key, "allowedNamespaces": {"selector": selector}});
    let apply = async |spec: Value| {
        env.apply::<WoodpeckerAccount>("refused", json!({"spec": spec})).await.map_err(message)
    };
    for (spec, words) in [
        (
            json!({"apiKeySecretRef": key, "baseUrl": "http://api.woodpecker.co/rest"}),
            ["spec.baseUrl", "must be an https address"],
        ),
        (
            json!({"apiKeySecretRef": key, "baseUrl": "https://user@api.woodpecker.co"}),
            ["spec.baseUrl", "without user"],
        ),
        (json!({"apiKeySecretRef": key, "companyId": 0}), ["spec.companyId", "must be a positive number"]),
        (
            json!({"apiKeySecretRef": key, "allowedNamespaces": {"names": ["mail", "team-*"]}}),
            ["spec.allowedNamespaces.names", "no patterns"],
        ),
        (
            json!({"apiKeySecretRef": key, "allowedNamespaces": {"selector": {}}}),
            ["spec.allowedNamespaces.selector", "must require a label"],
        ),
        (
            selecting(json!({"matchExpressions": [{"key": "a", "operator": "DoesNotExist"}]})),
            ["spec.allowedNamespaces.selector", "every namespace without labels"],
        ),
        (
            selecting(json!({"matchExpressions": [{"key": "a", "operator": "In"}]})),
            ["spec.allowedNamespaces.selector", "values are required for the operators In and NotIn"],
        ),
        (
            selecting(json!({"matchExpressions": [{"key": "a", "operator": "Exists", "values": ["b"]}]})),
            ["spec.allowedNamespaces.selector", "not allowed for Exists"],
        ),
        (
            json!({"apiKeySecretRef": {"name": "A B"}}),
            ["spec.apiKeySecretRef.name", "must be the name of a Secret"],
        ),
        (
            json!({"apiKeySecretRef": {"name": "k", "key": "a b"}}),
            ["spec.apiKeySecretRef.key", "must be a key of a Secret"],
        ),
        // The API server's own message, which says what to do.
        (json!({}), ["spec.apiKeySecretRef", "Required value"]),
    ] {
        let error = apply(spec.clone()).await.expect_err("it is refused");
        assert!(words.iter().all(|word| error.contains(word)), "{spec}: {error}");
    }
    apply(json!({"apiKeySecretRef": key, "companyId": 7})).await.unwrap();
    let error = apply(json!({"apiKeySecretRef": key, "companyId": 8})).await.expect_err("it is immutable");
    assert!(error.contains("spec.companyId") && error.contains("create a new WoodpeckerAccount"), "{error}");
    let error = apply(json!({"apiKeySecretRef": key, "companyId": 7, "baseUrl": "https://other.example"}))
        .await
        .expect_err("it is immutable");
    assert!(error.contains("spec.baseUrl") && error.contains("immutable"), "{error}");
}

#[tokio::test]
async fn a_sealed_record_is_bound_to_its_ids() {
    let env = TestEnv::bare().await;
    let record = |over: Value| {
        let mut spec = json!({
            "recordId": "0123456789abcdef0123456789abcdef", "credentialId": 7, "tenantId": TENANT, "clientId": CLIENT,
            "secretExpiresAt": EXPIRY, "name": "x", "envelope": "AAAA"
        });
        merge(&mut spec, over);
        json!({"spec": spec})
    };
    let apply =
        async |over: Value| env.apply::<SealedGraphCredential>("record", record(over)).await.map_err(message);
    for over in [
        json!({"recordId": "short"}),
        json!({"credentialId": 9_007_199_254_740_992_i64}),
        json!({"tenantId": "x"}),
        json!({"envelope": ""}),
    ] {
        let field = over.as_object().unwrap().keys().next().unwrap().clone();
        let error = apply(over).await.expect_err("it is refused");
        assert!(error.contains(&format!("spec.{field}")), "{field}: {error}");
    }
    apply(json!({})).await.unwrap();
    for over in [
        json!({"recordId": "f".repeat(32)}),
        json!({"credentialId": 8}),
        json!({"tenantId": OTHER}),
        json!({"clientId": OTHER}),
    ] {
        let error = apply(over.clone()).await.expect_err("it is immutable");
        assert!(error.contains("immutable"), "{over}: {error}");
    }
    apply(json!({"envelope": "BBBB", "name": "y"})).await.unwrap();
}

fn object(spec: Value) -> MicrosoftGraphCredential {
    let whole = json!({
        "apiVersion": "graph-credentials.io/v1alpha1", "kind": "MicrosoftGraphCredential",
        "metadata": {"name": "x", "namespace": "y"}, "spec": plain_spec(spec)
    });
    serde_json::from_value(whole).unwrap()
}

#[test]
fn the_rules_are_checked_client_side_too() {
    assert!(validate_cel(&object(json!({}))).is_ok());
    for spec in [
        json!({"cloud": "China"}),
        json!({"expiryWarning": "30m"}),
        json!({"verification": {"interval": "721h"}}),
        json!({"displayName": "x "}),
    ] {
        assert!(validate_cel(&object(spec.clone())).is_err(), "{spec}");
    }
    let before = object(json!({}));
    assert!(validate_cel_update(&object(json!({"tenantId": TENANT.to_uppercase()})), &before).is_ok());
    for spec in [json!({"tenantId": OTHER}), json!({"destination": {"woodpecker": null, "store": {}}})] {
        assert!(validate_cel_update(&object(spec.clone()), &before).is_err(), "{spec}");
    }
}
