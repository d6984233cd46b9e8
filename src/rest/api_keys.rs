//! API keys and their accounts.
//!
//! One Secret contains them, each in an entry `<namespace>.<name>`. The process keeps only digests, under a random key that
//! lives as long as the process, and compares a key with all of them in constant time.

use std::collections::BTreeMap;
use std::sync::Arc;

use hmac::{HmacReset, KeyInit, Mac};
use sha2::Sha256;
use subtle::ConstantTimeEq;

use crate::config::ObjectName;
use crate::secret_text::SecretBytes;

/// Shortest API key, in bytes: shorter ones can be guessed.
const MIN_LENGTH: usize = 16;

/// Longest API key, in bytes.
const MAX_LENGTH: usize = 512;

/// The account of a request.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Account {
    /// The namespace whose credentials the key grants access to.
    pub namespace: String,
    /// The key's name, never the key itself.
    pub key: String,
}

/// The digests of all API keys.
#[derive(Default)]
pub struct ApiKeys {
    digest_key: [u8; 32],
    entries: Vec<(Digest, Arc<Account>)>,
}

/// An entry of the Secret that cannot be used, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RejectedEntry {
    /// Its key in the Secret's `data`.
    pub entry: String,
    pub reason: &'static str,
}

type Digest = [u8; 32];

// === impl ApiKeys ===

impl ApiKeys {
    /// Reads the entries of the Secret. If `served` is not empty, keys of other namespaces are rejected.
    pub fn read<'a>(
        data: impl Iterator<Item = (&'a str, &'a SecretBytes)>,
        served: &[String],
    ) -> Result<(Self, Vec<RejectedEntry>), getrandom::Error> {
        let mut digest_key = [0; 32];
        getrandom::fill(&mut digest_key)?;
        let mut usable: BTreeMap<Digest, Vec<(String, Account)>> = BTreeMap::new();
        let mut rejected = Vec::new();
        for (entry, bytes) in data {
            match account(entry, served).and_then(|account| check(bytes).map(|()| account)) {
                Ok(account) => {
                    let same = usable.entry(digest(&digest_key, bytes.expose())).or_default();
                    same.push((entry.to_owned(), account));
                }
                Err(reason) => rejected.push(RejectedEntry { entry: entry.to_owned(), reason }),
            }
        }
        let mut entries = Vec::new();
        for (digest, same) in usable {
            match <[_; 1]>::try_from(same) {
                Ok([(_, account)]) => entries.push((digest, Arc::new(account))),
                Err(same) => rejected.extend(same.into_iter().map(|(entry, _)| RejectedEntry {
                    entry,
                    reason: "another entry contains the same key: create a separate key for each entry",
                })),
            }
        }
        Ok((Self { digest_key, entries }, rejected))
    }

    /// The account of an API key, if it is one.
    pub fn authenticate(&self, key: &[u8]) -> Option<Arc<Account>> {
        let given = digest(&self.digest_key, key);
        let mut found = None;
        // No early exit, so that the time does not depend on the key.
        for (digest, account) in &self.entries {
            if bool::from(digest.ct_eq(&given)) {
                found = Some(account.clone());
            }
        }
        found
    }

    /// All accounts, sorted by namespace and name.
    pub fn accounts(&self) -> Vec<Arc<Account>> {
        let mut accounts: Vec<_> = self.entries.iter().map(|(_, account)| account.clone()).collect();
        accounts.sort();
        accounts
    }
}

impl std::fmt::Debug for ApiKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ApiKeys").field("accounts", &self.accounts()).finish_non_exhaustive()
    }
}

/// The name of a namespace contains no dot, so the first one ends it.
fn account(entry: &str, served: &[String]) -> Result<Account, &'static str> {
    let names = entry.split_once('.').filter(|(namespace, key)| is_namespace(namespace) && !key.is_empty());
    let Some((namespace, key)) = names else {
        return Err("its name is not <namespace>.<name>, such as mail.ci");
    };
    if !served.is_empty() && !served.iter().any(|it| it == namespace) {
        return Err("its namespace is not served: see --watch-namespace");
    }
    Ok(Account { namespace: namespace.to_owned(), key: key.to_owned() })
}

