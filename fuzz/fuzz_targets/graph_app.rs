//! Whatever Microsoft Graph responds to the read of an app: it is refused, or its texts have a bounded length and its
//! dates are supported.
#![no_main]

use graph_credential_operator::api::timestamp::LATEST;
use graph_credential_operator::read_holding;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    for (key_id, expires_at) in read_holding(bytes).into_iter().flatten() {
        assert!(key_id.is_none_or(|id| id.len() <= 256));
        assert!(expires_at.is_none_or(|at| at <= LATEST && at.subsec_nanosecond() == 0));
    }
});
