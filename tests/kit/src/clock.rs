//! A wall clock that a test can move while a program runs. The program preloads a library that adds an offset to it.

use std::fs::{self, OpenOptions};
use std::io::{self, Seek, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

/// The wall clock of the programs that run with [`Clock::env`].
#[derive(Debug)]
pub struct Clock {
    library: PathBuf,
    offset: PathBuf,
}

impl Clock {
    /// Compiles the library into that directory, with the C compiler that Rust links with.
    ///
    /// # Errors
    ///
    /// There is no C compiler, or the directory cannot be written.
    pub fn new(dir: &Path) -> io::Result<Self> {
        fs::create_dir_all(dir)?;
        let (source, library, offset) = (dir.join("clock.c"), dir.join("clock.so"), dir.join("clock-offset"));
        fs::write(&source, include_str!("clock.c"))?;
        let mut compiler = Command::new("cc");
        compiler.args(["-shared", "-fPIC", "-O2", "-Wall", "-Werror", "-o"]).arg(&library).arg(&source);
        let exit = compiler.status()?;
        if !exit.success() {
            return Err(io::Error::other(format!("cc: {exit}")));
        }
        fs::write(&offset, 0_i64.to_ne_bytes())?;
        Ok(Self { library, offset })
    }

    /// The environment of the programs whose clock it is.
    pub fn env(&self) -> [(&'static str, String); 2] {
        let text = |path: &Path| path.display().to_string();
        [("LD_PRELOAD", text(&self.library)), ("CLOCK_OFFSET", text(&self.offset))]
    }

    /// Moves it: so many seconds ahead of the real time.
    ///
    /// # Errors
    ///
    /// The file with the offset was removed.
    pub fn set_ahead(&self, seconds: i64) -> io::Result<()> {
        // It is mapped, so it is not replaced.
        let mut file = OpenOptions::new().write(true).open(&self.offset)?;
        file.rewind()?;
        file.write_all(&seconds.to_ne_bytes())
    }
}
