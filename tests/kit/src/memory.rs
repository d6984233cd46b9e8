//! Searches the memory of another process for byte strings, in every mapping that the process can write to.
//!
//! Linux only, and only for a process that this one may trace (dumpable ones of the same user, or any as
//! root). Stop it with SIGSTOP first. In a running process, bytes can move from memory that was not searched
//! yet to memory that was.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;

use memchr::memmem;

/// The result of a search.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Search {
    /// Every place where a byte string was found.
    pub hits: Vec<Hit>,
    /// How many bytes were searched.
    pub searched: u64,
    /// How many bytes could not be read, and may contain anything. Zero if the process was stopped.
    pub unread: u64,
}

/// A place in memory where something was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hit {
    /// The index of the byte string.
    pub needle: usize,
    /// Its address.
    pub address: u64,
    /// The mapping, as `/proc/PID/maps` names it.
    pub mapping: String,
    /// The bytes around it, to find out where it came from.
    pub context: String,
}

/// How much is read at once. Each chunk begins with the end of the one before, so matches across a border are
/// found.
const CHUNK: usize = 1 << 20;
/// How much is skipped if it cannot be read.
const PAGE: u64 = 4096;
/// How many bytes on each side of a hit are shown.
const CONTEXT: usize = 120;

/// Searches every writable mapping of the process.
///
/// # Errors
///
/// The process has ended, or may not be read.
pub fn search(pid: u32, needles: &[&[u8]]) -> io::Result<Search> {
    let maps = fs::read_to_string(format!("/proc/{pid}/maps"))?;
    let memory = File::open(format!("/proc/{pid}/mem"))?;
    let mut search = Search::default();
    for line in maps.lines() {
        if let Some((start, end)) = writable(line) {
            search.mapping(line, (start, end), needles, |chunk, at| memory.read_at(chunk, at));
        }
    }
    Ok(search)
}

fn writable(line: &str) -> Option<(u64, u64)> {
    let mut words = line.split_whitespace();
    let (start, end) = words.next()?.split_once('-')?;
    let may_write = words.next()?.contains('w');
    let parse = |text| u64::from_str_radix(text, 16).ok();
    may_write.then_some((parse(start)?, parse(end)?))
}

// === impl Search ===

impl Search {
    fn mapping(
        &mut self,
        name: &str,
        (start, end): (u64, u64),
        needles: &[&[u8]],
        read: impl Fn(&mut [u8], u64) -> io::Result<usize>,
    ) {
        let overlap = needles.iter().map(|needle| needle.len()).max().unwrap_or(0).saturating_sub(1);
        let zeros = vec![0; CHUNK];
        let mut window = Vec::with_capacity(overlap + CHUNK);
        let mut at = start;
        while at < end {
            let kept = window.len();
            let wanted = usize::try_from(end - at).unwrap_or(CHUNK).min(CHUNK);
            window.resize(kept + wanted, 0);
            let got = read(&mut window[kept..], at).unwrap_or(0);
            window.truncate(kept + got);
            if got == 0 {
                let skipped = PAGE.min(end - at);
                self.unread += skipped;
                at += skipped;
                window.clear();
                continue;
            }
            // Most of what an allocator reserves was never touched.
            if window[kept..] != zeros[..got] {
                self.window(name, (at - kept as u64, kept), &window, needles);
            }
            self.searched += got as u64;
            at += got as u64;
            window.drain(..window.len().saturating_sub(overlap));
        }
    }

    /// `kept` bytes of the window were searched before.
    fn window(&mut self, name: &str, (start, kept): (u64, usize), window: &[u8], needles: &[&[u8]]) {
        for (needle, bytes) in needles.iter().enumerate() {
            for offset in memmem::find_iter(window, bytes).filter(|offset| offset + bytes.len() > kept) {
                let from = offset.saturating_sub(CONTEXT);
                let to = window.len().min(offset + bytes.len() + CONTEXT);
                self.hits.push(Hit {
                    needle,
                    address: start + offset as u64,
                    mapping: name.to_owned(),
                    context: window[from..to].escape_ascii().to_string(),
                });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    /// Memory with the given bytes, and a hole that cannot be read.
    fn read(
        memory: &[u8],
        hole: std::ops::Range<usize>,
    ) -> impl Fn(&mut [u8], u64) -> io::Result<usize> + '_ {
        move |chunk, at| {
            let from = usize::try_from(at).unwrap();
            if hole.contains(&from) {
                return Err(io::Error::other("a hole"));
            }
            let end = if from < hole.start { hole.start } else { memory.len() };
            let length = chunk.len().min(end - from);
            chunk[..length].copy_from_slice(&memory[from..from + length]);
            Ok(length)
        }
    }

    fn hits(memory: &[u8], hole: std::ops::Range<usize>) -> (Vec<u64>, u64) {
        let mut search = Search::default();
        search.mapping(
            "test",
            (0, memory.len() as u64),
            &[b"rabbit", b"longer than that"],
            read(memory, hole),
        );
        (search.hits.iter().map(|hit| hit.address).collect(), search.unread)
    }

    #[test]
    fn a_match_across_two_chunks_is_found_once() {
        for start in [0, CHUNK - 6, CHUNK - 3, CHUNK, CHUNK + 7, 2 * CHUNK - 1, 2 * CHUNK + 4] {
            let mut memory = vec![0; 2 * CHUNK + 10];
            memory[start..start + 6].copy_from_slice(b"rabbit");
            assert_eq!(hits(&memory, 0..0), (vec![start as u64], 0));
        }
    }

    #[test]
    fn a_match_after_a_hole_is_found_and_the_hole_is_reported() {
        let page = usize::try_from(PAGE).unwrap();
        let mut memory = vec![0; 8 * page];
        memory[7 * page..7 * page + 6].copy_from_slice(b"rabbit");
        assert_eq!(hits(&memory, 2 * page..4 * page), (vec![7 * PAGE], 2 * PAGE));
    }

    #[test]
    fn a_string_in_the_memory_of_another_process_is_found() {
        let canary = format!("white-rabbit-{}", std::process::id());
        let mut child =
            Command::new("sleep").arg("60").env("CANARY", &canary).stdin(Stdio::null()).spawn().unwrap();
        let found = search(child.id(), &[canary.as_bytes(), b"n0t-th3re-at-all"]).unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(found.searched > 0);
        assert!(found.hits.iter().any(|hit| hit.mapping.contains("[stack]")), "{found:#?}");
        assert!(found.hits.iter().all(|hit| hit.needle == 0), "{found:#?}");
    }
}
