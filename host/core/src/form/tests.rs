use proptest::prelude::*;

use super::*;

const TYPE: &str = "multipart/form-data; boundary=XX";

fn text(name: &str, value: &str) -> String {
    format!("--XX\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n")
}

fn file(name: &str, content: &[u8]) -> Vec<u8> {
    let head = format!(
        "--XX\r\nContent-Type: audio/wav\r\ncontent-disposition: form-data; filename=\"a \\\"b\\\".wav\"; name={name}\r\n\r\n"
    );
    [head.as_bytes(), content, b"\r\n"].concat()
}

fn applied(body: &[u8], changes: &[Change<'_>]) -> Vec<u8> {
    let form = Form::parse(TYPE, body).unwrap();
    let pieces = form.apply(changes).unwrap();
    let bytes = pieces.iter().map(|piece| match piece {
        Piece::Kept(range) => &body[range.clone()],
        Piece::New(bytes) => &bytes[..],
    });
    bytes.collect::<Vec<_>>().concat()
}

/// Names, and the text of those that are none of a file.
fn read(body: &[u8]) -> Vec<(String, Option<String>)> {
    let form = Form::parse(TYPE, body).unwrap();
    let all = form.parts.iter().map(|part| {
        let content = &body[part.content.clone()];
        (part.name.clone(), (!part.is_file).then(|| String::from_utf8(content.to_vec()).unwrap()))
    });
    all.collect()
}

/// Bytes that look like a boundary, and aren't: half of one, without its line, with another line end.
const BINARY: &[u8] = b"\x00\xff--XX\r\n--X\n--XX\r\r\n-\r\n\r\n--XY--\r\n";

fn sample() -> Vec<u8> {
    [
        text("model", "whisper-1").as_bytes(),
        &file("file", BINARY),
        text("prompt", "").as_bytes(),
        b"--XX--\r\n",
    ]
    .concat()
}

#[test]
fn fields_are_found_and_files_left_alone() {
    let body = sample();
    let form = Form::parse(TYPE, &body).unwrap();
    assert_eq!(form.names().collect::<Vec<_>>(), [("model", false), ("file", true), ("prompt", false)]);
    assert_eq!(form.field(&body, "model"), Some("whisper-1"));
    assert_eq!(form.field(&body, "prompt"), Some(""));
    assert_eq!((form.field(&body, "file"), form.field(&body, "Model")), (None, None));
    assert_eq!(&body[form.parts[1].content.clone()], BINARY);
    assert_eq!(form.content_type(), TYPE);
}

#[test]
fn edits_keep_the_other_bytes() {
    let body = sample();
    assert_eq!(applied(&body, &[]), body);
    let edited = applied(
        &body,
        &[
            Change::Set("model", "vendor's"),
            Change::Rename("file", "audio \"x\"\r\n"),
            Change::Remove("prompt"),
            Change::Set("new", "1\r\n2"),
            Change::Remove("missing"),
        ],
    );
    let expected = [
        text("model", "vendor's").as_bytes(),
        &file("\"audio %22x%22%0D%0A\"", BINARY),
        text("new", "1\r\n2").as_bytes(),
        b"--XX--\r\n",
    ]
    .concat();
    assert_eq!(String::from_utf8_lossy(&edited), String::from_utf8_lossy(&expected));
    assert_eq!(read(&edited).len(), 3);
    // The file isn't copied: it is one piece of the body.
    let pieces = Form::parse(TYPE, &body).unwrap().apply(&[Change::Set("model", "m")]).unwrap();
    assert!(pieces.iter().any(|piece| matches!(piece, Piece::Kept(range) if range.len() > BINARY.len())));
    // All are gone.
    let nothing = applied(&body, &["model", "file", "prompt"].map(Change::Remove));
    assert_eq!(nothing, b"--XX--\r\n");
    assert!(read(&nothing).is_empty());
}

#[test]
fn a_field_that_is_there_twice_is_set_once() {
    let body =
        [text("a", "1"), text("model", "x"), text("b", "2"), text("model", "y"), "--XX--".into()].concat();
    let edited = applied(body.as_bytes(), &[Change::Set("model", "z")]);
    let names: Vec<_> =
        read(&edited).into_iter().map(|(name, text)| format!("{name}={}", text.unwrap())).collect();
    assert_eq!(names, ["a=1", "model=z", "b=2"]);
    // In order: each change sees what the one before left.
    let edited = applied(
        body.as_bytes(),
        &[
            Change::Rename("model", "m"),
            Change::Set("model", "new"),
            Change::Rename("a", "model"),
            Change::Remove("m"),
        ],
    );
    let names: Vec<_> =
        read(&edited).into_iter().map(|(name, text)| format!("{name}={}", text.unwrap())).collect();
    assert_eq!(names, ["model=1", "b=2", "model=new"]);
}

#[test]
fn a_value_cant_begin_another_field() {
    let body = sample();
    let form = Form::parse(TYPE, &body).unwrap();
    for value in ["x\r\n--XX\r\n", "--XX--", "--XXyz", "a\r\n--XX"] {
        let refused = form.apply(&[Change::Set("prompt", value)]);
        assert_eq!(refused, Err(EditError::Boundary("prompt".into())), "{value:?}");
    }
    assert!(form.apply(&[Change::Set("prompt", "a --XX\n--XX")]).is_ok());
}

#[test]
fn names_are_read_as_they_are_written() {
    for (disposition, name, is_file) in [
        (r#"form-data; name="a b""#, "a b", false),
        (r#"FORM-DATA;NAME=plain"#, "plain", false),
        (r#"form-data; name="a\"b\\c\d";"#, r#"a"b\c\d"#, false),
        (r#"form-data; name="a%22b""#, "a%22b", false),
        (r#"form-data; name="x;name=y"; filename="""#, "x;name=y", true),
        (r#"form-data; filename*=UTF-8''a.wav; name=é"#, "é", true),
        (r#"form-data; name="timestamp_granularities[]"; other="C:\x""#, "timestamp_granularities[]", false),
        (r#"form-data; name="""#, "", false),
    ] {
        let body = format!("--XX\r\nX-Y: z\r\nContent-Disposition: {disposition}\r\n\r\nv\r\n--XX--");
        let form =
            Form::parse(TYPE, body.as_bytes()).unwrap_or_else(|error| panic!("{disposition}: {error}"));
        assert_eq!(form.names().collect::<Vec<_>>(), [(name, is_file)], "{disposition}");
        let renamed = applied(body.as_bytes(), &[Change::Rename(name, "n\\")]);
        assert_eq!(read(&renamed)[0].0, "n\\", "{disposition}");
    }
}

#[test]
fn boundaries_are_read_from_the_media_type() {
    let body = |boundary: &str| {
        format!("--{boundary}\r\nContent-Disposition: form-data; name=a\r\n\r\n1\r\n--{boundary}--")
    };
    for (kind, boundary) in [
        (
            "multipart/form-data; boundary=----WebKitFormBoundary7MA4YWxkTrZu0gW",
            "----WebKitFormBoundary7MA4YWxkTrZu0gW",
        ),
        ("Multipart/Form-Data;charset=utf-8; Boundary=\"a b:c\"", "a b:c"),
    ] {
        let form = Form::parse(kind, body(boundary).as_bytes()).unwrap();
        assert_eq!(headers::boundary(&form.content_type()).as_deref(), Some(boundary), "{kind}");
    }
    let long = format!("multipart/form-data; boundary={}", "x".repeat(71));
    for kind in [
        "",
        "multipart/form-data",
        "multipart/mixed; boundary=a",
        "multipart/form-data; boundary=",
        "multipart/form-data; boundary=\"a",
        "multipart/form-data; boundary=a; boundary=b",
        "multipart/form-data; boundary=\"a \"",
        "multipart/form-data; boundary=a\r\nb",
        "multipart/form-data; boundary=a<b",
        &long,
    ] {
        assert_eq!(Form::parse(kind, body("a").as_bytes()), Err(FormError::ContentType), "{kind}");
    }
}

#[test]
fn what_is_no_form_is_refused() {
    let part = text("a", "1");
    let with = |rest: &str| format!("{part}{rest}");
    let headers = |headers: &str| format!("--XX\r\n{headers}\r\n\r\nv\r\n--XX--");
    for (body, error) in [
        (String::new(), FormError::Start),
        ("x".to_owned() + &part + "--XX--", FormError::Start),
        ("--XX".into(), FormError::End),
        ("--XXX\r\n".into(), FormError::Boundary),
        (part.clone(), FormError::End),
        (with(""), FormError::End),
        (with("--X"), FormError::End),
        (with("--XX"), FormError::End),
        (with("--XX-"), FormError::End),
        (with("--XX-x"), FormError::Boundary),
        (with("--XX--x"), FormError::End),
        (with("--XX--\r\n--XX--"), FormError::End),
        (with("--XXx\r\n\r\n--XX--"), FormError::Boundary),
        (with("--XX\n"), FormError::End),
        (with("--XX\r\nContent-Disposition: form-data; name=a"), FormError::End),
        ("--XX\r\n\r\nv\r\n--XX--".into(), FormError::End),
        (headers("nonsense"), FormError::Headers),
        (headers("Content-Disposition: form-data; name=a;\r\n name=b"), FormError::Headers),
        (headers("Content-Disposition: form-data; name=a\nX: y"), FormError::Headers),
        (headers("Content-Disposition: form-data; name=a\nX: y\rZ: z"), FormError::Headers),
        (headers("Content-Type: text/plain"), FormError::Name),
        (headers("Content-Disposition: form-data"), FormError::Name),
        (headers("Content-Disposition: attachment; name=a"), FormError::Name),
        (headers("Content-Disposition: form-data; name=a; name=b"), FormError::Name),
        (headers("Content-Disposition: form-data; name=\"a"), FormError::Name),
        (headers("Content-Disposition: form-data; name=a b"), FormError::Name),
        (
            headers("Content-Disposition: form-data; name=a\r\nContent-Disposition: form-data; name=b"),
            FormError::Name,
        ),
        (
            headers(&format!("Content-Disposition: form-data; name=a\r\nX: {}", "y".repeat(MAX_HEADERS))),
            FormError::Headers,
        ),
        (part.repeat(MAX_PARTS + 1) + "--XX--", FormError::Parts),
    ] {
        assert_eq!(Form::parse(TYPE, body.as_bytes()), Err(error), "{:?}", body.get(..80).unwrap_or(&body));
    }
    assert!(Form::parse(TYPE, (part.repeat(MAX_PARTS) + "--XX-- \r\n\r\n").as_bytes()).is_ok());
    // An empty part, with and without the line end that belongs to its delimiter; space behind a boundary.
    for body in [
        "\r\n--XX \t\r\nContent-Disposition: form-data; name=a\r\n\r\n--XX--",
        "--XX\r\nContent-Disposition: form-data; name=a\r\n\r\n\r\n--XX--",
    ] {
        assert_eq!(read(body.as_bytes()), [("a".to_owned(), Some(String::new()))]);
        let edited = applied(body.as_bytes(), &[Change::Set("b", "2")]);
        assert_eq!(read(&edited), [("a".into(), Some(String::new())), ("b".into(), Some("2".into()))]);
    }
}

proptest! {
    #[test]
    fn any_form_comes_back_but_for_what_is_changed(
        parts in prop::collection::vec(("[a-c\"\\\\ é]{0,3}", prop::collection::vec(any::<u8>(), 0..60), any::<bool>()), 0..6),
        name in "[a-c]{1,2}", value in "[a-z\r\n-]{0,20}",
    ) {
        let mut body = Vec::new();
        for (name, content, is_file) in &parts {
            let name = name.replace('\\', "\\\\").replace('"', "\\\"");
            let more = if *is_file { "; filename=f" } else { "" };
            body.extend(format!("--XX\r\nContent-Disposition: form-data; name=\"{name}\"{more}\r\n\r\n").as_bytes());
            body.extend(content);
            body.extend(b"\r\n");
        }
        body.extend(b"--XX--\r\n");
        let edited = applied(&body, &[Change::Set(&name, &value)]);
        let form = Form::parse(TYPE, &edited).unwrap();
        prop_assert_eq!(form.field(&edited, &name), Some(value.as_str()));
        let others = |form: &Form, body: &[u8]| -> Vec<(String, bool, Vec<u8>)> {
            let kept = form.parts.iter().filter(|part| part.name != name);
            kept.map(|part| (part.name.clone(), part.is_file, body[part.content.clone()].to_vec())).collect()
        };
        let expected: Vec<_> = parts.iter().filter(|(other, _, _)| *other != name)
            .map(|(name, content, is_file)| (name.clone(), *is_file, content.clone())).collect();
        prop_assert_eq!(others(&form, &edited), expected);
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(prop::sample::select(b"-X\r\n:;=\" nameContent-Disposition: form-data".to_vec()), 0..200)) {
        let _ = Form::parse(TYPE, &[b"--XX\r\n", &bytes[..]].concat());
        let _ = Form::parse(TYPE, &[b"--XX\r\nContent-Disposition: form-data; name=", &bytes[..]].concat());
        let _ = Form::parse(&format!("multipart/form-data; {}", String::from_utf8(bytes).unwrap()), b"");
    }
}
