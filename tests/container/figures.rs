//! What a scenario measured, what it must not exceed, and how several runs are put together.

use std::collections::BTreeMap;
use std::fmt;

/// One measured number. `bound` holds for each run, `aim` for the median of several.
#[derive(Clone, Debug)]
pub struct Figure {
    pub name: &'static str,
    pub value: f64,
    pub bound: Option<f64>,
    pub aim: Option<f64>,
}

impl Figure {
    /// For information only.
    pub fn told(name: &'static str, value: f64) -> Self {
        Self { name, value, bound: None, aim: None }
    }

    pub fn at_most(name: &'static str, value: f64, bound: f64) -> Self {
        Self { bound: Some(bound), ..Self::told(name, value) }
    }

    pub fn aiming_at(self, aim: f64) -> Self {
        Self { aim: Some(aim), ..self }
    }

    fn is_broken(&self) -> bool {
        self.bound.is_some_and(|bound| self.value > bound)
    }
}

impl fmt::Display for Figure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.name, number(self.value))
    }
}

/// A count as a figure's value.
pub fn count(number: usize) -> f64 {
    u32::try_from(number).map_or(f64::INFINITY, f64::from)
}

/// Prints the figures beside their bounds and returns how many are out of bounds.
pub fn report(scenario: &str, figures: &[Figure]) -> usize {
    for figure in figures {
        let bound = figure.bound.map(|bound| format!(" (at most {})", number(bound))).unwrap_or_default();
        eprintln!("  {}{figure}{bound}", if figure.is_broken() { "OUT OF BOUNDS: " } else { "" });
    }
    let broken = figures.iter().filter(|figure| figure.is_broken()).count();
    if broken > 0 {
        eprintln!("  {scenario}: {broken} of {} figures out of bounds", figures.len());
    }
    broken
}

/// The figures of repeated runs; displays as a Markdown table of least, median and greatest.
#[derive(Default)]
pub struct Medians {
    order: Vec<(&'static str, &'static str)>,
    runs: BTreeMap<(&'static str, &'static str), Vec<Figure>>,
}

impl Medians {
    pub fn add(&mut self, scenario: &'static str, figures: Vec<Figure>) {
        for figure in figures {
            let key = (scenario, figure.name);
            if !self.order.contains(&key) {
                self.order.push(key);
            }
            self.runs.entry(key).or_default().push(figure);
        }
    }
}

impl fmt::Display for Medians {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "| fault | figure | min | median | max | runs | aim |\n|---|---|---|---|---|---|---|")?;
        for key in &self.order {
            let figures = &self.runs[key];
            let mut values: Vec<f64> = figures.iter().map(|figure| figure.value).collect();
            values.sort_by(f64::total_cmp);
            let (least, median, greatest) = (values[0], values[values.len() / 2], values[values.len() - 1]);
            let aim = figures[0].aim.map(number).unwrap_or_default();
            let [least, median, greatest] = [least, median, greatest].map(number);
            writeln!(f, "| {} | {} | {least} | {median} | {greatest} | {} | {aim} |", key.0, key.1, values.len())?;
        }
        Ok(())
    }
}

/// Counts without, seconds with two decimals.
fn number(value: f64) -> String {
    if value.fract() == 0.0 { format!("{value:.0}") } else { format!("{value:.2}") }
}
