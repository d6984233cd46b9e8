//! Whatever a token endpoint responds, after two bytes for its HTTP status: it is understood, and what is reported about a
//! rejection does not show the secret, even if the response echoes it.
#![no_main]

use graph_credential_operator::secret_text::SecretText;
use graph_credential_operator::{RequestIds, read_response};
use libfuzzer_sys::fuzz_target;

/// A secret may be a GUID, as the ids in a response are.
const SECRET: &str = "5ec2e700-4d5e-4f60-8a7b-9c0d1e2f3a4b";

fuzz_target!(|bytes: &[u8]| {
    let Some((status, body)) = bytes.split_first_chunk() else { return };
    let status = u16::from_be_bytes(*status);
    let request_ids = RequestIds { status: Some(status), ..RequestIds::default() };
    let result = read_response(request_ids, None, body, &SecretText::new(SECRET.into()));
    if status != 200 {
        assert!(!format!("{result:?}").to_ascii_lowercase().contains(SECRET));
    }
});
