//! Records of the REST API that anything else has changed: their secret is sent to nobody until they are repaired.

use graph_credential_operator::api::Cloud;
use graph_credential_operator::api::conditions::{ConditionStatus, ConditionType, find};
use kit::proxy::Proxy;
use kube::api::{DeleteParams, ObjectMeta, Patch, PatchParams, PostParams};

use super::record_verification::wait_for_condition;
use super::*;

/// Waits until the record is reported as unreadable; returns the message.
async fn wait_until_unreadable(api: &Api, id: i64) -> String {
    let status = ConditionStatus::Unknown;
    let record = wait_for_condition(api, id, ConditionType::Ready, status, "VerificationPending").await;
    find(&record.status.unwrap().conditions, ConditionType::Ready).unwrap().message.clone()
}

/// Re-creates a record with that cloud: the schema rejects such a change.
async fn re_create(api: &Api, id: i64, cloud: Option<Cloud>) {
    let (name, records) = (format!("r-{id}"), api.env.api::<SealedGraphCredential>());
    let mut record = records.get(&name).await.unwrap();
    let patch = Patch::Merge(json!({"spec": {"cloud": cloud.unwrap_or_default()}}));
    let rejected = records.patch(&name, &PatchParams::default(), &patch).await.unwrap_err().to_string();
    assert!(rejected.contains("spec.cloud is immutable"), "{rejected}");
    records.delete(&name, &DeleteParams::default()).await.unwrap();
    record.metadata = ObjectMeta { name: Some(name), ..ObjectMeta::default() };
    (record.spec.cloud, record.status) = (cloud, None);
    records.create(&PostParams::default(), &record).await.unwrap();
}

#[tokio::test]
async fn a_secret_is_sent_to_no_authority_if_the_cloud_of_its_record_was_changed() {
    let mut env = TestEnv::bare().await;
    // Every request to an authority of another cloud would pass it.
    let proxy = Proxy::start().await.unwrap();
    env.extra_env.extend([("HTTPS_PROXY", proxy.url()), ("NO_PROXY", "127.0.0.1".to_owned())]);
    let api = Api::on(env).await;
    let id = api.created(json!({})).await;
    let path = format!("{PATH}/{id}");
    re_create(&api, id, Some(Cloud::China)).await;
    let message = wait_until_unreadable(&api, id).await;
    assert!(message.contains("spec.cloud was changed") && message.contains("re-create"), "{message}");
    let rotation = json!({"client_secret": "s3cret-one", "secret_expires_at": EXPIRY});
    for change in [json!({"name": "Sales"}), rotation] {
        assert_eq!(api.request("PATCH", &path, Some(change)).await.status, 500);
    }
    assert_eq!(api.listed().await.len(), 1);
    assert_eq!(api.env.entra.count(TENANT, CLIENT), 1, "only the POST was verified");
    re_create(&api, id, None).await;
    wait_for_condition(&api, id, ConditionType::Ready, ConditionStatus::True, "Ready").await;
    assert_eq!(api.request("PATCH", &path, Some(json!({"name": "Sales"}))).await.status, 200);
    assert_eq!(api.env.entra.count(TENANT, CLIENT), 2, "it was verified once more");
    assert_eq!(proxy.targets(), Vec::<String>::new(), "{}", api.server.log());
}

#[tokio::test]
async fn a_record_with_a_changed_name_or_expiry_is_not_decrypted_until_it_is_repaired() {
    let api = Api::start().await;
    let id = api.created(json!({})).await;
    let path = format!("{PATH}/{id}");
    let edit = async |spec: Value| {
        let records = api.env.api::<SealedGraphCredential>();
        let change = Patch::Merge(json!({"spec": spec}));
        records.patch(&format!("r-{id}"), &PatchParams::default(), &change).await.unwrap();
    };
    for (tokens, changed, repaired) in [
        (1, json!({"name": "Sales"}), json!({"name": "MS Graph app"})),
        (2, json!({"secretExpiresAt": "2031-01-01T00:00:00Z"}), json!({"secretExpiresAt": EXPIRY})),
    ] {
        edit(changed).await;
        let message = wait_until_unreadable(&api, id).await;
        assert!(message.contains("secretExpiresAt or name was changed"), "{message}");
        assert!(message.contains("undo the change") && message.contains("PATCH"), "{message}");
        assert_eq!(api.request("PATCH", &path, Some(json!({"name": "x"}))).await.status, 500);
        assert_eq!(api.env.entra.count(TENANT, CLIENT), tokens, "nothing was sent");
        edit(repaired).await;
        wait_for_condition(&api, id, ConditionType::Ready, ConditionStatus::True, "Ready").await;
        assert_eq!(api.opened(id).await.1, "s3cret-one");
    }
    edit(json!({"name": "Sales"})).await;
    wait_until_unreadable(&api, id).await;
    let rotation = json!({"client_secret": "s3cret-one", "secret_expires_at": EXPIRY});
    assert_eq!(api.request("PATCH", &path, Some(rotation)).await.status, 200, "it replaces the secret");
    wait_for_condition(&api, id, ConditionType::Ready, ConditionStatus::True, "Ready").await;
}
