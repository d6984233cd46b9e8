//! Paginated lists that are parsed object by object while they are received. Parsing a whole page of objects with large
//! annotations would take many times its size in memory.

use std::io;

use futures::{AsyncBufRead, AsyncBufReadExt};
use kube::api::ListParams;
use kube::core::DeserializeGuard;
use kube::core::request::Request;
use kube::{Client, Resource};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use thiserror::Error;

/// Objects on a page of a watched list.
pub const PAGE: u32 = 100;

/// Objects on a page if all objects are read once.
const LARGE_PAGE: u32 = 500;

#[derive(Debug, Error)]
pub enum ListError {
    /// The API server rejected the request or did not respond.
    #[error("failed to list")]
    Request(#[source] kube::Error),
    /// A page ended early.
    #[error("failed to read a page of a list")]
    Page(#[source] io::Error),
    /// A page, or an object on it, cannot be read.
    #[error("failed to read a list as JSON")]
    Parse(#[from] serde_json::Error),
}

/// The metadata of a list.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Page {
    pub resource_version: Option<String>,
    #[serde(rename = "continue")]
    next: Option<String>,
}

/// Reads all objects of a kind, page by page.
pub struct Pages<T> {
    client: Client,
    /// The paths left to list, the next one last.
    paths: Vec<String>,
    token: Option<String>,
    read: fn(&[u8]) -> serde_json::Result<T>,
}

#[derive(Debug, Deserialize)]
struct Rest {
    metadata: Page,
}

/// Splits a list into its items.
#[derive(Debug, Default)]
struct Splitter {
    depth: usize,
    is_text: bool,
    is_escaped: bool,
    are_items: bool,
    /// The bytes of the current item.
    item: Vec<u8>,
    /// The list without its items.
    rest: Vec<u8>,
}

// === impl Page ===

impl Page {
    /// The token of the next page; `None` on the last one.
    pub fn next(self) -> Option<String> {
        self.next.filter(|token| !token.is_empty())
    }
}

/// Reads one page of the current objects at a path, or of their metadata alone, and passes each to `item` as JSON.
pub async fn page(
    client: &Client,
    (path, is_metadata): (&str, bool),
    limit: u32,
    token: Option<String>,
    item: impl FnMut(&[u8]) -> Result<(), ListError>,
) -> Result<Page, ListError> {
    let request = Request::new(path);
    let wanted = ListParams { limit: Some(limit), continue_token: token, ..ListParams::default() };
    let request = if is_metadata { request.list_metadata(&wanted) } else { request.list(&wanted) };
    let request = request.map_err(|error| ListError::Request(kube::Error::BuildRequest(error)))?;
    read(client.request_stream(request).await.map_err(ListError::Request)?, item).await
}

/// Parses an object, or keeps its metadata and the error if it is invalid. Only an invalid object is parsed into a tree
/// of values, which makes kube's error independent of the position in the text.
pub fn guarded<T>(json: &[u8]) -> serde_json::Result<DeserializeGuard<T>>
where
    T: Resource + DeserializeOwned,
{
    match serde_json::from_slice(json) {
        Ok(object) => Ok(DeserializeGuard(Ok(object))),
        Err(_) => serde_json::from_slice(json),
    }
}

async fn read(
    body: impl AsyncBufRead,
    mut item: impl FnMut(&[u8]) -> Result<(), ListError>,
) -> Result<Page, ListError> {
    let mut body = std::pin::pin!(body);
    let mut splitter = Splitter::default();
    loop {
        let bytes = body.fill_buf().await.map_err(ListError::Page)?;
        let length = bytes.len();
        if length == 0 {
            let rest: Rest = serde_json::from_slice(&splitter.rest)?;
            return Ok(rest.metadata);
        }
        splitter.push(bytes, &mut item)?;
        body.as_mut().consume(length);
    }
}

// === impl Pages ===

impl<T> Pages<T> {
    /// The objects of a kind in these namespaces, or in all if none is named.
    pub fn of<K: Resource<DynamicType = ()>>(
        client: &Client,
        namespaces: &[String],
        read: fn(&[u8]) -> serde_json::Result<T>,
    ) -> Self {
        let paths = match namespaces {
            [] => vec![K::url_path(&(), None)],
            named => named.iter().rev().map(|namespace| K::url_path(&(), Some(namespace))).collect(),
        };
        Self { client: client.clone(), paths, token: None, read }
    }

    /// The next page; `None` after the last.
    pub async fn next(&mut self) -> Result<Option<Vec<T>>, ListError> {
        let Some(path) = self.paths.last() else { return Ok(None) };
        let mut objects = Vec::new();
        let page = page(&self.client, (path, false), LARGE_PAGE, self.token.take(), |json| {
            objects.push((self.read)(json)?);
            Ok(())
        });
        self.token = page.await?.next();
        if self.token.is_none() {
            self.paths.pop();
        }
        Ok(Some(objects))
    }
}

// === impl Splitter ===

impl Splitter {
    /// Consumes bytes, and passes each item that they complete to `item`.
    fn push(
        &mut self,
        bytes: &[u8],
        item: &mut impl FnMut(&[u8]) -> Result<(), ListError>,
    ) -> Result<(), ListError> {
        for &byte in bytes {
            let was_between = self.are_items && self.depth == 2;
            if self.is_text {
                self.is_text = byte != b'"' || self.is_escaped;
                self.is_escaped = byte == b'\\' && !self.is_escaped;
            } else {
                match byte {
                    b'"' => self.is_text = true,
                    b'{' | b'[' => {
                        self.are_items |= byte == b'[' && self.depth == 1 && self.is_at_items();
                        self.depth += 1;
                    }
                    b'}' | b']' => self.depth = self.depth.saturating_sub(1),
                    _ => {}
                }
            }
            match (was_between, self.depth) {
                // The end of all items.
                (true, 1) => {
                    self.are_items = false;
                    self.rest.push(byte);
                }
                // A comma or white space.
                (true, 2) => {}
                _ if self.are_items && (was_between || self.depth > 2 || !self.item.is_empty()) => {
                    self.item.push(byte);
                    if self.depth == 2 {
                        item(&self.item)?;
                        self.item.clear();
                    }
                }
                _ => self.rest.push(byte),
            }
        }
        Ok(())
    }

    /// Whether the list's items come next.
    fn is_at_items(&self) -> bool {
        let key = self.rest.trim_ascii_end().strip_suffix(b":");
        key.is_some_and(|key| key.trim_ascii_end().ends_with(b"\"items\""))
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::ConfigMap;

    use super::*;

    /// The items and the rest of a list that is received in parts of that many bytes.
    fn split(list: &str, at_a_time: usize) -> (Vec<String>, String) {
        let (mut splitter, mut items) = (Splitter::default(), Vec::new());
        for part in list.as_bytes().chunks(at_a_time) {
            splitter
                .push(part, &mut |item| {
                    items.push(String::from_utf8(item.to_vec()).unwrap());
                    Ok(())
                })
                .unwrap();
        }
        (items, String::from_utf8(splitter.rest).unwrap())
    }

    #[test]
    fn a_list_is_split_into_items_wherever_its_bytes_are_cut() {
        let one = r#"{"metadata":{"name":"a","labels":{"items":"["}},"items":[{"x":"]}\\\"{"}]}"#;
        let two = r#"{"spec": "\\", "list": [[1], {}]}"#;
        for list in [
            format!(r#"{{"kind":"L","metadata":{{"resourceVersion":"7"}},"items" : [ {one} , {two} ]}}"#),
            format!(r#"{{"items":[{one},{two}],"kind":"L","metadata":{{"resourceVersion":"7"}}}}"#),
        ] {
            for at_a_time in [1, 2, 7, 1000] {
                let (items, rest) = split(&list, at_a_time);
                assert_eq!(items, [one, two]);
                let page: Rest = serde_json::from_str(&rest).unwrap();
                assert_eq!(page.metadata.resource_version.as_deref(), Some("7"), "{rest}");
            }
        }
    }

    #[test]
    fn an_invalid_object_keeps_its_name_and_an_error_without_a_position() {
        let read = |json: &str| guarded::<ConfigMap>(json.as_bytes()).unwrap();
        assert!(read(r#"{"metadata":{"name":"a"},"data":{"x":"1"}}"#).0.is_ok());
        let invalid = read(r#"{"metadata":{"name":"a"},"data":{"x":1}}"#).0.unwrap_err();
        assert_eq!(invalid.metadata.name.as_deref(), Some("a"));
        assert!(invalid.error.contains("Expected a string"), "{}", invalid.error);
        let moved = read(r#"{"metadata":{"name":"a","labels":{"b":"c"}},"data":{"x":1}}"#).0.unwrap_err();
        assert_eq!(invalid.error, moved.error);
        assert!(guarded::<ConfigMap>(b"{").is_err());
    }

    #[test]
    fn an_empty_list_has_no_items() {
        let (items, rest) = split(r#"{"items":[],"metadata":{"resourceVersion":"7","continue":""}}"#, 3);
        assert!(items.is_empty());
        assert_eq!(rest, r#"{"items":[],"metadata":{"resourceVersion":"7","continue":""}}"#);
    }
}
