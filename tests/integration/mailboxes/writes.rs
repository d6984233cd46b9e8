//! Writes of the status that fail: of the intent before a request, and of the result after it.

use std::time::Duration;

use kit::api_proxy::{ApiProxy, WriteFailure, write_kubeconfig};
use kit::cluster::User;
use kit::woodpecker::{Fault, Point};

use super::*;

/// The same as `start`, with a proxy in front of the API server.
async fn start_behind_proxy() -> (TestEnv, ApiProxy) {
    let mut env = TestEnv::bare().await;
    let proxy = ApiProxy::start(env.cluster.client_for(User::Operator).unwrap()).await.unwrap();
    let kubeconfig = env.cluster.dir().join(format!("{}-proxy.kubeconfig", env.namespace));
    write_kubeconfig(&kubeconfig, &proxy.url(), None).unwrap();
    env.user = Some(kubeconfig);
    serve(&mut env).await;
    env.credential("sales-eu", json!({})).await;
    env.wait_until_ready("sales-eu").await;
    (env, proxy)
}

/// The path of the writes of an object's status.
fn path(name: &str) -> String {
    format!("/woodpeckermailboxes/{name}/status")
}

/// Waits until so many more writes of that object's status have failed.
async fn wait_for_failures(env: &TestEnv, proxy: &ApiProxy, name: &str, more: usize) {
    let failures = || proxy.failed_writes().iter().filter(|(at, _)| at.ends_with(&path(name))).count();
    let before = failures();
    eventually(&format!("{more} more writes of {name} fail"), || async {
        if failures() >= before + more { Ok(()) } else { Err(format!("{}\n{}", failures(), env.log())) }
    })
    .await;
}

/// Waits until a listing of the mailboxes was answered.
async fn wait_for_listing(env: &TestEnv, before: usize) {
    eventually("the mailboxes are listed", || async {
        if requests(env, "agency", Op::ListMailboxes).len() > before { Ok(()) } else { Err(env.log()) }
    })
    .await;
}

/// The mailbox is connected, and was submitted once.
async fn assert_connected_once(env: &TestEnv, name: &str, email: &str) {
    let status = wait_until_connected(env, name).await;
    assert_eq!(states(&status), [(email, ConnectionState::Connected, ids(env).get(email).copied())]);
    assert_eq!(submissions(env)[email], 1, "{name}: {:?}", submissions(env));
    assert_eq!(env.woodpecker.resubmitted_mailboxes(), [""; 0]);
}

#[tokio::test]
async fn nothing_is_submitted_before_the_intent_is_written() {
    let (env, proxy) = start_behind_proxy().await;
    // A new leader submits nothing for a while.
    apply(&env, "first", "Connect", &["first@example.com"]).await;
    wait_until_connected(&env, "first").await;
    let failures = [WriteFailure::Rejected, WriteFailure::Conflict, WriteFailure::NotSent];
    for (number, failure) in failures.into_iter().enumerate() {
        let (name, email) = (format!("team-{number}"), format!("m{number}@example.com"));
        let listings = requests(&env, "agency", Op::ListMailboxes).len();
        proxy.fail_writes(&path(&name), usize::MAX, failure);
        apply(&env, &name, "Connect", &[&email]).await;
        // After a listing, the intent is the only write.
        wait_for_listing(&env, listings).await;
        wait_for_failures(&env, &proxy, &name, 2).await;
        tokio::time::sleep(QUIET_TIME).await;
        assert_eq!(submissions(&env).get(&email), None, "{failure:?}\n{}", env.log());
        assert_eq!(status(&env, &name).await.pending, None, "{failure:?}");
        proxy.end_write_failures();
        // It does not wait for the end of a delay, which grows with each failure.
        reconcile_now(&env, &name, &email).await;
        assert_connected_once(&env, &name, &email).await;
    }
}

#[tokio::test]
async fn a_result_that_cannot_be_written_is_looked_up_and_the_request_is_not_repeated() {
    let (env, proxy) = start_behind_proxy().await;
    let failures = [WriteFailure::Rejected, WriteFailure::Conflict, WriteFailure::NotSent];
    for (number, failure) in failures.into_iter().enumerate() {
        let (name, email) = (format!("team-{number}"), format!("m{number}@example.com"));
        let mut progress = env.woodpecker.follow();
        // The intent is written by now, and the result is not yet known.
        env.woodpecker.fail_next(Op::Connect, 1, Fault::Slow(Duration::from_millis(1500)));
        apply(&env, &name, "Connect", &[&email]).await;
        while (progress.recv().await.map(|it| (it.op, it.point))) != Ok((Op::Connect, Point::Arrived)) {}
        proxy.fail_writes(&path(&name), usize::MAX, failure);
        wait_for_failures(&env, &proxy, &name, 2).await;
        // It retries for a minute, divided by the time scale.
        tokio::time::sleep(QUIET_TIME).await;
        let stored = status(&env, &name).await;
        assert_eq!(stored.mailboxes[0].state, ConnectionState::Submitted, "{failure:?}: {stored:#?}");
        assert_eq!(stored.pending.map(|it| it.emails), Some(vec![email.clone()]), "{failure:?}");
        assert_eq!(ids(&env).len(), number + 1, "Woodpecker has connected it");
        proxy.end_write_failures();
        assert_connected_once(&env, &name, &email).await;
    }
}

#[tokio::test]
async fn writes_whose_responses_are_lost_are_read_back_and_the_request_is_not_repeated() {
    let (env, proxy) = start_behind_proxy().await;
    proxy.fail_writes(&path("team"), usize::MAX, WriteFailure::ResponseLost);
    apply(&env, "team", "Connect", &["jim@example.com"]).await;
    assert_connected_once(&env, "team", "jim@example.com").await;
    let log = env.log();
    for text in ["the status was written, and only the response was lost", "retrying the status write"] {
        assert!(log.contains(text), "{text}: {log}");
    }
}
