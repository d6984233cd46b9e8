//! Whatever stands in `spec.envelope`: it is read or refused, and what is read has one spelling.
#![no_main]

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use graph_credential_operator::store::envelope::Envelope;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    // As bytes behind the base64, and as the text itself.
    let encoded = STANDARD.encode(bytes);
    for text in [Some(encoded.as_str()), std::str::from_utf8(bytes).ok()].into_iter().flatten() {
        if let Ok(envelope) = Envelope::from_base64(text) {
            assert_eq!(envelope.to_base64(), text);
        }
    }
});
