//! The reading half: just enough of RFC 9112 for any client, with the connection kept for the next request.

use bytes::{Buf, Bytes, BytesMut};
use std::{io, time::Instant};
use tokio::{io::AsyncReadExt, io::AsyncWriteExt, net::TcpStream};

const MAX_HEAD: usize = 64 * 1024;
const MAX_BODY: usize = 256 * 1024 * 1024;

/// A connection, and what has been read of it beyond the last request.
#[derive(Debug)]
pub(crate) struct Inbound {
    pub(crate) stream: TcpStream,
    pub(crate) buffer: BytesMut,
}

/// A request's head.
#[derive(Debug)]
pub(crate) struct Head {
    pub(crate) method: String,
    pub(crate) path: String,
    /// Names in lower case, in order.
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) first_byte: Instant,
}

/// A body as far as it came.
#[derive(Debug)]
pub(crate) struct Received {
    pub(crate) body: Bytes,
    pub(crate) whole: bool,
}

impl Head {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// Whether the connection serves another request after this one.
    pub(crate) fn keeps_alive(&self) -> bool {
        !self.header("connection").is_some_and(|value| value.eq_ignore_ascii_case("close"))
    }
}

impl Inbound {
    pub(crate) fn new(stream: TcpStream) -> Self {
        Self { stream, buffer: BytesMut::with_capacity(16 * 1024) }
    }

    /// The next request's head; nothing when the client has closed.
    pub(crate) async fn head(&mut self) -> io::Result<Option<Head>> {
        if self.buffer.is_empty() && !self.fill().await? {
            return Ok(None);
        }
        let first_byte = Instant::now();
        let end = loop {
            if let Some(end) = memchr::memmem::find(&self.buffer, b"\r\n\r\n") {
                break end;
            }
            if self.buffer.len() > MAX_HEAD {
                return Err(malformed("the head is too long"));
            }
            if !self.fill().await? {
                return Ok(None);
            }
        };
        let head = self.buffer.split_to(end);
        self.buffer.advance(4);
        let head = std::str::from_utf8(&head).map_err(|_| malformed("the head is not text"))?;
        let mut lines = head.split("\r\n");
        let mut request_line = lines.next().unwrap_or_default().split(' ');
        let (Some(method), Some(path), Some("HTTP/1.1" | "HTTP/1.0")) =
            (request_line.next(), request_line.next(), request_line.next())
        else {
            return Err(malformed("the request line is malformed"));
        };
        let headers = lines.map(|line| {
            let (name, value) = line.split_once(':').ok_or_else(|| malformed("a header is malformed"))?;
            Ok((name.to_ascii_lowercase(), value.trim().to_owned()))
        });
        let headers = headers.collect::<io::Result<_>>()?;
        Ok(Some(Head { method: method.to_owned(), path: path.to_owned(), headers, first_byte }))
    }

    /// The body that belongs to `head`, by length or in chunks.
    pub(crate) async fn body(&mut self, head: &Head) -> io::Result<Received> {
        if head.header("expect").is_some_and(|value| value.eq_ignore_ascii_case("100-continue")) {
            self.stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await?;
        }
        let mut body = BytesMut::new();
        let chunked =
            head.header("transfer-encoding").is_some_and(|value| value.eq_ignore_ascii_case("chunked"));
        let whole = if chunked {
            self.chunks(&mut body).await?
        } else {
            let length = head.header("content-length").map_or(Ok(0), str::parse);
            self.take(length.map_err(|_| malformed("the content length is not a number"))?, &mut body).await?
        };
        Ok(Received { body: body.freeze(), whole })
    }

    async fn chunks(&mut self, body: &mut BytesMut) -> io::Result<bool> {
        loop {
            let Some(line) = self.line().await? else { return Ok(false) };
            let size = line.split(';').next().unwrap_or_default().trim();
            let size =
                usize::from_str_radix(size, 16).map_err(|_| malformed("a chunk's size is not a number"))?;
            if size == 0 {
                break;
            }
            if !self.take(size, body).await? || self.line().await?.is_none() {
                return Ok(false);
            }
        }
        // The trailer, up to the blank line.
        loop {
            match self.line().await? {
                None => return Ok(false),
                Some(line) if line.is_empty() => return Ok(true),
                Some(_) => {}
            }
        }
    }

    async fn line(&mut self) -> io::Result<Option<String>> {
        loop {
            if let Some(end) = memchr::memmem::find(&self.buffer, b"\r\n") {
                let line = self.buffer.split_to(end);
                self.buffer.advance(2);
                return Ok(Some(String::from_utf8_lossy(&line).into_owned()));
            }
            if self.buffer.len() > MAX_HEAD {
                return Err(malformed("a line is too long"));
            }
            if !self.fill().await? {
                return Ok(None);
            }
        }
    }

    /// Moves `length` bytes to `body`; false when the client closed before.
    async fn take(&mut self, mut length: usize, body: &mut BytesMut) -> io::Result<bool> {
        if body.len().saturating_add(length) > MAX_BODY {
            return Err(malformed("the body is too long"));
        }
        loop {
            let part = self.buffer.split_to(length.min(self.buffer.len()));
            length -= part.len();
            body.extend_from_slice(&part);
            if length == 0 {
                return Ok(true);
            }
            if !self.fill().await? {
                return Ok(false);
            }
        }
    }

    /// Reads more; false when there is no more.
    async fn fill(&mut self) -> io::Result<bool> {
        self.buffer.reserve(16 * 1024);
        match self.stream.read_buf(&mut self.buffer).await {
            Ok(read) => Ok(read > 0),
            // A client that resets has left as one that closes has.
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => Ok(false),
            Err(error) => Err(error),
        }
    }
}

fn malformed(why: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}
