//! Input of commands, from a file or from standard input.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use zeroize::Zeroizing;

/// All bytes of the file, or of standard input without one; `None` if there are more than `max`.
pub(super) fn read(file: Option<&Path>, max: u64) -> io::Result<Option<Zeroizing<Vec<u8>>>> {
    // A growing buffer leaves copies behind, which the allocator wipes.
    let mut bytes = Zeroizing::new(Vec::new());
    match file {
        Some(path) => File::open(path)?.take(max + 1).read_to_end(&mut bytes)?,
        None => io::stdin().take(max + 1).read_to_end(&mut bytes)?,
    };
    let is_whole = u64::try_from(bytes.len()).is_ok_and(|length| length <= max);
    Ok(is_whole.then_some(bytes))
}
