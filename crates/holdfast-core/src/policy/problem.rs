//! What is wrong with a policy file: [`Problem`], and all of them: [`PolicyError`].

use std::fmt;
use std::path::PathBuf;

/// One mistake, where it stands and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    pub file: PathBuf,
    /// From 1.
    pub line: usize,
    /// From 1, in characters.
    pub column: usize,
    /// Lower case, no full stop, no secret.
    pub message: String,
    /// A full sentence.
    pub hint: Option<String>,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}: {}", self.file.display(), self.line, self.column, self.message)
    }
}

/// Why a policy file was refused: at least one [`Problem`], in the order of the file.
///
/// Displays as one `file:line:column: message` per line, without hints.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyError {
    pub problems: Vec<Problem>,
}

impl PolicyError {
    /// The first hint there is; [`Problem::hint`] has the one of each problem.
    pub fn hint(&self) -> Option<&str> {
        self.problems.iter().find_map(|p| p.hint.as_deref())
    }
}

impl fmt::Display for PolicyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, problem) in self.problems.iter().enumerate() {
            if i > 0 {
                f.write_str("\n")?;
            }
            problem.fmt(f)?;
        }
        Ok(())
    }
}

impl std::error::Error for PolicyError {}

impl From<Problem> for PolicyError {
    fn from(problem: Problem) -> Self {
        PolicyError { problems: vec![problem] }
    }
}
