//! What the API server accepts can be read. An accepted object that the operator cannot read could never be
//! finalized. The test tries odd values in every field of every kind.

use futures::{StreamExt, stream};
use graph_credential_operator::api::{
    MicrosoftGraphCredential, SealedGraphCredential, WoodpeckerAccount, WoodpeckerMailboxes, crds,
};
use kube::api::{ApiResource, DynamicObject, PostParams};
use kube::core::NamespaceResourceScope;
use kube::{Api, Resource};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::harness::{CLIENT, EXPIRY, TENANT, TestEnv, merge};

/// For fields that hold text.
const TEXTS: &[&str] =
    &["", " ", "x", "X", "-", "a b", "a/b", "\u{0}", "ä", "null", "true", "0", "1", "1h\n"];

/// For fields that hold a duration.
const DURATIONS: &[&str] = &[
    "24h",
    "+24h",
    "-24h",
    "1.5h",
    "24.5h30m",
    "1.5h30m",
    "90m1800s",
    "30m1h",
    "1h1h",
    "24h0.5s",
    ".5h",
    "20.h",
    "86400s",
    "86400000ms",
    "1440m0.5ms",
    "90000000000us",
    "90000000000µs",
    "86400000000000ns",
    "1d",
    "P1D",
    "24H",
    "24h 1m",
    "24.123456789h",
    "24.1234567890123h",
    "0000024h",
    "2562047h47m16.854775807s",
    "9999999h",
    "1e2h",
    "24",
];

/// For fields that hold a time.
const TIMES: &[&str] = &[
    "2027-11-28T23:59:59Z",
    "2027-11-28t23:59:59z",
    "2027-11-28 23:59:59Z",
    "2027-11-28T23:59:59+01:00",
    "2027-11-28T23:59:59+0100",
    "2027-11-28T23:59:59+01",
    "2027-11-28T23:59:59+99:00",
    "2027-11-28T23:59:59-23:59",
    "2027-11-28T23:59:59+24:00",
    "2027-11-28T23:59:59-00:00",
    "2027-11-28T23:59:59+01:99",
    "2027-11-28T23:59:60Z",
    "2027-11-28T24:00:00Z",
    "2027-11-28T23:59Z",
    "2027-11-28T23:59:59",
    "2027-11-28",
    "2027-02-29T00:00:00Z",
    "2028-02-29T00:00:00Z",
    "2027-11-31T00:00:00Z",
    "2027-11-28T23:59:59.5Z",
    "2027-11-28T23:59:59.123456789Z",
    "2027-11-28T23:59:59.1234567890Z",
    "2027-11-28T23:59:59,5Z",
    "2027-11-28T23:59:59x5Z",
    "2027-11-28T23:59:59ZTx",
    "9999-12-31T23:59:59Z",
    "9999-12-30T22:00:00Z",
    "9999-12-31T23:59:59-12:00",
    "9999-12-31T23:59:59+12:00",
    "10000-01-01T00:00:00Z",
    "0000-01-01T00:00:00Z",
    "0000-01-01T00:00:00+12:00",
    "0001-01-01T00:00:00Z",
    "-0001-01-01T00:00:00Z",
    "+2027-11-28T23:59:59Z",
    "2027-W48-7T23:59:59Z",
    "2027-332T23:59:59Z",
];

/// For fields that hold numbers, as JSON.
const NUMBERS: &[&str] = &[
    "-1",
    "0",
    "1",
    "1.0",
    "1.5",
    "1e3",
    "2147483648",
    "-2147483649",
    "9007199254740991",
    "9007199254740993",
    "9223372036854775807",
    "9223372036854775808",
    "-9223372036854775809",
    "1e19",
    "-1e19",
];

/// For every field.
const ANYTHING: &[&str] = &["null", "true", "0", "\"\"", "[]", "{}", "[null]", "[{}]", "{\"x\": null}"];