fn is_namespace(text: &str) -> bool {
    text.len() <= 63 && text.parse::<ObjectName>().is_ok()
}

/// Checks that the key can be sent in a header, and is not too easy to guess.
fn check(bytes: &SecretBytes) -> Result<(), &'static str> {
    let key = bytes.expose();
    if !key.iter().all(u8::is_ascii_graphic) {
        return Err("the key contains white space, a line break or other characters than visible ASCII");
    }
    if (MIN_LENGTH..=MAX_LENGTH).contains(&key.len()) {
        Ok(())
    } else {
        Err("the key is not 16 to 512 characters long")
    }
}

fn digest(digest_key: &[u8; 32], api_key: &[u8]) -> Digest {
    // HMAC accepts keys of any length, so the fallback is never used.
    let mut mac =
        HmacReset::<Sha256>::new_from_slice(digest_key).unwrap_or_else(|_| HmacReset::new(&[0; 64].into()));
    mac.update(api_key);
    // In place: a move leaves a copy of the key on the stack, which nothing wipes.
    mac.finalize_reset().into_bytes().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "0123456789abcdef";

    fn keys(entries: &[(&str, &str)], served: &[&str]) -> (ApiKeys, Vec<RejectedEntry>) {
        let data: Vec<(&str, SecretBytes)> =
            entries.iter().map(|(name, key)| (*name, SecretBytes::new(key.as_bytes().to_vec()))).collect();
        let served: Vec<String> = served.iter().map(|it| (*it).to_owned()).collect();
        ApiKeys::read(data.iter().map(|(name, bytes)| (*name, bytes)), &served).unwrap()
    }

    fn account_of(keys: &ApiKeys, key: &str) -> Option<String> {
        keys.authenticate(key.as_bytes()).map(|account| format!("{} by {}", account.namespace, account.key))
    }

    #[test]
    fn a_key_grants_access_to_its_namespace_and_no_other_text_does() {
        let other = "fedcba9876543210";
        let (keys, rejected) = keys(&[("mail.ci", KEY), ("sales.jo.laptop", other)], &[]);
        assert_eq!(rejected, []);
        assert_eq!(account_of(&keys, KEY).as_deref(), Some("mail by ci"));
        assert_eq!(account_of(&keys, other).as_deref(), Some("sales by jo.laptop"));
        for wrong in ["", "0123456789abcde", "0123456789abcdef0", "0123456789ABCDEF", " 0123456789abcdef"] {
            assert_eq!(account_of(&keys, wrong), None, "{wrong:?}");
        }
        let shown = format!("{keys:?}");
        assert!(shown.contains("mail") && !shown.contains(KEY), "{shown}");
    }

    #[test]
    fn invalid_entries_grant_no_access_and_are_named() {
        let short = "0123456789abcde";
        let (keys, rejected) = keys(
            &[
                ("mail", KEY),
                (".ci", KEY),
                ("Mail.ci", KEY),
                ("mail.", KEY),
                ("mail.short", short),
                ("mail.line", "0123456789abcdef\n"),
                ("mail.umlaut", "0123456789abcdefü"),
                ("other.ci", KEY),
            ],
            &["mail"],
        );
        assert!(keys.accounts().is_empty());
        assert_eq!(rejected.len(), 8);
        assert!(!format!("{rejected:?}").contains(short));
    }

    #[test]
    fn a_key_in_two_entries_grants_no_access() {
        let (keys, rejected) =
            keys(&[("mail.ci", KEY), ("sales.ci", KEY), ("mail.b", "another-key-of-16")], &[]);
        assert_eq!(account_of(&keys, KEY), None);
        assert_eq!(rejected.len(), 2);
        assert_eq!(keys.accounts().len(), 1);
    }
}
