//! Diagnostics of a failure: the requests at Woodpecker, the kills, the statuses, and the end of the log.

use std::fmt::Write as _;

use jiff::Timestamp;
use kit::woodpecker::Request;
use serde_json::json;

use crate::environment::Environment;
use crate::object::SECRETS;
use crate::run::Run;

/// The diagnostics of a run.
pub fn of_run(environment: &Environment, run: &Run) -> String {
    let mut text = String::new();
    for request in environment.env.woodpecker.requests(&run.account) {
        let _ = writeln!(
            text,
            "{} {:?} id={:?} → {:?} effect={} fault={:?} {}",
            time(request.at),
            request.op,
            request.credential_id,
            request.status,
            request.took_effect,
            request.fault,
            description(run, &request),
        );
    }
    let kills: Vec<String> = environment.processes.times().into_iter().map(time).collect();
    let _ = writeln!(text, "killed at {}", kills.join(", "));
    for name in run.names() {
        let seen = environment.seen(&name).map(|it| {
            let meta = &it.metadata;
            json!({
                "generation": meta.generation, "deletionTimestamp": meta.deletion_timestamp,
                "finalizers": meta.finalizers, "status": it.status
            })
        });
        let _ = writeln!(text, "{name}: {}", seen.map_or("gone".to_owned(), |it| it.to_string()));
    }
    let names = [run.names(), vec![run.account.clone()]].concat();
    text + &environment.processes.log_tail(&names)
}

pub fn time(at: Timestamp) -> String {
    at.strftime("%T%.3f").to_string()
}

fn description(run: &Run, request: &Request) -> String {
    let name = request.body_without_secret["name"].as_str().unwrap_or_default();
    let mut all = run.objects.iter().flat_map(|object| (0..SECRETS).map(move |n| (object, n)));
    let found = all.find(|(object, n)| request.had_secret && request.secret_is(&object.nth_secret(*n)));
    match found {
        Some((object, n)) => format!("secret {n} of {} {name}", object.name),
        None => name.to_owned(),
    }
}
