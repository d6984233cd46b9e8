//! Plays the scripts of one environment side by side, under an operator that is killed at times.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use tokio::time::{Instant, sleep_until};

use crate::diagnostics;
use crate::environment::Environment;
use crate::kind::{Kind, holds, saved_at};
use crate::run::Run;
use crate::script::{Script, kills, world_of};
use crate::summary::Summary;

/// Plays the seeds, all of one environment; each failure names its seed.
pub async fn play(seeds: Range<u64>, tally: Arc<Summary>) {
    let scripts: Vec<Script> = seeds.clone().map(Script::new).collect();
    let number = world_of(seeds.start);
    let kind = Kind::of(number);
    let world = Environment::set(kind).await;
    let mut runs = Vec::new();
    for script in &scripts {
        runs.push(Run::set(&world, &format!("run{}", script.seed), script.seed, &script.objects).await);
    }
    for run in &runs {
        run.open(&world).await;
    }
    let start = Instant::now();
    let playing = scripts.iter().zip(&mut runs).map(|(script, run)| perform(&world, script, run, start));
    let (kills, holds) = (kills(number), holds(number));
    let save = async {
        if kind != Kind::Restored {
            return None;
        }
        sleep_until(start + Duration::from_millis(saved_at(number))).await;
        Some(world.save().await)
    };
    let (_, (), (), copy) = tokio::join!(
        join_all(playing),
        world.crew.suffer(&kills, &world.moments, start),
        world.hold_back(&holds, start),
        save
    );
    if let Some(copy) = copy {
        world.settle(&runs).await;
        for run in &mut runs {
            run.before_restore(&world.env.woodpecker);
        }
        world.restore(copy).await;
        for run in &mut runs {
            run.after_restore(&world).await;
        }
    }
    let failures = world.verdict(&runs).await;
    tally.take_in(kind, &world, &runs);
    for (index, trouble) in failures {
        let seed = scripts[index].seed;
        let (first, count) = (seeds.start, seeds.end - seeds.start);
        tally.fail(format!(
            "run {seed}: {trouble}\nagain: make faults SEED={seed}; with those beside it: make faults SEED={first} RUNS={count}\n{}{}",
            scripts[index],
            diagnostics::tell(&world, &runs[index])
        ));
    }
    world.end().await;
}

async fn perform(world: &Environment, script: &Script, run: &mut Run, start: Instant) {
    for (at, act) in &script.acts {
        sleep_until(start + Duration::from_millis(*at)).await;
        run.act(world, *act).await;
    }
}
