use super::*;
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
async fn an_entry_is_found_by_id_by_app_and_by_token_as_our_own_writes_leave_it() {
    let (tenant, client) = (TENANT.parse().unwrap(), CLIENT.parse().unwrap());
    let place = Listings::default().of(&identity(1, None));
    place.add(entry(1, CLIENT, ""));
    assert!(place.listing(LONG).is_none(), "a write alone is no listing");
    let listed = [entry(3, CLIENT, "x [abc] y [def]"), entry(1, CLIENT, "[a[abc]"), entry(2, "other", "abc")];
    place.put(Instant::now(), listed.into_iter().collect());
    let listing = place.listing(LONG).unwrap();
    assert_eq!(ids(listing.for_app(&tenant, &client)), [1, 3]);
    assert_eq!((ids(listing.with_token("abc")), ids(listing.with_token("def"))), (vec![1, 3], vec![3]));
    assert_eq!(ids(listing.about(&tenant, &client, ["abc"])), [1, 3], "each once");
    place.add(entry(4, CLIENT, "z [abc]"));
    place.rename(3, "x");
    place.remove(1);
    assert_eq!(ids(listing.for_app(&tenant, &client)), [3, 4]);
    assert_eq!((ids(listing.with_token("abc")), ids(listing.with_token("def"))), (vec![4], vec![]));
    assert_eq!(listing.get(3), Some(entry(3, CLIENT, "x")));
    assert!(listing.contains(2) && !listing.contains(1));
    tokio::time::advance(LONG * 2).await;
    assert!(place.listing(LONG).is_none());
}

#[tokio::test(start_paused = true)]
async fn accounts_that_show_the_same_credential_are_found_by_it_until_they_show_it_no_more() {
    let listings = Listings::default();
    let (one, other) = (listings.of(&identity(1, None)), listings.of(&identity(2, None)));
    let put = |place: &LastListing, entries: &[Entry]| {
        place.put(Instant::now(), entries.iter().cloned().collect());
        place.listing(LONG).unwrap()
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
    assert_eq!(listings.0.lock().shown.len(), 2, "nothing of it is left");
}

#[test]
fn a_mark_is_found_where_a_create_puts_it_and_nowhere_else() {
    let name = marked("MS Graph app", "abcdefghjk29");
    assert_eq!(unmarked(&name), Some(("MS Graph app", "abcdefghjk29")));
    assert_eq!(unmarked("a [b] [abcdefghjk29]"), Some(("a [b]", "abcdefghjk29")));
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
        assert_eq!(unmarked(name), None, "{name}");
    }
}

#[test]
fn a_long_name_is_cut_off_and_keeps_the_mark_whole() {
    for plain in ["x".repeat(238), "x".repeat(239), "x".repeat(400), "\u{e4}".repeat(400)] {
        let name = marked(&plain, "abcdefghjk29");
        assert_eq!(name.chars().count(), MAX_NAME_LENGTH, "{name}");
        let (shown, token) = unmarked(&name).unwrap();
        assert!(plain.starts_with(shown) && token == "abcdefghjk29", "{name}");
    }
    assert_eq!(marked(&"x".repeat(237), "abcdefghjk29").len(), 252, "what is short enough is not cut off");
}
