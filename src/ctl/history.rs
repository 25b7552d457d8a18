//! `history`: the timelines that were left.

use serde_json::{Map, Value};

use super::CtlError;
use super::args::Format;
use super::members::Members;
use super::prompt::print;
use super::settings::Settings;
use super::table::{Align, Column, draw};
use super::yaml;
use crate::http::json;

const COLUMNS: [Column; 5] = [
    Column { title: "TL", align: Align::Right },
    Column { title: "LSN", align: Align::Right },
    Column { title: "Reason", align: Align::Left },
    Column { title: "Timestamp", align: Align::Left },
    Column { title: "New Leader", align: Align::Left },
];

pub async fn run(settings: &Settings, format: Format) -> Result<(), CtlError> {
    let answer = Members::find(settings).await?.ask_any("/history").await?;
    let history = match (answer.code, answer.json()) {
        (200, Some(Value::Array(items))) => items,
        (code, _) => return Err(CtlError::Refused(format!("status code={code}, {}", answer.text()))),
    };
    print(&match format {
        Format::Pretty => draw("", &COLUMNS, &cells(&history)),
        Format::Tsv => {
            let titles = vec![COLUMNS.map(|column| column.title.to_owned()).to_vec()];
            [titles, cells(&history)].concat().iter().map(|row| row.join("\t")).collect::<Vec<_>>().join("\n")
        }
        Format::Json => json::text(&Value::from(objects(&history))),
        Format::Yaml => yaml::block(&Value::from(objects(&history))),
    });
    Ok(())
}

fn cells(history: &[Value]) -> Vec<Vec<String>> {
    let text = |value: Option<&Value>| match value {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    };
    history.iter().map(|item| (0..COLUMNS.len()).map(|index| text(item.get(index))).collect()).collect()
}

fn objects(history: &[Value]) -> Vec<Value> {
    let object = |item: &Value| {
        let known = COLUMNS.iter().enumerate().filter_map(|(index, column)| Some((column.title, item.get(index)?)));
        Value::Object(known.map(|(title, value)| (title.to_owned(), value.clone())).collect::<Map<_, _>>())
    };
    history.iter().map(object).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn short_items_are_padded() {
        let history = [
            json!([1, 100_663_688, "no recovery target specified", "2026-11-22T09:17:41+00:00", "n2"]),
            json!([2, 7, "x"]),
        ];
        let cells = cells(&history);
        assert_eq!(cells[0][4], "n2");
        assert_eq!(cells[1], ["2", "7", "x", "", ""]);
        assert_eq!(objects(&history)[1], json!({"TL": 2, "LSN": 7, "Reason": "x"}));
    }
}