#[tokio::test]
async fn every_accepted_credential_can_be_deserialized() {
    let registration = json!({
        "account": {"namespace": "mail", "name": "agency"}, "baseUrl": "https://x", "companyId": 7, "record": "c-1",
        "credentialId": 7, "ownership": "Created", "fingerprint": "a:b", "name": "x", "expiresAt": EXPIRY,
        "registrationTime": EXPIRY, "idempotencyToken": "abc", "updateSentTime": EXPIRY
    });
    let attempt = json!({"displayName": "x", "startTime": EXPIRY});
    let rotation = json!({
        "current": created_secret(), "pending": created_secret(), "requestedAt": "x", "requestedOverlap": "0s",
        "earlier": [{
            "keyId": "x", "displayName": "x", "expiresAt": EXPIRY, "removeAfterTime": EXPIRY, "removalTime": EXPIRY,
            "unused": true, "kept": true
        }],
        "attempt": attempt, "earlierAttempts": [attempt],
        "observations": {"keyId": "x", "count": 1, "firstTime": EXPIRY, "lastTime": EXPIRY}, "lastReadTime": EXPIRY,
        "blockingSecrets": 1, "unknownSecrets": [{"keyId": "x", "expiresAt": EXPIRY, "firstSeenTime": EXPIRY}], "failureReason": "x",
        "nextAttemptTime": EXPIRY, "consecutiveFailures": 1, "lastHandledRotateAt": "x"
    });
    let status = json!({
        "observedGeneration": 1, "credentialId": 7, "expiresAt": EXPIRY, "expirySource": "Secret",
        "expiryNoticeDays": 30, "lastVerifiedTime": EXPIRY, "observedRoles": ["Mail.Send"], "registration": registration,
        "previousRegistrations": [registration],
        "pendingCreate": {
            "idempotencyToken": "abc", "startTime": EXPIRY, "existingIds": [7], "account": {"namespace": "mail", "name": "agency"},
            "baseUrl": "https://x", "companyId": 7, "fingerprint": "a:b"
        },
        "pendingSecret": {"fingerprint": "a:b", "firstSeenTime": EXPIRY, "attempts": 1, "reason": "TokenIssued"},
        "entra": {
            "fingerprint": "a:b", "keyId": "x", "holder": "Application", "expiresAt": EXPIRY, "lastReadTime": EXPIRY,
            "pendingChange": {"expiresAt": EXPIRY, "firstReadTime": EXPIRY, "lastReadTime": EXPIRY, "count": 1},
            "nextAttemptTime": EXPIRY, "consecutiveFailures": 1
        },
        "rotation": rotation,
        "rejections": {"fingerprint": "a:b", "firstTime": EXPIRY, "count": 1},
        "nextAttemptTime": EXPIRY, "nextVerificationTime": EXPIRY, "consecutiveFailures": 1, "lastHandledReconcileAt": "x",
        "conditions": [condition()], "observedSecret": {"uid": "x", "resourceVersion": "7"},
        "observedRecord": {"uid": "x", "generation": 7, "recordId": "0123456789abcdef0123456789abcdef"}
    });
    let spec = json!({
        "tenantId": TENANT, "clientId": CLIENT, "cloud": "Global", "displayName": "x",
        "secretRef": {"name": "x", "clientSecretKey": "x", "expiresAtKey": "x"}, "secretExpiresAt": EXPIRY,
        "destination": {"woodpecker": {
            "accountRef": {"name": "agency", "namespace": "mail"},
            "adoption": {"policy": "AdoptOnly", "credentialId": 7, "takeOwnership": true}
        }},
        "verification": {"policy": "Required", "interval": "24h", "requiredRoles": ["Mail.Send"]},
        "entra": {"identityRef": {"name": "reader"}, "expiry": "Check"},
        "expiryWarning": "720h", "deletionPolicy": "Retain", "suspend": false
    });
    let mut to_store = spec.clone();
    to_store["destination"] = json!({"store": {}});
    let mut rotating = spec.clone();
    merge(
        &mut rotating,
        json!({
            "secretRef": null, "secretExpiresAt": null,
            "rotation": {"validity": "4320h", "renewBefore": "720h", "overlap": "24h"}
        }),
    );
    let specs = [spec, to_store, rotating];
    everything_accepted_can_be_deserialized::<MicrosoftGraphCredential>(&specs, status).await;
}

