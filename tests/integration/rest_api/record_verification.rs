//! Verification of saved records: the status says whether the secret still works, and until when.

use graph_credential_operator::api::conditions::{ConditionStatus, ConditionType, find};
use jiff::{SignedDuration, Timestamp};
use kube::api::{Patch, PatchParams};

use super::fault_proxy::FaultProxy;
use super::*;
use crate::keyring_access::change_record;

/// Status and reason of a record's condition.
pub(super) fn condition_of(
    record: &SealedGraphCredential,
    type_: ConditionType,
) -> Option<(ConditionStatus, String)> {
    let found = find(&record.status.as_ref()?.conditions, type_)?;
    Some((found.status, found.reason.clone()))
}

pub(super) async fn wait_for_condition(
    api: &Api,
    id: i64,
    type_: ConditionType,
    status: ConditionStatus,
    reason: &str,
) -> SealedGraphCredential {
    eventually(&format!("{type_:?} {status:?} {reason}"), || async {
        let record: SealedGraphCredential = api.env.api().get(&format!("r-{id}")).await.unwrap();
        if condition_of(&record, type_) == Some((status, reason.to_owned())) {
            Ok(record)
        } else {
            Err(format!("{:#?}\n{}", record.status, api.server.log()))
        }
    })
    .await
}

/// Sets the time of a record's last verification to so many hours ago.
async fn age(api: &Api, id: i64, hours: i64) {
    let long_ago =
        (Timestamp::now() - SignedDuration::from_hours(hours)).strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    let patch = Patch::Merge(json!({"status": {"lastVerifiedTime": long_ago}}));
    let records = api.env.api::<SealedGraphCredential>();
    records.patch_status(&format!("r-{id}"), &PatchParams::default(), &patch).await.unwrap();
}

#[tokio::test]
async fn a_saved_credential_is_reported_ready_and_not_verified_twice() {
    let api = Api::start().await;
    let id = api.created(json!({})).await;
    let record = wait_for_condition(&api, id, ConditionType::Ready, ConditionStatus::True, "Ready").await;
    assert_eq!(condition_of(&record, ConditionType::Expiring).map(|it| it.1).as_deref(), Some("NotExpiring"));
    let renamed = api.request("PATCH", &format!("{PATH}/{id}"), Some(json!({"name": "Sales"}))).await;
    assert_eq!(renamed.status, 200);
    eventually("the record is shown", || async {
        let metrics = send_get(&api.server, "/metrics").await.1;
        let line = format!(
            "graph_credential_record_ready{{namespace=\"{}\",name=\"r-{id}\",reason=\"Ready\"}} 1",
            api.env.namespace
        );
        if metrics.contains(&line) { Ok(()) } else { Err(metrics) }
    })
    .await;
    assert_eq!(api.env.entra.count(TENANT, CLIENT), 1, "the POST has verified it");
    let deleted = api.request("DELETE", &format!("{PATH}/{id}"), None).await;
    assert_eq!(deleted.status, 204);
    eventually("it is no longer shown", || async {
        let metrics = send_get(&api.server, "/metrics").await.1;
        if metrics.contains(&format!("r-{id}")) { Err(metrics) } else { Ok(()) }
    })
    .await;
}

#[tokio::test]
async fn a_saved_secret_that_microsoft_rejects_later_is_reported() {
    let api = Api::start().await;
    let id = api.created(json!({})).await;
    let before =
        wait_for_condition(&api, id, ConditionType::Verified, ConditionStatus::True, "TokenIssued").await;
    api.env.entra.set_secrets(TENANT, CLIENT, &["s3cret-two"]);
    api.env.entra.fail_always(kit::entra::Fault::Html503);
    age(&api, id, 25).await;
    eventually("Microsoft receives a request", || async {
        if api.env.entra.count(TENANT, CLIENT) > 1 { Ok(()) } else { Err(api.server.log()) }
    })
    .await;
    let record: SealedGraphCredential = api.env.api().get(&format!("r-{id}")).await.unwrap();
    assert_eq!(
        condition_of(&record, ConditionType::Ready),
        condition_of(&before, ConditionType::Ready),
        "an outage says nothing of a secret"
    );
    api.env.entra.clear_faults();
    let record =
        wait_for_condition(&api, id, ConditionType::Ready, ConditionStatus::False, "InvalidClientSecret")
            .await;
    let message = find(&record.status.unwrap().conditions, ConditionType::Ready).unwrap().message.clone();
    assert!(message.contains("AADSTS7000215") && message.contains("PATCH"), "{message}");
    let rotation = json!({"client_secret": "s3cret-two", "secret_expires_at": EXPIRY});
    assert_eq!(api.request("PATCH", &format!("{PATH}/{id}"), Some(rotation)).await.status, 200);
    wait_for_condition(&api, id, ConditionType::Ready, ConditionStatus::True, "Ready").await;
    let events = api.env.wait_for_event(&format!("r-{id}"), "InvalidClientSecret: ").await;
    let [unconfirmed, rejected] = &events[..] else { panic!("two events of the rejection: {events:#?}") };
    assert!(unconfirmed.starts_with("RejectionUnconfirmed: "), "{unconfirmed}");
    assert!(rejected.starts_with("InvalidClientSecret: ") && rejected.contains("PATCH"), "{rejected}");
    assert!(
        rejected.contains("trace ") && rejected.contains("correlation "),
        "for Microsoft's support: {rejected}"
    );
}

