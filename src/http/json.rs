//! JSON as Patroni writes it.

use std::io;

use serde::Serialize;
use serde_json::Value;

/// JSON with a blank after each comma and colon, as Python writes it: scripts search for `"role": "primary"`.
pub fn spaced(document: &impl Serialize) -> serde_json::Result<Vec<u8>> {
    let mut text = Vec::with_capacity(1024);
    document.serialize(&mut serde_json::Serializer::with_formatter(&mut text, Spaced))?;
    Ok(text)
}

/// The same for a value at hand.
pub fn text(value: &Value) -> String {
    let text = spaced(value).expect("a JSON value can be written");
    String::from_utf8(text).expect("JSON is UTF-8")
}

struct Spaced;

impl Spaced {
    fn begin<W: ?Sized + io::Write>(writer: &mut W, first: bool) -> io::Result<()> {
        if first { Ok(()) } else { writer.write_all(b", ") }
    }
}

impl serde_json::ser::Formatter for Spaced {
    fn begin_array_value<W: ?Sized + io::Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        Spaced::begin(writer, first)
    }

    fn begin_object_key<W: ?Sized + io::Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        Spaced::begin(writer, first)
    }

    fn begin_object_value<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        writer.write_all(b": ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn documents_are_spaced_as_patronis() {
        let document = json!({"a": [1, 2, {}], "b": {"c": null, "d": "x,y:z"}, "e": []});
        let expected = r#"{"a": [1, 2, {}], "b": {"c": null, "d": "x,y:z"}, "e": []}"#;
        assert_eq!(text(&document), expected);
    }
}
