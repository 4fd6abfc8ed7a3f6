//! Where each entry of the file stands: [`Places`].

use super::locate::Position;
use std::collections::BTreeMap;
use toml::de::{DeTable, DeValue};

/// Line and column of every key, so that what is found out later can still be pointed at.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Places(BTreeMap<Vec<String>, Position>);

impl Places {
    pub(super) fn of_table(text: &str, table: &DeTable<'_>) -> Places {
        let mut out = Places::default();
        out.walk(text, table, &mut Vec::new());
        out
    }

    fn walk(&mut self, text: &str, table: &DeTable<'_>, path: &mut Vec<String>) {
        for (key, value) in table {
            path.push(key.get_ref().to_string());
            self.0.insert(path.clone(), Position::of(text, key.span().start));
            match value.get_ref() {
                DeValue::Table(inner) => self.walk(text, inner, path),
                DeValue::Array(items) => {
                    for (i, item) in items.iter().enumerate() {
                        path.push(i.to_string());
                        self.0.insert(path.clone(), Position::of(text, item.span().start));
                        if let DeValue::Table(inner) = item.get_ref() {
                            self.walk(text, inner, path);
                        }
                        path.pop();
                    }
                }
                _ => {}
            }
            path.pop();
        }
    }

    /// The place of the entry at `path`, or of the nearest section around it that is written.
    pub fn of(&self, path: &[&str]) -> Position {
        (0..=path.len())
            .rev()
            .filter_map(|n| path.get(..n))
            .find_map(|p| self.0.get(&p.iter().map(|s| s.to_string()).collect::<Vec<_>>()))
            .copied()
            .unwrap_or(Position { line: 1, column: 1 })
    }
}
