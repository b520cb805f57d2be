//! Components that are compiled when they are first used.
//!
//! A server brings many components and uses few. Compiling one takes tenths of a second and megabytes, so those that the
//! server itself brings (tested when it was built) wait for their first call; whatever comes from elsewhere is compiled and
//! tested when it is installed.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::OnceCell;

use crate::error::{Fault, LoadError, PluginError};

/// Something that a component is made into, once.
pub(crate) struct Lazy<R> {
    ready: OnceCell<Result<R, String>>,
    component: Bytes,
}

impl<R: Send + 'static> Lazy<R> {
    /// Made already.
    pub(crate) fn done(ready: R) -> Self {
        Self { ready: OnceCell::new_with(Some(Ok(ready))), component: Bytes::new() }
    }

    /// Made of this when it is first asked for.
    pub(crate) fn later(component: Bytes) -> Self {
        Self { ready: OnceCell::new(), component }
    }

    /// What was made, if it was asked for before.
    pub(crate) fn get(&self) -> Option<&R> {
        self.ready.get().and_then(|made| made.as_ref().ok())
    }

    /// What is made, by whoever comes first, on a thread away from those that serve. A failure stays one: the same bytes
    /// would fail again.
    pub(crate) async fn ready<F, M>(&self, label: &Arc<str>, make: M) -> Result<&R, PluginError>
    where
        M: FnOnce(Bytes) -> F + Send + 'static,
        F: Future<Output = Result<R, LoadError>>,
    {
        let made = match self.ready.get() {
            Some(made) => made,
            None => {
                let component = self.component.clone();
                let begin = || async move {
                    let handle = tokio::runtime::Handle::current();
                    let work = tokio::task::spawn_blocking(move || handle.block_on(make(component)));
                    let made = work.await.map_err(|error| error.to_string());
                    made.and_then(|made| made.map_err(|error| error.to_string()))
                };
                self.ready.get_or_init(begin).await
            }
        };
        made.as_ref().map_err(|error| PluginError {
            plugin: label.clone(),
            export: "instantiate",
            fault: Fault::Instantiate(error.clone()),
        })
    }
}
