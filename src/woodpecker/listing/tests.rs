use crate::api::MAX_NAME_LENGTH;
use crate::core::remote::{name_with_token, split_token};
use crate::woodpecker::listing::*;
use crate::woodpecker::testing::identity;

const TENANT: &str = "bbfb2db7-aaf4-4f7c-9dc2-2c9160d1cb32";
const CLIENT: &str = "e1c6ac69-480e-4a17-9b85-3467967bd179";
const LONG: Duration = Duration::from_hours(1);

fn entry(id: i64, client: &str, name: &str) -> Entry {
    Entry { id, tenant: TENANT.into(), client: client.into(), name: name.into(), expires_at: None }
}

fn ids(entries: Vec<Entry>) -> Vec<i64> {
    entries.into_iter().map(|entry| entry.id).collect()
}

#[tokio::test(start_paused = true)]
async fn entries_are_found_by_id_app_and_token_with_later_writes_applied() {
    let (tenant, client) = (TENANT.parse().unwrap(), CLIENT.parse().unwrap());
    let slot = Listings::default().of(&identity(1, None));
    slot.add(entry(1, CLIENT, ""));
    assert!(slot.listing(LONG).is_none(), "a write alone is no listing");
    let listed = [entry(3, CLIENT, "x [abc] y [def]"), entry(1, CLIENT, "[a[abc]"), entry(2, "other", "abc")];
    slot.put(Instant::now(), listed.into_iter().collect());
    let listing = slot.listing(LONG).unwrap();
    assert_eq!(ids(listing.for_app(&tenant, &client)), [1, 3]);
    assert_eq!((ids(listing.with_token("abc")), ids(listing.with_token("def"))), (vec![1, 3], vec![3]));
    assert_eq!(ids(listing.related_to(&tenant, &client, ["abc"])), [1, 3], "each once");
    slot.add(entry(4, CLIENT, "z [abc]"));
    slot.rename(3, "x");
    slot.remove(1);
    assert_eq!(ids(listing.for_app(&tenant, &client)), [3, 4]);
    assert_eq!((ids(listing.with_token("abc")), ids(listing.with_token("def"))), (vec![4], vec![]));
    assert_eq!(listing.get(3), Some(entry(3, CLIENT, "x")));
    assert!(listing.contains(2) && !listing.contains(1));
    tokio::time::advance(LONG * 2).await;
    assert!(slot.listing(LONG).is_none());
}

#[tokio::test(start_paused = true)]
async fn a_listing_that_lags_shows_the_operators_writes_of_the_settle_period() {
    let settle_period = Duration::from_mins(2);
    let slot = Listings::new(settle_period).of(&identity(1, None));
    let relist = || {
        let lagging = [entry(1, CLIENT, "one"), entry(2, CLIENT, "two")];
        slot.put(Instant::now(), lagging.into_iter().collect());
        let (mut shown, listing) = (Vec::new(), slot.listing(LONG).unwrap());
        listing.for_each(|entry| shown.push(format!("{} {}", entry.id, entry.name)));
        shown
    };
    slot.remove(1);
    slot.rename(2, "renamed");
    slot.add(entry(3, CLIENT, "three"));
    slot.rename(3, "named");
    slot.add(entry(4, CLIENT, "four"));
    assert_eq!(relist(), ["2 renamed", "3 named", "4 four"]);
    slot.forget_writes(4);
    assert_eq!(relist(), ["2 renamed", "3 named"], "Woodpecker says that it does not exist");
    tokio::time::advance(settle_period).await;
    assert_eq!(relist(), ["1 one", "2 two"]);
}

#[tokio::test(start_paused = true)]
async fn accounts_share_a_credential_as_long_as_both_listings_show_it() {
    let listings = Listings::default();
    let (one, other) = (listings.of(&identity(1, None)), listings.of(&identity(2, None)));
    let put = |slot: &LastListing, entries: &[Entry]| {
        slot.put(Instant::now(), entries.iter().cloned().collect());
        slot.listing(LONG).unwrap()
    };
    let own = put(&one, &[entry(1, CLIENT, ""), entry(2, CLIENT, "")]);
    let sharing = || listings.sharing(&identity(1, None), &own, LONG);
    put(&other, &[entry(2, "another app", "")]);
    assert!(sharing().is_empty(), "an id alone says nothing");
    other.add(entry(1, CLIENT, "by another name"));
    assert_eq!(sharing(), [identity(2, None)]);
    other.remove(1);
    assert!(sharing().is_empty());
    put(&other, &[entry(1, CLIENT, "")]);
    assert_eq!(sharing(), [identity(2, None)]);
    other.forget();
    assert!(sharing().is_empty());
    put(&other, &[entry(1, CLIENT, "")]);
    drop(other);
    assert!(sharing().is_empty());
    assert_eq!(listings.0.lock().shown_by.len(), 2, "nothing of it is left");
}

#[test]
fn a_token_is_found_where_a_create_puts_it_and_nowhere_else() {
    let name = name_with_token("MS Graph app", "abcdefghjk29");
    assert_eq!(split_token(&name), Some(("MS Graph app", "abcdefghjk29")));
    assert_eq!(split_token("a [b] [abcdefghjk29]"), Some(("a [b]", "abcdefghjk29")));
    for name in [
        "",
        "[abcdefghjk29]",
        "x[abcdefghjk29]",
        "x [abcdefghjk29] y",
        "x [abcdefghjk2]",
        "x [abcdefghjk290]",
        "x [abcdefghjk0l]",
        "x [ABCDEFGHJK29]",
        "x [abcdefghjk\u{e4}]",
    ] {
        assert_eq!(split_token(name), None, "{name}");
    }
}

#[test]
fn a_long_name_is_truncated_and_keeps_the_token_whole() {
    for plain in ["x".repeat(238), "x".repeat(239), "x".repeat(400), "\u{e4}".repeat(400)] {
        let name = name_with_token(&plain, "abcdefghjk29");
        assert_eq!(name.chars().count(), MAX_NAME_LENGTH, "{name}");
        let (shown, token) = split_token(&name).unwrap();
        assert!(plain.starts_with(shown) && token == "abcdefghjk29", "{name}");
    }
    assert_eq!(name_with_token(&"x".repeat(237), "abcdefghjk29").len(), 252, "a short name is not truncated");
}
