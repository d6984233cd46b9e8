//! The client secrets of an app at Microsoft Entra, and which of them is the one in a Secret.
//!
//! Microsoft Graph shows no secret: only the ID of each entry, its dates, and the first three characters as `hint`.
//! Source: Microsoft Graph, "passwordCredential resource type".

use std::fmt;

use jiff::Timestamp;

use crate::api::SecretHolder;

/// Characters that `hint` shows. Source: Microsoft Graph, "passwordCredential resource type".
const HINT_LENGTH: usize = 3;

/// A client secret of an app as Graph describes it. Every field may be missing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AppSecret {
    /// Its ID in lower case; the Entra admin center calls it "Secret ID".
    pub key_id: Option<String>,
    /// Its description.
    pub display_name: Option<String>,
    pub hint: Option<Hint>,
    pub starts_at: Option<Timestamp>,
    pub expires_at: Option<Timestamp>,
}

/// The first characters of a client secret. They are part of it, so they are in no log.
#[derive(Clone, PartialEq, Eq)]
pub struct Hint(String);

/// What is known about a client secret that Microsoft issues tokens for.
#[derive(Clone, Debug)]
pub struct Known<'a> {
    /// The ID of its entry, from an earlier reading.
    pub key_id: Option<&'a str>,
    pub hint: Hint,
    /// When Microsoft last issued a token for it: at that time its entry was valid.
    pub verified_at: Option<Timestamp>,
}

/// The entry of a client secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Match {
    /// `None` if several entries match, which expire at the same time, or if it is only likely to be the one.
    pub key_id: Option<String>,
    pub holder: SecretHolder,
    pub expires_at: Timestamp,
    /// How the entry was recognized.
    pub by: MatchedBy,
}

/// How an entry was recognized.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MatchedBy {
    KeyId,
    Hint,
    /// It is the only entry of the app, but has no hint.
    Elimination,
}

/// The result of a search for a client secret among the entries of its app.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Search {
    Found(Match),
    /// Several entries match, and expire at different times.
    Ambiguous {
        matches: usize,
        earliest: Timestamp,
    },
    /// No entry matches, or the one that does has no expiry.
    NotFound,
}

/// The entries of an application and of its service principal in the tenant.
#[derive(Clone, Copy, Debug, Default)]
pub struct Entries<'a> {
    pub application: &'a [AppSecret],
    pub service_principal: &'a [AppSecret],
}

type Tagged<'a> = (SecretHolder, &'a AppSecret);

// === impl Hint ===

impl Hint {
    /// As Graph returns it.
    pub fn new(hint: String) -> Self {
        Self(hint)
    }

    /// The hint that Graph shows for this client secret.
    pub fn of(secret: &str) -> Self {
        Self(secret.chars().take(HINT_LENGTH).collect())
    }
}

impl fmt::Debug for Hint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hint([redacted])")
    }
}

// === impl Entries ===

impl<'a> Entries<'a> {
    fn all(self) -> impl Iterator<Item = Tagged<'a>> {
        let application = self.application.iter().map(|entry| (SecretHolder::Application, entry));
        let principal = self.service_principal.iter().map(|entry| (SecretHolder::ServicePrincipal, entry));
        application.chain(principal)
    }

    /// Searches for the entry of a client secret: by its ID if that is known, else by its hint, else the only one if it
    /// has no hint. Except by its ID, an entry that was not valid when Microsoft issued a token is not found. Without a
    /// token nothing is searched for, because a wrong secret would be found too.
    pub fn search(self, known: &Known<'_>) -> Search {
        let Some(verified_at) = known.verified_at else { return Search::NotFound };
        let possible: Vec<Tagged<'_>> =
            self.all().filter(|(_, entry)| entry.was_valid(verified_at)).collect();
        let has_id = |entry: &AppSecret, id: &str| {
            entry.key_id.as_deref().is_some_and(|it| it.eq_ignore_ascii_case(id))
        };
        let by_id = known.key_id.and_then(|id| self.all().find(|(_, entry)| has_id(entry, id)));
        if let Some(entry) = by_id {
            return one(entry, MatchedBy::KeyId);
        }
        let with_hint: Vec<Tagged<'_>> =
            possible.iter().filter(|(_, entry)| entry.hint.as_ref() == Some(&known.hint)).copied().collect();
        match (with_hint.as_slice(), possible.as_slice()) {
            ([entry], _) => one(*entry, MatchedBy::Hint),
            ([], [(SecretHolder::Application, entry)]) if entry.hint.is_none() && known.key_id.is_none() => {
                one((SecretHolder::Application, entry), MatchedBy::Elimination)
            }
            ([], _) => Search::NotFound,
            (several, _) => among(several, MatchedBy::Hint),
        }
    }
}

