//! Reads HTTP/1.1 responses off a socket, no more of them than a load generator must: the status and where the body
//! ends, by length or by chunks (RFC 9112 §6 and §7).

use std::{io, net::SocketAddr};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

const BUFFER: usize = 32 * 1024;

/// A kept-alive connection.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Connection {
    pub(crate) async fn open(addr: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(addr).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, buffer: vec![0; BUFFER] })
    }

    /// Whether the server left it open while nothing was asked on it. What it says unasked isn't an answer to anybody.
    pub(crate) fn is_open(&self) -> bool {
        matches!(self.stream.try_read(&mut [0]), Err(error) if error.kind() == io::ErrorKind::WouldBlock)
    }

    /// Sends these bytes and reads nothing.
    pub(crate) async fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes).await
    }

    /// Sends these bytes, reads one response, gives its body to `sink` as it comes, and returns its status.
    ///
    /// # Errors
    /// When the connection fails or the response is malformed; the connection can't be used again then.
    pub(crate) async fn exchange(&mut self, request: &[u8], mut sink: impl FnMut(&[u8])) -> io::Result<u16> {
        self.stream.write_all(request).await?;
        let mut response = Response::default();
        loop {
            let read = self.stream.read(&mut self.buffer).await?;
            if read == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            if response.push(self.buffer.get(..read).unwrap_or_default(), &mut sink)? {
                return Ok(response.status);
            }
        }
    }
}

/// Where in a response we are.
#[derive(Debug, Default)]
struct Response {
    status: u16,
    /// A head that didn't come in one piece.
    head: Vec<u8>,
    state: State,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum State {
    #[default]
    Head,
    /// So many bytes are missing.
    Length(usize),
    /// In a chunk's size line: the size so far, and whether it still goes on.
    Size(usize, bool),
    /// So many bytes of a chunk are missing, its line end included.
    Chunk(usize),
    /// In the trailer, with so many bytes in this line.
    Trailer(usize),
    Done,
}

impl Response {
    /// Takes what was read; true when the response is whole.
    fn push(&mut self, mut input: &[u8], sink: &mut impl FnMut(&[u8])) -> io::Result<bool> {
        while !input.is_empty() {
            input = match self.state {
                State::Head => self.head(input)?,
                State::Done => return Err(malformed("more than one response")),
                State::Length(missing) => {
                    let (body, rest) = split(input, missing);
                    sink(body);
                    self.state = after_length(missing - body.len());
                    rest
                }
                State::Chunk(missing) => {
                    let (part, rest) = split(input, missing);
                    let line_end = 2_usize.saturating_sub(missing - part.len()).min(part.len());
                    sink(split(part, part.len() - line_end).0);
                    let missing = missing - part.len();
                    self.state = if missing == 0 { State::Size(0, true) } else { State::Chunk(missing) };
                    rest
                }
                State::Size(..) | State::Trailer(_) => {
                    let (byte, rest) = split(input, 1);
                    self.state = self.line(byte.first().copied().unwrap_or_default())?;
                    rest
                }
            };
        }
        Ok(self.state == State::Done)
    }

    /// One byte of a line.
    fn line(&self, byte: u8) -> io::Result<State> {
        Ok(match (self.state, byte) {
            (State::Size(0, _), b'\n') => State::Trailer(0),
            (State::Size(size, _), b'\n') => State::Chunk(size + 2),
            (State::Size(size, true), byte) if byte.is_ascii_hexdigit() => {
                let digit = char::from(byte).to_digit(16).unwrap_or(0) as usize;
                let size = size.checked_mul(16).and_then(|size| size.checked_add(digit));
                State::Size(size.ok_or_else(|| malformed("a chunk's size is too large"))?, true)
            }
            // An extension, or the CR.
            (State::Size(size, _), b';' | b'\r' | b' ') => State::Size(size, false),
            (State::Size(size, false), _) => State::Size(size, false),
            (State::Size(..), _) => return Err(malformed("a chunk's size is not a number")),
            (State::Trailer(0), b'\n') => State::Done,
            (State::Trailer(_), b'\n') => State::Trailer(0),
            (State::Trailer(length), b'\r') => State::Trailer(length),
            (State::Trailer(length), _) => State::Trailer(length + 1),
            (state, _) => state,
        })
    }

