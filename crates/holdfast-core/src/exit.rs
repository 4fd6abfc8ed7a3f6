//! Exit codes of the program, one meaning each. `docs/guide/exit-codes.md` lists them for users.

/// How a command ended. `wal get` alone has two more: 1 = certainly absent, 200 = anything else
/// (PostgreSQL stops on a code over 125 instead of ending recovery early).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum ExitCode {
    Ok = 0,
    Error = 1,
    Usage = 2,
    Partial = 3,
    PolicyViolated = 4,
    VerificationFailed = 5,
    NotFound = 10,
    Busy = 11,
    Auth = 12,
    Refused = 13,
    Cancelled = 130,
}

impl ExitCode {
    /// The stable word that `--json` errors carry as `code`.
    pub fn word(self) -> &'static str {
        match self {
            ExitCode::Ok => "ok",
            ExitCode::Error => "error",
            ExitCode::Usage => "usage",
            ExitCode::Partial => "partial",
            ExitCode::PolicyViolated => "policy-violated",
            ExitCode::VerificationFailed => "verification-failed",
            ExitCode::NotFound => "not-found",
            ExitCode::Busy => "busy",
            ExitCode::Auth => "auth",
            ExitCode::Refused => "refused",
            ExitCode::Cancelled => "cancelled",
        }
    }
}
