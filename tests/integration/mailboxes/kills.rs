//! The operator is killed at each moment of a connection, and at random ones from a seed.

use std::time::Duration;

use kit::woodpecker::{Fault, Point};

use super::*;

/// Kills in one run: one at each moment, and some at any time.
const KILLS: usize = MOMENTS.len() + 3;

/// Moments of requests.
const MOMENTS: [(Op, Point); 5] = [
    (Op::ListMailboxes, Point::Answered),
    (Op::Connect, Point::Arrived),
    (Op::Connect, Point::Performed),
    (Op::Connect, Point::Answered),
    (Op::ListMailboxes, Point::Arrived),
];

/// Numbers from a seed: splitmix64.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((mixed ^ (mixed >> 31)) % bound as u64).unwrap()
    }
}

/// Kills the operator after the next such moment, or at any time, and starts it again.
async fn kill_at(env: &mut TestEnv, moment: Option<(Op, Point)>, delay: Duration) {
    let mut progress = env.woodpecker.follow();
    let reached = async {
        while let Some((op, point)) = moment
            && let Ok(reached) = progress.recv().await
        {
            if (reached.op, reached.point) == (op, point) {
                break;
            }
        }
    };
    // A new leader submits nothing for six seconds.
    let _reached = tokio::time::timeout(Duration::from_secs(20), reached).await;
    tokio::time::sleep(delay).await;
    env.operator.take().unwrap().kill().await.expect("the operator can be killed");
}

/// Requests reconciles until all mailboxes are connected: a request that was lost before a listing has shown a mailbox of the
/// credential is repeated only then.
async fn request_until_connected(env: &TestEnv, name: &str) -> WoodpeckerMailboxesStatus {
    let requesting = async {
        loop {
            request_reconcile(env, name).await;
            tokio::time::sleep(Duration::from_secs(10)).await;
        }
    };
    tokio::select! {
        status = wait_until_connected(env, name) => status,
        () = requesting => unreachable!("it goes on"),
    }
}

/// One run: several objects with common addresses, faults, and kills. Meanwhile objects are deleted and created again, and
/// somebody requests reconciles all the time, so that no back-off protects from a second submission.
async fn run(seed: u64) {
    let mut random = Random(seed);
    let mut env = start().await;
    env.extra_args.push("--leader-elect=false".into());
    let emails: Vec<String> = (0..25).map(|n| format!("m{n:02}@example.com")).collect();
    let emails: Vec<&str> = emails.iter().map(String::as_str).collect();
    let faults = [
        Fault::ProcessedThenReset,
        Fault::ProcessedThen500,
        Fault::ProcessedLate(Duration::from_secs(4)),
        Fault::ResponseKeeps(1),
        Fault::Html502,
        Fault::Throttled { retry_after: None },
        Fault::Slow(Duration::from_millis(300)),
    ];
    let objects = [("one", &emails[..20]), ("two", &emails[10..])];
    for (name, emails) in objects {
        apply(&env, name, "Connect", emails).await;
    }
    let mut steps = Vec::new();
    for kill in 0..KILLS {
        let fault = faults[random.below(faults.len())].clone();
        env.woodpecker.fail_next(Op::Connect, 1, fault.clone());
        let moment = MOMENTS.get(kill).copied();
        let most = if moment.is_some() { 60 } else { 9000 };
        let delay = Duration::from_millis(random.below(most) as u64);
        steps.push(format!("kill {delay:?} after {moment:?}, with {fault:?}"));
        kill_at(&mut env, moment, delay).await;
        if random.below(2) == 0 {
            let (name, emails) = objects[random.below(2)];
            steps.push(format!("{name} is deleted and created again"));
            env.api::<WoodpeckerMailboxes>().delete(name, &DeleteParams::default()).await.unwrap();
            apply(&env, name, "Connect", emails).await;
        }
        env.start_operator().await;
        for (name, _) in objects {
            request_reconcile(&env, name).await;
        }
    }
    env.woodpecker.clear_faults();
    for (name, _) in objects {
        let status = request_until_connected(&env, name).await;
        let ids = ids(&env);
        for (email, _, id) in states(&status) {
            assert_eq!(id, ids.get(email).copied(), "seed {seed}: {email} after {steps:#?}");
        }
    }
    assert_eq!(ids(&env).len(), emails.len(), "seed {seed}: each mailbox is connected once after {steps:#?}");
    assert_eq!(env.woodpecker.resubmitted_mailboxes(), [""; 0], "seed {seed}: after {steps:#?}");
}

#[tokio::test]
async fn no_address_is_submitted_while_a_listing_shows_it_whenever_the_operator_is_killed() {
    let number = |name| std::env::var(name).ok().and_then(|text: String| text.parse::<u64>().ok());
    let (first, runs) = (number("MAILBOX_SEED").unwrap_or(1), number("MAILBOX_RUNS").unwrap_or(1));
    for seed in first..first + runs {
        run(seed).await;
    }
}
