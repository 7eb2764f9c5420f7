//! What a row must be like to be found: comparisons of fields, joined by and, or and not.

use std::cmp::Ordering;
use std::fmt;

use eid_crdt::Value;

use crate::kind::table::Fields;
use crate::path::Path;

/// How a field is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "each variant names a comparison")]
pub enum Comparison {
    Eq,
    Ne,
    Lt,
    Le,
    Gt,
    Ge,
}

impl Comparison {
    fn holds(self, field: Option<&Value>, value: &Value) -> bool {
        // What is absent or of another type is different, and neither smaller nor greater.
        let order = field.and_then(|field| field.compare(value));
        match self {
            Self::Eq => order == Some(Ordering::Equal),
            Self::Ne => order != Some(Ordering::Equal),
            Self::Lt => order == Some(Ordering::Less),
            Self::Le => matches!(order, Some(Ordering::Less | Ordering::Equal)),
            Self::Gt => order == Some(Ordering::Greater),
            Self::Ge => matches!(order, Some(Ordering::Greater | Ordering::Equal)),
        }
    }

    fn sign(self) -> &'static str {
        match self {
            Self::Eq => "=",
            Self::Ne => "!=",
            Self::Lt => "<",
            Self::Le => "<=",
            Self::Gt => ">",
            Self::Ge => ">=",
        }
    }
}

/// A condition on rows. Fields are names, or paths into them.
///
/// It is built from parts, or parsed from a text as people write it; what is shown parses back.
///
/// ```
/// use eid_db::Filter;
///
/// let filter: Filter = "elevation > 300 and (city = Oslo or city ~ 'B*')".parse()?;
/// let same = Filter::gt("elevation", 300) & (Filter::eq("city", "Oslo") | Filter::like("city", "B*"));
/// assert_eq!(filter, same);
/// assert_eq!(filter.to_string().parse::<Filter>()?, filter);
/// # Ok::<(), eid_db::ParseFilterError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Filter {
    /// All hold. An empty one always does.
    All(Vec<Self>),
    /// At least one holds.
    Any(Vec<Self>),
    /// It does not hold.
    Not(Box<Self>),
    /// A field compares like this with a value. Numbers are compared by size whatever their type; what is absent or of
    /// another type is different, and neither smaller nor greater.
    Compare(Path, Comparison, Value),
    /// A field equals one of these.
    In(Path, Vec<Value>),
    /// A field is a text that begins like this.
    Prefix(Path, String),
    /// A field is a text like this, in which `*` stands for any characters, also none, and `?` for one.
    Like(Path, String),
    /// A field is absent or null.
    IsNull(Path),
}

macro_rules! comparisons {
    ($($(#[$doc:meta])* $name:ident $comparison:ident)*) => {$(
        $(#[$doc])*
        pub fn $name(field: impl Into<Path>, value: impl Into<Value>) -> Self {
            Self::Compare(field.into(), Comparison::$comparison, value.into())
        }
    )*};
}

impl Filter {
    comparisons! {
        /// The field is equal.
        eq Eq
        /// The field is absent or different.
        ne Ne
        /// The field is smaller.
        lt Lt
        /// The field is smaller or equal.
        le Le
        /// The field is greater.
        gt Gt
        /// The field is greater or equal.
        ge Ge
    }

    /// What holds for every row.
    #[must_use]
    pub fn everything() -> Self {
        Self::All(Vec::new())
    }

    /// The field lies between two values, both included.
    pub fn between(field: impl Into<Path>, least: impl Into<Value>, greatest: impl Into<Value>) -> Self {
        let field = field.into();
        Self::ge(&field, least) & Self::le(&field, greatest)
    }

    /// The field equals one of these.
    pub fn any_of<V: Into<Value>>(field: impl Into<Path>, values: impl IntoIterator<Item = V>) -> Self {
        Self::In(field.into(), values.into_iter().map(Into::into).collect())
    }

    /// The field is a text that begins like this.
    pub fn prefix(field: impl Into<Path>, prefix: impl Into<String>) -> Self {
        Self::Prefix(field.into(), prefix.into())
    }

    /// The field is a text like this: `*` stands for any characters, also none, `?` for one.
    pub fn like(field: impl Into<Path>, pattern: impl Into<String>) -> Self {
        Self::Like(field.into(), pattern.into())
    }

    /// The field is absent or null.
    pub fn is_null(field: impl Into<Path>) -> Self {
        Self::IsNull(field.into())
    }

    /// The field is there and not null.
    pub fn exists(field: impl Into<Path>) -> Self {
        !Self::IsNull(field.into())
    }

    /// Whether it holds for every row.
    #[must_use]
    pub fn is_everything(&self) -> bool {
        matches!(self, Self::All(all) if all.is_empty())
    }

    pub(crate) fn holds(&self, fields: &Fields) -> bool {
        match self {
            Self::All(all) => all.iter().all(|filter| filter.holds(fields)),
            Self::Any(any) => any.iter().any(|filter| filter.holds(fields)),
            Self::Not(filter) => !filter.holds(fields),
            Self::Compare(path, how, value) => how.holds(field(fields, path), value),
            Self::In(path, values) => {
                values.iter().any(|value| Comparison::Eq.holds(field(fields, path), value))
            }
            Self::Prefix(path, prefix) => {
                matches!(field(fields, path), Some(Value::Text(text)) if text.starts_with(prefix))
            }
            Self::Like(path, pattern) => {
                matches!(field(fields, path), Some(Value::Text(text)) if is_like(text, pattern))
            }
            Self::IsNull(path) => matches!(field(fields, path), None | Some(Value::Null)),
        }
    }
}

/// The value of a field, or what lies in it at a path.
pub(crate) fn field<'f>(fields: &'f Fields, path: &Path) -> Option<&'f Value> {
    let (first, rest) = path.keys().split_first()?;
    rest.iter().try_fold(fields.get(first)?, |at, key| match at {
        Value::Map(items) => items.get(key),
        _ => None,
    })
}

