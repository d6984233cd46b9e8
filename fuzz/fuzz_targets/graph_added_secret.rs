//! Whatever Microsoft Graph responds when a client secret is added: it is refused, or the ID of the secret is a GUID in one
//! spelling and its expiry is supported.
#![no_main]

use graph_credential_operator::api::is_guid;
use graph_credential_operator::api::timestamp::LATEST;
use graph_credential_operator::read_added_secret;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Some((key_id, expires_at)) = read_added_secret(bytes) {
        assert!(is_guid(&key_id) && key_id == key_id.to_ascii_lowercase());
        assert!(expires_at <= LATEST && expires_at.subsec_nanosecond() == 0);
    }
});
