//! `data:` URLs, and names in paths.

use alloc::borrow::{Cow, ToOwned};
use alloc::format;
use alloc::string::String;

/// Media type and data of `data:TYPE[;PARAMETER]…;base64,DATA` (RFC 2397).
pub fn data_url(url: Cow<'_, str>) -> Option<(Cow<'_, str>, Cow<'_, str>)> {
    let (head, _) = url.strip_prefix("data:")?.split_once(',')?;
    let media_type = head.strip_suffix(";base64")?.split(';').next().filter(|name| name.contains('/'))?.len();
    let (start, data) = ("data:".len(), "data:".len() + head.len() + 1);
    match url {
        Cow::Borrowed(url) => Some((url.get(start..start + media_type)?.into(), url.get(data..)?.into())),
        Cow::Owned(url) => {
            Some((url.get(start..start + media_type)?.to_owned().into(), url.get(data..)?.to_owned().into()))
        }
    }
}

/// A name as one segment of a path (RFC 3986, 3.3): everything but unreserved characters is percent-encoded, slashes
/// too, so that a name can't choose another path. A name of dots alone, which clients and servers take out of a path,
/// stays a name.
pub fn segment(name: &str) -> String {
    let dots = name.bytes().all(|byte| byte == b'.');
    let mut segment = String::with_capacity(name.len() + 8);
    for byte in name.bytes() {
        match byte.is_ascii_alphanumeric() || b"-_~".contains(&byte) || (byte == b'.' && !dots) {
            true => segment.push(char::from(byte)),
            false => segment.push_str(&format!("%{byte:02X}")),
        }
    }
    segment
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_stays_in_its_segment() {
        let arn = "arn:aws:bedrock:us-east-1:1:application-inference-profile/a b";
        assert_eq!(
            segment(arn),
            "arn%3Aaws%3Abedrock%3Aus-east-1%3A1%3Aapplication-inference-profile%2Fa%20b"
        );
        assert_eq!(segment("../x"), "..%2Fx");
        assert_eq!(segment(".."), "%2E%2E");
    }

    #[test]
    fn data_urls_are_told_from_others() {
        let read =
            |text: &str| data_url(text.into()).map(|(kind, data)| (kind.into_owned(), data.into_owned()));
        let png = Some(("image/png".to_owned(), "AA==".to_owned()));
        assert_eq!(read("data:image/png;base64,AA=="), png);
        assert_eq!(read("data:image/png;name=x;base64,AA=="), png);
        for text in ["data:image/png,AA", "data:;base64,AA==", "https://a/b", "data:image/png;base64"] {
            assert_eq!(read(text), None, "{text}");
        }
    }
}
