//! Where in a text: [`Position`], and which known word was probably meant: [`nearest`].

/// Line and column as editors count them: from 1, columns in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    pub line: usize,
    pub column: usize,
}

impl Position {
    /// The position of byte `offset`; an offset past the end means the end.
    pub fn of(text: &str, offset: usize) -> Position {
        let mut end = offset.min(text.len());
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        let before = text.get(..end).unwrap_or("");
        let line_start = before.rfind('\n').map_or(0, |i| i + 1);
        let in_line = before.get(line_start..).unwrap_or("").trim_start_matches('\u{feff}');
        Position { line: before.matches('\n').count() + 1, column: in_line.chars().count() + 1 }
    }
}

/// The known word nearest to `word`, if one is near enough to be a slip of the fingers.
pub fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let plain = |s: &str| s.to_ascii_lowercase().replace('_', "-");
    let word = plain(word);
    let allowed = (word.chars().count() / 3).clamp(1, 3);
    known
        .into_iter()
        .map(|k| (distance(&word, &plain(k)), k))
        .filter(|(d, _)| *d <= allowed)
        .min_by_key(|(d, _)| *d)
        .map(|(_, k)| k)
}

/// Levenshtein distance with neighbouring letters swapped counting once.
fn distance(a: &str, b: &str) -> usize {
    let a: Vec<char> = a.chars().collect();
    let b: Vec<char> = b.chars().collect();
    let mut before: Vec<usize> = Vec::new();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.iter().enumerate() {
        let mut next = vec![i + 1];
        for (j, cb) in b.iter().enumerate() {
            let mut d = (row[j] + usize::from(ca != cb)).min(row[j + 1] + 1).min(next[j] + 1);
            if i > 0 && j > 0 && *ca == b[j - 1] && a[i - 1] == *cb {
                d = d.min(before[j - 1] + 1);
            }
            next.push(d);
        }
        before = std::mem::replace(&mut row, next);
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_count_characters_from_one() {
        let at = |t: &str, o| {
            let p = Position::of(t, o);
            (p.line, p.column)
        };
        assert_eq!(at("", 0), (1, 1));
        assert_eq!(at("ab\ncd", 3), (2, 1));
        assert_eq!(at("ab\ncd", 99), (2, 3));
        assert_eq!(at("a\r\nb", 3), (2, 1));
        assert_eq!(at("é = 'ü' x", 10), (1, 9));
        assert_eq!(at("\u{feff}a", 3), (1, 1));
        assert_eq!(at("é", 1), (1, 1), "inside a character");
    }

    #[test]
    fn only_near_words_are_suggested() {
        let known = ["key-file", "url", "passphrase-file", "level"];
        assert_eq!(nearest("kee-file", known), Some("key-file"));
        assert_eq!(nearest("key_file", known), Some("key-file"));
        assert_eq!(nearest("lveel", known), Some("level"));
        assert_eq!(nearest("ulr", known), Some("url"));
        assert_eq!(nearest("encryption", known), None);
        assert_eq!(nearest("", known), None);
    }
}
