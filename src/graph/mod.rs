//! Microsoft Graph: reads the client secrets of apps, without their text; adds and removes some.

mod client;
mod reader;
mod roots;
#[cfg(test)]
mod testing;
mod types;
mod writer;
mod writes;

pub(crate) use self::client::{GraphClient, GraphConfig, RequestError};
pub(crate) use self::reader::{AppReader, Holding, ReadError, ReadTarget, Sharing};
pub(crate) use self::roots::GraphRoots;
pub use self::types::read_holding;
pub(crate) use self::writer::{AppWriteError, AppWriter};
pub use self::writes::read_added_secret;
pub(crate) use self::writes::{AddedSecret, NewSecret, WriteError};
