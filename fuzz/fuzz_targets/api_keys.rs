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
        let account = keys.authenticate(key.expose());
        let refusal = refused.iter().find(|refusal| refusal.entry == *entry);
        assert_eq!(account.is_some(), refusal.is_none());
        if let Some(account) = account {
            assert_eq!(format!("{}.{}", account.namespace, account.key), *entry);
        }
    }
});
