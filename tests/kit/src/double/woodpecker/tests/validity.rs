//! The check that registered secrets work at every moment.

use std::time::Duration;

use super::*;
use crate::entra::Entra;
use crate::woodpecker::Fault;
use crate::woodpecker::Op;

/// Woodpecker with a registration of the secret `canary`, which works at Entra.
async fn start() -> (Woodpecker, Entra) {
    let (it, entra) = (woodpecker().await, Entra::start().await);
    entra.set_secrets(TENANT, CLIENT, &["canary"]);
    it.check_validity_with(&entra);
    create(&it).await;
    (it, entra)
}

async fn update(it: &Woodpecker, secret: &str) {
    let body = json!({"client_secret": secret, "secret_expires_at": EXPIRY});
    send(it, "PATCH", "/22334455", body).await;
}

/// Waits for so many periods.
async fn wait_for_periods(it: &Woodpecker, count: usize) {
    let seen = async {
        while it.invalid_periods().len() < count {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(5), seen).await.expect("it is noticed");
}

#[tokio::test]
async fn a_switch_to_a_secret_that_works_leaves_no_trace() {
    let (it, entra) = start().await;
    entra.add_secret(TENANT, CLIENT, "next");
    update(&it, "next").await;
    entra.remove_secret(TENANT, CLIENT, "canary");
    send(&it, "DELETE", "/22334455", Value::Null).await;
    entra.remove_secret(TENANT, CLIENT, "next");
    tokio::time::sleep(Duration::from_millis(30)).await;
    assert_eq!(it.invalid_periods(), []);
}

#[tokio::test]
async fn a_secret_that_ends_while_it_is_registered_is_one_period() {
    let (it, entra) = start().await;
    entra.remove_secret(TENANT, CLIENT, "canary");
    wait_for_periods(&it, 1).await;
    entra.set_secrets(TENANT, CLIENT, &["next"]);
    update(&it, "next").await;
    let periods = it.invalid_periods();
    assert_eq!((periods.len(), periods[0].account.as_str()), (1, "team"));
    assert_eq!((periods[0].credential_id, periods[0].client_id.as_str()), (22_334_455, CLIENT));
    assert!(periods[0].since <= periods[0].until);
    entra.expire_secret(TENANT, CLIENT, "next");
    wait_for_periods(&it, 2).await;
}

#[tokio::test]
async fn a_secret_that_ended_shortly_before_its_update_is_noticed() {
    let (it, entra) = start().await;
    entra.set_secrets(TENANT, CLIENT, &["next"]);
    update(&it, "next").await;
    assert_eq!(it.invalid_periods().len(), 1);
}

#[tokio::test]
async fn an_update_to_a_secret_that_does_not_work_is_noticed_even_if_its_response_is_lost() {
    let (it, _entra) = start().await;
    it.fail_next(Op::Update, 1, Fault::ProcessedThenReset);
    update(&it, "not yet").await;
    assert_eq!(it.invalid_periods().len(), 1);
}
