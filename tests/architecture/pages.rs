//! The pages of the documentation: their links lead somewhere, and the book contains each of them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Component, Path, PathBuf};

/// The table of contents of the book, which is no page itself.
const SUMMARY: &str = "docs/SUMMARY.md";

/// A link of a page.
#[derive(Debug, PartialEq, Eq)]
struct Link<'a> {
    /// The line of the page, from 1.
    line: usize,
    /// Path and anchor, as written.
    target: &'a str,
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Every page in Markdown, by its path from the repository's root.
fn pages() -> BTreeMap<PathBuf, String> {
    let root = root();
    let mut pages = BTreeMap::new();
    let mut folders: Vec<PathBuf> =
        ["", "docs", "examples", "deploy/chart", ".github"].map(PathBuf::from).into();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(root.join(&folder)).expect("the folder can be read") {
            let path = folder.join(entry.expect("the folder can be read").file_name());
            if path.extension().is_some_and(|it| it == "md") {
                pages.insert(
                    path.clone(),
                    fs::read_to_string(root.join(&path)).expect("the page can be read"),
                );
            } else if root.join(&path).is_dir() && !folder.as_os_str().is_empty() {
                folders.push(path);
            }
        }
    }
    pages
}

/// The lines of a page outside code blocks, with their numbers.
fn prose(page: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut is_code = false;
    page.lines().enumerate().filter_map(move |(number, line)| {
        let is_fence = line.trim_start().starts_with("```");
        is_code ^= is_fence;
        (!is_code && !is_fence).then_some((number + 1, line))
    })
}

/// The links and images of a page. What is in backticks is no link.
fn links(page: &str) -> Vec<Link<'_>> {
    let mut found = Vec::new();
    for (line, text) in prose(page) {
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("](") {
            let target = after.split([')', ' ']).next().unwrap_or_default();
            // An odd number of backticks before the link means that it is inside of them.
            let position = text.len() - rest.len() + before.len();
            if text.get(..position).unwrap_or_default().matches('`').count() % 2 == 0 {
                found.push(Link { line, target });
            }
            rest = after;
        }
    }
    found
}

/// The anchors of a page: its headings as GitHub and mdBook name them, and explicit ones.
fn anchors(page: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for (_, line) in prose(page) {
        found.extend(line.split("<a id=\"").skip(1).filter_map(|it| it.split('"').next()).map(str::to_owned));
        let Some(heading) = line.strip_prefix('#').map(|rest| rest.trim_start_matches('#').trim()) else {
            continue;
        };
        let letters = heading.chars().filter(|it| it.is_alphanumeric() || " -_".contains(*it));
        let name: String =
            letters.map(|it| if it == ' ' { '-' } else { it }).flat_map(char::to_lowercase).collect();
        let mut number = 0;
        let mut unique = name.clone();
        while !found.insert(unique) {
            number += 1;
            unique = format!("{name}-{number}");
        }
    }
    found
}

/// A path without `.` and `..`, as far as possible.
fn normalized(path: &Path) -> PathBuf {
    path.components().fold(PathBuf::new(), |mut path, part| {
        match part {
            Component::ParentDir if path.file_name().is_some() => drop(path.pop()),
            Component::CurDir => {}
            other => path.push(other),
        }
        path
    })
}

/// Why a link of a page leads nowhere.
fn problem(pages: &BTreeMap<PathBuf, String>, page: &Path, target: &str) -> Option<String> {
    if ["https://", "http://", "mailto:"].iter().any(|start| target.starts_with(start)) {
        return None;
    }
    let (path, anchor) = target.split_once('#').map_or((target, None), |(path, anchor)| (path, Some(anchor)));
    let file = if path.is_empty() {
        page.to_path_buf()
    } else {
        normalized(&page.parent().unwrap_or(Path::new("")).join(path))
    };
    if !root().join(&file).is_file() {
        return Some(format!("{} is no file of the repository", file.display()));
    }
    let anchor = anchor?;
    let text = pages.get(&file)?;
    (!anchors(text).contains(anchor)).then(|| format!("{} has no heading {anchor:?}", file.display()))
}