// === impl AppSecret ===

impl AppSecret {
    /// Whether it can have been valid then.
    fn was_valid(&self, at: Timestamp) -> bool {
        self.starts_at.is_none_or(|start| start <= at + SKEW)
            && self.expires_at.is_none_or(|end| end + SKEW > at)
    }
}

/// How far Microsoft's clock and ours may differ.
const SKEW: std::time::Duration = std::time::Duration::from_mins(5);

fn one((holder, entry): Tagged<'_>, by: MatchedBy) -> Search {
    entry.expires_at.map_or(Search::NotFound, |expires_at| {
        // The ID of an entry that may be another one is not kept.
        let key_id = entry.key_id.clone().filter(|_| by != MatchedBy::Elimination);
        Search::Found(Match { key_id, holder, expires_at, by })
    })
}

/// Several entries that match alike. If all expire at the same time, it does not matter which one it is.
fn among(several: &[Tagged<'_>], by: MatchedBy) -> Search {
    let ends: Vec<Timestamp> = several.iter().filter_map(|(_, entry)| entry.expires_at).collect();
    let (Some(earliest), Some(latest)) = (ends.iter().min().copied(), ends.iter().max().copied()) else {
        return Search::NotFound;
    };
    if earliest == latest && ends.len() == several.len() {
        return Search::Found(Match { key_id: None, holder: several[0].0, expires_at: earliest, by });
    }
    Search::Ambiguous { matches: several.len(), earliest }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn now() -> Timestamp {
        at("2026-11-24T08:00:00Z")
    }

    fn entry(key_id: &str, hint: Option<&str>, end: &str) -> AppSecret {
        AppSecret {
            display_name: None,
            key_id: Some(key_id.into()),
            hint: hint.map(|hint| Hint::new(hint.into())),
            starts_at: Some(at("2025-01-01T00:00:00Z")),
            expires_at: Some(at(end)),
        }
    }

    fn known(secret: &str) -> Known<'static> {
        Known { key_id: None, hint: Hint::of(secret), verified_at: Some(now()) }
    }

    fn search(application: &[AppSecret], known: &Known<'_>) -> Search {
        Entries { application, service_principal: &[] }.search(known)
    }

    fn found(search: Search) -> (Option<String>, MatchedBy) {
        let Search::Found(found) = search else { panic!("{search:?}") };
        (found.key_id, found.by)
    }

    #[test]
    fn a_known_id_is_exact_in_any_case_even_after_the_end() {
        let all = [
            entry("ab", Some("xyz"), "2026-01-01T00:00:00Z"),
            entry("cd", Some("abc"), "2027-01-01T00:00:00Z"),
        ];
        let known = Known { key_id: Some("AB"), ..known("abc~secret") };
        assert_eq!(found(search(&all, &known)), (Some("ab".into()), MatchedBy::KeyId));
    }

    #[test]
    fn the_hint_is_the_first_three_characters_not_bytes() {
        let all = [
            entry("ab", Some("é~-"), "2027-01-01T00:00:00Z"),
            entry("cd", Some("abc"), "2027-02-01T00:00:00Z"),
        ];
        assert_eq!(found(search(&all, &known("é~-rest"))), (Some("ab".into()), MatchedBy::Hint));
        assert_eq!(search(&all, &known("Abc")), Search::NotFound, "upper and lower case differ");
    }

    #[test]
    fn an_entry_that_was_not_valid_is_left_out_and_nothing_is_searched_for_without_a_token() {
        let mut future = entry("cd", Some("abc"), "2028-01-01T00:00:00Z");
        future.starts_at = Some(at("2027-01-01T00:00:00Z"));
        let all = [
            entry("ab", Some("abc"), "2026-01-01T00:00:00Z"),
            future,
            entry("ef", Some("abc"), "2027-05-01T00:00:00Z"),
        ];
        assert_eq!(found(search(&all, &known("abcd"))), (Some("ef".into()), MatchedBy::Hint));
        let unverified = Known { verified_at: None, ..known("abcd") };
        assert_eq!(search(&all, &unverified), Search::NotFound);
    }

    #[test]
    fn another_entry_takes_the_place_of_one_that_is_gone_only_by_its_hint() {
        let gone = Known { key_id: Some("zz"), ..known("abcd") };
        assert_eq!(search(&[entry("ab", None, "2027-05-01T00:00:00Z")], &gone), Search::NotFound);
        let alike = [entry("ab", Some("abc"), "2027-05-01T00:00:00Z")];
        assert_eq!(found(search(&alike, &gone)), (Some("ab".into()), MatchedBy::Hint));
    }

    #[test]
    fn several_matches_are_ambiguous_unless_they_expire_together() {
        let all = [
            entry("ab", Some("abc"), "2027-05-01T00:00:00Z"),
            entry("cd", Some("abc"), "2027-02-01T00:00:00Z"),
        ];
        let earliest = at("2027-02-01T00:00:00Z");
        assert_eq!(search(&all, &known("abcd")), Search::Ambiguous { matches: 2, earliest });
        let alike = [all[0].clone(), entry("cd", Some("abc"), "2027-05-01T00:00:00Z")];
        assert_eq!(found(search(&alike, &known("abcd"))), (None, MatchedBy::Hint));
    }

    #[test]
    fn the_only_entry_without_a_hint_is_assumed_for_a_verified_secret_only() {
        let only = [entry("ab", None, "2027-05-01T00:00:00Z")];
        assert_eq!(found(search(&only, &known("abcd"))), (None, MatchedBy::Elimination));
        assert_eq!(search(&only, &Known { verified_at: None, ..known("abcd") }), Search::NotFound);
        let other = entry("cd", Some("xyz"), "2027-02-01T00:00:00Z");
        assert_eq!(search(&[only[0].clone(), other.clone()], &known("abcd")), Search::NotFound);
        let both = Entries { application: &only, service_principal: &[other] }.search(&known("abcd"));
        assert_eq!(both, Search::NotFound);
        let principal = Entries { application: &[], service_principal: &only }.search(&known("abcd"));
        assert_eq!(principal, Search::NotFound, "it may be of single sign-on");
    }

    #[test]
    fn a_secret_of_the_service_principal_is_found_there() {
        let principal = [entry("ef", Some("abc"), "2027-01-01T00:00:00Z")];
        let application = [entry("ab", Some("xyz"), "2027-05-01T00:00:00Z")];
        let Search::Found(found) =
            Entries { application: &application, service_principal: &principal }.search(&known("abcd"))
        else {
            panic!()
        };
        assert_eq!((found.holder, found.key_id.as_deref()), (SecretHolder::ServicePrincipal, Some("ef")));
    }

    #[test]
    fn an_entry_without_an_expiry_says_nothing() {
        let endless = AppSecret { expires_at: None, ..entry("ab", Some("abc"), "2027-01-01T00:00:00Z") };
        assert_eq!(search(std::slice::from_ref(&endless), &known("abcd")), Search::NotFound);
        let all = [endless, entry("cd", Some("abc"), "2027-01-01T00:00:00Z")];
        assert!(matches!(search(&all, &known("abcd")), Search::Ambiguous { .. }));
        assert_eq!(search(&[], &known("abcd")), Search::NotFound);
    }

    #[test]
    fn a_hint_is_not_logged() {
        assert!(!format!("{:?}", entry("ab", Some("a~b"), "2027-01-01T00:00:00Z")).contains("a~b"));
    }
}