    /// Takes the head, and returns what follows it.
    fn head<'a>(&mut self, input: &'a [u8]) -> io::Result<&'a [u8]> {
        if self.head.is_empty()
            && let Some(end) = memchr::memmem::find(input, b"\r\n\r\n")
        {
            let (head, rest) = split(input, end + 4);
            (self.status, self.state) = parse(head)?;
            return Ok(rest);
        }
        let before = self.head.len();
        self.head.extend_from_slice(input);
        let Some(end) = memchr::memmem::find(&self.head, b"\r\n\r\n") else { return Ok(&[]) };
        (self.status, self.state) = parse(split(&self.head, end + 4).0)?;
        Ok(split(input, end + 4 - before).1)
    }
}

/// The status, and how the body ends.
fn parse(head: &[u8]) -> io::Result<(u16, State)> {
    let head = std::str::from_utf8(head).map_err(|_| malformed("the head is not text"))?;
    let mut lines = head.split("\r\n");
    let status = lines.next().and_then(|line| line.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok());
    let status = status.ok_or_else(|| malformed("the status line is malformed"))?;
    let mut state = None;
    for (name, value) in lines.filter_map(|line| line.split_once(':')) {
        if name.eq_ignore_ascii_case("content-length") {
            let length = value.trim().parse().map_err(|_| malformed("the content length is not a number"))?;
            state = Some(after_length(length));
        } else if name.eq_ignore_ascii_case("transfer-encoding")
            && value.trim().eq_ignore_ascii_case("chunked")
        {
            state = Some(State::Size(0, true));
        }
    }
    Ok((status, state.ok_or_else(|| malformed("the body has neither a length nor chunks"))?))
}

fn after_length(missing: usize) -> State {
    if missing == 0 { State::Done } else { State::Length(missing) }
}

fn split(input: &[u8], at: usize) -> (&[u8], &[u8]) {
    input.split_at_checked(at).unwrap_or((input, &[]))
}

fn malformed(why: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The status and body, with the response read in pieces of this size.
    fn read(response: &str, size: usize) -> io::Result<Option<(u16, String)>> {
        let mut body = Vec::new();
        let mut parser = Response::default();
        let mut done = false;
        for piece in response.as_bytes().chunks(size) {
            assert!(!done);
            done = parser.push(piece, &mut |part| body.extend_from_slice(part))?;
        }
        Ok(done.then(|| (parser.status, String::from_utf8(body).unwrap())))
    }

    #[tokio::test]
    async fn what_the_server_closed_is_noticed_before_it_is_used() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = Connection::open(listener.local_addr().unwrap()).await.unwrap();
        let (server, _) = listener.accept().await.unwrap();
        assert!(client.is_open());
        drop(server);
        client.stream.readable().await.unwrap();
        assert!(!client.is_open());
    }

    #[test]
    fn a_body_ends_by_length_or_by_chunks_however_it_is_cut() {
        for (response, expected) in [
            ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", Some((200, "hello"))),
            ("HTTP/1.1 204 No Content\r\ncontent-length: 0\r\n\r\n", Some((204, ""))),
            (
                "HTTP/1.1 429 \r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n00B;a=b\r\n big\r\nworld\r\n0\r\n\r\n",
                Some((429, "hello big\r\nworld")),
            ),
            (
                "HTTP/1.1 200 OK\r\ntransfer-encoding: Chunked\r\n\r\n1\r\n.\r\n0\r\nx: y\r\n\r\n",
                Some((200, ".")),
            ),
            ("HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nhello", None),
            ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\n.\r\n0\r\n", None),
        ] {
            for size in 1..=response.len() {
                let expected = expected.map(|(status, body)| (status, body.to_owned()));
                assert_eq!(read(response, size).unwrap(), expected, "{response:?} in pieces of {size}");
            }
        }
    }

    #[test]
    fn what_is_not_a_response_is_an_error() {
        for response in [
            "HTTP/1.1 OK\r\n\r\n",
            "HTTP/1.1 200 OK\r\n\r\nuntil closed",
            "HTTP/1.1 200 OK\r\ncontent-length: x\r\n\r\n",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
            "HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\n12",
        ] {
            assert!(read(response, response.len()).is_err(), "{response:?}");
        }
    }
}
