//! Conditions as people write them.
//!
//! ```text
//! filter    = and { "or" and }
//! and       = not { "and" not }
//! not       = "not" not | "(" filter ")" | "true" | "false" | condition
//! condition = field sign value | field "~" value | field "starts with" value | field "between" value "and" value
//!           | field "in" "(" value { "," value } ")" | field "is" [ "not" ] "null" | field "exists"
//! sign      = "=" | "==" | "!=" | "<>" | "<" | "<=" | ">" | ">="
//! field     = a path as words with dots, or as a JSON pointer, between backticks when it is not one plain word
//! value     = 'text' ('' is a quote), JSON, x'hex', or bare words: JSON when they are, else text
//! ```
//! Words of the language are written in lower or upper case; after a field they are never a value.

use std::str::FromStr;

use eid_crdt::Value;

use super::filter::{Comparison, Filter};
use crate::limits::{FILTER_CONDITIONS_MAX, FILTER_DEPTH_MAX};
use crate::path::Path;

/// Says where and why a text is not a condition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("column {column}: {problem}")]
pub struct ParseFilterError {
    /// The character at which it is, counted from 1.
    pub column: usize,
    /// What is wrong there.
    pub problem: FilterProblem,
}

/// Why a text is not a condition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FilterProblem {
    /// There should be the name of a field.
    #[error("a field is expected")]
    Field,
    /// There should be a comparison.
    #[error("a comparison is expected, such as =, <, ~ or \"is null\"")]
    Comparison,
    /// There should be a value.
    #[error("a value is expected")]
    Value,
    /// There should be this.
    #[error("\"{0}\" is expected")]
    Expected(&'static str),
    /// A quote or bracket is not closed, or what is within is not a value.
    #[error("what begins here does not end, or is not a value")]
    Unfinished,
    /// The condition goes on where it should have ended.
    #[error("\"and\", \"or\" or the end is expected")]
    Rest,
    /// It is nested too deep.
    #[error("more than {max} levels of parentheses", max = FILTER_DEPTH_MAX)]
    TooDeep,
    /// It has too many conditions.
    #[error("more than {max} conditions", max = FILTER_CONDITIONS_MAX)]
    TooMany,
}

impl FromStr for Filter {
    type Err = ParseFilterError;

    /// Parses a condition such as `elevation > 300 and (city = Oslo or name ~ 'B*')`.
    fn from_str(text: &str) -> Result<Self, ParseFilterError> {
        let mut parser = Parser { text, at: 0, conditions: 0 };
        let parsed = parser.any(0).and_then(|filter| {
            parser.space();
            if parser.rest().is_empty() { Ok(filter) } else { Err(parser.problem(FilterProblem::Rest)) }
        });
        parsed.map_err(|(at, problem)| ParseFilterError { column: text[..at].chars().count() + 1, problem })
    }
}

/// The byte at which it is, and what it is.
type Problem = (usize, FilterProblem);

struct Parser<'t> {
    text: &'t str,
    at: usize,
    conditions: usize,
}

fn is_word(c: char) -> bool {
    !c.is_whitespace() && !matches!(c, '(' | ')' | ',' | '=' | '!' | '<' | '>' | '~' | '\'' | '"' | '`')
}

const RESERVED: [&str; 10] = ["and", "or", "not", "is", "in", "between", "starts", "exists", "true", "false"];

fn is_reserved(word: &str) -> bool {
    RESERVED.iter().any(|reserved| word.eq_ignore_ascii_case(reserved))
}

/// Whether a field can be written as it is.
pub(super) fn is_bare_field(text: &str) -> bool {
    !text.is_empty() && text.chars().all(is_word) && !is_reserved(text)
}

