//! What every object holds at remote accounts: registered, on its way there or on its way out. The one place
//! that says whose a credential is.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::index::Named;
use crate::resources::{AccountName, MicrosoftGraphCredentialStatus, Pending, Place};
use crate::woodpecker::Entry;

/// A credential at a remote account that an object holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holding {
    /// Where.
    pub place: Place,
    /// Its id.
    pub id: i64,
    /// Whether it is the registration, rather than an earlier one that is still to be removed.
    pub is_current: bool,
}

/// What all objects hold, by their uids.
#[derive(Debug, Default)]
pub struct Holdings {
    books: Mutex<Books>,
}

#[derive(Debug, Default)]
struct Books {
    by_uid: HashMap<String, Holder>,
    /// Objects that are gone, and since when: what a pass under way still says of them comes too late.
    gone: HashMap<String, Instant>,
}

/// Longer than any pass.
const GONE_FOR_GOOD: Duration = Duration::from_hours(1);

#[derive(Debug)]
struct Holder {
    name: Named,
    version: Option<u64>,
    holdings: Vec<Holding>,
    /// Whether what it holds is removed together with it.
    removes: bool,
    pending: Option<Pending>,
}

/// What an object says of itself.
#[derive(Clone, Debug)]
pub struct Word {
    /// Its name.
    pub name: Named,
    /// Its resource version: later word counts.
    pub version: Option<String>,
    /// What it holds.
    pub holdings: Vec<Holding>,
    /// Whether what it holds is removed together with it.
    pub removes: bool,
    /// The create under way for it, whose outcome is not known.
    pub pending: Option<Pending>,
}

/// What a status says to be held.
pub fn held(status: &MicrosoftGraphCredentialStatus) -> Vec<Holding> {
    let current = status.registration.iter().map(|registration| (registration, true));
    let earlier = status.retiring.iter().map(|registration| (registration, false));
    current
        .chain(earlier)
        .filter_map(|(registration, is_current)| {
            Some(Holding { place: registration.place()?, id: registration.credential_id, is_current })
        })
        .collect()
}

// === impl Holdings ===

impl Holdings {
    /// Takes in what an object says, unless later word is known. Returns the accounts for which that changed
    /// anything.
    pub fn put(&self, uid: &str, word: Word) -> Vec<AccountName> {
        let Word { name, version, holdings, removes, pending } = word;
        let version = version.and_then(|version| version.parse().ok());
        let mut books = self.lock();
        if books.gone.contains_key(uid) {
            return Vec::new();
        }
        let before = books.by_uid.get(uid);
        if before.is_some_and(|before| version.is_some() && version < before.version) {
            return Vec::new();
        }
        let changed = match before {
            Some(before) if before.removes != removes => accounts_of(before.holdings.iter().chain(&holdings)),
            Some(before) => accounts_that_differ(&before.holdings, &holdings),
            None => accounts_of(&holdings),
        };
        books.by_uid.insert(uid.to_owned(), Holder { name, version, holdings, removes, pending });
        changed
    }

    /// Forgets an object that is gone, or what it held. Returns the accounts for which that changed anything.
    pub fn remove(&self, uid: &str) -> Vec<AccountName> {
        let gone = self.lock().by_uid.remove(uid);
        gone.map(|holder| accounts_of(&holder.holdings)).unwrap_or_default()
    }

    /// Forgets an object that is gone for good.
    pub fn bury(&self, uid: &str) -> Vec<AccountName> {
        let mut books = self.lock();
        books.gone.retain(|_, since| since.elapsed() < GONE_FOR_GOOD);
        books.gone.insert(uid.to_owned(), Instant::now());
        let gone = books.by_uid.remove(uid);
        gone.map(|holder| accounts_of(&holder.holdings)).unwrap_or_default()
    }

    /// Another object than that one whose create under way has given the credential its name.
    pub fn other_maker(&self, uid: &str, entry: &Entry) -> Option<Named> {
        let all = &self.lock().by_uid;
        let made = |holder: &Holder| holder.pending.as_ref().is_some_and(|it| entry.carries(&it.token));
        all.iter()
            .find(|(other, holder)| *other != uid && made(holder))
            .map(|(_, holder)| holder.name.clone())
    }

    /// Another object than that one which holds the credential of that id behind that address. Ids are not
    /// known to be unique over accounts, so accounts are not told apart.
    pub fn other_holder(&self, uid: &str, place: &Place, id: i64) -> Option<Named> {
        let all = &self.lock().by_uid;
        let holds = |holder: &Holder| {
            holder.holdings.iter().any(|it| it.id == id && it.place.base_url == place.base_url)
        };
        all.iter()
            .find(|(other, holder)| *other != uid && holds(holder))
            .map(|(_, holder)| holder.name.clone())
    }

    /// Whether the credential of that id is what any object has registered now.
    pub fn is_current(&self, place: &Place, id: i64) -> bool {
        let all = &self.lock().by_uid;
        let is_it = |it: &Holding| it.is_current && it.id == id && it.place.base_url == place.base_url;
        all.values().flat_map(|holder| &holder.holdings).any(is_it)
    }

