//! From text to [`Node`]s, by recursive descent. Kinds are checked here, so that asking can't fail.

use alloc::borrow::ToOwned;
use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use super::{Comparison, Error, FACTS, MAX_LENGTH, Node, Operand, Type, Value, text};

/// How deep parentheses and `not` may go.
const MAX_DEPTH: u32 = 32;
/// The longest name below `metadata`.
const MAX_NAME: usize = 64;

#[derive(Debug, Clone, PartialEq)]
enum Token {
    Word(String),
    Text(String),
    Number(f64),
    Sign(&'static str),
    End,
}

impl Token {
    fn shown(&self) -> String {
        match self {
            Self::Word(word) => format!("'{word}'"),
            Self::Text(text) => format!("\"{text}\""),
            Self::Number(number) => format!("{number}"),
            Self::Sign(sign) => format!("'{sign}'"),
            Self::End => "the end".to_owned(),
        }
    }
}

/// Longer ones first.
const SIGNS: [&str; 12] = ["==", "!=", "<=", ">=", "&&", "||", "<", ">", "!", "(", ")", ","];

pub(super) fn condition(written: &str) -> Result<Node, Error> {
    if written.len() > MAX_LENGTH {
        let message = format!("a condition has {MAX_LENGTH} bytes at most");
        return Err(Error { column: 1, message });
    }
    let mut reader = Reader { written, at: 0, start: 0, token: Token::End, depth: 0 };
    reader.advance()?;
    let node = reader.or()?;
    match reader.token {
        Token::End => Ok(node),
        _ => Err(reader.expected("'and', 'or' or the end")),
    }
}

struct Reader<'a> {
    written: &'a str,
    /// The byte after the current token.
    at: usize,
    /// The byte where it begins.
    start: usize,
    token: Token,
    depth: u32,
}

