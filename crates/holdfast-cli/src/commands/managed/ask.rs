//! Questions on a terminal: one line each, asked again when the answer is none.

use crate::failure;
use std::io::{BufRead, BufReader, IsTerminal as _, Stderr, Stdin, Write};

/// So often a question is asked.
const TIMES: usize = 3;

/// Somebody who can be asked.
pub struct Dialog<R, W> {
    input: R,
    output: W,
}

/// The person at the terminal; `None` without one, or where a program reads what is printed. Questions go to stderr.
pub fn terminal(json: bool) -> Option<Dialog<BufReader<Stdin>, Stderr>> {
    let (input, output) = (std::io::stdin(), std::io::stderr());
    let there = !json && input.is_terminal() && output.is_terminal();
    there.then(|| Dialog::new(BufReader::new(input), output))
}

impl<R: BufRead, W: Write> Dialog<R, W> {
    pub fn new(input: R, output: W) -> Self {
        Dialog { input, output }
    }

    /// Asks until `read` understands the answer.
    ///
    /// # Errors
    /// The input ended, or no answer was one.
    pub fn ask<T>(&mut self, question: &str, read: impl Fn(&str) -> Result<T, String>) -> anyhow::Result<T> {
        for _ in 0..TIMES {
            write!(self.output, "{question}: ")?;
            self.output.flush()?;
            let mut line = String::new();
            if self.input.read_line(&mut line)? == 0 {
                break;
            }
            match read(line.trim()) {
                Ok(answer) => return Ok(answer),
                Err(why) => writeln!(self.output, "{why}")?,
            }
        }
        Err(failure::usage(format!("no answer to: {question}"), "give it by an option; see --help"))
    }

    /// One of several, by its number; an empty answer is `default`, where there is one. Counted from 0.
    pub fn choose(
        &mut self,
        question: &str,
        options: &[&str],
        default: Option<usize>,
    ) -> anyhow::Result<usize> {
        for (i, o) in options.iter().enumerate() {
            writeln!(self.output, "  {}  {o}", i + 1)?;
        }
        let most = options.len();
        let shown = default.map(|d| format!(" [{}]", d + 1)).unwrap_or_default();
        self.ask(&format!("{question}{shown}"), |text| match (text, default) {
            ("", Some(d)) => Ok(d),
            _ => match text.parse::<usize>() {
                Ok(n) if (1..=most).contains(&n) => Ok(n - 1),
                _ => Err(format!("write a number from 1 to {most}")),
            },
        })
    }

    /// Only the whole word is a yes.
    pub fn agrees(&mut self, question: &str) -> anyhow::Result<bool> {
        self.ask(&format!("{question} [yes/no]"), |text| match text {
            "yes" => Ok(true),
            "no" | "" => Ok(false),
            _ => Err("write yes or no".into()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answers(text: &str) -> Dialog<&[u8], Vec<u8>> {
        Dialog::new(text.as_bytes(), Vec::new())
    }

    #[test]
    fn a_choice_is_a_number_of_the_list() {
        let mut d = answers("7\nx\n2\n");
        assert_eq!(d.choose("which", &["a", "b"], None).unwrap(), 1);
        let said = String::from_utf8(d.output).unwrap();
        assert!(said.contains("  2  b") && said.contains("from 1 to 2"), "{said}");
        assert_eq!(answers("\n").choose("which", &["a", "b"], Some(0)).unwrap(), 0);
        assert!(answers("\n\n\n\n").choose("which", &["a"], None).is_err());
    }

    #[test]
    fn who_says_nothing_has_not_agreed() {
        assert!(answers("").agrees("go").is_err());
        for (text, agreed) in [("yes\n", true), ("no\n", false), ("\n", false), ("y\nyes\n", true)] {
            assert_eq!(answers(text).agrees("go").unwrap(), agreed, "{text:?}");
        }
    }
}