#[test]
fn every_link_of_a_page_leads_to_a_file_and_a_heading() {
    let pages = pages();
    let mut wrong = Vec::new();
    let mut count = 0;
    for (page, text) in &pages {
        for Link { line, target } in links(text) {
            count += 1;
            let found = problem(&pages, page, target);
            wrong.extend(found.map(|problem| format!("{}:{line}: {target}: {problem}", page.display())));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(count > 300, "{count} links");
}

#[test]
fn the_book_contains_every_page_once() {
    let pages = pages();
    let summary = pages.get(Path::new(SUMMARY)).expect("there is a summary");
    let listed: Vec<PathBuf> =
        links(summary).iter().map(|link| normalized(&Path::new("docs").join(link.target))).collect();
    let unique: BTreeSet<&PathBuf> = listed.iter().collect();
    assert_eq!(unique.len(), listed.len(), "a page is listed twice");
    let is_of_the_book =
        |page: &&PathBuf| !page.starts_with(".github") && page.as_path() != Path::new(SUMMARY);
    let expected: BTreeSet<&PathBuf> = pages.keys().filter(is_of_the_book).collect();
    let missing: Vec<_> = expected.difference(&unique).collect();
    assert!(missing.is_empty(), "{SUMMARY} does not list {missing:?}");
    let unknown: Vec<_> = unique.difference(&expected).collect();
    assert!(unknown.is_empty(), "{SUMMARY} lists {unknown:?}");
}

/// The index of all pages may leave those of a folder to the index of that folder.
#[test]
fn an_index_lists_every_page_of_the_docs() {
    let pages = pages();
    let mut listed = BTreeSet::new();
    for (page, text) in
        pages.iter().filter(|(page, _)| page.starts_with("docs") && page.ends_with("README.md"))
    {
        let folder = page.parent().expect("a page has a folder");
        let targets =
            links(text).into_iter().map(|link| link.target.split('#').next().unwrap_or_default().to_owned());
        listed.extend(targets.map(|target| normalized(&folder.join(target))));
    }
    let is_listed = |page: &&PathBuf| {
        let is_index = [SUMMARY, "docs/README.md"].iter().any(|index| page.as_path() == Path::new(index));
        !page.starts_with("docs") || is_index || listed.contains(*page)
    };
    let missing: Vec<_> = pages.keys().filter(|page| !is_listed(page)).collect();
    assert!(missing.is_empty(), "docs/README.md does not list {missing:?}");
}

/// Every target of a link or an image in a page of HTML, and every id.
fn attributes<'a>(html: &'a str, name: &str) -> Vec<&'a str> {
    let start = format!(" {name}=\"");
    html.split(&start).skip(1).filter_map(|rest| rest.split('"').next()).collect()
}

/// Run by `make docs`, which builds the book.
#[test]
#[ignore = "needs the built book: make docs"]
fn every_link_of_the_built_book_leads_to_a_file_and_an_id() {
    let book = PathBuf::from(std::env::var_os("BOOK").expect("BOOK names the folder of the built book"));
    let (mut folders, mut html) = (vec![book.clone()], BTreeMap::new());
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("the folder can be read") {
            let path = entry.expect("the folder can be read").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|it| it == "html") {
                let text = fs::read_to_string(&path).expect("the page can be read");
                html.insert(path, text);
            }
        }
    }
    let (mut wrong, mut count) = (Vec::new(), 0);
    // The page for unknown addresses works from any folder only if the site has a fixed address. The other one contains
    // all pages for printing.
    let is_page =
        |path: &Path| !["404.html", "print.html", "toc.html"].iter().any(|name| path.ends_with(name));
    for (page, text) in html.iter().filter(|(path, _)| is_page(path)) {
        let targets = [attributes(text, "href"), attributes(text, "src")].concat();
        for target in targets.into_iter().filter(|it| !it.contains("://") && !it.starts_with("mailto:")) {
            count += 1;
            let (path, anchor) = target.split_once('#').map_or((target, ""), |(path, anchor)| (path, anchor));
            let folder = page.parent().expect("a file has a folder");
            let file = if path.is_empty() { page.clone() } else { normalized(&folder.join(path)) };
            let has_id = || html.get(&file).is_none_or(|text| attributes(text, "id").contains(&anchor));
            if !file.is_file() || (!anchor.is_empty() && !has_id()) {
                wrong.push(format!("{}: {target}", page.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{} of {count}:\n{}", wrong.len(), wrong.join("\n"));
    assert!(html.len() > 80 && count > 2000, "{} pages, {count} links", html.len());
    assert!(book.join("docs/tutorials/from-nothing-to-ready.html").is_file());
    let has_index = fs::read_dir(&book).expect("the folder can be read").any(|entry| {
        let name = entry.expect("the folder can be read").file_name();
        name.to_string_lossy().starts_with("searchindex")
    });
    assert!(has_index, "the book has a search index");
}

#[test]
fn links_in_code_are_no_links() {
    let page = "[a](b.md#c) ![d](e.svg \"f\")\n`[g](h.md)` [i](j.md)\n```sh\n[k](l.md)\n```\n[m](n.md)\n";
    let found: Vec<(usize, &str)> = links(page).iter().map(|link| (link.line, link.target)).collect();
    assert_eq!(found, [(1, "b.md#c"), (1, "e.svg"), (2, "j.md"), (6, "n.md")]);
}

#[test]
fn headings_have_the_names_that_github_gives_them() {
    let page = "# Step 1: add a `X`\n## Same\n## Same\n<a id=\"own\"></a>text\n```\n# none\n```\n";
    let expected = ["own", "same", "same-1", "step-1-add-a-x"].map(str::to_owned);
    assert_eq!(anchors(page), expected.into());
}

#[test]
fn a_link_to_nowhere_is_found() {
    let page = Path::new("docs").join("a.md");
    let pages = BTreeMap::from([(PathBuf::from("README.md"), "# One\n".to_owned())]);
    assert_eq!(problem(&pages, &page, "../README.md#one"), None);
    assert_eq!(problem(&pages, &page, "https://example.com/x.md"), None);
    for target in ["../README.md#two", "b.md", "../docs", "#three"] {
        assert!(problem(&pages, &page, target).is_some(), "{target}");
    }
}