#[tokio::test]
async fn a_record_with_a_verification_from_next_year_is_verified_now() {
    let api = Api::start().await;
    let id = api.created(json!({})).await;
    wait_for_condition(&api, id, ConditionType::Verified, ConditionStatus::True, "TokenIssued").await;
    age(&api, id, -24 * 365).await;
    eventually("it is verified now", || async {
        let record: SealedGraphCredential = api.env.api().get(&format!("r-{id}")).await.unwrap();
        let verified = record.status.as_ref().unwrap().last_verified_time.as_ref().unwrap().0;
        let is_now = verified < Timestamp::now() + SignedDuration::from_hours(1);
        if is_now && api.env.entra.count(TENANT, CLIENT) > 1 { Ok(()) } else { Err(api.server.log()) }
    })
    .await;
}

#[tokio::test]
async fn a_new_record_without_a_status_is_not_verified_immediately() {
    let api = Api::start().await;
    api.env.entra.set_secrets(TENANT, CLIENT, &["secret of 1"]);
    eventually("the record controller works", || async {
        if api.server.log().contains("this process runs the record controller") {
            Ok(())
        } else {
            Err(api.server.log())
        }
    })
    .await;
    let start = std::time::Instant::now();
    // The state of a record right after a POST has written it.
    crate::keyring_access::make_records(&api.env, 1).await;
    wait_for_condition(&api, 1, ConditionType::Ready, ConditionStatus::True, "Ready").await;
    let request_time = std::time::Duration::from_mins(1) / api.env.time_scale;
    assert!(start.elapsed() >= request_time, "a POST has verified it: {:?}", start.elapsed());
    assert_eq!(api.env.entra.count(TENANT, CLIENT), 1, "it was verified once");
}

#[tokio::test]
async fn records_are_listed_once_and_a_restart_writes_nothing() {
    let mut api = Api::start().await;
    for client in 0..3 {
        let client = format!("00000000-0000-4000-8000-{client:012}");
        api.env.entra.add_app(TENANT, &client);
        api.env.entra.set_secrets(TENANT, &client, &["s3cret-one"]);
        api.created(json!({"client_id": client})).await;
    }
    api.server.stop().await.unwrap();
    let (mark, tokens) = (api.env.cluster.audit_mark().unwrap(), api.env.entra.requests().len());
    (api.server, api.address) = start(&api.env, &[]).await;
    eventually("all records are shown", || async {
        let metrics = send_get(&api.server, "/metrics").await.1;
        let shown = metrics.matches("graph_credential_record_ready{").count();
        if shown == 3 && metrics.contains("graph_credential_records{") { Ok(()) } else { Err(metrics) }
    })
    .await;
    // Longer than a list every two minutes would take.
    tokio::time::sleep(std::time::Duration::from_mins(5) / api.env.time_scale).await;
    let entries = api.env.cluster.audit_since(mark).unwrap();
    let (version_lists, requests): (Vec<_>, Vec<_>) = entries
        .into_iter()
        .filter(|entry| entry.resource == "sealedgraphcredentials" && entry.verb != "watch")
        .filter(|entry| entry.namespace.as_deref() == Some(&api.env.namespace))
        .partition(|entry| entry.verb == "list" && entry.uri.ends_with("limit=1"));
    // A watch that brought nothing until it ended is followed by a list with limit 1, for the newest version.
    assert!(version_lists.len() <= 4, "each of two watches ends once or twice: {version_lists:?}");
    let requests: Vec<_> = requests.into_iter().map(|entry| (entry.verb, entry.name)).collect();
    // One metadata list, to count the records, and one by the record controller.
    assert_eq!(requests, vec![("list".to_owned(), None); 2], "{}", api.server.log());
    assert_eq!(api.env.entra.requests().len(), tokens, "no token request");
}

