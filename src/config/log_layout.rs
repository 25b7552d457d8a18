//! `log.format`: what a line is made of, in the notation of Python's `logging`.

use serde_json::Value;

use super::yaml;

/// What a line can tell of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attribute {
    Time,
    /// Seconds since 1970.
    Created,
    /// Of a second.
    Milliseconds,
    /// Since the log began.
    RelativeMilliseconds,
    Level,
    LevelNumber,
    Message,
    Logger,
    Module,
    Path,
    File,
    Line,
    Process,
    ProcessName,
    Thread,
    ThreadName,
    /// Known to Python's `logging` and not here: empty.
    Nothing,
}

const ATTRIBUTES: [(&str, Attribute); 18] = [
    ("asctime", Attribute::Time),
    ("created", Attribute::Created),
    ("filename", Attribute::File),
    ("funcName", Attribute::Nothing),
    ("levelname", Attribute::Level),
    ("levelno", Attribute::LevelNumber),
    ("lineno", Attribute::Line),
    ("message", Attribute::Message),
    ("module", Attribute::Module),
    ("msecs", Attribute::Milliseconds),
    ("name", Attribute::Logger),
    ("pathname", Attribute::Path),
    ("process", Attribute::Process),
    ("processName", Attribute::ProcessName),
    ("relativeCreated", Attribute::RelativeMilliseconds),
    ("taskName", Attribute::Nothing),
    ("thread", Attribute::Thread),
    ("threadName", Attribute::ThreadName),
];

impl Attribute {
    fn of(name: &str) -> Result<Attribute, String> {
        let found = ATTRIBUTES.iter().find(|(known, _)| *known == name).map(|(_, attribute)| *attribute);
        found.ok_or_else(|| {
            let known: Vec<&str> = ATTRIBUTES.iter().map(|(name, _)| *name).collect();
            format!("no attribute {name}, only {}", known.join(", "))
        })
    }
}

/// A part of a plain line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    Text(String),
    Value {
        attribute: Attribute,
        /// `-`: blanks come after the value.
        is_left: bool,
        /// `0`: zeros in place of blanks before a number.
        with_zeros: bool,
        width: usize,
        /// Digits after the point; at most so many characters of a text.
        precision: Option<usize>,
        /// `d`: the fraction is cut.
        is_whole: bool,
    },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogLayout {
    /// The pieces of a plain line.
    Line(Vec<Piece>),
    /// The fields of a JSON line, each with its name there.
    Fields(Vec<(String, Attribute)>),
}

impl LogLayout {
    /// A format, or a list of fields; what is wrong with it otherwise. A plain line needs a format, as in Patroni.
    pub(super) fn plain(value: &Value) -> Result<LogLayout, String> {
        match value {
            Value::String(text) => pieces(text).map(LogLayout::Line),
            _ => Err("a list, which is for PATRONI_LOG_TYPE=json".to_owned()),
        }
    }

    /// A text without any `%(name)` is a list; of a format the attributes count, in their order.
    pub(super) fn json(value: &Value) -> Result<LogLayout, String> {
        let items = match value {
            Value::Array(items) => items.clone(),
            Value::String(text) if text.contains("%(") => {
                let named = |piece: Piece| match piece {
                    Piece::Value { attribute, .. } => Some((name_of(text, attribute), attribute)),
                    Piece::Text(_) => None,
                };
                return Ok(LogLayout::Fields(pieces(text)?.into_iter().filter_map(named).collect()));
            }
            Value::String(text) => yaml::list(text).map_err(|error| error.to_string())?,
            _ => return Err("neither text nor a list".to_owned()),
        };
        let mut fields = Vec::new();
        for item in &items {
            match item {
                Value::String(name) => fields.push((name.clone(), Attribute::of(name)?)),
                Value::Object(names) => {
                    for (name, shown) in names {
                        let shown = shown.as_str().ok_or_else(|| format!("{name} without the name of its field"))?;
                        fields.push((shown.to_owned(), Attribute::of(name)?));
                    }
                }
                _ => return Err("an entry that is neither a name nor name: other name".to_owned()),
            }
        }
        if fields.is_empty() { Err("no fields".to_owned()) } else { Ok(LogLayout::Fields(fields)) }
    }
}

/// Two names may stand for the same attribute: the one that the format uses.
fn name_of(format: &str, attribute: Attribute) -> String {
    let is_it = |(name, known): &&(&str, Attribute)| *known == attribute && format.contains(&format!("%({name})"));
    ATTRIBUTES.iter().find(is_it).map_or(String::new(), |(name, _)| (*name).to_owned())
}

