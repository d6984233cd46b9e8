//! Checks of the network: whether Microsoft and Woodpecker can be reached, and whether the clock agrees with theirs.

use std::time::Duration;

use jiff::Timestamp;

use super::CheckArgs;
use super::report::{Checks, Finding};
use crate::config::BaseUrl;
use crate::core::error_chain::chain;
use crate::core::timing::Timing;
use crate::http::client::HttpClients;

/// Largest difference between two clocks that needs no attention, in seconds.
const MAX_SKEW: i64 = 60;

const REACH: &str =
    "check DNS, firewall, HTTPS_PROXY and NO_PROXY, and --ca-bundle for a proxy that inspects TLS";

/// Reaches Microsoft, Microsoft Graph if identities are in use, and each allowed URL of Woodpecker with one request without a secret.
pub(super) async fn check(args: &CheckArgs, checks: &mut Checks) {
    let http = match crate::cli::http_clients(&args.network.egress) {
        Ok(http) => http,
        Err(error) => return checks.add(Finding::failed("network", chain(&error), REACH)),
    };
    reach(&http, "Microsoft", &args.network.microsoft_authority, checks).await;
    if args.graph.entra_identities {
        reach(&http, "Microsoft Graph", &args.graph.microsoft_graph, checks).await;
    }
    for url in &args.woodpecker.allowed_urls {
        reach(&http, "Woodpecker", url, checks).await;
    }
}

async fn reach(http: &HttpClients, check: &'static str, url: &BaseUrl, checks: &mut Checks) {
    let started = Timestamp::now();
    let response = match http.current() {
        Ok(client) => client.head(url.as_str()).timeout(timeout()).send().await,
        Err(error) => Err(error),
    };
    let response = match response {
        Ok(response) => response,
        Err(error) => {
            let detail = format!("{url} cannot be reached: {}", chain(&error.without_url()));
            return checks.add(Finding::failed(check, detail, REACH));
        }
    };
    // Any response will do: the request names no resource.
    let detail = format!("{url} is reachable");
    let date = response.headers().get(http::header::DATE).and_then(|date| date.to_str().ok());
    let date = date.and_then(|date| jiff::fmt::rfc2822::parse(date).ok()).map(|date| date.timestamp());
    let skew = date.map(|date| skew(date, started, Timestamp::now()));
    checks.add(match skew {
        Some(skew) if skew.abs() > MAX_SKEW => {
            let side = if skew > 0 { "behind" } else { "ahead" };
            Finding::failed(
                check,
                format!("{detail}, and this machine's clock is {} s {side}", skew.abs()),
                "set the clock (NTP): expiry dates and retries depend on it",
            )
        }
        Some(_) => Finding::ok(check, format!("{detail}, and the clocks agree")),
        None => Finding::ok(check, format!("{detail}; its response has no date to compare the clock with")),
    });
}

/// By how many seconds the other clock is ahead, beyond the time that the request took.
fn skew(date: Timestamp, started: Timestamp, ended: Timestamp) -> i64 {
    if date > ended {
        date.as_second() - ended.as_second()
    } else if date < started {
        // A date has whole seconds.
        (date.as_second() + 1 - started.as_second()).min(0)
    } else {
        0
    }
}

fn timeout() -> Duration {
    Timing::STANDARD.token_call
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_skew_does_not_include_the_time_of_the_request() {
        let at = |second: i64| Timestamp::from_second(second).unwrap();
        for (date, started, ended, expected) in [
            (100, 100, 100, 0),
            (99, 100, 110, 0),
            (105, 100, 110, 0),
            (210, 100, 110, 100),
            (40, 100, 110, -59),
        ] {
            assert_eq!(skew(at(date), at(started), at(ended)), expected, "{date}");
        }
    }
}