#[tokio::test]
async fn a_saved_secret_warns_before_it_expires() {
    let api = Api::start().await;
    let soon =
        (Timestamp::now() + SignedDuration::from_hours(24 * 29)).strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    let id = api.created(json!({"secret_expires_at": soon})).await;
    let record =
        wait_for_condition(&api, id, ConditionType::Expiring, ConditionStatus::True, "ExpiresSoon").await;
    assert_eq!(condition_of(&record, ConditionType::Ready), Some((ConditionStatus::True, "Ready".into())));
    eventually("it is reported", || async {
        let events = api.env.events(&format!("r-{id}")).await;
        if events.is_empty() { Err(api.server.log()) } else { Ok(()) }
    })
    .await;
    // The state after the expiry.
    change_record(&api.env, &format!("r-{id}"), |spec| {
        spec.secret_expires_at.0 = "2026-01-01T00:00:00Z".parse().unwrap();
    })
    .await;
    wait_for_condition(&api, id, ConditionType::Ready, ConditionStatus::False, "Expired").await;
    let events = eventually("each notice is an event", || async {
        let events = api.env.events(&format!("r-{id}")).await;
        if events.len() == 2 { Ok(events) } else { Err(format!("{events:#?}\n{}", api.server.log())) }
    })
    .await;
    for (reason, words) in [("ExpiresSoon", "within 30 days"), ("Expired", "expired at 2026-01-01T00:00:00Z")]
    {
        let event = events.iter().find(|event| event.starts_with(&format!("{reason}: "))).expect(reason);
        assert!(event.contains(words) && event.contains("by PATCH"), "{event}");
    }
}

#[tokio::test]
async fn one_of_two_servers_verifies_the_records_and_the_other_takes_over() {
    let mut api = Api::start().await;
    let (other, other_address) = start(&api.env, &[]).await;
    let id = api.created(json!({})).await;
    wait_for_condition(&api, id, ConditionType::Ready, ConditionStatus::True, "Ready").await;
    eventually("one of them leads", || async {
        if holds_the_lease(&api.server).await == holds_the_lease(&other).await {
            Err(other.log())
        } else {
            Ok(())
        }
    })
    .await;
    age(&api, id, 25).await;
    eventually("it is verified again", || async {
        if api.env.entra.count(TENANT, CLIENT) == 2 { Ok(()) } else { Err(api.server.log()) }
    })
    .await;
    let (leader, standby) = if holds_the_lease(&api.server).await {
        (&mut api.server, other)
    } else {
        api.address = other_address;
        let standby = std::mem::replace(&mut api.server, other);
        (&mut api.server, standby)
    };
    leader.stop().await.unwrap();
    eventually("the other one follows", || async {
        if holds_the_lease(&standby).await { Ok(()) } else { Err(standby.log()) }
    })
    .await;
    age(&api, id, 25).await;
    eventually("it is verified again", || async {
        if api.env.entra.count(TENANT, CLIENT) == 3 { Ok(()) } else { Err(standby.log()) }
    })
    .await;
}

#[tokio::test]
async fn a_server_without_a_controller_re_encrypts_its_records_after_a_rotation() {
    let api = Api::start().await;
    let id = api.created(json!({})).await;
    let added = super::keyring::promote_another_key(&api.env).await;
    eventually("it is encrypted under the new key", || async {
        let (record, secret) = api.opened(id).await;
        let key = Envelope::from_base64(&record.spec.envelope).unwrap().key_id();
        if key == added && secret == "s3cret-one" { Ok(()) } else { Err(api.server.log()) }
    })
    .await;
    let verifications = api.env.entra.count(TENANT, CLIENT);
    eventually("its status is about it as it is now", || async {
        let record: SealedGraphCredential = api.env.api().get(&format!("r-{id}")).await.unwrap();
        let seen = record.status.as_ref().map(|status| status.observed_generation);
        if seen == record.metadata.generation { Ok(()) } else { Err(format!("{record:#?}")) }
    })
    .await;
    assert_eq!(api.env.entra.count(TENANT, CLIENT), verifications, "the secret is the same");
}

