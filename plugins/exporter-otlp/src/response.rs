//! What a back end says of a request that it took: `ExportTraceServiceResponse`.

use brokle_plugin::exporter::Receipt;
use brokle_plugin::host::http::Response;
use serde_json::Value;

/// Whatever can't be read says nothing: the status has said that the request was taken.
pub(crate) fn receipt(answer: &Response) -> Receipt {
    let header = answer.headers.iter().find(|header| header.name.eq_ignore_ascii_case("content-type"));
    let is_json = header.is_some_and(|header| header.value.to_ascii_lowercase().contains("json"));
    let (rejected, message) =
        if is_json { of_json(&answer.body) } else { of_protobuf(&answer.body) }.unwrap_or_default();
    Receipt { rejected: u32::try_from(rejected).unwrap_or(u32::MAX), message }
}

fn of_json(body: &[u8]) -> Option<(u64, String)> {
    let answer: Value = serde_json::from_slice(body).ok()?;
    let partial = answer.get("partialSuccess")?;
    let rejected = partial.get("rejectedSpans");
    let rejected = rejected.and_then(|count| count.as_u64().or_else(|| count.as_str()?.parse().ok()));
    let message = partial.get("errorMessage").and_then(Value::as_str).unwrap_or_default();
    Some((rejected.unwrap_or_default(), message.to_owned()))
}

/// Field 1 is the partial success: in it 1 how many were rejected, 2 why.
fn of_protobuf(body: &[u8]) -> Option<(u64, String)> {
    let (mut rejected, mut message) = (0, String::new());
    for (field, value) in Fields(body) {
        let (1, Field::Bytes(partial)) = (field, value) else { continue };
        for (field, value) in Fields(partial) {
            match (field, value) {
                (1, Field::Number(count)) => rejected = count,
                (2, Field::Bytes(text)) => message = String::from_utf8_lossy(text).into_owned(),
                _ => {}
            }
        }
    }
    Some((rejected, message))
}

enum Field<'a> {
    Number(u64),
    Bytes(&'a [u8]),
    Fixed,
}

/// A message's fields; it ends where something is cut off or unknown.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn varint(&mut self) -> Option<u64> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let (byte, rest) = self.0.split_first()?;
            self.0 = rest;
            number |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(number);
            }
        }
        None
    }

    fn take(&mut self, length: u64) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(usize::try_from(length).ok()?)?;
        self.0 = rest;
        Some(taken)
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = (u64, Field<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        let tag = self.varint()?;
        let value = match tag & 7 {
            0 => Field::Number(self.varint()?),
            1 => self.take(8).map(|_| Field::Fixed)?,
            2 => {
                let length = self.varint()?;
                Field::Bytes(self.take(length)?)
            }
            5 => self.take(4).map(|_| Field::Fixed)?,
            _ => return None,
        };
        Some((tag >> 3, value))
    }
}

#[cfg(test)]
mod tests {
    use brokle_plugin::host::http::Header;

    use super::*;

    fn read(media_type: &str, body: &[u8]) -> (u32, String) {
        let header = Header { name: "content-type".into(), value: media_type.into() };
        let receipt = receipt(&Response { status: 200, headers: vec![header], body: body.to_vec() });
        (receipt.rejected, receipt.message)
    }

    #[test]
    fn a_partial_success_is_read_in_both_encodings() {
        let json = br#"{"partialSuccess":{"rejectedSpans":"3","errorMessage":"too old"}}"#;
        assert_eq!(read("application/json; charset=utf-8", json), (3, "too old".into()));
        assert_eq!(
            read("application/json", br#"{"partialSuccess":{"rejectedSpans":2}}"#),
            (2, String::new())
        );
        let protobuf = b"\x0a\x0b\x08\x03\x12\x07too old";
        assert_eq!(read("application/x-protobuf", protobuf), (3, "too old".into()));
    }

    #[test]
    fn whatever_cant_be_read_says_nothing() {
        for body in
            [&b""[..], b"{}", b"<html>", b"\x0a\xff", b"\x0a\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x01"]
        {
            assert_eq!(read("application/x-protobuf", body).0, 0);
            assert_eq!(read("application/json", body).0, 0);
        }
    }
}