impl<'t> Parser<'t> {
    fn rest(&self) -> &'t str {
        &self.text[self.at..]
    }

    fn problem(&self, problem: FilterProblem) -> Problem {
        (self.at, problem)
    }

    fn space(&mut self) {
        self.at = self.text.len() - self.rest().trim_start().len();
    }

    /// The word that comes next, not taken.
    fn peek_word(&self) -> &'t str {
        let rest = self.rest();
        &rest[..rest.find(|c| !is_word(c)).unwrap_or(rest.len())]
    }

    /// Takes this word if it comes next.
    fn word(&mut self, word: &str) -> bool {
        self.space();
        let found = self.peek_word();
        let is_it = found.eq_ignore_ascii_case(word);
        if is_it {
            self.at += found.len();
        }
        is_it
    }

    /// Takes these characters if they come next.
    fn sign(&mut self, sign: &str) -> bool {
        self.space();
        let is_it = self.rest().starts_with(sign);
        if is_it {
            self.at += sign.len();
        }
        is_it
    }

    fn any(&mut self, depth: usize) -> Result<Filter, Problem> {
        let mut found = vec![self.all(depth)?];
        while self.word("or") {
            found.push(self.all(depth)?);
        }
        // What cannot hold changes nothing, but that one alternative stays one.
        if found.len() > 1 {
            found.retain(|filter| *filter != Filter::Any(Vec::new()));
            return Ok(Filter::Any(found));
        }
        Ok(found.remove(0))
    }

    fn all(&mut self, depth: usize) -> Result<Filter, Problem> {
        let mut found = vec![self.negated(depth)?];
        while self.word("and") {
            found.push(self.negated(depth)?);
        }
        if found.len() > 1 {
            found.retain(|filter| !filter.is_everything());
            return Ok(Filter::All(found));
        }
        Ok(found.remove(0))
    }

    fn negated(&mut self, depth: usize) -> Result<Filter, Problem> {
        self.space();
        if depth > FILTER_DEPTH_MAX {
            return Err(self.problem(FilterProblem::TooDeep));
        }
        self.conditions += 1;
        if self.conditions > FILTER_CONDITIONS_MAX {
            return Err(self.problem(FilterProblem::TooMany));
        }
        if self.word("not") {
            return Ok(Filter::Not(Box::new(self.negated(depth + 1)?)));
        }
        if self.sign("(") {
            let inner = self.any(depth + 1)?;
            return if self.sign(")") { Ok(inner) } else { Err(self.problem(FilterProblem::Expected(")"))) };
        }
        if self.word("true") {
            return Ok(Filter::everything());
        }
        if self.word("false") {
            return Ok(Filter::Any(Vec::new()));
        }
        let field = self.field()?;
        self.condition(field)
    }

    fn field(&mut self) -> Result<Path, Problem> {
        self.space();
        let begin = self.at;
        let text = if self.rest().starts_with('`') {
            self.quoted('`')?
        } else {
            let word = self.peek_word();
            if word.is_empty() || is_reserved(word) {
                return Err(self.problem(FilterProblem::Field));
            }
            self.at += word.len();
            word.to_owned()
        };
        text.parse().map_err(|_| (begin, FilterProblem::Field))
    }

    fn condition(&mut self, field: Path) -> Result<Filter, Problem> {
        use Comparison as C;
        // The longer signs first.
        let signs = [
            ("==", C::Eq),
            ("!=", C::Ne),
            ("<>", C::Ne),
            ("<=", C::Le),
            (">=", C::Ge),
            ("=", C::Eq),
            ("<", C::Lt),
            (">", C::Gt),
        ];
        for (sign, comparison) in signs {
            if self.sign(sign) {
                return Ok(Filter::Compare(field, comparison, self.value()?));
            }
        }
        if self.sign("~") {
            return Ok(Filter::Like(field, self.text_value()?));
        }
        if self.word("starts") {
            self.expect_word("with")?;
            return Ok(Filter::Prefix(field, self.text_value()?));
        }
        if self.word("between") {
            let least = self.value()?;
            self.expect_word("and")?;
            return Ok(Filter::between(field, least, self.value()?));
        }
        if self.word("in") {
            return Ok(Filter::In(field, self.list()?));
        }
        if self.word("exists") {
            return Ok(Filter::exists(field));
        }
        if self.word("is") {
            let negated = self.word("not");
            self.expect_word("null")?;
            return Ok(if negated { Filter::exists(field) } else { Filter::IsNull(field) });
        }
        self.space();
        Err(self.problem(FilterProblem::Comparison))
    }

    fn expect_word(&mut self, word: &'static str) -> Result<(), Problem> {
        if self.word(word) { Ok(()) } else { Err(self.problem(FilterProblem::Expected(word))) }
    }

    fn list(&mut self) -> Result<Vec<Value>, Problem> {
        if !self.sign("(") {
            return Err(self.problem(FilterProblem::Expected("(")));
        }
        let mut values = Vec::new();
        if self.sign(")") {
            return Ok(values);
        }
        loop {
            values.push(self.value()?);
            if values.len() > FILTER_CONDITIONS_MAX {
                return Err(self.problem(FilterProblem::TooMany));
            }
            if self.sign(")") {
                return Ok(values);
            }
            if !self.sign(",") {
                return Err(self.problem(FilterProblem::Expected(")")));
            }
        }
    }

    fn text_value(&mut self) -> Result<String, Problem> {
        self.space();
        let begin = self.at;
        match self.value()? {
            Value::Text(text) => Ok(text),
            // Bare digits after a word that wants a text are one.
            _ => Ok(self.text[begin..self.at].to_owned()),
        }
    }

    fn value(&mut self) -> Result<Value, Problem> {
        self.space();
        let begin = self.at;
        let rest = self.rest();
        match rest.chars().next() {
            Some('\'') => self.quoted('\'').map(Value::Text),
            Some('"' | '[' | '{') => {
                let mut values = serde_json::Deserializer::from_str(rest).into_iter::<serde_json::Value>();
                match values.next() {
                    Some(Ok(value)) => {
                        self.at += values.byte_offset();
                        Ok(Value::from(value))
                    }
                    _ => Err((begin, FilterProblem::Unfinished)),
                }
            }
            Some('x') if rest.starts_with("x'") => {
                self.at += 1;
                let hex = self.quoted('\'')?;
                bytes_of(&hex).map(Value::Bytes).ok_or((begin, FilterProblem::Unfinished))
            }
            Some(_) => self.bare(),
            None => Err(self.problem(FilterProblem::Value)),
        }
    }

    /// Words up to one of the language, a bracket or a comma.
    fn bare(&mut self) -> Result<Value, Problem> {
        let begin = self.at;
        let mut end = begin;
        loop {
            let word = self.peek_word();
            let joins = word.eq_ignore_ascii_case("and") || word.eq_ignore_ascii_case("or");
            if word.is_empty() || joins {
                break;
            }
            self.at += word.len();
            end = self.at;
            self.space();
        }
        self.at = end;
        let text = &self.text[begin..end];
        if text.is_empty() {
            return Err((begin, FilterProblem::Value));
        }
        let json = serde_json::from_str::<serde_json::Value>(text);
        Ok(json.map_or_else(|_| Value::from(text), Value::from))
    }

    /// What stands between two of these; twice within, it is itself.
    fn quoted(&mut self, quote: char) -> Result<String, Problem> {
        let begin = self.at;
        self.at += quote.len_utf8();
        let mut text = String::new();
        loop {
            let Some(end) = self.rest().find(quote) else { return Err((begin, FilterProblem::Unfinished)) };
            text.push_str(&self.rest()[..end]);
            self.at += end + quote.len_utf8();
            if !self.rest().starts_with(quote) {
                return Ok(text);
            }
            self.at += quote.len_utf8();
            text.push(quote);
        }
    }
}

pub(super) fn bytes_of(hex: &str) -> Option<Vec<u8>> {
    if !hex.len().is_multiple_of(2) || !hex.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).ok()).collect()
}
