//! What a command reads from a file or from standard input.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use zeroize::Zeroizing;

/// All bytes of the file, or of standard input where none is named; nothing where there are more than `most`.
pub(super) fn read(file: Option<&Path>, most: u64) -> io::Result<Option<Zeroizing<Vec<u8>>>> {
    // A buffer that grows leaves copies behind; those are wiped by the allocator.
    let mut bytes = Zeroizing::new(Vec::new());
    match file {
        Some(path) => File::open(path)?.take(most + 1).read_to_end(&mut bytes)?,
        None => io::stdin().take(most + 1).read_to_end(&mut bytes)?,
    };
    let is_whole = u64::try_from(bytes.len()).is_ok_and(|length| length <= most);
    Ok(is_whole.then_some(bytes))
}
