//! Whatever stands in the keyring's Secret: it is read or refused, what is read is written in one form, and no refusal
//! shows a part of it.
#![no_main]

use graph_credential_operator::store::keyring::Keyring;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(keyring) = Keyring::from_json(bytes) {
        let json = keyring.to_json().expect("a keyring can be written");
        let again = Keyring::from_json(json.expose()).expect("what was written can be read");
        assert_eq!(again.to_json().expect("it can be written").expose(), json.expose());
    }
});
