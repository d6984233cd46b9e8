//! What becomes of an object that changes while its request waits for the one before.

use std::time::Duration;

use kit::woodpecker::{Fault, Op};
use serde_json::json;

use crate::stage::{EXPIRY, Stage, TENANT, eventually};

const FIRST: &str = "00000000-0000-4000-8000-000000000001";
const SECOND: &str = "00000000-0000-4000-8000-000000000002";

/// A stage on which the create of `first` takes its time, and that of `second` is written down and waits for it.
async fn with_one_ahead() -> Stage {
    let mut stage = Stage::bare().await;
    // A call may take nine seconds.
    stage.time_scale = 5;
    stage.start_operator().await;
    stage.secret("sales-eu-graph", &[("client_secret", "s3cret-one"), ("secret_expires_at", EXPIRY)]).await;
    stage.account("agency", json!({})).await;
    stage.woodpecker.fail_next(Op::Create, 1, Fault::Slow(Duration::from_secs(6)));
    for (name, client) in [("first", FIRST), ("second", SECOND)] {
        stage.entra.add_app(TENANT, client);
        stage.entra.set_secrets(TENANT, client, &["s3cret-one"]);
        stage.credential(name, json!({"clientId": client})).await;
        if name == "first" {
            eventually("its create is under way", || async {
                if creates(&stage) == 1 { Ok(()) } else { Err(stage.log()) }
            })
            .await;
        }
    }
    stage
        .wait_until("second", "its create is written down", |object| {
            object.status.as_ref().is_some_and(|status| status.pending.is_some())
        })
        .await;
    assert_eq!((creates(&stage), stage.woodpecker.in_flight("agency")), (1, 1), "the first is under way");
    stage
}

fn creates(stage: &Stage) -> usize {
    stage.woodpecker.requests("agency").iter().filter(|request| request.op == Op::Create).count()
}

#[tokio::test]
async fn an_object_deleted_while_its_create_waits_is_not_registered() {
    let stage = with_one_ahead().await;
    stage.delete("second").await;
    stage.wait_until_gone("second").await;
    stage.wait_until_ready("first").await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!((creates(&stage), stage.remote().len()), (1, 1));
}

#[tokio::test]
async fn an_object_suspended_while_its_create_waits_is_registered_when_it_goes_on() {
    let stage = with_one_ahead().await;
    stage.credential("second", json!({"clientId": SECOND, "suspend": true})).await;
    stage.wait_until_ready("first").await;
    stage
        .wait_until("second", "nothing counts as sent", |object| {
            object.status.as_ref().is_some_and(|status| status.pending.is_none())
        })
        .await;
    assert_eq!((creates(&stage), stage.remote().len()), (1, 1));
    stage.credential("second", json!({"clientId": SECOND, "suspend": false})).await;
    stage.wait_until_ready("second").await;
    assert_eq!((creates(&stage), stage.remote().len()), (2, 2));
}
