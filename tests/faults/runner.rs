//! Executes the scripts of one environment side by side, under an operator that is killed at times.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use tokio::time::{Instant, sleep_until};

use crate::diagnostics;
use crate::environment::Environment;
use crate::kind::{Kind, holds, saved_at};
use crate::run::Run;
use crate::script::{Script, environment_of, kills};
use crate::summary::Summary;

/// Executes the seeds, all of one environment; each failure names its seed.
pub async fn execute(seeds: Range<u64>, summary: Arc<Summary>) {
    let scripts: Vec<Script> = seeds.clone().map(Script::new).collect();
    let number = environment_of(seeds.start);
    let kind = Kind::of(number);
    let environment = Environment::start(kind).await;
    let mut runs = Vec::new();
    for script in &scripts {
        runs.push(
            Run::create(&environment, &format!("run{}", script.seed), script.seed, &script.objects).await,
        );
    }
    for run in &runs {
        run.open(&environment).await;
    }
    let start = Instant::now();
    let running =
        scripts.iter().zip(&mut runs).map(|(script, run)| perform(&environment, script, run, start));
    let (kills, holds) = (kills(number), holds(number));
    let save = async {
        if kind != Kind::Restored {
            return None;
        }
        sleep_until(start + Duration::from_millis(saved_at(number))).await;
        Some(environment.save().await)
    };
    let (_, (), (), copy) = tokio::join!(
        join_all(running),
        environment.processes.execute_kills(&kills, &environment.kill_points, start),
        environment.delay_watches(&holds, start),
        save
    );
    if let Some(copy) = copy {
        environment.settle(&runs).await;
        for run in &mut runs {
            run.before_restore(&environment.env.woodpecker);
        }
        environment.restore(copy).await;
        for run in &mut runs {
            run.after_restore(&environment).await;
        }
    }
    let failures = environment.verify(&runs).await;
    summary.add(kind, &environment, &runs);
    for (index, problem) in failures {
        let seed = scripts[index].seed;
        let (first, count) = (seeds.start, seeds.end - seeds.start);
        summary.fail(format!(
            "run {seed}: {problem}\nagain: make faults SEED={seed}; with those beside it: make faults SEED={first} RUNS={count}\n{}{}",
            scripts[index],
            diagnostics::of_run(&environment, &runs[index])
        ));
    }
    environment.end().await;
}

async fn perform(environment: &Environment, script: &Script, run: &mut Run, start: Instant) {
    for (at, act) in &script.acts {
        sleep_until(start + Duration::from_millis(*at)).await;
        run.act(environment, *act).await;
    }
}
