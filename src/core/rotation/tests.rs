use std::time::Duration;

use proptest::prelude::*;

use super::*;

const UID: &str = "0d1c2b3a-0000-4000-8000-000000000001";

fn timing() -> Timing {
    Timing::STANDARD
}

fn now() -> Timestamp {
    "2027-03-01T12:00:00Z".parse().unwrap()
}

fn after(minutes: u64) -> Timestamp {
    now() + Duration::from_mins(minutes)
}

fn created(key: &str) -> CreatedSecret {
    CreatedSecret {
        key_id: key.to_owned(),
        display_name: display_name(UID, &format!("token-{key}")),
        expires_at: Time(now() + Duration::from_hours(24 * 180)),
        creation_time: Time(now()),
        kept: false,
        unknown: UnknownFields::default(),
    }
}

fn attempt(token: &str) -> CreateAttempt {
    CreateAttempt {
        display_name: display_name(UID, token),
        start_time: Time(now()),
        unknown: UnknownFields::default(),
    }
}

fn entry(key: &str, name: &str) -> AppSecret {
    AppSecret {
        key_id: Some(key.to_owned()),
        display_name: Some(name.to_owned()),
        hint: None,
        starts_at: None,
        expires_at: Some(now() + Duration::from_hours(24 * 180)),
    }
}

fn shown(secret: &CreatedSecret) -> AppSecret {
    entry(&secret.key_id, &secret.display_name)
}

fn using(current: &str) -> RotationStatus {
    RotationStatus { current: Some(created(current)), ..RotationStatus::default() }
}

fn readable(current: &str, pending: Option<&str>) -> SecretRecord {
    SecretRecord::Readable {
        current: Box::new(created(current)),
        pending: pending.map(|pending| Box::new(created(pending))),
    }
}

fn unreadable(current: &str, pending: Option<&str>) -> SecretRecord {
    SecretRecord::Unreadable {
        current: Some(Box::new(created(current))),
        pending: pending.map(|pending| Box::new(created(pending))),
    }
}

fn earlier(status: &RotationStatus) -> Vec<(&str, bool)> {
    status.earlier.iter().map(|it| (it.key_id.as_str(), it.remove_after_time.is_some())).collect()
}

fn key(secret: Option<&CreatedSecret>) -> Option<&str> {
    secret.map(|it| it.key_id.as_str())
}

#[test]
fn a_name_shows_for_which_object_a_client_secret_was_created() {
    let name = display_name(UID, "abc");
    assert!(name.len() <= 90, "{name}");
    assert!(is_named_for(&name, UID));
    assert!(!is_named_for(&name, "0d1c2b3a-0000-4000-8000-000000000002"));
    for other in ["by hand", "", "graph-credentials.io", "graph-credentials.io/", &format!("x{name}")] {
        assert!(!is_named_for(other, UID), "{other}");
    }
    assert!(!is_named_for("graph-credentials.io//abc", ""));
}

#[test]
fn the_record_corrects_the_status() {
    let lost = corrected(RotationStatus::default(), &readable("a", Some("b")));
    assert_eq!(
        (key(lost.current.as_ref()), key(lost.pending.as_ref())),
        (Some("a"), Some("b")),
        "the status was lost"
    );
    let saved = RotationStatus { attempt: Some(attempt("token-b")), ..using("a") };
    let saved = corrected(saved, &readable("a", Some("b")));
    assert_eq!(
        (key(saved.pending.as_ref()), saved.attempt),
        (Some("b"), None),
        "the response was saved before a crash"
    );
    let promoted = corrected(using("b"), &readable("a", Some("b")));
    assert_eq!(
        (key(promoted.current.as_ref()), key(promoted.pending.as_ref())),
        (Some("b"), None),
        "only the record is behind"
    );
    let restored = corrected(using("a"), &readable("b", None));
    assert_eq!(key(restored.current.as_ref()), Some("b"), "the status is from a backup");
    assert_eq!(earlier(&restored), [("a", false)]);
    for gone in [SecretRecord::Missing, unreadable("a", None)] {
        let next = corrected(using("a"), &gone);
        assert_eq!((key(next.current.as_ref()), earlier(&next)), (None, vec![("a", false)]), "{gone:?}");
    }
    let both = corrected(RotationStatus::default(), &unreadable("a", Some("b")));
    assert_eq!(earlier(&both), [("a", false), ("b", false)], "only the record names them");
    for unread in [SecretRecord::NotRead, SecretRecord::Foreign] {
        assert_eq!(corrected(using("a"), &unread), using("a"));
    }
}

