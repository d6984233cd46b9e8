//! Whatever Woodpecker responds to a bulk connection: it is refused, or each result has a positive id or a short text.
#![no_main]

use graph_credential_operator::read_connected;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    for (email, result) in read_connected(bytes).into_iter().flatten() {
        assert!(email.len() <= bytes.len());
        match result {
            Ok(id) => assert!(id > 0),
            Err(text) => assert!(text.len() <= 256 && !text.contains(char::is_control)),
        }
    }
});
