//! A new object beside many others that are processed at the same time, compared with the same object without
//! them.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::environment::Environment;
use crate::figures::{Figures, float};
use crate::objects::{Kind, latencies};
use crate::plan::{Plan, To};

/// Objects whose verification is due in the same minute.
const DUE: usize = 10_000;

/// Objects whose secret is rejected at every attempt.
const FAILING: usize = 1000;

/// Objects before the first measured one.
const WARM: usize = 20;

/// New objects, one at a time.
const NEW: usize = 100;

/// The duration of a token request, because Microsoft never responds at once.
const TOKEN: Duration = Duration::from_millis(50);

/// How long it may take until each of the failing objects has been tried.
const TIMEOUT: Duration = Duration::from_mins(2);

/// Longer than a verification is valid.
const LONG_AGO: Duration = Duration::from_hours(25);

pub async fn measure(plan: &Plan, figures: &mut Figures) {
    let due = due(plan.sized(DUE)).await;
    due.print("beside/due/");
    figures.extend("beside/due/", &due);
    let failing = failing(plan.sized(FAILING)).await;
    failing.print("beside/failing/");
    figures.extend("beside/failing/", &failing);
}

/// The operator starts with all verifications due.
async fn due(others: usize) -> Figures {
    let environment = Environment::start().await;
    let kind = Kind::plain(To::Store);
    let new = others..others + WARM + 2 * NEW;
    environment.sources(&kind, 0..new.end).await;
    let mut process = environment.operator(&[]).await;
    let alone = alone(&environment, &kind, new.start).await;

    environment.entra.service_time(Duration::ZERO);
    let mut audit = environment.audit();
    environment.objects(&kind, 0..others).await;
    environment.settle(&process, &mut audit, others).await;
    process.stop().await.expect("the operator ends");
    environment.verified_ago(0..others, LONG_AGO).await;
    let tokens = environment.entra.requests().len();
    environment.entra.service_time(TOKEN);
    let mut process = environment.operator(&[]).await;
    let took = environment.one_at_a_time(&kind, new.start + WARM + NEW..new.end).await;
    let mut figures = against(&alone, &took, others);
    let verified = environment.entra.requests().len() - tokens;
    figures.set("verified_meanwhile", float(verified.saturating_sub(NEW)));
    process.stop().await.expect("the operator ends");
    environment.end().await;
    figures
}

/// Microsoft rejects the other objects' secrets, and the operator retries them.
async fn failing(others: usize) -> Figures {
    let environment = Environment::start().await;
    let kind = Kind::plain(To::Store);
    let wrong = Kind { secret: "not-the-secret-of-any-app-at-microsoft~1", ..kind.clone() };
    let new = others..others + WARM + 2 * NEW;
    environment.sources(&wrong, 0..others).await;
    environment.sources(&kind, new.clone()).await;
    let mut process = environment.operator(&[]).await;
    let alone = alone(&environment, &kind, new.start).await;
    let tokens = environment.entra.requests().len();
    environment.objects(&wrong, 0..others).await;
    // Until each has been tried once, they count as new objects too.
    let all_tried = async {
        while apps_tried(&environment, tokens) < others {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(TIMEOUT, all_tried).await.expect("each of the others is tried");
    let took = environment.one_at_a_time(&kind, new.start + WARM + NEW..new.end).await;
    let mut figures = against(&alone, &took, others);
    let tried = environment.entra.requests().len() - tokens;
    figures.set("tries_meanwhile", float(tried.saturating_sub(NEW)));
    process.stop().await.expect("the operator ends");
    environment.end().await;
    figures
}

/// The apps with a token request after the first `after` requests.
fn apps_tried(environment: &Environment, after: usize) -> usize {
    let requests = environment.entra.requests();
    requests.iter().skip(after).map(|request| &request.client).collect::<BTreeSet<_>>().len()
}

async fn alone(environment: &Environment, kind: &Kind, first: usize) -> Vec<f64> {
    environment.entra.service_time(TOKEN);
    environment.one_at_a_time(kind, first..first + WARM).await;
    environment.one_at_a_time(kind, first + WARM..first + WARM + NEW).await
}

fn against(alone: &[f64], beside: &[f64], others: usize) -> Figures {
    let mut figures = Figures::default();
    figures.set("others", float(others));
    figures.extend("", &latencies("alone_", alone));
    figures.extend("", &latencies("beside_", beside));
    for part in ["p50", "p99"] {
        let of = |who: &str| figures.get(&format!("{who}_{part}_ms")).unwrap();
        figures.set(format!("ratio_{part}"), of("beside") / of("alone"));
    }
    figures
}
