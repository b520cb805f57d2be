//! What a request asks for.

use bytes::Bytes;
use url::form_urlencoded;

use crate::engine::{Exception, Session};
use crate::lz4;

/// A query and what goes with it.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Asked {
    query: String,
    /// What an INSERT inserts.
    data: Vec<u8>,
    database: Option<String>,
    format: Option<String>,
    settings: Vec<(String, String)>,
    /// Of the query, `param_…` without that: values as ClickHouse reads them from a URL.
    parameters: Vec<(String, String)>,
}

/// A request that isn't understood.
#[derive(Debug, thiserror::Error, PartialEq)]
#[error("{0}")]
pub(crate) struct NotUnderstood(&'static str);

/// Parameters of the URL that are neither settings nor parameters of the query.
const IGNORED: [&str; 6] = ["compress", "user", "password", "role", "session_id", "query_id"];

impl Asked {
    pub(crate) fn read(url: &str, content_type: &str, body: &Bytes) -> Result<Self, NotUnderstood> {
        let mut asked = Self::default();
        let (mut query, mut is_packed) = (String::new(), false);
        for (name, value) in form_urlencoded::parse(url.as_bytes()) {
            match &*name {
                "query" => query = value.into_owned(),
                "database" => asked.database = Some(value.into_owned()),
                "default_format" => asked.format = Some(value.into_owned()),
                "decompress" => is_packed = value == "1",
                name if IGNORED.contains(&name) => {}
                name => asked.says(name, value.into_owned()),
            }
        }
        let data = if let Some(boundary) = content_type.strip_prefix("multipart/form-data; boundary=") {
            for (name, value) in fields(body, boundary).ok_or(NotUnderstood("the form can't be read"))? {
                if name == "query" {
                    query.push_str(&value);
                } else {
                    asked.says(&name, value);
                }
            }
            Vec::new()
        } else if is_packed {
            lz4::inflate(body).ok_or(NotUnderstood("the body isn't made of LZ4 blocks"))?
        } else {
            body.to_vec()
        };
        if query.is_empty() {
            asked.query = String::from_utf8(data).map_err(|_| NotUnderstood("the query isn't UTF-8"))?;
        } else {
            (asked.query, asked.data) = (query, data);
        }
        Ok(asked)
    }

    fn says(&mut self, name: &str, value: String) {
        match name.strip_prefix("param_") {
            Some(parameter) => self.parameters.push((parameter.to_owned(), value)),
            None => self.settings.push((name.to_owned(), value)),
        }
    }

    /// Runs it; what it sets in the session is taken back.
    pub(crate) fn run(&self, session: &mut Session) -> Result<Vec<u8>, Exception> {
        session.choose(self.database.as_deref().unwrap_or("default"))?;
        if self.settings.is_empty() {
            return self.query(session);
        }
        let answer = self.set(session).and_then(|()| self.query(session));
        let names: Vec<String> = self.settings.iter().map(|(name, _)| format!("{name} = DEFAULT")).collect();
        session.query(&format!("SET {}", names.join(", ")), "Null", &[])?;
        answer
    }

    /// The engine reads data behind a statement only to the first empty line, and binary data has such bytes: it goes
    /// through a file.
    fn query(&self, session: &Session) -> Result<Vec<u8>, Exception> {
        let format = self.format.as_deref().unwrap_or("TabSeparated");
        let parameters: Vec<(&str, &str)> =
            self.parameters.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        if self.data.is_empty() {
            return session.query(&self.query, format, &parameters);
        }
        let insert = self.query.rsplit_once(" FORMAT ");
        let (insert, of) = insert.ok_or_else(|| Exception("an INSERT names its FORMAT".to_owned()))?;
        let scratch = &session.scratch;
        std::fs::write(scratch, &self.data).map_err(|error| Exception(error.to_string()))?;
        let insert = format!("{insert} FROM INFILE '{}' FORMAT {of}", scratch.display());
        session.query(&insert, format, &parameters)
    }

    fn set(&self, session: &Session) -> Result<(), Exception> {
        let mut set = Vec::with_capacity(self.settings.len());
        for (name, value) in &self.settings {
            if !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
                return Err(Exception("Code: 115. DB::Exception: not a setting's name".to_owned()));
            }
            set.push(format!("{name} = '{}'", value.replace('\\', "\\\\").replace('\'', "\\'")));
        }
        session.query(&format!("SET {}", set.join(", ")), "Null", &[]).map(drop)
    }
}

/// The fields of a form, as the `clickhouse` crate writes it.
fn fields(body: &[u8], boundary: &str) -> Option<Vec<(String, String)>> {
    let text = std::str::from_utf8(body).ok()?;
    let text = text.strip_prefix(&format!("--{boundary}\r\n"))?;
    let text = text.strip_suffix(&format!("\r\n--{boundary}--\r\n"))?;
    text.split(&format!("\r\n--{boundary}\r\n"))
        .map(|part| {
            let (head, value) = part.split_once("\r\n\r\n")?;
            let name = head.split_once("name=\"")?.1.split_once('"')?.0;
            Some((name.to_owned(), value.to_owned()))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_come_from_the_url_and_from_forms() {
        let form = "--b\r\nContent-Disposition: form-data; name=\"query\"\r\n\r\nSELECT {x:String}\r\n--b\r\n\
                    Content-Disposition: form-data; name=\"param_x\"\r\n\r\na\r\nb\r\n--b--\r\n";
        let content_type = "multipart/form-data; boundary=b";
        let url = "database=d&default_format=JSON&max_threads=1&param_y=%271%27&user=u";
        let asked = Asked::read(url, content_type, &Bytes::from(form)).unwrap();
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(asked.query, "SELECT {x:String}");
        assert_eq!((asked.database.as_deref(), asked.format.as_deref()), (Some("d"), Some("JSON")));
        assert_eq!(asked.settings, [pair("max_threads", "1")]);
        assert_eq!(asked.parameters, [pair("y", "'1'"), pair("x", "a\r\nb")]);
    }

    #[test]
    fn what_cannot_be_read_is_an_error() {
        let form = "multipart/form-data; boundary=b";
        assert!(Asked::read("", form, &Bytes::from("--b\r\n")).is_err());
        assert!(Asked::read("decompress=1", "", &Bytes::from("not LZ4")).is_err());
    }
}