fn pieces(format: &str) -> Result<Vec<Piece>, String> {
    let mut pieces = Vec::new();
    let mut text = String::new();
    let mut rest = format;
    while let Some(at) = rest.find('%') {
        text.push_str(&rest[..at]);
        let after = &rest[at + 1..];
        if let Some(literal) = after.strip_prefix('%') {
            text.push('%');
            rest = literal;
            continue;
        }
        let inside = after.strip_prefix('(').ok_or("a % without (name); %% stands for the sign itself")?;
        let (name, directive) = inside.split_once(')').ok_or("a %( without its )")?;
        if !text.is_empty() {
            pieces.push(Piece::Text(std::mem::take(&mut text)));
        }
        let (piece, left) = value(Attribute::of(name)?, directive)
            .ok_or_else(|| format!("%({name}) is not followed by s, d or f with a width before it"))?;
        pieces.push(piece);
        rest = left;
    }
    text.push_str(rest);
    if !text.is_empty() {
        pieces.push(Piece::Text(text));
    }
    match pieces.iter().any(|piece| matches!(piece, Piece::Value { .. })) {
        true => Ok(pieces),
        false => Err("no %(name)s in it".to_owned()),
    }
}

/// `-08.3f` and what comes after it.
fn value(attribute: Attribute, directive: &str) -> Option<(Piece, &str)> {
    /// Wider columns are no log.
    const WIDTH_MAX: usize = 200;
    let flags_end = directive.find(|c: char| !"-0 +#".contains(c))?;
    let (flags, rest) = directive.split_at(flags_end);
    let digits = |text: &str| text.find(|c: char| !c.is_ascii_digit());
    let (width, rest) = rest.split_at(digits(rest)?);
    let (precision, rest) = match rest.strip_prefix('.') {
        None => (None, rest),
        Some(rest) => {
            let (precision, rest) = rest.split_at(digits(rest)?);
            (Some(if precision.is_empty() { 0 } else { precision.parse().ok()? }), rest)
        }
    };
    let width = if width.is_empty() { 0 } else { width.parse().ok()? };
    let kind = rest.chars().next().filter(|kind| "sdif".contains(*kind))?;
    let is_whole = matches!(kind, 'd' | 'i');
    (width <= WIDTH_MAX && precision.unwrap_or(0) <= WIDTH_MAX).then_some(())?;
    let precision = if kind == 'f' { precision.or(Some(6)) } else { precision };
    let (is_left, with_zeros) = (flags.contains('-'), flags.contains('0'));
    Some((Piece::Value { attribute, is_left, with_zeros, width, precision, is_whole }, &rest[1..]))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_format_is_text_and_values() {
        let LogLayout::Line(pieces) =
            LogLayout::plain(&json!("%(asctime)s 100%% %(levelname)-8s %(msecs)03d")).unwrap()
        else {
            panic!("a line")
        };
        assert_eq!(pieces.len(), 5);
        assert_eq!(pieces[1], Piece::Text(" 100% ".to_owned()));
        let level = Piece::Value {
            attribute: Attribute::Level,
            is_left: true,
            with_zeros: false,
            width: 8,
            precision: None,
            is_whole: false,
        };
        assert_eq!(pieces[2], level);
        let milliseconds = Piece::Value {
            attribute: Attribute::Milliseconds,
            is_left: false,
            with_zeros: true,
            width: 3,
            precision: None,
            is_whole: true,
        };
        assert_eq!(pieces[4], milliseconds);
    }

    #[test]
    fn fields_are_named_by_a_list_a_text_or_a_format() {
        let expected =
            LogLayout::Fields(vec![("message".into(), Attribute::Message), ("level".into(), Attribute::Level)]);
        for value in [json!("message, levelname: level"), json!(["message", {"levelname": "level"}])] {
            assert_eq!(LogLayout::json(&value), Ok(expected.clone()), "{value}");
        }
        let of_format = LogLayout::json(&json!("%(levelname)s %(message)s"));
        let expected = vec![("levelname".into(), Attribute::Level), ("message".into(), Attribute::Message)];
        assert_eq!(of_format, Ok(LogLayout::Fields(expected)));
    }

    #[test]
    fn what_is_wrong_is_told() {
        for wrong in ["%(asctime)s %(colour)s", "%(message)", "%(message)x", "%message", "%(message", "100%%", "plain"]
        {
            assert!(LogLayout::plain(&json!(wrong)).is_err(), "{wrong}");
        }
        assert!(LogLayout::plain(&json!("%(asctime)s %(colour)s")).unwrap_err().contains("colour"));
        assert!(LogLayout::plain(&json!(["message"])).is_err());
        for wrong in [json!("message, colour"), json!([1]), json!([{"message": 1}]), json!(1), json!([])] {
            assert!(LogLayout::json(&wrong).is_err(), "{wrong}");
        }
    }
}
