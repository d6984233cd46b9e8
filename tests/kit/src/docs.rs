//! The commands in the docs: the lines in `sh` blocks, and those after `$` in `console` blocks.

use std::path::{Path, PathBuf};
use std::{fs, io};

use crate::workspace;

/// A command of a page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command {
    /// Such as `docs/tasks/install.md`.
    pub page: String,
    /// The heading of its section, without the `#`.
    pub heading: String,
    /// The line of the page that it begins in, from 1.
    pub line: usize,
    /// The command, on one line.
    pub text: String,
    /// Its output according to the page.
    pub printed: Vec<String>,
    /// Whether the paragraph before it says that it is illustrative.
    pub is_illustrative: bool,
}

/// Every documentation page of the repository.
///
/// # Errors
///
/// A folder cannot be read.
pub fn pages() -> io::Result<Vec<String>> {
    let root = workspace();
    let mut found = vec!["deploy/chart/README.md".to_owned(), "examples/README.md".to_owned()];
    let mut folders = vec![PathBuf::new()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(root.join(&folder))? {
            let path = folder.join(entry?.file_name());
            if path.extension().is_some_and(|it| it == "md") {
                found.push(path.display().to_string());
            } else if path.starts_with("docs") && root.join(&path).is_dir() {
                folders.push(path);
            }
        }
    }
    found.sort();
    Ok(found)
}

/// The commands of a page, in order.
///
/// # Errors
///
/// It cannot be read.
pub fn commands(page: &str) -> io::Result<Vec<Command>> {
    Ok(parse(page, &fs::read_to_string(workspace().join(Path::new(page)))?))
}

/// The commands of a page with this text.
fn parse(page: &str, text: &str) -> Vec<Command> {
    let mut found: Vec<Command> = Vec::new();
    let (mut heading, mut paragraph) = (String::new(), String::new());
    let mut lines = text.lines().enumerate();
    let mut is_apart = false;
    while let Some((number, line)) = lines.next() {
        let Some(language) = line.trim().strip_prefix("```") else {
            if line.starts_with('#') {
                line.trim_start_matches(['#', ' ']).clone_into(&mut heading);
            }
            if line.trim().is_empty() {
                is_apart = true;
            } else {
                if is_apart {
                    paragraph.clear();
                }
                is_apart = false;
                paragraph.push_str(line);
            }
            continue;
        };
        let block: Vec<&str> =
            lines.by_ref().map(|(_, line)| line).take_while(|line| line.trim() != "```").collect();
        let about = Command {
            page: page.to_owned(),
            heading: heading.clone(),
            line: number + 2,
            text: String::new(),
            printed: Vec::new(),
            is_illustrative: paragraph.contains("illustrative"),
        };
        match language {
            "sh" => found.extend(of_shell(&block, &about)),
            "console" => found.extend(of_console(&block, &about)),
            _ => {}
        }
    }
    found
}

/// Each line is a command, or continues the one before if that ends with a backslash.
fn of_shell(block: &[&str], about: &Command) -> Vec<Command> {
    let mut found: Vec<Command> = Vec::new();
    let mut continues = false;
    for (number, line) in block.iter().enumerate() {
        let line = line.trim();
        let (part, more) = line.strip_suffix('\\').map_or((line, false), |part| (part, true));
        match found.last_mut() {
            Some(command) if continues => command.text.push_str(part),
            _ if line.is_empty() || line.starts_with('#') => {}
            _ => found.push(Command { line: about.line + number, text: part.to_owned(), ..about.clone() }),
        }
        continues = more;
    }
    found
}

/// A line after `$` is a command, and everything after it is its output.
fn of_console(block: &[&str], about: &Command) -> Vec<Command> {
    let mut found: Vec<Command> = Vec::new();
    let mut continues = false;
    for (number, line) in block.iter().enumerate() {
        let (part, more) = line.strip_suffix('\\').map_or((*line, false), |part| (part, true));
        match (part.strip_prefix("$ "), found.last_mut()) {
            (Some(text), _) => {
                found.push(Command { line: about.line + number, text: text.to_owned(), ..about.clone() });
            }
            (None, Some(command)) if continues => command.text.push_str(part.trim_start()),
            (None, Some(command)) => command.printed.push((*line).to_owned()),
            (None, None) => {}
        }
        continues = more;
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Vec<(String, String, usize, bool)> {
        let commands = parse("page.md", text).into_iter();
        commands.map(|it| (it.heading, it.text, it.line, it.is_illustrative)).collect()
    }

    #[test]
    fn each_command_of_a_block_has_its_heading_and_line() {
        let text = "# Page\n\n## One\n\nDo:\n\n```sh\n# first\nhelm a \\\n  --b\nkubectl c   # why\n```\n";
        let one = |text: &str, line| ("One".to_owned(), text.to_owned(), line, false);
        assert_eq!(parsed(text), [one("helm a --b", 9), one("kubectl c   # why", 11)]);
    }

    #[test]
    fn a_command_is_illustrative_if_the_paragraph_before_it_says_so() {
        let text = "Earlier, illustrative.\n\nPush it\n(illustrative):\n\n```sh\npush\n```\n\nNow:\n\n```sh\nrun\n```\n";
        let illustrative: Vec<bool> =
            parsed(text).into_iter().map(|(.., is_illustrative)| is_illustrative).collect();
        assert_eq!(illustrative, [true, false]);
    }

    #[test]
    fn lines_after_a_console_command_are_its_output() {
        let text = "```console\n$ curl \\\n    -X POST\n{}\n$ ls\na\nb\n```\n```json\n{}\n```\n";
        let commands: Vec<_> = parse("page.md", text).into_iter().map(|it| (it.text, it.printed)).collect();
        let lines = |lines: &[&str]| lines.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(
            commands,
            [("curl -X POST".to_owned(), lines(&["{}"])), ("ls".to_owned(), lines(&["a", "b"]))]
        );
    }
}
