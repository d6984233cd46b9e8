use crate::api::conditions::Reason;
use crate::api::{ClientId, Cloud, TenantId};
use crate::core::diagnosis::Rejection;
use crate::core::token_result::RequestIds;
use crate::entra::rate_limit::*;

const SPAN: Duration = Duration::from_mins(5);

/// Calls `with` with the app of that number.
fn with_app<T>(app: u32, with: impl FnOnce(AppCredential<'_>) -> T) -> T {
    let tenant: TenantId = "bbfb2db7-aaf4-4f7c-9dc2-2c9160d1cb32".parse().unwrap();
    let client: ClientId = format!("e1c6ac69-480e-4a17-9b85-3467{app:08}").parse().unwrap();
    with(AppCredential { cloud: Cloud::Global, tenant: &tenant, client: &client })
}

/// How many attempts for an app with that secret are admitted.
fn attempts_by(rate_limiter: &TokenRateLimiter, app: u32, secret: &str, quota_owner: &QuotaOwner) -> usize {
    let secret = SecretText::new(secret.to_owned());
    with_app(app, |app| {
        (0..40).take_while(|_| rate_limiter.admit(app, &secret, quota_owner) == Ok(())).count()
    })
}

/// The same for an account of the REST API or for the controller.
fn attempts(rate_limiter: &TokenRateLimiter, app: u32, secret: &str, account: Option<&str>) -> usize {
    let quota_owner =
        account.map_or(QuotaOwner::Controller, |account| QuotaOwner::Account(account.to_owned()));
    attempts_by(rate_limiter, app, secret, &quota_owner)
}

fn namespace(name: &str, had_token: bool) -> QuotaOwner {
    QuotaOwner::Namespace { name: name.to_owned(), had_token }
}

fn rejected() -> TokenResult {
    let rejection = Rejection { reason: Reason::InvalidClientSecret, code: None };
    let (diagnosis, request_ids) = (Diagnosis::Rejected(rejection), RequestIds::default());
    TokenResult::NotIssued { diagnosis, retry_after: None, request_ids }
}

#[tokio::test(start_paused = true)]
async fn an_app_gets_ten_attempts_in_five_minutes_and_other_apps_are_not_affected() {
    let rate_limiter = TokenRateLimiter::new(&Timing::STANDARD);
    assert_eq!(attempts(&rate_limiter, 1, "one", None), 10);
    assert_eq!(attempts(&rate_limiter, 1, "two", None), 0, "whatever the secret");
    assert_eq!(attempts(&rate_limiter, 2, "one", None), 10);
    tokio::time::advance(SPAN).await;
    assert_eq!(attempts(&rate_limiter, 1, "two", None), 10);
}

#[tokio::test(start_paused = true)]
async fn attempts_of_other_accounts_use_no_quota_of_an_account_or_of_the_controller() {
    for processes in [1, 2, 3, 5, 12] {
        let rate_limiter = TokenRateLimiter::new(&Timing::STANDARD);
        rate_limiter.divide_quota_by(processes);
        for number in 0..20 {
            let guesses = (0..20)
                .map(|guess| attempts(&rate_limiter, 1, &format!("{guess}"), Some(&format!("{number}"))));
            assert!(guesses.sum::<usize>() <= 8, "of its own it has no more");
        }
        assert!(attempts(&rate_limiter, 1, "right", Some("mail")) >= 2, "{processes} processes");
        assert_eq!(attempts(&rate_limiter, 1, "next", None), 10, "{processes} processes");
    }
}

#[tokio::test(start_paused = true)]
async fn all_processes_together_stay_below_the_loop_threshold_for_one_secret() {
    for (processes, each) in [(1, 8), (2, 4), (3, 2)] {
        let all: Vec<TokenRateLimiter> =
            (0..processes).map(|_| TokenRateLimiter::new(&Timing::STANDARD)).collect();
        let mut sum = 0;
        for rate_limiter in &all {
            rate_limiter.divide_quota_by(processes);
            let mut accounts = ["mail", "sales"].into_iter();
            let of_accounts: usize =
                accounts.by_ref().map(|it| attempts(rate_limiter, 1, "right", Some(it))).sum();
            assert_eq!(of_accounts, each);
            sum += of_accounts;
        }
        let of_controller = attempts(&all[0], 1, "right", None);
        assert_eq!(of_controller, 10 - each, "{processes} processes");
        assert!(sum + of_controller < LOOP_THRESHOLD, "{processes} processes");
    }
}

#[tokio::test(start_paused = true)]
async fn the_wait_lasts_until_enough_attempts_have_expired() {
    let rate_limiter = TokenRateLimiter::new(&Timing::STANDARD);
    assert_eq!(attempts(&rate_limiter, 1, "one", Some("mail")), 8);
    tokio::time::advance(SPAN / 2).await;
    assert_eq!(attempts(&rate_limiter, 1, "one", None), 2);
    let secret = SecretText::new("one".to_owned());
    let rejected = with_app(1, |app| rate_limiter.admit(app, &secret, &QuotaOwner::Controller));
    assert_eq!(rejected, Err(SPAN / 2), "eight have expired by then");
}

#[tokio::test(start_paused = true)]
async fn a_namespace_that_has_had_a_token_keeps_its_share_of_attempts() {
    let rate_limiter = TokenRateLimiter::new(&Timing::STANDARD);
    let (holder, other) = (namespace("mail", false), namespace("other", false));
    assert_eq!(attempts_by(&rate_limiter, 1, "one", &other), 10, "nobody has had one");
    tokio::time::advance(SPAN).await;
    let secret = SecretText::new("right".to_owned());
    with_app(1, |app| {
        assert_eq!(rate_limiter.admit(app, &secret, &holder), Ok(()));
        rate_limiter.record(app, &holder, &TokenResult::Issued { roles: None });
    });
    tokio::time::advance(SPAN * 3).await;
    for number in 0..20 {
        attempts_by(&rate_limiter, 1, &format!("guess {number}"), &namespace(&format!("{number}"), false));
    }
    assert_eq!(attempts_by(&rate_limiter, 1, "next", &other), 0);
    assert_eq!(attempts_by(&rate_limiter, 1, "next", &holder), 6, "other namespaces had four");
    assert_eq!(attempts_by(&rate_limiter, 1, "next", &QuotaOwner::Controller), 0, "ten in all");
}

#[tokio::test(start_paused = true)]
async fn a_token_recorded_in_a_status_counts_after_a_restart() {
    let rate_limiter = TokenRateLimiter::new(&Timing::STANDARD);
    assert_eq!(attempts_by(&rate_limiter, 1, "one", &namespace("other", false)), 10);
    assert_eq!(
        attempts_by(&rate_limiter, 1, "two", &namespace("mail", true)),
        0,
        "it came too late this time"
    );
    tokio::time::advance(SPAN).await;
    assert_eq!(attempts_by(&rate_limiter, 1, "one", &namespace("other", false)), 4);
    assert_eq!(attempts_by(&rate_limiter, 1, "two", &namespace("mail", false)), 6);
}

#[tokio::test(start_paused = true)]
async fn an_account_gets_a_hundred_refusals_over_all_apps_and_issued_tokens_do_not_count() {
    let rate_limiter = TokenRateLimiter::new(&Timing::STANDARD);
    let (account, other) = (QuotaOwner::Account("mail".into()), QuotaOwner::Account("other".into()));
    let secret = SecretText::new("a secret".to_owned());
    let admitted = |quota_owner: &QuotaOwner, result: &TokenResult| {
        let is_admitted = |app: &u32| {
            with_app(*app, |app| {
                let admission = rate_limiter.admit(app, &secret, quota_owner);
                rate_limiter.record(app, quota_owner, result);
                admission == Ok(())
            })
        };
        (0..1000).take_while(is_admitted).count()
    };
    assert_eq!(admitted(&account, &TokenResult::Issued { roles: None }), 1000);
    assert_eq!(admitted(&account, &rejected()), 100);
    assert_eq!(admitted(&account, &TokenResult::Issued { roles: None }), 0);
    assert_eq!(admitted(&other, &TokenResult::Issued { roles: None }), 1000);
    assert_eq!(
        admitted(&namespace("mail", false), &rejected()),
        1000,
        "the limit does not apply to the controller"
    );
    tokio::time::advance(SPAN).await;
    assert_eq!(admitted(&account, &rejected()), 100);
}

#[tokio::test(start_paused = true)]
async fn the_apps_used_last_are_remembered_if_there_are_too_many() {
    let rate_limiter = TokenRateLimiter::new(&Timing::STANDARD);
    let (holder, most) = (namespace("mail", true), u32::try_from(MAX_APPS).unwrap());
    let secret = SecretText::new("a secret".to_owned());
    for app in 0..most * 2 {
        with_app(app, |app| rate_limiter.admit(app, &secret, &holder)).unwrap();
        assert_eq!(attempts_by(&rate_limiter, most * 3, "one", &holder), if app == 0 { 10 } else { 0 });
    }
    {
        let recent = rate_limiter.recent.lock();
        assert!(recent.attempts.young.len() + recent.attempts.old.len() <= MAX_APPS);
        assert!(recent.holders.young.len() + recent.holders.old.len() <= MAX_APPS);
    }
    tokio::time::advance(SPAN).await;
    with_app(0, |app| rate_limiter.admit(app, &secret, &holder)).unwrap();
    tokio::time::advance(SPAN).await;
    with_app(0, |app| rate_limiter.admit(app, &secret, &holder)).unwrap();
    let recent = rate_limiter.recent.lock();
    assert_eq!(recent.attempts.young.len() + recent.attempts.old.len(), 1, "expired attempts are dropped");
}
