//! A JSON body without its pictures: long base64 texts are left out for a component, and put back into what it makes.
//!
//! What is left out is replaced by a token, which is base64 itself, so that a component which only carries it need not know.
//! A token can't be guessed: no caller can write one.

use std::ops::Range;

use bytes::Bytes;
use memchr::{memchr_iter, memmem};
use ring::rand::{SecureRandom, SystemRandom};
use thiserror::Error;

/// Base64 of fewer bytes stays: what it costs to copy is less than what it costs to replace.
pub(super) const LONG: usize = 4 << 10;
/// What a component makes may have this many times the body's length put back. Once would do for all that is known; a
/// component that repeats a picture without end is another matter.
const MOST: usize = 4;
/// How far into a text the head of a data URL may reach.
const HEAD: usize = 256;
const DIGITS: usize = 6;

/// What is put back is more than four times the caller's body.
#[derive(Debug, Error)]
#[error("what it plans repeats the caller's base64 beyond {MOST} times the request")]
pub struct Repeated;

/// Which parts of a body are left out.
#[derive(Debug)]
pub(super) struct Abridged {
    /// What each token begins with. The rest is the number of its part.
    mark: String,
    parts: Vec<Range<usize>>,
}

impl Abridged {
    /// Finds the long base64 texts of a body that is JSON.
    pub(super) fn of(body: &[u8]) -> Self {
        let mut key = [0; 16];
        let mut parts = parts(body);
        if parts.len() >= 10_usize.pow(DIGITS as u32) || SystemRandom::new().fill(&mut key).is_err() {
            parts.clear();
        }
        Self { mark: format!("Brokle{:032x}", u128::from_be_bytes(key)), parts }
    }

    /// Whether nothing is left out.
    pub(super) fn is_whole(&self) -> bool {
        self.parts.is_empty()
    }

    /// The body with tokens.
    pub(super) fn text(&self, body: &[u8]) -> Vec<u8> {
        let left_out: usize = self.parts.iter().map(ExactSizeIterator::len).sum();
        let token = self.mark.len() + DIGITS;
        let mut text = Vec::with_capacity(body.len() - left_out + self.parts.len() * token);
        let mut done = 0;
        for (number, part) in self.parts.iter().enumerate() {
            text.extend_from_slice(body.get(done..part.start).unwrap_or_default());
            text.extend_from_slice(self.mark.as_bytes());
            text.extend_from_slice(format!("{number:0DIGITS$}").as_bytes());
            done = part.end;
        }
        text.extend_from_slice(body.get(done..).unwrap_or_default());
        text
    }

    /// What a component made, in pieces: with the body's own parts in the place of their tokens.
    ///
    /// # Errors
    /// It would be too long.
    pub(super) fn complete(&self, body: &Bytes, made: &Bytes) -> Result<Vec<Bytes>, Repeated> {
        let mut pieces = Vec::new();
        let (mut done, mut put_back) = (0, 0);
        for at in memmem::find_iter(made, self.mark.as_bytes()) {
            let digits = at + self.mark.len();
            let number =
                made.get(digits..digits + DIGITS).and_then(|digits| std::str::from_utf8(digits).ok());
            let part = number.and_then(|number| self.parts.get(number.parse::<usize>().ok()?));
            let Some(part) = part else { continue };
            put_back += part.len();
            if put_back > body.len() * MOST {
                return Err(Repeated);
            }
            pieces.extend([made.slice(done..at), body.slice(part.clone())]);
            done = digits + DIGITS;
        }
        pieces.push(made.slice(done..));
        Ok(pieces)
    }
}

/// Where the long base64 texts are. Between two quotes without one in between is a string or what separates two of them,
/// which no base64 looks like.
fn parts(body: &[u8]) -> Vec<Range<usize>> {
    let mut parts = Vec::new();
    let mut start = 0;
    for quote in memchr_iter(b'"', body) {
        let text = body.get(start..quote).unwrap_or_default();
        if text.len() >= LONG
            && let Some(head) = head(text)
            && let Some(data) = text.get(head..)
            && data.len() >= LONG
            && is_base64(data)
        {
            parts.push(start + head..quote);
        }
        start = quote + 1;
    }
    parts
}

/// What stands before the base64 of a text: nothing, or a data URL's head (RFC 2397). None for a text's, which a component may
/// have to read.
fn head(text: &[u8]) -> Option<usize> {
    let Some(url) = text.strip_prefix(b"data:") else { return Some(0) };
    let head = url.get(..HEAD.min(url.len()))?;
    let end = memmem::find(head, b";base64,")?;
    (!head.get(..5)?.eq_ignore_ascii_case(b"text/")).then_some(b"data:".len() + end + b";base64,".len())
}

