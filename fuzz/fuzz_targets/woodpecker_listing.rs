//! Whatever Woodpecker responds to a list: it is refused, or each entry has an id and texts of a bounded length.
#![no_main]

use graph_credential_operator::read_listing;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    for entry in read_listing(bytes).into_iter().flatten() {
        assert!(entry.id > 0);
        for text in [&entry.tenant, &entry.client, &entry.name] {
            assert!(text.chars().count() <= 1024);
        }
    }
});
