//! `libchdb.so`: ClickHouse's engine with a plain C interface.
#![expect(unsafe_code, reason = "a C library, opened at run time")]

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use libloading::{Library, Symbol};
use parking_lot::Mutex;
use tokio::sync::Semaphore;

use crate::Failure;

/// Statements at the same time, each in a session of its own; further ones wait.
const SESSIONS: usize = 4;

type Connection = *mut c_void;
type Answer = *mut c_void;
type Connect = unsafe extern "C" fn(c_int, *const *const c_char) -> *mut Connection;
type Query = unsafe extern "C" fn(
    Connection,
    *const c_char,
    usize,
    *const c_char,
    usize,
    *const *const c_char,
    *const usize,
    *const *const c_char,
    *const usize,
    usize,
) -> Answer;
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
    idle: Mutex<Vec<Session>>,
    turns: Arc<Semaphore>,
}

/// A connection to the engine: one statement at a time.
pub(crate) struct Session {
    library: Arc<Library>,
    connection: Connection,
    /// The database that statements are about.
    database: String,
    /// A file for what is inserted.
    pub(crate) scratch: PathBuf,
}

/// A session in use, which is idle again when this is dropped.
struct Borrowed<'a> {
    engine: &'a Engine,
    session: Option<Session>,
}

// SAFETY: a connection isn't tied to the thread that made it, and whoever has the session has it alone.
unsafe impl Send for Session {}

impl Engine {
    pub(crate) fn open(library: &Path, path: &Path) -> Result<Self, Failure> {
        // SAFETY: the library's initializers are ClickHouse's own; nothing of ours runs before them.
        let library = Arc::new(unsafe { Library::new(library) }?);
        let open = |number| Session::open(Arc::clone(&library), path, number);
        let idle = (0..SESSIONS).map(open).collect::<Result<_, _>>()?;
        Ok(Self { idle: Mutex::new(idle), turns: Arc::new(Semaphore::new(SESSIONS)) })
    }

    /// Runs `work` with a session that is idle, as soon as one is, on a thread that may wait.
    pub(crate) async fn with<T: Send + 'static>(
        self: Arc<Self>,
        work: impl FnOnce(&mut Session) -> T + Send + 'static,
    ) -> Result<T, Failure> {
        // Kept as long as the session, also when nobody waits for the answer any more.
        let turn = Arc::clone(&self.turns).acquire_owned().await?;
        let run = move || {
            let _turn = turn;
            let session = self.idle.lock().pop();
            let mut borrowed = Borrowed { engine: &self, session };
            borrowed.session.as_mut().map(work)
        };
        tokio::task::spawn_blocking(run).await?.ok_or_else(|| "no session is idle".into())
    }
}

impl Drop for Borrowed<'_> {
    fn drop(&mut self) {
        self.engine.idle.lock().extend(self.session.take());
    }
}

impl Session {
    fn open(library: Arc<Library>, path: &Path, number: usize) -> Result<Self, Failure> {
        let arguments = [CString::new("clickhouse")?, CString::new(format!("--path={}", path.display()))?];
        let pointers = arguments.each_ref().map(|argument| argument.as_ptr());
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
        let scratch = path.join(format!("insert-{number}.bin"));
        Ok(Self { library, connection, database: String::new(), scratch })
    }

    /// What statements are about from here on.
    pub(crate) fn choose(&mut self, database: &str) -> Result<(), Exception> {
        if self.database != database {
            self.query(&format!("USE `{}`", database.replace('`', "\\`")), "Null", &[])?;
            database.clone_into(&mut self.database);
        }
        Ok(())
    }

    /// Runs one statement with these parameters (names and texts, as a URL has them) and answers in this format.
    pub(crate) fn query(
        &self,
        query: &str,
        format: &str,
        parameters: &[(&str, &str)],
    ) -> Result<Vec<u8>, Exception> {
        self.call(query, format, parameters).unwrap_or_else(|error| Err(Exception(error.to_string())))
    }

    fn call(
        &self,
        query: &str,
        format: &str,
        parameters: &[(&str, &str)],
    ) -> Result<Result<Vec<u8>, Exception>, libloading::Error> {
        // SAFETY: the signature is that of chdb.h.
        let run: Symbol<'_, Query> = unsafe { self.library.get(b"chdb_query_with_params_n") }?;
        // SAFETY: as above.
        let error: Symbol<'_, Error> = unsafe { self.library.get(b"chdb_result_error") }?;
        // SAFETY: as above.
        let buffer: Symbol<'_, Buffer> = unsafe { self.library.get(b"chdb_result_buffer") }?;
        // SAFETY: as above.
        let length: Symbol<'_, Length> = unsafe { self.library.get(b"chdb_result_length") }?;
        // SAFETY: as above.
        let destroy: Symbol<'_, Destroy> = unsafe { self.library.get(b"chdb_destroy_query_result") }?;
        let (names, name_lengths): (Vec<*const c_char>, Vec<usize>) =
            parameters.iter().map(|(name, _)| (name.as_ptr().cast(), name.len())).unzip();
        let (values, value_lengths): (Vec<*const c_char>, Vec<usize>) =
            parameters.iter().map(|(_, value)| (value.as_ptr().cast(), value.len())).unzip();
        // SAFETY: all texts are passed with their lengths and only read; the answer is ours until it is destroyed, and
        // its error and buffer are its own.
        unsafe {
            let answer = run(
                self.connection,
                query.as_ptr().cast(),
                query.len(),
                format.as_ptr().cast(),
                format.len(),
                names.as_ptr(),
                name_lengths.as_ptr(),
                values.as_ptr(),
                value_lengths.as_ptr(),
                parameters.len(),
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
