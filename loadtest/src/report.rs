//! Tables in Markdown and a file of JSON, of the medians over the repetitions.

use std::collections::BTreeSet;
use std::io::{self, Write};

use serde_json::{Value, json};

use crate::measure::median;

/// What one server did in one repetition.
#[derive(Debug, Clone, Default)]
pub(crate) struct Sample {
    pub(crate) server: String,
    /// Columns of the table, in their order.
    pub(crate) values: Vec<(String, Option<f64>)>,
    /// What is worth a sentence.
    pub(crate) notes: Vec<String>,
    /// Whether the server could not be measured.
    pub(crate) failed: bool,
}

impl Sample {
    /// Nothing measured yet.
    pub(crate) fn of(server: &str) -> Self {
        Self {
            server: server.to_owned(),
            ..Self::default()
        }
    }

    /// Adds a column.
    pub(crate) fn value(&mut self, column: &str, value: Option<f64>) {
        self.values.push((column.to_owned(), value));
    }

    /// Adds a sentence below the table.
    pub(crate) fn note(&mut self, text: impl Into<String>) {
        self.notes.push(text.into());
    }
}

/// All samples of a scenario.
#[derive(Debug)]
pub(crate) struct Report {
    title: String,
    samples: Vec<Sample>,
}

impl Report {
    /// An empty report.
    pub(crate) fn new(title: impl Into<String>) -> Self {
        Self {
            title: title.into(),
            samples: Vec::new(),
        }
    }

    /// Adds a repetition, and writes it to standard error, as the whole may take long.
    pub(crate) fn add(&mut self, sample: Sample) {
        let values: Vec<String> = sample
            .values
            .iter()
            .filter_map(|(column, value)| Some(format!("{column} {}", number((*value)?))))
            .collect();
        progress(&format!("{}: {}", sample.server, values.join(", ")));
        self.samples.push(sample);
    }

    /// Whether a server could not be measured.
    pub(crate) fn has_failures(&self) -> bool {
        self.samples.iter().any(|sample| sample.failed)
    }

    fn servers(&self) -> Vec<&str> {
        let mut servers: Vec<&str> = Vec::new();
        for sample in &self.samples {
            if !servers.contains(&sample.server.as_str()) {
                servers.push(&sample.server);
            }
        }
        servers
    }

    fn columns(&self) -> Vec<&str> {
        let mut columns: Vec<&str> = Vec::new();
        for (column, _) in self.samples.iter().flat_map(|sample| &sample.values) {
            if !columns.contains(&column.as_str()) {
                columns.push(column);
            }
        }
        columns
    }

    /// The median of a column over a server's repetitions.
    fn median(&self, server: &str, column: &str) -> Option<f64> {
        let values: Vec<f64> = self
            .samples
            .iter()
            .filter(|sample| sample.server == server)
            .flat_map(|sample| &sample.values)
            .filter(|(name, _)| name == column)
            .filter_map(|(_, value)| *value)
            .collect();
        median(&values)
    }

    /// The table, with a row for each number: servers stand beside each other.
    pub(crate) fn markdown(&self) -> String {
        let servers = self.servers();
        let heads: Vec<String> = servers
            .iter()
            .map(|server| {
                let count = self
                    .samples
                    .iter()
                    .filter(|sample| sample.server == *server)
                    .count();
                format!(" {server} (×{count}) |")
            })
            .collect();
        let rows: Vec<String> = self
            .columns()
            .into_iter()
            .map(|column| {
                let cells: Vec<String> = servers
                    .iter()
                    .map(|server| self.median(server, column).map_or("–".into(), number))
                    .map(|cell| format!(" {cell} |"))
                    .collect();
                format!("| {column} |{}\n", cells.concat())
            })
            .collect();
        let rule = " ---: |".repeat(servers.len());
        let mut text = format!(
            "\n## {}\n\n| |{}\n| --- |{rule}\n{}",
            self.title,
            heads.concat(),
            rows.concat()
        );
        let notes: BTreeSet<String> = self
            .samples
            .iter()
            .flat_map(|sample| {
                sample
                    .notes
                    .iter()
                    .map(|note| format!("- {}: {note}\n", sample.server))
            })
            .collect();
        if !notes.is_empty() {
            text += "\n";
            text.extend(notes);
        }
        text
    }

    /// The same for programs, with all samples.
    pub(crate) fn json(&self) -> Value {
        let samples: Vec<Value> = self
            .samples
            .iter()
            .map(|sample| {
                let values: serde_json::Map<String, Value> = sample
                    .values
                    .iter()
                    .map(|(column, value)| (column.clone(), json!(value)))
                    .collect();
                json!({"server": sample.server, "values": values, "notes": sample.notes})
            })
            .collect();
        let medians: serde_json::Map<String, Value> = self
            .servers()
            .into_iter()
            .map(|server| {
                let values: serde_json::Map<String, Value> = self
                    .columns()
                    .into_iter()
                    .map(|column| (column.to_owned(), json!(self.median(server, column))))
                    .collect();
                (server.to_owned(), Value::Object(values))
            })
            .collect();
        json!({"scenario": self.title, "medians": medians, "samples": samples})
    }
}

/// Whole numbers as they are; of others three digits that matter, and no more than three behind the point.
fn number(value: f64) -> String {
    let size = value.abs();
    let whole = (value - value.round()).abs() < 1e-9;
    let digits = if whole || size >= 100.0 {
        0
    } else if size >= 10.0 {
        1
    } else if size >= 1.0 {
        2
    } else {
        3
    };
    format!("{value:.digits$}")
}

/// Writes a line to standard error.
pub(crate) fn progress(line: &str) {
    // Nobody reads: nothing to do about it.
    let _ = writeln!(io::stderr(), "{line}");
}

/// Writes to standard output.
pub(crate) fn print(text: &str) {
    let _ = write!(io::stdout(), "{text}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shows_medians_beside_each_other() {
        let mut report = Report::new("load");
        for (server, value) in [("a", 1.0), ("b", 5.0), ("a", 3.0), ("a", 2.5)] {
            let mut sample = Sample::of(server);
            sample.value("CPU", Some(value));
            sample.value("loss", None);
            report.samples.push(sample);
        }
        let text = report.markdown();
        assert!(
            text.contains("| | a (×3) | b (×1) |") && text.contains("| CPU | 2.50 | 5 |"),
            "{text}"
        );
        assert!(text.contains("| loss | – | – |"), "{text}");
        assert_eq!(report.json()["medians"]["a"]["CPU"], 2.5);
    }

    #[test]
    fn numbers_have_three_digits() {
        let texts: Vec<String> = [0.0, 20.0, 0.1234, 1.234, 12.34, 123.4]
            .into_iter()
            .map(number)
            .collect();
        assert_eq!(texts, ["0", "20", "0.123", "1.23", "12.3", "123"]);
    }
}
