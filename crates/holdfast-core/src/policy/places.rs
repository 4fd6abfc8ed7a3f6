//! Where each entry of the file stands: [`Places`].

use super::locate::Position;
use std::collections::BTreeMap;
use toml::de::{DeTable, DeValue};

/// Line and column of every key, so that what is found out later can still be pointed at.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Places(BTreeMap<Vec<String>, Position>);

struct Lines<'a> {
    text: &'a str,
    /// Where each begins.
    starts: Vec<usize>,
}

impl Lines<'_> {
    fn position(&self, offset: usize) -> Position {
        let line = self.starts.partition_point(|s| *s <= offset).max(1);
        let start = self.starts.get(line - 1).copied().unwrap_or(0);
        let within = Position::of(self.text.get(start..).unwrap_or(""), offset - start);
        Position { line, column: within.column }
    }
}

impl Places {
    pub(super) fn of_table(text: &str, table: &DeTable<'_>) -> Places {
        let mut out = Places::default();
        // A policy is read for every segment that is archived, and may be long: lines are found once.
        let starts = text.match_indices('\n').map(|(i, _)| i + 1);
        let lines = Lines { text, starts: std::iter::once(0).chain(starts).collect() };
        out.walk(&lines, table, &mut Vec::new());
        out
    }

    fn walk(&mut self, lines: &Lines<'_>, table: &DeTable<'_>, path: &mut Vec<String>) {
        for (key, value) in table {
            path.push(key.get_ref().to_string());
            self.0.insert(path.clone(), lines.position(key.span().start));
            match value.get_ref() {
                DeValue::Table(inner) => self.walk(lines, inner, path),
                DeValue::Array(items) => {
                    for (i, item) in items.iter().enumerate() {
                        path.push(i.to_string());
                        self.0.insert(path.clone(), lines.position(item.span().start));
                        if let DeValue::Table(inner) = item.get_ref() {
                            self.walk(lines, inner, path);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_found_where_they_stand() {
        let text =
            "a = 1\n[b.c]\n\"é\" = 'ü'; \nd = { e = 2 }\n[[f]]\ng = 3\n[[f]]\ng = 4\n".replace("; ", "");
        let table = DeTable::parse(&text).unwrap();
        let places = Places::of_table(&text, table.get_ref());
        let at = |path: &[&str]| {
            let p = places.of(path);
            (p.line, p.column)
        };
        assert_eq!(at(&["a"]), (1, 1));
        assert_eq!(at(&["b", "c", "é"]), (3, 1));
        assert_eq!(at(&["b", "c", "d", "e"]), (4, 7));
        assert_eq!(at(&["f", "1", "g"]), (8, 1));
        assert_eq!(at(&["b", "c", "x", "y"]), (2, 4), "the section around it");
        assert_eq!(at(&["x"]), (1, 1));
    }
}
