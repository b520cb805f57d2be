//! The built-in plugins: inside a release binary, in the build folder beside a debug one.

use std::path::{Path, PathBuf};

use bytes::Bytes;

use crate::error::LoadError;

/// One built-in component's bytes.
#[derive(Debug)]
pub struct Builtin {
    /// The file's name.
    pub name: String,
    /// The component.
    pub bytes: Bytes,
}

// `EMBEDDED`: names and bytes of the components that the build found.
#[cfg(feature = "embed-plugins")]
include!(concat!(env!("OUT_DIR"), "/embedded.rs"));

impl Builtin {
    /// All of them: from `folder` when it is given, else the embedded set, else those in the
    /// build folder that the running binary lies in.
    ///
    /// # Errors
    /// A file that can't be read, or no plugin at all, with where they were looked for.
    pub fn all(folder: Option<&Path>) -> Result<Vec<Self>, LoadError> {
        folder.map_or_else(Self::own, Self::in_folder)
    }

    #[cfg(feature = "embed-plugins")]
    #[expect(clippy::unnecessary_wraps, reason = "a build without embedded plugins may fail here")]
    fn own() -> Result<Vec<Self>, LoadError> {
        let embedded = EMBEDDED.iter();
        Ok(embedded
            .map(|&(name, bytes)| Self { name: name.to_owned(), bytes: Bytes::from_static(bytes) })
            .collect())
    }

    #[cfg(not(feature = "embed-plugins"))]
    fn own() -> Result<Vec<Self>, LoadError> {
        Self::in_folder(&build_folder()?)
    }

    fn in_folder(folder: &Path) -> Result<Vec<Self>, LoadError> {
        let io = |path: &Path| {
            let path = path.display().to_string();
            move |source| LoadError::Io { path, source }
        };
        let mut paths: Vec<PathBuf> = std::fs::read_dir(folder)
            .map_err(io(folder))?
            .filter_map(|entry| Some(entry.ok()?.path()))
            .filter(|path| path.extension().is_some_and(|extension| extension == "wasm"))
            .collect();
        paths.sort();
        if paths.is_empty() {
            let source = std::io::Error::new(
                std::io::ErrorKind::NotFound,
                "no plugins here; `make plugins` builds them",
            );
            return Err(io(folder)(source));
        }
        paths
            .iter()
            .map(|path| {
                let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
                Ok(Self { name, bytes: std::fs::read(path).map_err(io(path))?.into() })
            })
            .collect()
    }
}

/// `<target>/wasm32-wasip2/guest`, seen from `<target>/<profile>/brokle` or a test beside it.
#[cfg(not(feature = "embed-plugins"))]
fn build_folder() -> Result<PathBuf, LoadError> {
    let exe = std::env::current_exe()
        .map_err(|source| LoadError::Io { path: "the running binary".into(), source })?;
    let folders = exe.ancestors().skip(1).map(|folder| folder.join("wasm32-wasip2/guest"));
    let guess = exe.with_file_name("wasm32-wasip2/guest");
    Ok(folders.into_iter().find(|folder| folder.is_dir()).unwrap_or(guess))
}
