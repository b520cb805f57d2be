//! `libchdb.so`: ClickHouse's engine with a plain C interface.
#![expect(unsafe_code, reason = "a C library, opened at run time")]

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::path::{Path, PathBuf};

use libloading::{Library, Symbol};
use parking_lot::Mutex;

use crate::Failure;

type Connection = *mut c_void;
type Answer = *mut c_void;
type Connect = unsafe extern "C" fn(c_int, *const *const c_char) -> *mut Connection;
type QueryN = unsafe extern "C" fn(Connection, *const c_char, usize, *const c_char, usize) -> Answer;
type Error = unsafe extern "C" fn(Answer) -> *const c_char;
type Buffer = unsafe extern "C" fn(Answer) -> *const u8;
type Length = unsafe extern "C" fn(Answer) -> usize;
type Destroy = unsafe extern "C" fn(Answer);

/// What the engine said no with, such as `Code: 60. DB::Exception: …`.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Exception(pub(crate) String);

impl Exception {
    /// ClickHouse's number of the error; 1001 (an exception from elsewhere) where there is none.
    pub(crate) fn code(&self) -> u16 {
        let digits = self.0.strip_prefix("Code: ").and_then(|rest| rest.split('.').next());
        digits.and_then(|digits| digits.parse().ok()).unwrap_or(1001)
    }
}

/// The engine over one directory. There can be one in a process, and one process at a directory.
pub(crate) struct Engine {
    session: Mutex<Session>,
    scratch: PathBuf,
}

/// The engine's one connection.
pub(crate) struct Session {
    library: Library,
    connection: Connection,
}

// SAFETY: the connection isn't tied to the thread that made it, and the mutex lets in one thread at a time.
unsafe impl Send for Session {}

impl Engine {
    pub(crate) fn open(library: &Path, path: &Path) -> Result<Self, Failure> {
        let arguments = [CString::new("clickhouse")?, CString::new(format!("--path={}", path.display()))?];
        let pointers = arguments.each_ref().map(|argument| argument.as_ptr());
        // SAFETY: the library's initializers are ClickHouse's own; nothing of ours runs before them.
        let library = unsafe { Library::new(library) }?;
        let connection = {
            // SAFETY: the signature is that of chdb.h.
            let connect: Symbol<'_, Connect> = unsafe { library.get(b"chdb_connect") }?;
            // SAFETY: two arguments, alive during the call, which copies them.
            let handle = unsafe { connect(2, pointers.as_ptr()) };
            if handle.is_null() {
                return Err(format!("the engine can't open {}", path.display()).into());
            }
            // SAFETY: a handle that isn't null points to a connection.
            unsafe { *handle }
        };
        let scratch = path.join("insert.bin");
        Ok(Self { session: Mutex::new(Session { library, connection }), scratch })
    }

    /// Runs `work` with the session and a file to write to, alone.
    pub(crate) fn with<T>(&self, work: impl FnOnce(&Session, &Path) -> T) -> T {
        work(&self.session.lock(), &self.scratch)
    }
}

impl Session {
    /// Runs one statement and answers in this format.
    pub(crate) fn query(&self, query: &str, format: &str) -> Result<Vec<u8>, Exception> {
        self.call(query, format).unwrap_or_else(|error| Err(Exception(error.to_string())))
    }

    fn call(&self, query: &str, format: &str) -> Result<Result<Vec<u8>, Exception>, libloading::Error> {
        // SAFETY: the signature is that of chdb.h.
        let run: Symbol<'_, QueryN> = unsafe { self.library.get(b"chdb_query_n") }?;
        // SAFETY: as above.
        let error: Symbol<'_, Error> = unsafe { self.library.get(b"chdb_result_error") }?;
        // SAFETY: as above.
        let buffer: Symbol<'_, Buffer> = unsafe { self.library.get(b"chdb_result_buffer") }?;
        // SAFETY: as above.
        let length: Symbol<'_, Length> = unsafe { self.library.get(b"chdb_result_length") }?;
        // SAFETY: as above.
        let destroy: Symbol<'_, Destroy> = unsafe { self.library.get(b"chdb_destroy_query_result") }?;
        // SAFETY: both texts are passed with their lengths and only read; the answer is ours until it is destroyed, and
        // its error and buffer are its own.
        unsafe {
            let answer = run(
                self.connection,
                query.as_ptr().cast(),
                query.len(),
                format.as_ptr().cast(),
                format.len(),
            );
            if answer.is_null() {
                return Ok(Err(Exception("the engine gave no answer".to_owned())));
            }
            let message = error(answer);
            let result = if !message.is_null() {
                Err(Exception(CStr::from_ptr(message).to_string_lossy().into_owned()))
            } else if length(answer) == 0 || buffer(answer).is_null() {
                Ok(Vec::new())
            } else {
                Ok(std::slice::from_raw_parts(buffer(answer), length(answer)).to_vec())
            };
            destroy(answer);
            Ok(result)
        }
    }
}
