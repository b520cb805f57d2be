//! A client that hides nothing: raw bytes in, raw bytes out.

use brokle_test_upstream::{Fault, Upstream};
use serde_json::{Value, json};
use std::{io, net::SocketAddr};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

/// Everything that came back on one connection, and how it ended: `Ok` for a FIN.
pub(crate) struct Reply {
    pub(crate) raw: Vec<u8>,
    pub(crate) end: Result<(), io::ErrorKind>,
}

impl Reply {
    pub(crate) fn head(&self) -> String {
        String::from_utf8(self.raw[..self.head_length()].to_vec()).unwrap()
    }

    pub(crate) fn head_length(&self) -> usize {
        self.raw.windows(4).position(|window| window == b"\r\n\r\n").unwrap() + 4
    }

    pub(crate) fn status(&self) -> u16 {
        self.head()[9..12].parse().unwrap()
    }

    pub(crate) fn header(&self, name: &str) -> Option<String> {
        let head = self.head();
        head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": ")).map(str::to_owned)
    }

    /// The body as it was on the wire.
    pub(crate) fn wire_body(&self) -> &[u8] {
        &self.raw[self.head_length()..]
    }

    /// The HTTP chunks of a chunked body, and whether the last one came.
    pub(crate) fn chunks(&self) -> (Vec<Vec<u8>>, bool) {
        assert_eq!(self.header("transfer-encoding").as_deref(), Some("chunked"), "{}", self.head());
        let mut rest = self.wire_body();
        let mut chunks = Vec::new();
        while let Some(end) = rest.windows(2).position(|window| window == b"\r\n") {
            let size = usize::from_str_radix(std::str::from_utf8(&rest[..end]).unwrap(), 16).unwrap();
            if size == 0 {
                assert_eq!(&rest[end..], b"\r\n\r\n");
                return (chunks, true);
            }
            chunks.push(rest[end + 2..end + 2 + size].to_vec());
            rest = &rest[end + 4 + size..];
        }
        (chunks, false)
    }

    /// The body without its framing.
    pub(crate) fn body(&self) -> Vec<u8> {
        match self.header("content-length") {
            Some(length) => {
                assert_eq!(self.wire_body().len(), length.parse::<usize>().unwrap());
                self.wire_body().to_vec()
            }
            None => self.chunks().0.concat(),
        }
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.body()).unwrap()
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body()).unwrap()
    }

    /// The data of each event of a well-formed stream.
    pub(crate) fn data(&self) -> Vec<String> {
        let text = self.text();
        let events = text.strip_suffix("\n\n").unwrap().split("\n\n");
        events
            .map(|event| event.lines().find_map(|line| line.strip_prefix("data: ")).unwrap().to_owned())
            .collect()
    }
}

/// A `POST` with this JSON and these further header lines.
pub(crate) fn post(path: &str, body: &Value, headers: &str) -> Vec<u8> {
    let body = body.to_string();
    let length = body.len();
    format!("POST {path} HTTP/1.1\r\nhost: upstream\r\n{headers}content-length: {length}\r\n\r\n{body}")
        .into()
}

/// A chat request for this model.
pub(crate) fn chat(model: &str, stream: bool) -> Value {
    json!({"model": model, "stream": stream, "messages": [{"role": "user", "content": "one two three"}]})
}

/// Sends the bytes on a connection of their own and reads until it ends.
pub(crate) async fn raw(addr: SocketAddr, request: &[u8]) -> Reply {
    let mut stream = TcpStream::connect(addr).await.unwrap();
    stream.write_all(request).await.unwrap();
    let mut raw = Vec::new();
    let end = loop {
        match stream.read_buf(&mut raw).await {
            Ok(0) => break Ok(()),
            Ok(_) => {}
            Err(error) => break Err(error.kind()),
        }
    };
    Reply { raw, end }
}

/// Posts and asks for the connection to be closed afterwards.
pub(crate) async fn ask(upstream: &Upstream, path: &str, body: &Value) -> Reply {
    raw(upstream.addr(), &post(path, body, "connection: close\r\n")).await
}

/// One chat request under this fault, to an upstream of its own.
pub(crate) async fn faulty(fault: &str, stream: bool) -> Reply {
    let upstream = Upstream::start().await.unwrap();
    ask(&upstream, "/v1/chat/completions", &chat(&format!("gpt-4o-mini!{fault}"), stream)).await
}

/// A connection on which the request was sent and the answer isn't read yet.
pub(crate) async fn open(upstream: &Upstream, fault: &str, stream: bool) -> TcpStream {
    let mut connection = TcpStream::connect(upstream.addr()).await.unwrap();
    let body = chat(&format!("gpt-4o-mini!{fault}"), stream);
    connection.write_all(&post("/v1/chat/completions", &body, "")).await.unwrap();
    connection
}

/// Reads until what was read contains this text, and returns it all.
pub(crate) async fn read_until(connection: &mut TcpStream, text: &str, times: usize) -> Vec<u8> {
    let mut raw = Vec::new();
    while String::from_utf8_lossy(&raw).matches(text).count() < times {
        let read = connection.read_buf(&mut raw).await.unwrap();
        assert_ne!(read, 0, "closed before {text:?}: {}", String::from_utf8_lossy(&raw));
    }
    raw
}

pub(crate) fn fault(text: &str) -> Fault {
    text.parse().unwrap()
}

/// The content that the deltas of an OpenAI stream add up to.
pub(crate) fn content(data: &[String]) -> String {
    let chunks = data.iter().filter_map(|data| serde_json::from_str::<Value>(data).ok());
    chunks.filter_map(|chunk| Some(chunk.pointer("/choices/0/delta/content")?.as_str()?.to_owned())).collect()
}
