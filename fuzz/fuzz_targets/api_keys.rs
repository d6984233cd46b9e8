//! Whatever stands in the `data` of the Secret of API keys: an entry gives access to one namespace or is refused, and a
//! refusal does not show the key.
#![no_main]

use std::collections::BTreeMap;

use graph_credential_operator::ApiKeys;
use graph_credential_operator::secret_text::SecretBytes;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(data) = serde_json::from_slice::<BTreeMap<String, SecretBytes>>(bytes) else { return };
    let entries = data.iter().map(|(entry, key)| (entry.as_str(), key));
    let (keys, refused) = ApiKeys::read(entries, &[]).expect("there is randomness");
    assert_eq!(keys.accounts().len() + refused.len(), data.len());
    for (entry, key) in &data {
        // The key of a refused entry may be that of another entry, but never gives access by the refused one.
        let account = keys.authenticate(key.expose());
        let name = account.map(|account| format!("{}.{}", account.namespace, account.key));
        let is_refused = refused.iter().any(|refusal| refusal.entry == *entry);
        assert_eq!(name.as_ref() == Some(entry), !is_refused);
    }
});