#[test]
fn a_registration_makes_the_pending_one_current_and_starts_the_overlap() {
    let mut rotating = RotationStatus { pending: Some(created("b")), ..using("a") };
    rotating.observations = Some(seen(None, "a", now()));
    let day = Duration::from_hours(24);
    let next = after_registration(&rotating, day, now());
    assert_eq!(
        (key(next.current.as_ref()), key(next.pending.as_ref()), &next.observations),
        (Some("b"), None, &None)
    );
    assert_eq!(
        next.earlier.iter().map(|it| it.remove_after_time.clone()).collect::<Vec<_>>(),
        [Some(Time(now() + day))]
    );
    // It counts from the first confirmation.
    assert_eq!(after_registration(&next, day, after(60)), next);
    let switched = after_switch(&rotating, day, now());
    assert_eq!((key(switched.current.as_ref()), earlier(&switched)), (None, vec![("a", true), ("b", true)]));
    let deleted = after_deletion(&rotating, now());
    assert!(deleted.earlier.iter().all(|it| it.unused && it.remove_after_time == Some(Time(now()))));
    let discarded = without_pending(&rotating, false, now());
    assert_eq!((key(discarded.current.as_ref()), earlier(&discarded)), (Some("a"), vec![("b", true)]));
    let sent = without_pending(&rotating, true, now());
    assert_eq!(
        (earlier(&sent), sent.earlier[0].unused),
        (vec![("b", false)], false),
        "Woodpecker may have it"
    );
}

#[test]
fn a_shorter_overlap_applies_to_all_earlier_ones_and_what_is_kept_is_never_released() {
    let mut status = using("b");
    status.earlier = vec![created("a").into_earlier(Some(Time(after(600)))), created("k").into_earlier(None)];
    status.earlier[1].kept = true;
    let next = after_registration(&status, Duration::ZERO, now());
    assert!(next.earlier.iter().all(|it| it.remove_after_time == Some(Time(now()))));
    let deleted = after_deletion(&status, now());
    let unused: Vec<bool> = deleted.earlier.iter().map(|it| it.unused).collect();
    assert_eq!(unused, [true, false, true]);
}

#[test]
fn a_record_with_a_client_secret_that_was_given_up_is_outdated() {
    let mut status = using("a");
    status.earlier = vec![created("x").into_earlier(None), created("y").into_earlier(None)];
    status.earlier[0].unused = true;
    status.earlier[1].removal_time = Some(Time(now()));
    assert!(is_given_up(&status, "x") && is_given_up(&status, "y"));
    assert!(!is_given_up(&status, "a") && !is_given_up(&without_pending(&using("a"), true, now()), "b"));
}

#[test]
fn what_a_lost_response_created_is_found_by_its_name_and_removed() {
    let waiting = RotationStatus { attempt: Some(attempt("x")), ..using("a") };
    let read = |status: &RotationStatus, entries: &[AppSecret], minutes| {
        after_reading(status, entries, UID, &timing(), after(minutes))
    };
    let current = shown(&created("a"));
    let early = read(&waiting, std::slice::from_ref(&current), 1);
    assert!(early.attempt.is_some(), "it may still show up");
    let made = entry("x-id", &display_name(UID, "x"));
    let found = read(&early, &[current.clone(), made.clone()], 2);
    assert_eq!((&found.attempt, earlier(&found)), (&None, vec![("x-id", true)]));
    assert!(found.earlier[0].unused && found.unknown_secrets.is_empty());
    let given_up = read(&early, std::slice::from_ref(&current), 16);
    assert_eq!((given_up.attempt.is_some(), given_up.earlier_attempts.len()), (false, 1));
    let late = read(&given_up, &[current.clone(), made.clone()], 60);
    assert_eq!((late.earlier_attempts.len(), earlier(&late)), (0, vec![("x-id", true)]));
    let over = read(&given_up, std::slice::from_ref(&current), 49 * 60);
    assert!(over.earlier_attempts.is_empty());
    let named = read(&over, &[current, made], 50 * 60);
    assert_eq!(named.unknown_secrets.iter().map(|it| it.key_id.as_str()).collect::<Vec<_>>(), ["x-id"]);
    assert!(named.earlier.is_empty(), "after that it is named and not removed");
}

