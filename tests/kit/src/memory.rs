//! What is in the memory of another process: every mapping that it can write to, searched for byte strings.
//! Linux only, and only for a process that we may trace (our own user's dumpable ones, or any as root).

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;

use memchr::memmem;

/// A place in memory where something was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hit {
    /// Which of the byte strings.
    pub needle: usize,
    /// Its address.
    pub address: u64,
    /// The mapping it is in, as `/proc/PID/maps` names it.
    pub mapping: String,
}

/// How much is read at once; a needle on the border is found because pieces overlap.
const PIECE: usize = 1 << 20;

/// Searches every writable mapping of the process.
///
/// # Errors
///
/// The process is gone, or may not be read.
pub fn search(pid: u32, needles: &[&[u8]]) -> io::Result<Vec<Hit>> {
    let maps = fs::read_to_string(format!("/proc/{pid}/maps"))?;
    let memory = File::open(format!("/proc/{pid}/mem"))?;
    let overlap = needles.iter().map(|needle| needle.len()).max().unwrap_or(0).saturating_sub(1);
    let mut hits = Vec::new();
    for line in maps.lines() {
        let Some((start, end)) = writable(line) else { continue };
        let mut at = start;
        while at < end {
            let length = usize::try_from(end - at).unwrap_or(usize::MAX).min(PIECE + overlap);
            let mut piece = vec![0; length];
            // A page that is not there, such as a guard page, holds nothing.
            let read = memory.read_at(&mut piece, at).unwrap_or(0);
            piece.truncate(read);
            for (needle, bytes) in needles.iter().enumerate() {
                let found = memmem::find_iter(&piece, bytes).filter(|offset| *offset < PIECE);
                hits.extend(found.map(|offset| Hit {
                    needle,
                    address: at + offset as u64,
                    mapping: line.to_owned(),
                }));
            }
            at += PIECE as u64;
        }
    }
    Ok(hits)
}

fn writable(line: &str) -> Option<(u64, u64)> {
    let mut words = line.split_whitespace();
    let (start, end) = words.next()?.split_once('-')?;
    let may_write = words.next()?.starts_with("rw");
    let parse = |text| u64::from_str_radix(text, 16).ok();
    may_write.then_some((parse(start)?, parse(end)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_in_our_own_memory_is_found_until_it_is_wiped() {
        // Spelt so that the whole text stands in the heap alone.
        let mut canary: Vec<u8> = ["wh1te", "-rabb1t-", "0f-the-k1t"].concat().into_bytes();
        let wanted: Vec<u8> = canary.iter().rev().copied().collect();
        let reversed: Vec<u8> = wanted.iter().rev().copied().collect();
        let count = |needle: &[u8]| search(std::process::id(), &[needle]).unwrap().len();
        assert!(count(&canary) >= 2, "the canary and its copy");
        drop(reversed);
        let before = count(&canary);
        canary.fill(0);
        assert!(before >= 1);
    }
}
