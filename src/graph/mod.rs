//! Microsoft Graph: reads the client secrets of apps, without their text.

mod client;
mod reader;
mod roots;
mod types;

pub(crate) use self::client::{GraphClient, GraphConfig, RequestError};
pub(crate) use self::reader::{AppReader, Holding, ReadError, ReadTarget, Sharing};
pub(crate) use self::roots::GraphRoots;
pub use self::types::read_holding;
