//! The vendor's limits, emulated.

use std::time::Duration;

use super::*;

#[tokio::test]
async fn with_the_vendors_limits_one_request_of_an_account_is_served_at_a_time() {
    let mut stage = Stage::bare().await;
    stage.time_scale = 1;
    let neighbour = put_two_keys(&stage).await;
    let (server, address) = start(&stage, &["--rest-emulate-limits", "--watch-namespace", &neighbour]).await;
    let api = Api { stage, server, address };
    api.stage.entra.service_time(Duration::from_millis(500));
    let all = (0..9).map(|at| api.create(json!({"name": format!("{at}")})));
    let theirs = async {
        eventually("the queue is full", || async {
            if api.server.log().matches("\"status\":429").count() == 2 {
                Ok(())
            } else {
                Err(api.server.log())
            }
        })
        .await;
        let other = send(&api.address, "GET", PATH, &[("x-api-key", OTHER_KEY)], b"").await;
        (other.status, api.stage.entra.in_flight())
    };
    let (answers, theirs) = tokio::join!(futures::future::join_all(all), theirs);
    assert_eq!(theirs, (200, 1), "another account does not wait");
    let (made, dropped): (Vec<_>, Vec<_>) = answers.iter().partition(|answer| answer.status == 201);
    assert_eq!((made.len(), dropped.len()), (7, 2), "{answers:?}");
    for answer in dropped {
        assert_eq!((answer.status, answer.header("retry-after")), (429, None));
        answer.is_problem("Too Many Requests", "Too many requests; please try again later");
    }
    assert_eq!(api.stage.entra.max_in_flight(), 1);
    assert_eq!(api.listed().await.len(), 7);
}