#[test]
fn client_secrets_of_others_are_neither_recorded_nor_named() {
    let others = [
        entry("p", "by hand"),
        entry("q", &display_name("0d1c2b3a-0000-4000-8000-000000000002", "y")),
        AppSecret { display_name: None, ..entry("r", "") },
    ];
    let waiting = RotationStatus { attempt: Some(attempt("x")), ..using("a") };
    let next = after_reading(&waiting, &others, UID, &timing(), after(1));
    assert!(next.earlier.is_empty() && next.unknown_secrets.is_empty());
}

#[test]
fn a_restored_object_recognizes_the_client_secrets_of_its_earlier_uid() {
    let entries = [shown(&created("a")), entry("lost", &display_name(UID, "lost"))];
    let next = after_reading(&using("a"), &entries, "another-uid", &timing(), now());
    assert_eq!(next.unknown_secrets.iter().map(|it| it.key_id.as_str()).collect::<Vec<_>>(), ["lost"]);
}

#[test]
fn a_removal_counts_only_once_readings_agree() {
    let mut status = using("b");
    status.earlier = vec![created("a").into_earlier(Some(Time(now())))];
    status.earlier[0].removal_time = Some(Time(now()));
    let (current, old) = (shown(&created("b")), shown(&created("a")));
    let read =
        |entries: &[AppSecret], minutes| after_reading(&status, entries, UID, &timing(), after(minutes));
    assert_eq!(read(std::slice::from_ref(&current), 5).earlier.len(), 1, "readings lag");
    assert!(read(std::slice::from_ref(&current), 15).earlier.is_empty());
    let repeated = read(&[current, old], 15);
    assert_eq!(repeated.earlier[0].removal_time, None, "it is removed again");
}

#[test]
fn the_client_secret_in_use_must_be_seen_three_times_over_five_minutes() {
    let entries = [shown(&created("a"))];
    let mut status = using("a");
    for (minutes, expected) in [(0, false), (2, false), (4, false), (6, true)] {
        status = after_reading(&status, &entries, UID, &timing(), after(minutes));
        assert_eq!(is_seen(&status, &timing()), expected, "after {minutes} minutes");
    }
    status = after_reading(&status, &[], UID, &timing(), after(7));
    assert!(!is_seen(&status, &timing()), "one reading without it starts over");
    let upper = AppSecret { key_id: Some("A".into()), ..shown(&created("a")) };
    assert!(after_reading(&using("a"), &[upper], UID, &timing(), now()).observations.is_some());
}

fn some_status() -> impl Strategy<Value = RotationStatus> {
    let secret = || prop::option::of(prop::sample::select(vec!["a", "b", "c"]).prop_map(created));
    let earlier =
        prop::collection::vec((prop::sample::select(vec!["d", "e", "f"]), any::<(bool, bool, bool)>()), 0..3);
    (secret(), secret(), earlier, prop::option::of(Just(attempt("x")))).prop_map(
        |(current, pending, earlier, attempt)| {
            let earlier = earlier.into_iter().map(|(key, (due, removed, unused))| EarlierSecret {
                removal_time: removed.then(|| Time(now())),
                unused,
                ..created(key).into_earlier(due.then(|| Time(now())))
            });
            RotationStatus {
                current,
                pending,
                earlier: earlier.collect(),
                attempt,
                ..RotationStatus::default()
            }
        },
    )
}

/// The IDs of all client secrets that the status knows and has not removed.
fn known(status: &RotationStatus) -> std::collections::BTreeSet<String> {
    let in_use = [&status.current, &status.pending].into_iter().flatten().map(|it| it.key_id.clone());
    let earlier = status.earlier.iter().map(|it| it.key_id.clone());
    in_use.chain(earlier).collect()
}