#[tokio::test]
async fn every_accepted_account_can_be_deserialized() {
    let status = json!({
        "observedGeneration": 1, "remote": 1, "managed": 1, "adoptable": 1, "unmanaged": 1, "apiKeyFingerprint": "a:b",
        "keyIdentity": {"firmId": 1, "firmName": "x", "userId": 1, "userName": "x"}, "lastHandledConfirmation": "x", "confirmedDeletedIds": [7], "conditions": [condition()],
        "mailboxHealth": {
            "lastListedTime": EXPIRY, "healthy": 1, "degraded": 1, "failing": 1, "inactive": 1, "frozen": 1,
            "failingMailboxes": [{"id": 7, "firstSeenTime": EXPIRY}]
        }
    });
    let spec = json!({
        "apiKeySecretRef": {"name": "x", "key": "x"}, "baseUrl": "https://x", "companyId": 7,
        "allowedNamespaces": {
            "names": ["mail"],
            "selector": {
                "matchLabels": {"x": "x"},
                "matchExpressions": [{"key": "x", "operator": "In", "values": ["x"]}]
            }
        },
        "mailboxHealth": {"interval": "24h"}, "mailboxes": {"connect": "Allowed"}
    });
    everything_accepted_can_be_deserialized::<WoodpeckerAccount>(&[spec], status).await;
}

#[tokio::test]
async fn every_accepted_object_with_mailboxes_can_be_deserialized() {
    let status = json!({
        "observedGeneration": 1, "connected": 1, "alreadyConnected": 1, "open": 1,
        "mailboxes": [{
            "email": "x@example.com", "state": "Refused", "id": 7, "error": "x", "attempts": 1,
            "nextAttemptTime": EXPIRY, "credentialId": 7, "unlisted": true
        }],
        "leftConnected": [{"email": "x@example.com", "id": 7, "credentialId": 7, "unlisted": true}],
        "pending": {
            "startTime": EXPIRY, "credentialId": 7, "emails": ["x@example.com"],
            "account": {"namespace": "x", "name": "x"}, "accountUid": "x", "baseUrl": "x", "companyId": 1,
            "hold": {"reason": "NotListed", "ids": [7]}
        },
        "provenCredentialId": 7, "missing": 1, "missingIds": [7], "lastListedTime": EXPIRY, "lastRefusal": "x", "consecutiveFailures": 1,
        "nextAttemptTime": EXPIRY, "lastHandledReconcileAt": "x", "conditions": [condition()]
    });
    let spec = json!({
        "credentialRef": {"name": "x"}, "policy": "Plan", "suspend": false,
        "mailboxes": [{"email": "x@example.com", "displayName": "x"}]
    });
    everything_accepted_can_be_deserialized::<WoodpeckerMailboxes>(&[spec], status).await;
}

#[tokio::test]
async fn every_accepted_sealed_record_can_be_deserialized() {
    let status = json!({
        "observedGeneration": 1, "lastVerifiedTime": EXPIRY, "expiryNoticeDays": 30,
        "rejections": {"fingerprint": "a:b", "firstTime": EXPIRY, "count": 1}, "conditions": [condition()]
    });
    let spec = json!({
        "recordId": "0123456789abcdef0123456789abcdef", "credentialId": 7, "tenantId": TENANT, "clientId": CLIENT,
        "cloud": "Global", "secretExpiresAt": EXPIRY, "name": "x", "envelope": "AAAA",
        "createdSecret": created_secret(), "pendingSecret": created_secret()
    });
    everything_accepted_can_be_deserialized::<SealedGraphCredential>(&[spec], status).await;
}

fn created_secret() -> Value {
    json!({"keyId": "x", "displayName": "x", "expiresAt": EXPIRY, "creationTime": EXPIRY, "kept": true})
}

fn condition() -> Value {
    json!({
        "type": "Ready", "status": "True", "reason": "Ready", "message": "x", "lastTransitionTime": EXPIRY,
        "observedGeneration": 1
    })
}

