//! Diagnostics of a failure: the requests at Woodpecker, the kills, the statuses, and the end of the log.

use std::fmt::Write as _;

use jiff::Timestamp;
use kit::woodpecker::Request;
use serde_json::json;

use crate::environment::Environment;
use crate::object::SECRETS;
use crate::run::Run;

/// The diagnostics of a run.
pub fn tell(world: &Environment, run: &Run) -> String {
    let mut story = String::new();
    for request in world.env.woodpecker.requests(&run.account) {
        let _ = writeln!(
            story,
            "{} {:?} id={:?} → {:?} effect={} fault={:?} {}",
            time(request.at),
            request.op,
            request.credential_id,
            request.status,
            request.took_effect,
            request.fault,
            what_was_sent(run, &request),
        );
    }
    let kills: Vec<String> = world.crew.times().into_iter().map(time).collect();
    let _ = writeln!(story, "killed at {}", kills.join(", "));
    for name in run.names() {
        let seen = world.seen(&name).map(|it| {
            let meta = &it.metadata;
            json!({
                "generation": meta.generation, "deletionTimestamp": meta.deletion_timestamp,
                "finalizers": meta.finalizers, "status": it.status
            })
        });
        let _ = writeln!(story, "{name}: {}", seen.map_or("gone".to_owned(), |it| it.to_string()));
    }
    let names = [run.names(), vec![run.account.clone()]].concat();
    story + &world.crew.log_tail(&names)
}

fn time(at: Timestamp) -> String {
    at.strftime("%T%.3f").to_string()
}

fn what_was_sent(run: &Run, request: &Request) -> String {
    let name = request.body_without_secret["name"].as_str().unwrap_or_default();
    let mut all = run.objects.iter().flat_map(|object| (0..SECRETS).map(move |n| (object, n)));
    let found = all.find(|(object, n)| request.had_secret && request.secret_is(&object.nth_secret(*n)));
    match found {
        Some((object, n)) => format!("secret {n} of {} {name}", object.name),
        None => name.to_owned(),
    }
}