/// Whether these bytes of a JSON string are base64 (RFC 4648, either alphabet). Some write each `/` of it as `\/`.
fn is_base64(text: &[u8]) -> bool {
    // By blocks without a way out, so that they are looked at many bytes at a time.
    let known =
        |byte: &u8| byte.is_ascii_alphanumeric() | matches!(byte, b'+' | b'/' | b'=' | b'-' | b'_' | b'\\');
    let is_known = |block: &[u8]| block.iter().fold(true, |all, byte| all & known(byte));
    text.chunks(256).all(is_known) && memchr_iter(b'\\', text).all(|at| text.get(at + 1) == Some(&b'/'))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn whole(pieces: &[Bytes]) -> Vec<u8> {
        pieces.concat()
    }

    /// The token of each part, by taking away what stands before and after.
    fn tokens(abridged: &Abridged) -> Vec<String> {
        (0..abridged.parts.len()).map(|number| format!("{}{number:0DIGITS$}", abridged.mark)).collect()
    }

    #[test]
    fn a_picture_is_left_out_and_put_back_where_it_came() {
        let (picture, sound) = ("iVBORw0K".repeat(1000), "UklG\\/+_-".repeat(600));
        let body = format!(
            r#"{{"a":"data:image/png;base64,{picture}","b":{{"data":"{sound}","short":"iVBORw0K"}},"a\"c":"d"}}"#
        );
        let abridged = Abridged::of(body.as_bytes());
        let text = String::from_utf8(abridged.text(body.as_bytes())).unwrap();
        let [first, second] = tokens(&abridged).try_into().unwrap();
        let expected = body.replace(&picture, &first).replace(&sound, &second);
        assert_eq!(text, expected);
        assert_eq!(first.len() % 4, 0, "it is base64 that can be decoded");

        let body = Bytes::from(body);
        let made =
            format!(r#"{{"sound":"{second}","url":"data:;base64,{first}","mark":"{}"}}"#, abridged.mark);
        let pieces = abridged.complete(&body, &made.clone().into()).unwrap();
        let expected = made.replace(&first, &picture).replace(&second, &sound);
        assert_eq!(String::from_utf8(whole(&pieces)).unwrap(), expected);
        let within = |piece: &&Bytes| body.as_ptr_range().contains(&piece.as_ptr());
        assert_eq!(pieces.iter().filter(within).count(), 2, "pictures aren't copied");
    }

    #[test]
    fn what_may_have_to_be_read_stays() {
        let long = "iVBORw0K".repeat(1000);
        for text in [
            format!("data:text/plain;base64,{long}"),
            format!("data:TEXT/csv;charset=utf-8;base64,{long}"),
            format!("data:image/svg+xml,{long}"),
            format!("data:image/png;{};base64,{long}", "x".repeat(HEAD)),
            format!("{long}."),
            format!("{long} {long}"),
            format!("{long}\\n{long}"),
            format!("{long}\\\"{long}\\\""),
            "ä".repeat(3000),
            long[..LONG - 1].to_owned(),
        ] {
            let body = format!(r#"{{"a":"{text}"}}"#);
            let abridged = Abridged::of(body.as_bytes());
            let is_whole = abridged.text(body.as_bytes()) == body.as_bytes();
            assert!(is_whole, "{} …", text.chars().take(60).collect::<String>());
        }
    }

    #[test]
    fn a_picture_isnt_repeated_without_end() {
        let body = Bytes::from(format!(r#"["{}"]"#, "iVBORw0K".repeat(1000)));
        let abridged = Abridged::of(&body);
        let [token] = tokens(&abridged).try_into().unwrap();
        assert_eq!(whole(&abridged.complete(&body, &token.repeat(4).into()).unwrap()).len(), 4 * 8000);
        assert!(abridged.complete(&body, &token.repeat(5).into()).is_err());
    }

    proptest! {
        /// Whatever the body has in it, what a component doesn't change comes out as it went in.
        #[test]
        fn what_isnt_changed_is_the_same(texts in proptest::collection::vec(text(), 0..6)) {
            let body = Bytes::from(serde_json::to_vec(&texts).unwrap());
            let abridged = Abridged::of(&body);
            let text = abridged.text(&body);
            prop_assert!(serde_json::from_slice::<Vec<String>>(&text).is_ok());
            let complete = abridged.complete(&body, &text.into()).unwrap();
            prop_assert_eq!(whole(&complete), body.to_vec());
        }
    }

    /// Texts that are base64, nearly so, or not at all.
    fn text() -> impl Strategy<Value = String> {
        let base64 = (LONG - 2..LONG + 2).prop_map(|length| "A".repeat(length));
        let odd = prop_oneof![Just("\\"), Just("\""), Just("/"), Just(" "), Just("data:a/b;base64,")];
        prop_oneof![
            base64.clone(),
            base64.clone().prop_map(|text| format!("data:a/b;base64,{text}")),
            (base64.clone(), odd, base64)
                .prop_map(|(before, odd, after)| [before, odd.into(), after].concat()),
            ".*",
        ]
    }
}
