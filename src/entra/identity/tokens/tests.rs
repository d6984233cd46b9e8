use super::testing::{HOME, OTHER, identity, tokens};
use super::*;
use crate::api::conditions::Reason;
use crate::core::diagnosis::Rejection;

const HOUR: Duration = Duration::from_hours(1);

#[expect(clippy::unnecessary_wraps, reason = "a result of a request")]
fn issued(text: &str, lifetime: Duration) -> Result<IssuedToken, GraphTokenError> {
    Ok(IssuedToken { text: SecretText::new(text.into()), lifetime, roles: None })
}

fn rejected() -> Result<IssuedToken, GraphTokenError> {
    let rejection = Rejection { reason: Reason::ConsentMissing, code: Some(700_016) };
    Err(GraphTokenError::Rejected { rejection, message: "m".into(), consent_url: None })
}

/// The token that is known without a request, `Err` of the failure, or `None` if a request may be sent.
fn known(tokens: &GraphTokens, tenant: &str, generation: i64) -> Option<Result<String, &'static str>> {
    let slot = tokens.slot(&identity(generation), &tenant.parse().unwrap());
    let known = slot.known(&identity(generation))?;
    Some(known.map(|token| token.expose().to_owned()).map_err(|error| error.category()))
}

fn record(tokens: &GraphTokens, generation: i64, result: Result<IssuedToken, GraphTokenError>) {
    let slot = tokens.slot(&identity(generation), &HOME.parse().unwrap());
    let _recorded = tokens.record(&slot, &identity(generation), result);
}

#[expect(clippy::unnecessary_wraps, reason = "as `known` returns it")]
fn ok(text: &str) -> Option<Result<String, &'static str>> {
    Some(Ok(text.to_owned()))
}

#[tokio::test(start_paused = true)]
async fn a_token_is_used_until_shortly_before_its_end_in_its_tenant_alone() {
    let tokens = tokens();
    record(&tokens, 1, issued("one", HOUR));
    assert_eq!(known(&tokens, HOME, 1), ok("one"));
    assert_eq!(known(&tokens, OTHER, 1), None);
    tokio::time::advance(Duration::from_mins(53)).await;
    assert_eq!(known(&tokens, HOME, 1), ok("one"));
    tokio::time::advance(Duration::from_mins(2)).await;
    assert_eq!(known(&tokens, HOME, 1), None, "it is renewed before it expires");
}

#[tokio::test(start_paused = true)]
async fn a_living_token_is_kept_when_its_renewal_fails() {
    let tokens = tokens();
    record(&tokens, 1, issued("one", HOUR));
    tokio::time::advance(Duration::from_mins(56)).await;
    record(&tokens, 1, rejected());
    assert_eq!(known(&tokens, HOME, 1), ok("one"));
    tokio::time::advance(Duration::from_secs(31)).await;
    assert_eq!(known(&tokens, HOME, 1), None, "the renewal is tried again");
    tokio::time::advance(Duration::from_mins(4)).await;
    record(&tokens, 1, rejected());
    assert_eq!(known(&tokens, HOME, 1), Some(Err("rejected")), "an expired token is never used");
}

#[tokio::test(start_paused = true)]
async fn after_a_failure_no_request_is_sent_for_a_while() {
    let tokens = tokens();
    record(&tokens, 1, rejected());
    assert_eq!(known(&tokens, HOME, 1), Some(Err("rejected")));
    tokio::time::advance(Duration::from_secs(29)).await;
    assert_eq!(known(&tokens, HOME, 1), Some(Err("rejected")));
    tokio::time::advance(Duration::from_secs(1)).await;
    assert_eq!(known(&tokens, HOME, 1), None);
    record(&tokens, 1, Err(GraphTokenError::RateLimited { retry_after: Some(Duration::from_mins(2)) }));
    tokio::time::advance(Duration::from_secs(119)).await;
    assert_eq!(known(&tokens, HOME, 1), Some(Err("throttled")), "Microsoft asked for two minutes");
    record(&tokens, 1, issued("one", HOUR));
    assert_eq!(known(&tokens, HOME, 1), ok("one"));
}

#[tokio::test(start_paused = true)]
async fn a_changed_spec_or_secret_forgets_tokens_and_failures() {
    let tokens = tokens();
    record(&tokens, 1, issued("one", HOUR));
    assert_eq!(known(&tokens, HOME, 2), None, "the spec changed");
    record(&tokens, 2, rejected());
    assert_eq!(known(&tokens, HOME, 2), Some(Err("rejected")));
    record(&tokens, 2, issued("two", HOUR));
    let granted = IdentitySnapshot { generation: 3, grants: Arc::new([]), ..identity(2) };
    let slot = tokens.slot(&granted, &HOME.parse().unwrap());
    assert!(slot.known(&granted).is_some_and(|known| known.is_ok()), "a grant changed, and no token with it");
    tokens.reset(&identity(2));
    assert_eq!(known(&tokens, HOME, 2), None, "the Secret changed");
}

#[tokio::test(start_paused = true)]
async fn a_rejected_token_is_discarded_once_in_a_while() {
    let tokens = tokens();
    let home = HOME.parse().unwrap();
    record(&tokens, 1, issued("one", HOUR));
    tokens.discard(&identity(1), &home);
    assert_eq!(known(&tokens, HOME, 1), None);
    record(&tokens, 1, issued("two", HOUR));
    tokens.discard(&identity(1), &home);
    assert_eq!(known(&tokens, HOME, 1), ok("two"), "it would be the second time within five minutes");
    tokio::time::advance(Duration::from_mins(5)).await;
    tokens.discard(&identity(1), &home);
    assert_eq!(known(&tokens, HOME, 1), None);
}

#[tokio::test(start_paused = true)]
async fn a_token_that_lives_shortly_is_used_for_half_of_its_time() {
    let tokens = tokens();
    record(&tokens, 1, issued("one", Duration::from_mins(4)));
    tokio::time::advance(Duration::from_secs(119)).await;
    assert_eq!(known(&tokens, HOME, 1), ok("one"));
    tokio::time::advance(Duration::from_secs(1)).await;
    assert_eq!(known(&tokens, HOME, 1), None);
}

#[tokio::test]
async fn only_present_identities_and_their_tenants_are_kept() {
    let tokens = tokens();
    record(&tokens, 1, issued("one", HOUR));
    let _other = tokens.slot(&identity(1), &"dddddddd-aaf4-4f7c-9dc2-2c9160d1cb32".parse().unwrap());
    tokens.retain(&[identity(1)]);
    let kept = tokens.0.slots.lock().len();
    assert_eq!((kept, known(&tokens, HOME, 1)), (1, ok("one")));
    tokens.retain(&[]);
    assert!(tokens.0.slots.lock().is_empty());
}

#[test]
fn a_token_is_never_shown() {
    let token = GraphToken { text: Arc::new(SecretText::new("canary".into())), roles: None };
    assert!(!format!("{token:?}").contains("canary"));
    assert_eq!(identity(1).tenants(), [HOME.parse().unwrap(), OTHER.parse().unwrap()]);
}