/// Sends each spec and the status with each odd value in each place, and reads the result.
async fn everything_accepted_can_be_deserialized<K>(specs: &[Value], status: Value)
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + DeserializeOwned,
{
    let env = TestEnv::bare().await;
    let resource = ApiResource::erase::<K>(&());
    let api: Api<DynamicObject> = Api::namespaced_with(env.client.clone(), &env.namespace, &resource);
    let whole = |spec: &Value| {
        json!({
            "apiVersion": K::api_version(&()), "kind": K::kind(&()), "metadata": {"name": "odd"}, "spec": spec
        })
    };
    let object = |whole: Value| serde_json::from_value::<DynamicObject>(whole).unwrap();
    let created = api.create(&PostParams::default(), &object(whole(&specs[0]))).await.unwrap();

    let mut covered = Vec::new();
    let mut odd = Vec::new();
    for spec in specs {
        let mut whole = whole(spec);
        whole["metadata"]["name"] = "odder".into();
        odd.extend(variants(&whole, "/spec", &mut covered));
    }
    let mut whole = serde_json::to_value(&created).unwrap();
    whole["status"] = status;
    odd.extend(variants(&whole, "/status", &mut covered));
    assert_eq!(
        fields_of_schema::<K>().into_iter().find(|field| !covered.contains(field)),
        None,
        "it is not tried"
    );

    let dry = PostParams { dry_run: true, ..PostParams::default() };
    let responses = stream::iter(odd).map(|(what, whole)| {
        let (api, dry, object) = (&api, &dry, object(whole));
        async move {
            let response = if what.starts_with("/status") {
                api.replace_status("odd", dry, &object).await
            } else {
                api.create(dry, &object).await
            };
            match response {
                Ok(accepted) => {
                    let read = serde_json::from_value::<K>(serde_json::to_value(accepted).unwrap());
                    Some(read.map(drop).map_err(|error| format!("{what}: {error}")))
                }
                Err(kube::Error::Api(_)) => None,
                Err(error) => panic!("{what}: {error}"),
            }
        }
    });
    let responses: Vec<_> = responses.buffer_unordered(8).collect().await;
    let (tried, accepted): (usize, Vec<_>) = (responses.len(), responses.into_iter().flatten().collect());
    assert!((tried / 50..tried / 2).contains(&accepted.len()), "{} of {tried} are accepted", accepted.len());
    let unreadable: Vec<String> = accepted.into_iter().filter_map(Result::err).collect();
    assert!(unreadable.is_empty(), "accepted and not readable:\n{}", unreadable.join("\n"));
}

/// The object with each odd value in each place below `path`, and without the value there; adds the places to
/// `covered`.
fn variants(whole: &Value, path: &str, covered: &mut Vec<String>) -> Vec<(String, Value)> {
    let here = whole.pointer(path).unwrap();
    covered.push(path.to_owned());
    let odd: Vec<Value> = match here {
        Value::String(text) => odd_texts(text).map(Value::from).collect(),
        Value::Number(_) => NUMBERS.iter().map(|text| serde_json::from_str(text).unwrap()).collect(),
        _ => Vec::new(),
    };
    let anything = ANYTHING.iter().map(|text| serde_json::from_str(text).unwrap());
    let mut variants: Vec<(String, Value)> = anything
        .chain(odd)
        .map(|odd| {
            let mut variant = whole.clone();
            let what = format!("{path} = {odd}");
            *variant.pointer_mut(path).unwrap() = odd;
            (what, variant)
        })
        .collect();
    let keys: Vec<String> = match here {
        Value::Object(fields) => fields.keys().cloned().collect(),
        Value::Array(items) => (0..items.len()).map(|at| at.to_string()).collect(),
        _ => Vec::new(),
    };
    for key in keys {
        let mut variant = whole.clone();
        if let Some(fields) = variant.pointer_mut(path).and_then(Value::as_object_mut) {
            fields.remove(&key);
            variants.push((format!("{path}/{key} is absent"), variant));
        }
        variants.extend(self::variants(whole, &format!("{path}/{key}"), covered));
    }
    variants
}

/// Odd values for a field that holds `text`.
fn odd_texts(text: &str) -> impl Iterator<Item = &'static str> {
    let more = match text {
        EXPIRY => TIMES,
        "24h" | "720h" => DURATIONS,
        _ => &[],
    };
    TEXTS.iter().chain(more).copied()
}

/// Every place that the CRD knows below spec and status; `0` is any item of a list.
fn fields_of_schema<K: Resource<DynamicType = ()>>() -> Vec<String> {
    fn walk(schema: &Value, path: &str, places: &mut Vec<String>) {
        places.push(path.to_owned());
        for (name, property) in schema["properties"].as_object().into_iter().flatten() {
            walk(property, &format!("{path}/{name}"), places);
        }
        if schema["items"].is_object() {
            walk(&schema["items"], &format!("{path}/0"), places);
        }
    }
    let crd = crds::all().into_iter().find(|crd| crd.spec.names.kind == K::kind(&())).unwrap();
    let crd = serde_json::to_value(crd).unwrap();
    let mut places = Vec::new();
    for part in ["spec", "status"] {
        let schema = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"][part];
        walk(schema, &format!("/{part}"), &mut places);
    }
    places
}