#[test]
fn one_that_nothing_records_stays_known_while_entra_shows_it() {
    let other = AppSecret { display_name: Some(display_name("an-earlier-uid", "t")), ..entry("x-id", "") };
    let mut known = using("a");
    known.earlier = vec![EarlierSecret {
        display_name: display_name("an-earlier-uid", "u"),
        ..created("e").into_earlier(None)
    }];
    let found = after_reading(&known, &[shown(&created("a")), other.clone()], UID, &timing(), now());
    let first_seen = found.unknown_secrets[0].first_seen_time.clone();
    assert_eq!((found.unknown_secrets.len(), &first_seen), (1, &Some(Time(now()))));
    // Nothing else of the earlier object is left.
    let later = RotationStatus { earlier: Vec::new(), ..found };
    let kept = after_reading(&later, &[shown(&created("a")), other], UID, &timing(), after(60));
    assert_eq!(kept.unknown_secrets, later.unknown_secrets, "also the time");
    assert!(
        after_reading(&kept, &[shown(&created("a"))], UID, &timing(), after(90)).unknown_secrets.is_empty()
    );
}

#[test]
fn attempts_without_a_response_become_rare_and_leave_room_for_earlier_ones() {
    let attempt = |minutes: u64| CreateAttempt {
        display_name: display_name(UID, &minutes.to_string()),
        start_time: Time(after(minutes)),
        unknown: UnknownFields::default(),
    };
    let with = |attempts: &[u64]| RotationStatus {
        earlier_attempts: attempts.iter().map(|minutes| attempt(*minutes)).collect(),
        ..using("a")
    };
    assert_eq!(next_attempt_at(&using("a"), &timing()), None);
    assert_eq!(next_attempt_at(&with(&[0]), &timing()), Some(after(30)));
    assert_eq!(next_attempt_at(&with(&[0, 30, 90]), &timing()), Some(after(90 + 120)));
    assert_eq!(next_attempt_at(&with(&[0, 1, 2, 3, 4, 5, 6, 7]), &timing()), Some(after(7 + 360)));
    // Those of two days with the longest gap.
    let two_days: Vec<u64> = (0..12).collect();
    assert!(has_room(&with(&two_days)));
    let full = RotationStatus {
        earlier: (0..8).map(|n| created(&n.to_string()).into_earlier(None)).collect(),
        ..using("a")
    };
    assert!(!has_room(&full));
    let kept = full.earlier.iter().cloned().map(|it| EarlierSecret { kept: true, ..it }).collect();
    assert!(has_room(&RotationStatus { earlier: kept, ..using("a") }), "they are never removed");
}

#[test]
fn readings_that_showed_another_client_secret_do_not_count() {
    let mut replaced = using("b");
    replaced.observations =
        Some(Observations { count: 3, last_time: Time(after(6)), ..seen(None, "a", now()) });
    assert!(!is_seen(&replaced, &timing()));
    replaced.current = Some(created("a"));
    assert!(is_seen(&replaced, &timing()));
}

proptest! {
    /// What is forgotten could never be removed.
    #[test]
    fn no_change_but_a_reading_forgets_a_client_secret(status in some_status(), overlap in 0_u64..100) {
        let overlap = Duration::from_hours(overlap);
        let before = known(&status);
        prop_assert_eq!(&known(&after_registration(&status, overlap, now())), &before);
        prop_assert_eq!(&known(&after_switch(&status, overlap, now())), &before);
        prop_assert_eq!(&known(&after_deletion(&status, now())), &before);
        prop_assert_eq!(&known(&without_pending(&status, false, now())), &before);
        for record in [SecretRecord::Missing, unreadable("a", None), readable("a", Some("b")), readable("c", None)] {
            prop_assert!(known(&corrected(status.clone(), &record)).is_superset(&before), "{record:?}");
        }
    }

    /// A reading forgets only what it does not show.
    #[test]
    fn a_reading_forgets_no_client_secret_that_it_shows(status in some_status(), minutes in 0_u64..10_000) {
        let entries: Vec<AppSecret> = known(&status).iter().map(|id| shown(&created(id))).collect();
        let next = after_reading(&status, &entries, UID, &timing(), after(minutes));
        prop_assert!(known(&next).is_superset(&known(&status)));
        prop_assert!(next.unknown_secrets.is_empty());
    }
}