impl Reader<'_> {
    fn fault(&self, at: usize, message: impl Into<String>) -> Error {
        let column = self.written.get(..at).map_or(0, |before| before.chars().count()) + 1;
        Error { column, message: message.into() }
    }

    fn expected(&self, what: &str) -> Error {
        self.fault(self.start, format!("{what} is expected, not {}", self.token.shown()))
    }

    fn rest(&self) -> &str {
        self.written.get(self.at..).unwrap_or_default()
    }

    fn advance(&mut self) -> Result<(), Error> {
        let blank = self.rest().len() - self.rest().trim_start().len();
        self.at += blank;
        self.start = self.at;
        let rest = self.rest();
        let Some(first) = rest.chars().next() else {
            self.token = Token::End;
            return Ok(());
        };
        if let Some(sign) = SIGNS.into_iter().find(|sign| rest.starts_with(sign)) {
            self.at += sign.len();
            self.token = Token::Sign(sign);
            return Ok(());
        }
        if first == '"' || first == '\'' {
            return self.quoted(first);
        }
        let in_word = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '.');
        let word: String = rest.chars().take_while(|&c| in_word(c)).collect();
        if word.is_empty() {
            let message = match first {
                '=' => "'==' compares".to_owned(),
                _ => format!("'{}' means nothing here", first.escape_debug()),
            };
            return Err(self.fault(self.start, message));
        }
        self.at += word.len();
        self.token = match first.is_ascii_digit() || first == '-' {
            true => match word.parse::<f64>() {
                Ok(number) if number.is_finite() => Token::Number(number),
                _ => return Err(self.fault(self.start, format!("'{word}' is no number"))),
            },
            false => Token::Word(word),
        };
        Ok(())
    }

    fn quoted(&mut self, quote: char) -> Result<(), Error> {
        let mut text = String::new();
        let mut escaped = false;
        for (offset, c) in self.rest().char_indices().skip(1) {
            match c {
                _ if escaped => {
                    if c != quote && c != '\\' {
                        return Err(self.fault(self.at + offset, format!("\\{c} is no escape")));
                    }
                    text.push(c);
                    escaped = false;
                }
                '\\' => escaped = true,
                _ if c == quote => {
                    self.at += offset + 1;
                    self.token = Token::Text(text);
                    return Ok(());
                }
                _ => text.push(c),
            }
        }
        Err(self.fault(self.start, "the text doesn't end"))
    }

    /// Takes the token if it is this word or sign.
    fn take(&mut self, word: &str) -> Result<bool, Error> {
        let is_it = match &self.token {
            Token::Word(there) => there == word,
            Token::Sign(sign) => *sign == word,
            _ => false,
        };
        if is_it {
            self.advance()?;
        }
        Ok(is_it)
    }

    fn must(&mut self, sign: &str) -> Result<(), Error> {
        match self.take(sign)? {
            true => Ok(()),
            false => Err(self.expected(&format!("'{sign}'"))),
        }
    }

    fn or(&mut self) -> Result<Node, Error> {
        let mut parts = alloc::vec![self.and()?];
        while self.take("or")? || self.take("||")? {
            parts.push(self.and()?);
        }
        Ok(one_or(parts, Node::Or))
    }

    fn and(&mut self) -> Result<Node, Error> {
        let mut parts = alloc::vec![self.not()?];
        while self.take("and")? || self.take("&&")? {
            parts.push(self.not()?);
        }
        Ok(one_or(parts, Node::And))
    }

    fn not(&mut self) -> Result<Node, Error> {
        if !(self.take("not")? || self.take("!")?) {
            return self.comparison();
        }
        self.deeper(|reader| Ok(Node::Not(Box::new(reader.not()?))))
    }

    fn deeper(&mut self, read: impl FnOnce(&mut Self) -> Result<Node, Error>) -> Result<Node, Error> {
        if self.depth >= MAX_DEPTH {
            return Err(self.fault(self.start, format!("it is more than {MAX_DEPTH} deep")));
        }
        self.depth += 1;
        let node = read(self)?;
        self.depth -= 1;
        Ok(node)
    }

    fn comparison(&mut self) -> Result<Node, Error> {
        if self.take("(")? {
            let node = self.deeper(Self::or)?;
            self.must(")")?;
            return Ok(node);
        }
        if self.take("has")? {
            self.must("(")?;
            let (name, _) = self.fact()?;
            self.must(")")?;
            return Ok(Node::Has(name));
        }
        let start = self.start;
        let (left, kind) = self.operand()?;
        let comparisons = [
            ("==", Comparison::Equal),
            ("!=", Comparison::Unequal),
            ("<=", Comparison::AtMost),
            (">=", Comparison::AtLeast),
            ("<", Comparison::Less),
            (">", Comparison::More),
        ];
        for (sign, comparison) in comparisons {
            if self.take(sign)? {
                return self.compared(left, kind, comparison, start);
            }
        }
        if self.take("in")? {
            return self.among(left, kind, true, start);
        }
        if self.take("like")? {
            self.must_be(&[Type::Text], kind, start, "like")?;
            return Ok(Node::Like(left, self.literal_text()?));
        }
        if self.take("contains")? {
            self.must_be(&[Type::List, Type::Text], kind, start, "contains")?;
            return Ok(Node::Contains(left, self.literal_text()?));
        }
        if self.take("not")? {
            self.must("in")?;
            return self.among(left, kind, false, start);
        }
        match left {
            Operand::Fact(name, Type::Flag) => Ok(Node::Flag(name)),
            Operand::Literal(Value::Flag(value)) => Ok(Node::Literal(value)),
            _ => Err(self.expected(&format!("a comparison of {}", kind.name()))),
        }
    }

    fn compared(
        &mut self,
        left: Operand,
        kind: Type,
        comparison: Comparison,
        start: usize,
    ) -> Result<Node, Error> {
        let allowed: &[Type] = match comparison {
            Comparison::Equal | Comparison::Unequal => &[Type::Flag, Type::Number, Type::Text],
            _ => &[Type::Number],
        };
        self.must_be(allowed, kind, start, "this comparison")?;
        let at = self.start;
        let (right, other) = self.operand()?;
        match other == kind {
            true => Ok(Node::Compare(left, comparison, right)),
            false => Err(self.fault(at, format!("{} is compared with {}", kind.name(), other.name()))),
        }
    }

    fn among(&mut self, left: Operand, kind: Type, is_in: bool, start: usize) -> Result<Node, Error> {
        self.must_be(&[Type::Text, Type::Number], kind, start, "in")?;
        self.must("(")?;
        let mut list = Vec::new();
        loop {
            let at = self.start;
            let (one, other) = self.operand()?;
            if other != kind {
                return Err(self.fault(at, format!("{} is compared with {}", kind.name(), other.name())));
            }
            list.push(one);
            if self.take(")")? {
                return Ok(Node::In(left, list, is_in));
            }
            self.must(",")?;
        }
    }

    fn must_be(&self, allowed: &[Type], kind: Type, at: usize, what: &str) -> Result<(), Error> {
        match allowed.contains(&kind) {
            true => Ok(()),
            false => Err(self.fault(at, format!("{what} isn't for {}", kind.name()))),
        }
    }

    fn literal_text(&mut self) -> Result<String, Error> {
        let Token::Text(text) = &self.token else { return Err(self.expected("a text in quotes")) };
        let text = text.clone();
        self.advance()?;
        Ok(text)
    }

    fn operand(&mut self) -> Result<(Operand, Type), Error> {
        let literal = match &self.token {
            Token::Text(written) => (text(written), Type::Text),
            Token::Number(number) => (Value::Number(*number), Type::Number),
            Token::Word(word) if word == "true" || word == "false" => {
                (Value::Flag(word == "true"), Type::Flag)
            }
            Token::Word(_) => {
                let (name, kind) = self.fact()?;
                return Ok((Operand::Fact(name, kind), kind));
            }
            _ => return Err(self.expected("a fact or a value")),
        };
        self.advance()?;
        Ok((Operand::Literal(literal.0), literal.1))
    }

    fn fact(&mut self) -> Result<(String, Type), Error> {
        let Token::Word(name) = &self.token else { return Err(self.expected("a fact")) };
        let name = name.clone();
        let kind = match name.strip_prefix("metadata.") {
            Some(below) if !below.is_empty() && below.len() <= MAX_NAME => Type::Text,
            Some(_) => {
                return Err(
                    self.fault(self.start, "a name of 1 to 64 characters is expected after 'metadata.'")
                );
            }
            None => match FACTS.iter().find(|(known, _)| *known == name) {
                Some((_, kind)) => *kind,
                None => {
                    let known: Vec<&str> = FACTS.iter().map(|(name, _)| *name).collect();
                    let known = known.join(", ");
                    let message = format!("there is no fact '{name}'; there are {known}, metadata.NAME");
                    return Err(self.fault(self.start, message));
                }
            },
        };
        self.advance()?;
        Ok((name, kind))
    }
}

fn one_or(mut parts: Vec<Node>, join: impl FnOnce(Vec<Node>) -> Node) -> Node {
    match parts.len() {
        1 => parts.remove(0),
        _ => join(parts),
    }
}
