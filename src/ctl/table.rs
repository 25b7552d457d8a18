//! Tables as patronictl draws them. Pure.

/// On which side of its column a value stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Align {
    Left,
    Right,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    pub title: &'static str,
    pub align: Align,
}

/// `title` is painted over the first border. A cell may have several lines; then a rule stands between all rows.
pub fn draw(title: &str, columns: &[Column], rows: &[Vec<String>]) -> String {
    let widths: Vec<usize> = columns
        .iter()
        .enumerate()
        .map(|(index, column)| {
            let cells = rows.iter().flat_map(|row| row[index].lines().map(width));
            cells.chain([width(column.title)]).max().unwrap_or_default()
        })
        .collect();
    let rule = rule(&widths);
    let mut lines = vec![with_title(&rule, title)];
    let titles: Vec<String> = columns.iter().map(|column| column.title.to_owned()).collect();
    let left = vec![Align::Left; columns.len()];
    lines.extend(row_lines(&titles, &widths, &left));
    lines.push(rule.clone());
    let aligned: Vec<Align> = columns.iter().map(|column| column.align).collect();
    let is_tall = rows.iter().flatten().any(|cell| cell.contains('\n'));
    for (index, row) in rows.iter().enumerate() {
        if is_tall && index > 0 {
            lines.push(rule.clone());
        }
        lines.extend(row_lines(row, &widths, &aligned));
    }
    if !rows.is_empty() {
        lines.push(rule);
    }
    lines.join("\n")
}

fn rule(widths: &[usize]) -> String {
    let cells: Vec<String> = widths.iter().map(|width| "-".repeat(width + 2)).collect();
    format!("+{}+", cells.join("+"))
}

fn with_title(rule: &str, title: &str) -> String {
    if title.is_empty() {
        return rule.to_owned();
    }
    let rest: String = rule.chars().skip(2 + width(title)).collect();
    format!("+ {title}{}", rest.strip_prefix(['-', '+']).map(|rest| format!(" {rest}")).unwrap_or_default())
}

fn row_lines(cells: &[String], widths: &[usize], aligned: &[Align]) -> Vec<String> {
    let height = cells.iter().map(|cell| cell.lines().count()).max().unwrap_or_default().max(1);
    let line = |number: usize| {
        let parts = cells.iter().zip(widths).zip(aligned).map(|((cell, full), align)| {
            let text = cell.lines().nth(number).unwrap_or_default();
            let blanks = " ".repeat(full - width(text));
            match align {
                Align::Left => format!(" {text}{blanks} "),
                Align::Right => format!(" {blanks}{text} "),
            }
        });
        format!("|{}|", parts.collect::<Vec<_>>().join("|"))
    };
    (0..height).map(line).collect()
}

fn width(text: &str) -> usize {
    text.chars().count()
}

#[cfg(test)]
mod tests {
    use super::*;

    const COLUMNS: [Column; 2] =
        [Column { title: "Member", align: Align::Left }, Column { title: "TL", align: Align::Right }];

    #[test]
    fn draws_borders_title_and_alignment() {
        let rows = vec![vec!["n0".into(), "1".into()], vec!["a-long-name".into(), "12".into()]];
        let expected = "\
+ Cluster: x -+----+
| Member      | TL |
+-------------+----+
| n0          |  1 |
| a-long-name | 12 |
+-------------+----+";
        assert_eq!(draw("Cluster: x", &COLUMNS, &rows), expected);
    }

    #[test]
    fn rules_stand_between_rows_of_several_lines() {
        let rows = vec![vec!["n0\nx".into(), "1".into()], vec!["n1".into(), String::new()]];
        let expected = "\
+--------+----+
| Member | TL |
+--------+----+
| n0     |  1 |
| x      |    |
+--------+----+
| n1     |    |
+--------+----+";
        assert_eq!(draw("", &COLUMNS, &rows), expected);
    }
}
