//! API keys: whose account a key opens. PURE but for the randomness under which they are compared.
//!
//! They stand in one Secret, each under `<namespace>.<name>`. Held are digests alone, under a random key that lives as long
//! as the process, and a key is compared with all of them in constant time.

use std::collections::BTreeMap;
use std::sync::Arc;

use hmac::{HmacReset, KeyInit, Mac};
use sha2::Sha256;
use subtle::ConstantTimeEq;

use crate::secret::SecretBytes;
use crate::settings::ObjectName;

/// Shortest API key, in bytes: what is shorter can be guessed.
const SHORTEST: usize = 16;

/// Longest API key, in bytes.
const LONGEST: usize = 512;

/// Whose request it is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Account {
    /// The namespace whose credentials the key opens.
    pub namespace: String,
    /// The key's name, never the key itself.
    pub key: String,
}

/// All API keys, by their digests. Without any it opens nothing.
#[derive(Default)]
pub struct ApiKeys {
    digest_key: [u8; 32],
    entries: Vec<(Digest, Arc<Account>)>,
}

/// An entry of the Secret that opens nothing, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unusable {
    /// Its key in the Secret's data.
    pub entry: String,
    /// What is wrong with it.
    pub why: &'static str,
}

type Digest = [u8; 32];

// === impl ApiKeys ===

impl ApiKeys {
    /// Reads the entries of the Secret. With `served`, keys of other namespaces are not usable.
    pub fn read<'a>(
        data: impl Iterator<Item = (&'a str, &'a SecretBytes)>,
        served: &[String],
    ) -> Result<(Self, Vec<Unusable>), getrandom::Error> {
        let mut digest_key = [0; 32];
        getrandom::fill(&mut digest_key)?;
        let mut usable: BTreeMap<Digest, Vec<(String, Account)>> = BTreeMap::new();
        let mut unusable = Vec::new();
        for (entry, bytes) in data {
            match account(entry, served).and_then(|account| check(bytes).map(|()| account)) {
                Ok(account) => {
                    let same = usable.entry(digest(&digest_key, bytes.expose())).or_default();
                    same.push((entry.to_owned(), account));
                }
                Err(why) => unusable.push(Unusable { entry: entry.to_owned(), why }),
            }
        }
        let mut entries = Vec::new();
        for (digest, same) in usable {
            match <[_; 1]>::try_from(same) {
                Ok([(_, account)]) => entries.push((digest, Arc::new(account))),
                Err(same) => unusable.extend(same.into_iter().map(|(entry, _)| Unusable {
                    entry,
                    why: "another entry holds the same key: give each a key of its own",
                })),
            }
        }
        Ok((Self { digest_key, entries }, unusable))
    }

    pub fn account_of(&self, key: &[u8]) -> Option<Arc<Account>> {
        let given = digest(&self.digest_key, key);
        let mut found = None;
        // All are looked at, whichever it is.
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

/// A namespace has no dot in its name, so the first one ends it.
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

/// Whether the bytes can be sent in a header and not be guessed.
fn check(bytes: &SecretBytes) -> Result<(), &'static str> {
    let key = bytes.expose();
    if !key.iter().all(u8::is_ascii_graphic) {
        return Err(
            "the key holds white space, a line break or something else than visible ASCII characters",
        );
    }
    if (SHORTEST..=LONGEST).contains(&key.len()) {
        Ok(())
    } else {
        Err("the key is not 16 to 512 characters long")
    }
}

fn digest(digest_key: &[u8; 32], api_key: &[u8]) -> Digest {
    // An HMAC takes a key of any length, so the fall-back is never reached.
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

    fn keys(entries: &[(&str, &str)], served: &[&str]) -> (ApiKeys, Vec<Unusable>) {
        let data: Vec<(&str, SecretBytes)> =
            entries.iter().map(|(name, key)| (*name, SecretBytes::new(key.as_bytes().to_vec()))).collect();
        let served: Vec<String> = served.iter().map(|it| (*it).to_owned()).collect();
        ApiKeys::read(data.iter().map(|(name, bytes)| (*name, bytes)), &served).unwrap()
    }

    fn opens(keys: &ApiKeys, key: &str) -> Option<String> {
        keys.account_of(key.as_bytes()).map(|account| format!("{} by {}", account.namespace, account.key))
    }

    #[test]
    fn a_key_opens_the_account_of_its_namespace_and_no_other_text_does() {
        let other = "fedcba9876543210";
        let (keys, unusable) = keys(&[("mail.ci", KEY), ("sales.jo.laptop", other)], &[]);
        assert_eq!(unusable, []);
        assert_eq!(opens(&keys, KEY).as_deref(), Some("mail by ci"));
        assert_eq!(opens(&keys, other).as_deref(), Some("sales by jo.laptop"));
        for wrong in ["", "0123456789abcde", "0123456789abcdef0", "0123456789ABCDEF", " 0123456789abcdef"] {
            assert_eq!(opens(&keys, wrong), None, "{wrong:?}");
        }
        let shown = format!("{keys:?}");
        assert!(shown.contains("mail") && !shown.contains(KEY), "{shown}");
    }

    #[test]
    fn what_is_no_proper_entry_opens_nothing_and_is_named() {
        let short = "0123456789abcde";
        let (keys, unusable) = keys(
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
        assert_eq!(unusable.len(), 8);
        assert!(!format!("{unusable:?}").contains(short));
    }

    #[test]
    fn a_key_that_stands_twice_opens_neither() {
        let (keys, unusable) =
            keys(&[("mail.ci", KEY), ("sales.ci", KEY), ("mail.b", "another-key-of-16")], &[]);
        assert_eq!(opens(&keys, KEY), None);
        assert_eq!(unusable.len(), 2);
        assert_eq!(keys.accounts().len(), 1);
    }
}