/// Goes back only to the last star, so the work is at most the product of both lengths.
fn is_like(text: &str, pattern: &str) -> bool {
    let (mut text, mut pattern) = (text.chars(), pattern.chars());
    let mut last_star = None;
    loop {
        let at = text.clone();
        match (text.next(), pattern.next()) {
            (None, None) => return true,
            (_, Some('*')) => {
                text = at;
                last_star = Some((text.clone(), pattern.clone()));
            }
            (Some(_), Some('?')) => {}
            (Some(found), Some(wanted)) if found == wanted => {}
            (None, Some(_)) => return false,
            (Some(_), _) => {
                let Some((from, after)) = &mut last_star else { return false };
                from.next();
                (text, pattern) = (from.clone(), after.clone());
            }
        }
    }
}

impl std::ops::BitAnd for Filter {
    type Output = Self;

    fn bitand(self, other: Self) -> Self {
        let mut all = match self {
            Self::All(all) => all,
            one => vec![one],
        };
        match other {
            Self::All(more) => all.extend(more),
            one => all.push(one),
        }
        if all.len() == 1 { all.remove(0) } else { Self::All(all) }
    }
}

impl std::ops::BitOr for Filter {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        let mut any = match self {
            Self::Any(any) => any,
            one => vec![one],
        };
        match other {
            Self::Any(more) => any.extend(more),
            one => any.push(one),
        }
        Self::Any(any)
    }
}

impl std::ops::Not for Filter {
    type Output = Self;

    fn not(self) -> Self {
        match self {
            Self::Not(filter) => *filter,
            filter => Self::Not(Box::new(filter)),
        }
    }
}

/// As it is parsed.
impl fmt::Display for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let joined = |f: &mut fmt::Formatter<'_>, parts: &[Self], word: &str| {
            for (n, part) in parts.iter().enumerate() {
                if n > 0 {
                    write!(f, " {word} ")?;
                }
                match part {
                    Self::All(inner) | Self::Any(inner) if !inner.is_empty() => write!(f, "({part})")?,
                    part => write!(f, "{part}")?,
                }
            }
            Ok(())
        };
        match self {
            Self::All(all) if all.is_empty() => f.write_str("true"),
            Self::Any(any) if any.is_empty() => f.write_str("false"),
            // One alone is written as joined with what changes nothing, so that it stays what it is.
            Self::All(all) if all.len() == 1 => joined(f, &[all[0].clone(), Self::everything()], "and"),
            Self::Any(any) if any.len() == 1 => joined(f, &[any[0].clone(), Self::Any(Vec::new())], "or"),
            Self::All(all) => joined(f, all, "and"),
            Self::Any(any) => joined(f, any, "or"),
            Self::Not(filter) => match &**filter {
                Self::IsNull(path) => write!(f, "{} exists", Shown(path)),
                filter @ (Self::All(_) | Self::Any(_)) => write!(f, "not ({filter})"),
                filter => write!(f, "not {filter}"),
            },
            Self::Compare(path, how, value) => {
                write!(f, "{} {} {}", Shown(path), how.sign(), ShownValue(value))
            }
            Self::In(path, values) => {
                write!(f, "{} in (", Shown(path))?;
                for (n, value) in values.iter().enumerate() {
                    let comma = if n == 0 { "" } else { ", " };
                    write!(f, "{comma}{}", ShownValue(value))?;
                }
                f.write_str(")")
            }
            Self::Prefix(path, prefix) => write!(f, "{} starts with {}", Shown(path), Quoted(prefix)),
            Self::Like(path, pattern) => write!(f, "{} ~ {}", Shown(path), Quoted(pattern)),
            Self::IsNull(path) => write!(f, "{} is null", Shown(path)),
        }
    }
}

/// A field as it is parsed: bare where that is clear, else between backticks.
pub(crate) struct Shown<'a>(pub(crate) &'a Path);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.0.to_string();
        if super::text::is_bare_field(&text) {
            f.write_str(&text)
        } else {
            write!(f, "`{}`", text.replace('`', "``"))
        }
    }
}

struct Quoted<'a>(&'a str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "'{}'", self.0.replace('\'', "''"))
    }
}

/// A value as it is parsed.
pub(crate) struct ShownValue<'a>(pub(crate) &'a Value);

impl fmt::Display for ShownValue<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Value::Text(text) => write!(f, "{}", Quoted(text)),
            Value::Bytes(bytes) => {
                f.write_str("x'")?;
                bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}"))?;
                f.write_str("'")
            }
            other => write!(f, "{}", serde_json::Value::from(other.clone())),
        }
    }
}