#[tokio::test]
async fn a_namespace_that_cannot_be_listed_does_not_stop_the_verification_of_others() {
    let mut env = TestEnv::bare().await;
    let fault_proxy = FaultProxy::before(&mut env).await;
    put_key(&env, KEY).await;
    let (server, address) = start(&env, &["--watch-namespace", "elsewhere"]).await;
    fault_proxy.fail("/namespaces/elsewhere/");
    let api = Api { env, server, address };
    let id = api.created(json!({})).await;
    eventually("the record is shown", || async {
        let metrics = send_get(&api.server, "/metrics").await.1;
        if metrics.contains(&format!("name=\"r-{id}\",reason=\"Ready\"")) { Ok(()) } else { Err(metrics) }
    })
    .await;
    let warning = "a watch failed and is tried again";
    api.server.wait_for_log(warning, std::time::Duration::from_mins(1)).await.unwrap();
}

/// Whether the process shows that it holds the Lease of `serve` processes.
async fn holds_the_lease(process: &Process) -> bool {
    holds_lease(process, "graph-credential-operator-records").await
}

async fn holds_lease(process: &Process, lease: &str) -> bool {
    let line = format!("leader_election_master_status{{name=\"{lease}\"}} 1");
    send_get(process, "/metrics").await.1.contains(&line)
}

#[tokio::test]
async fn a_server_leaves_the_records_to_the_leading_controller() {
    let mut api = Api::start().await;
    let id = api.created(json!({})).await;
    eventually("the server verifies records where it is alone", || async {
        if api.server.log().contains("no operator leads") { Ok(()) } else { Err(api.server.log()) }
    })
    .await;
    api.env.start_operator().await;
    let controller = api.env.operator.take().unwrap();
    eventually("the controller leads", || async {
        let who = holds_lease(&controller, "graph-credential-operator").await;
        let stopped = api.server.log().contains("an operator leads");
        if who && stopped { Ok(()) } else { Err(format!("{who}\n{}", api.server.log())) }
    })
    .await;
    assert!(holds_the_lease(&api.server).await, "nothing is negotiated");
    assert!(controller.is_running() && api.server.is_running());
    age(&api, id, 25).await;
    eventually("the controller verifies the record again", || async {
        let shown =
            send_get(&controller, "/metrics").await.1.contains(&format!("name=\"r-{id}\",reason=\"Ready\""));
        if api.env.entra.count(TENANT, CLIENT) == 2 && shown { Ok(()) } else { Err(controller.log()) }
    })
    .await;
    api.env.operator = Some(controller);
    api.env.stop_operator().await;
    age(&api, id, 25).await;
    eventually("the server does it again where no controller is left", || async {
        if api.env.entra.count(TENANT, CLIENT) == 3 { Ok(()) } else { Err(api.server.log()) }
    })
    .await;
    let shows = ["graph_credential_record_ready{", "graph_credential_records{"];
    eventually("it shows and counts records", || async {
        let metrics = send_get(&api.server, "/metrics").await.1;
        if shows.iter().all(|it| metrics.contains(it)) { Ok(()) } else { Err(metrics) }
    })
    .await;
    api.env.start_operator().await;
    eventually("it stops once a controller does it", || async {
        let metrics = send_get(&api.server, "/metrics").await.1;
        if shows.iter().any(|it| metrics.contains(it)) { Err(metrics) } else { Ok(()) }
    })
    .await;
}

#[tokio::test]
async fn an_expiry_notice_is_reported_during_shutdown() {
    let mut env = TestEnv::bare().await;
    // Leaves the event enough time within its time-out.
    env.time_scale = 5;
    let fault_proxy = FaultProxy::before(&mut env).await;
    let api = Api::on(env).await;
    let mut held = fault_proxy.hold("POST", "/events");
    let soon =
        (Timestamp::now() + SignedDuration::from_hours(24 * 29)).strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    let id = api.created(json!({"secret_expires_at": soon})).await;
    eventually("the event is on its way", || async {
        if fault_proxy.count("POST", "/events") > 0 { Ok(()) } else { Err(api.server.log()) }
    })
    .await;
    held.reached().await;
    api.server.signal(kit::process::Signal::TERM).unwrap();
    api.server.wait_for_log("SIGTERM received", crate::harness::QUIET_TIME).await.unwrap();
    held.release();
    let exit = api.server.wait(crate::harness::QUIET_TIME * 2).await.unwrap();
    assert!(exit.success(), "{exit}\n{}", api.server.log());
    let events = api.env.events(&format!("r-{id}")).await;
    assert!(events.iter().any(|event| event.contains("expires")), "{events:?}\n{}", api.server.log());
    let record: SealedGraphCredential = api.env.api().get(&format!("r-{id}")).await.unwrap();
    assert_eq!(record.status.unwrap().expiry_notice_days, Some(30));
}