    /// Whether any object has something at the account that is removed together with it.
    pub fn are_to_be_removed_at(&self, account: &AccountName) -> bool {
        self.removers_at(account, 1) == 1
    }

    /// Whether at most one object has.
    pub fn are_few_to_be_removed_at(&self, account: &AccountName) -> bool {
        self.removers_at(account, 2) < 2
    }

    fn removers_at(&self, account: &AccountName, at_most: usize) -> usize {
        let all = &self.lock().by_uid;
        let has_any = |holder: &&Holder| {
            let is_there = holder.holdings.iter().any(|it| it.place.account == *account);
            is_there || holder.pending.as_ref().is_some_and(|it| it.account == *account)
        };
        all.values().filter(|holder| holder.removes).filter(has_any).take(at_most).count()
    }

    /// The ids held at an account: those registered, and those that are still to be removed as well.
    pub fn ids_at(&self, account: &AccountName) -> Vec<i64> {
        self.at(account, |_| true)
    }

    /// The ids registered at an account.
    pub fn registered_at(&self, account: &AccountName) -> Vec<i64> {
        self.at(account, |holding| holding.is_current)
    }

    fn at(&self, account: &AccountName, is_wanted: impl Fn(&Holding) -> bool) -> Vec<i64> {
        let all = &self.lock().by_uid;
        let holdings = all.values().flat_map(|holder| &holder.holdings);
        holdings.filter(|it| it.place.account == *account && is_wanted(it)).map(|it| it.id).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn accounts_that_differ(old: &[Holding], new: &[Holding]) -> Vec<AccountName> {
    let at = |holdings: &[Holding], account: &AccountName| -> Vec<Holding> {
        holdings.iter().filter(|it| it.place.account == *account).cloned().collect()
    };
    let mut accounts = accounts_of(old.iter().chain(new));
    accounts.retain(|account| at(old, account) != at(new, account));
    accounts
}

fn accounts_of<'a>(holdings: impl IntoIterator<Item = &'a Holding>) -> Vec<AccountName> {
    let mut accounts: Vec<AccountName> = holdings.into_iter().map(|it| it.place.account.clone()).collect();
    accounts.sort();
    accounts.dedup();
    accounts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(name: &str) -> Place {
        let account = AccountName { namespace: "mail".into(), name: name.into() };
        Place { account, base_url: "https://a.example".into(), company_id: None }
    }

    fn holding(account: &str, id: i64, is_current: bool) -> Holding {
        Holding { place: place(account), id, is_current }
    }

    fn named(name: &str) -> Named {
        Named { namespace: "mail".into(), name: name.into() }
    }

    fn word(version: Option<&str>, holdings: Vec<Holding>) -> Word {
        let name = Named { namespace: "mail".into(), name: "x".into() };
        Word { name, version: version.map(str::to_owned), holdings, removes: false, pending: None }
    }

    #[test]
    fn an_account_is_in_use_while_something_there_is_to_be_removed_with_its_object() {
        let holdings = Holdings::default();
        let a = place("a").account;
        let retained = word(Some("1"), vec![holding("a", 1, true)]);
        holdings.put("u", retained.clone());
        assert!(!holdings.are_to_be_removed_at(&a));
        let changed = holdings.put("u", Word { version: Some("2".into()), removes: true, ..retained });
        assert_eq!((changed, holdings.are_to_be_removed_at(&a)), (vec![a], true));
    }

    #[test]
    fn a_move_changes_both_accounts_and_leaves_nothing_behind() {
        let holdings = Holdings::default();
        let a = place("a").account;
        assert_eq!(holdings.put("u", word(Some("1"), vec![holding("a", 1, true)])).len(), 1);
        assert!(holdings.put("u", word(Some("2"), vec![holding("a", 1, true)])).is_empty());
        let moved = vec![holding("b", 2, true), holding("a", 1, false)];
        assert_eq!(holdings.put("u", word(Some("3"), moved)), [a.clone(), place("b").account]);
        assert_eq!((holdings.ids_at(&a), holdings.registered_at(&a)), (vec![1], vec![]));
        holdings.put("u", word(Some("4"), vec![holding("b", 2, true)]));
        assert!(holdings.ids_at(&a).is_empty());
    }

    #[test]
    fn older_word_does_not_undo_newer() {
        let holdings = Holdings::default();
        holdings.put("u", word(Some("10"), vec![holding("a", 1, true)]));
        assert!(holdings.put("u", word(Some("9"), vec![])).is_empty());
        assert!(holdings.is_current(&place("a"), 1));
    }

    #[test]
    fn a_credential_has_one_holder_whatever_the_account_is_called() {
        let holdings = Holdings::default();
        holdings.put("u", word(None, vec![holding("a", 1, false)]));
        assert_eq!(holdings.other_holder("v", &place("another-name"), 1), Some(named("x")));
        assert_eq!(holdings.other_holder("u", &place("a"), 1), None);
        assert!(!holdings.is_current(&place("a"), 1), "it is on its way out");
        assert_eq!(holdings.remove("u"), [place("a").account]);
        assert_eq!(holdings.other_holder("v", &place("a"), 1), None);
    }
}
