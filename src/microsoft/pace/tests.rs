use super::*;
use crate::microsoft::{Refusal, Trace};
use crate::resources::conditions::Reason;
use crate::resources::{ClientId, Cloud, TenantId};

const SPAN: Duration = Duration::from_mins(5);

/// Of that number.
fn with_app<T>(app: u32, with: impl FnOnce(App<'_>) -> T) -> T {
    let tenant: TenantId = "bbfb2db7-aaf4-4f7c-9dc2-2c9160d1cb32".parse().unwrap();
    let client: ClientId = format!("e1c6ac69-480e-4a17-9b85-3467{app:08}").parse().unwrap();
    with(App { cloud: Cloud::Global, tenant: &tenant, client: &client })
}

/// How often an app is tried with that secret until it is held back.
fn tried_by(pace: &Pace, app: u32, secret: &str, asker: &Asker) -> usize {
    let secret = SecretText::new(secret.to_owned());
    with_app(app, |app| (0..40).take_while(|_| pace.admit(app, &secret, asker) == Ok(())).count())
}

/// The same, of an account of the REST API or of the controller.
fn tried(pace: &Pace, app: u32, secret: &str, account: Option<&str>) -> usize {
    let asker = account.map_or(Asker::Controller, |account| Asker::Account(account.to_owned()));
    tried_by(pace, app, secret, &asker)
}

fn namespace(name: &str, had_token: bool) -> Asker {
    Asker::Namespace { name: name.to_owned(), had_token }
}

fn refused() -> Verdict {
    let refusal = Refusal { reason: Reason::InvalidClientSecret, code: None };
    let (diagnosis, trace) = (Diagnosis::Refused(refusal), Trace::default());
    Verdict::NotIssued { diagnosis, retry_after: None, trace }
}

#[tokio::test(start_paused = true)]
async fn an_app_is_tried_ten_times_in_five_minutes_and_others_are_not_held_up() {
    let pace = Pace::new(&Timing::STANDARD);
    assert_eq!(tried(&pace, 1, "one", None), 10);
    assert_eq!(tried(&pace, 1, "two", None), 0, "whatever the secret");
    assert_eq!(tried(&pace, 2, "one", None), 10);
    tokio::time::advance(SPAN).await;
    assert_eq!(tried(&pace, 1, "two", None), 10);
}

#[tokio::test(start_paused = true)]
async fn whoever_tries_the_app_of_another_account_takes_no_try_from_it_or_from_the_controller() {
    for processes in [1, 2, 3, 5, 12] {
        let pace = Pace::new(&Timing::STANDARD);
        pace.share_among(processes);
        for stranger in 0..20 {
            let guesses =
                (0..20).map(|guess| tried(&pace, 1, &format!("{guess}"), Some(&format!("{stranger}"))));
            assert!(guesses.sum::<usize>() <= 8, "of its own it has no more");
        }
        assert!(tried(&pace, 1, "right", Some("mail")) >= 2, "{processes} processes");
        assert_eq!(tried(&pace, 1, "next", None), 10, "{processes} processes");
    }
}

#[tokio::test(start_paused = true)]
async fn of_one_secret_there_is_no_loop_over_all_processes() {
    for (processes, each) in [(1, 8), (2, 4), (3, 2)] {
        let all: Vec<Pace> = (0..processes).map(|_| Pace::new(&Timing::STANDARD)).collect();
        let mut sum = 0;
        for pace in &all {
            pace.share_among(processes);
            let mut accounts = ["mail", "sales"].into_iter();
            let of_accounts: usize = accounts.by_ref().map(|it| tried(pace, 1, "right", Some(it))).sum();
            assert_eq!(of_accounts, each);
            sum += of_accounts;
        }
        let of_controller = tried(&all[0], 1, "right", None);
        assert_eq!(of_controller, 10 - each, "{processes} processes");
        assert!(sum + of_controller < LOOP, "{processes} processes");
    }
}

#[tokio::test(start_paused = true)]
async fn the_wait_is_until_the_try_that_makes_room() {
    let pace = Pace::new(&Timing::STANDARD);
    assert_eq!(tried(&pace, 1, "one", Some("mail")), 8);
    tokio::time::advance(SPAN / 2).await;
    assert_eq!(tried(&pace, 1, "one", None), 2);
    let secret = SecretText::new("one".to_owned());
    let held_back = with_app(1, |app| pace.admit(app, &secret, &Asker::Controller));
    assert_eq!(held_back, Err(SPAN / 2), "eight are forgotten by then");
}

#[tokio::test(start_paused = true)]
async fn a_namespace_that_has_had_a_token_keeps_its_share_whoever_else_tries_its_app() {
    let pace = Pace::new(&Timing::STANDARD);
    let (owner, other) = (namespace("mail", false), namespace("other", false));
    assert_eq!(tried_by(&pace, 1, "one", &other), 10, "nobody has had one");
    tokio::time::advance(SPAN).await;
    let secret = SecretText::new("right".to_owned());
    with_app(1, |app| {
        assert_eq!(pace.admit(app, &secret, &owner), Ok(()));
        pace.ended(app, &owner, &Verdict::Issued { roles: None });
    });
    tokio::time::advance(SPAN * 3).await;
    for stranger in 0..20 {
        tried_by(&pace, 1, &format!("guess {stranger}"), &namespace(&format!("{stranger}"), false));
    }
    assert_eq!(tried_by(&pace, 1, "next", &other), 0);
    assert_eq!(tried_by(&pace, 1, "next", &owner), 6, "the strangers had four");
    assert_eq!(tried_by(&pace, 1, "next", &Asker::Controller), 0, "ten in all");
}

#[tokio::test(start_paused = true)]
async fn what_a_status_says_about_a_token_counts_after_a_restart() {
    let pace = Pace::new(&Timing::STANDARD);
    assert_eq!(tried_by(&pace, 1, "one", &namespace("other", false)), 10);
    assert_eq!(tried_by(&pace, 1, "two", &namespace("mail", true)), 0, "it came too late this time");
    tokio::time::advance(SPAN).await;
    assert_eq!(tried_by(&pace, 1, "one", &namespace("other", false)), 4);
    assert_eq!(tried_by(&pace, 1, "two", &namespace("mail", false)), 6);
}

#[tokio::test(start_paused = true)]
async fn an_account_is_refused_a_hundred_times_over_all_apps_and_what_is_right_is_not_counted() {
    let pace = Pace::new(&Timing::STANDARD);
    let (account, other) = (Asker::Account("mail".into()), Asker::Account("other".into()));
    let secret = SecretText::new("a secret".to_owned());
    let tries = |asker: &Asker, verdict: &Verdict| {
        let is_admitted = |app: &u32| {
            with_app(*app, |app| {
                let admitted = pace.admit(app, &secret, asker);
                pace.ended(app, asker, verdict);
                admitted == Ok(())
            })
        };
        (0..1000).take_while(is_admitted).count()
    };
    assert_eq!(tries(&account, &Verdict::Issued { roles: None }), 1000);
    assert_eq!(tries(&account, &refused()), 100);
    assert_eq!(tries(&account, &Verdict::Issued { roles: None }), 0);
    assert_eq!(tries(&other, &Verdict::Issued { roles: None }), 1000);
    assert_eq!(tries(&namespace("mail", false), &refused()), 1000, "the controller is not meant");
    tokio::time::advance(SPAN).await;
    assert_eq!(tries(&account, &refused()), 100);
}

#[tokio::test(start_paused = true)]
async fn of_more_apps_than_are_kept_those_used_last_are_known() {
    let pace = Pace::new(&Timing::STANDARD);
    let (owner, most) = (namespace("mail", true), u32::try_from(MOST_APPS).unwrap());
    let secret = SecretText::new("a secret".to_owned());
    for app in 0..most * 2 {
        with_app(app, |app| pace.admit(app, &secret, &owner)).unwrap();
        assert_eq!(tried_by(&pace, most * 3, "one", &owner), if app == 0 { 10 } else { 0 });
    }
    {
        let books = pace.books.lock();
        assert!(books.tries.young.len() + books.tries.old.len() <= MOST_APPS);
        assert!(books.holders.young.len() + books.holders.old.len() <= MOST_APPS);
    }
    tokio::time::advance(SPAN).await;
    with_app(0, |app| pace.admit(app, &secret, &owner)).unwrap();
    tokio::time::advance(SPAN).await;
    with_app(0, |app| pace.admit(app, &secret, &owner)).unwrap();
    let books = pace.books.lock();
    assert_eq!(books.tries.young.len() + books.tries.old.len(), 1, "what is over is forgotten");
}
