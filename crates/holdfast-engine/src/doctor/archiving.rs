//! Whether WAL reaches the archive: `postgres.archive-*`.

use super::Line;
use super::host::{Host, Want};
use super::server::{Live, patient};
use crate::context::Context;
use holdfast_core::DatabaseName;
use holdfast_core::time::{Duration, human};
use holdfast_pg::server::{ArchiverState, archiver};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

pub(super) async fn check(ctx: &Context, live: &Live, host: &Host) -> Vec<Line> {
    let server = &live.server;
    let mode = server.setting("archive_mode");
    if server.in_recovery && mode != "always" {
        return vec![of_standby(mode, server.setting("archive_command"), server.setting("archive_library"))];
    }
    let db = (ctx.policy.databases.len() > 1).then_some(&ctx.db.name);
    let program = std::env::current_exe().unwrap_or_else(|_| "/usr/bin/holdfast".into());
    let command = server.setting("archive_command");
    let wanted = Wanted {
        command: archive_command(&program, &absolute(&ctx.policy.origin), db),
        database: ctx.db.name.to_string(),
        several: db.is_some(),
    };
    let same_policy = |p: &Path| match (p.canonicalize(), ctx.policy.origin.canonicalize()) {
        (Ok(a), Ok(b)) => a == b,
        _ => p == ctx.policy.origin,
    };
    let mut lines = vec![archive_mode(mode)];
    lines.extend(judge_command(command, server.setting("archive_library"), &wanted, same_policy));
    if let Some(call) = PushCall::parse(command)
        && call.program.is_absolute()
    {
        let user = host.server_user.as_ref().unwrap_or(&host.me);
        let runs = call.program.is_file() && host.may(user, &call.program, Want::Execute);
        lines.push(archive_program(&call.program, call.program.exists(), runs, &user.name));
    }
    let timeout = server.setting("archive_timeout").parse().unwrap_or(0);
    lines.push(archive_timeout(timeout, ctx.plan.rpo));
    if mode != "off" {
        lines.push(match patient(archiver(&live.session)).await {
            Ok(a) => archiver_state(&a),
            Err(e) => Line::error("postgres.archiver", super::Status::Warn, &e),
        });
    }
    if mode != "off"
        && let Some(dir) = &host.data_dir
    {
        lines.extend(ready_files(dir).map(|ready| backlog(&ready, ctx.plan.rpo)));
    }
    lines
}

/// A standby archives nothing until it is promoted; then it should.
fn of_standby(mode: &str, command: &str, library: &str) -> Line {
    const NAME: &str = "postgres.archive-mode";
    if mode == "on" && !(command.is_empty() && library.is_empty()) {
        return Line::ok(
            NAME,
            "the server is a standby: its primary archives, and it would after a promotion",
        );
    }
    Line::warn(
        NAME,
        "the server is a standby, and would archive nothing after a promotion",
        "set archive_mode = on and the primary's archive_command here too; it has no effect before",
    )
}

fn absolute(p: &Path) -> PathBuf {
    std::path::absolute(p).unwrap_or_else(|_| p.to_path_buf())
}

/// A word that the shell takes as it is.
fn shell_word(s: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"/._-+=:,@%".contains(&b);
    if !s.is_empty() && s.bytes().all(plain) { s.into() } else { format!("'{}'", s.replace('\'', "'\\''")) }
}

/// The `archive_command` that pushes to this policy. `db` is needed when the policy has several.
pub fn archive_command(program: &Path, policy: &Path, db: Option<&DatabaseName>) -> String {
    // The server replaces %p, %f and %%, also between quotes.
    let word = |p: &Path| shell_word(&p.display().to_string()).replace('%', "%%");
    let db = db.map(|d| format!(" --db {}", shell_word(d.as_str()))).unwrap_or_default();
    format!("{} --config {} wal push{db} %p", word(program), word(policy))
}

fn archive_mode(mode: &str) -> Line {
    const NAME: &str = "postgres.archive-mode";
    match mode {
        "on" | "always" => Line::ok(NAME, format!("archive_mode is {mode}")),
        _ => Line::fail(
            NAME,
            "archive_mode is off: what happens after a backup cannot be recovered",
            "run `alter system set archive_mode = on` and restart the server",
        ),
    }
}

/// What the command should be like.
struct Wanted {
    command: String,
    database: String,
    /// The policy has more databases than one.
    several: bool,
}

/// A call of `wal push` as an archive_command writes it.
#[derive(Debug, PartialEq, Eq)]
struct PushCall {
    program: PathBuf,
    config: Option<PathBuf>,
    db: Option<String>,
    has_path: bool,
}

impl PushCall {
    /// `None` if the command does not call `wal push` itself (it may be a script that does).
    fn parse(command: &str) -> Option<Self> {
        let words = shell_words(command);
        let at = words.windows(2).position(|w| matches!(w, [a, b] if a == "wal" && b == "push"))?;
        let before = words.get(..at)?;
        let is_ours = |w: &&String| {
            Path::new(w).file_name().is_some_and(|f| f.to_string_lossy().starts_with("holdfast"))
                && !w.contains('=')
        };
        let is_program =
            |w: &&String| !w.contains('=') && !matches!(w.as_str(), "env" | "exec" | "nice" | "ionice");
        // Not a policy that lies in a folder called holdfast: options come after the program.
        let program = before.iter().find(is_ours).or_else(|| before.iter().find(is_program))?;
        let option = |long: &str| {
            words.iter().enumerate().find_map(|(i, w)| match w.strip_prefix(long) {
                Some("") => words.get(i + 1).cloned(),
                Some(rest) => rest.strip_prefix('=').map(str::to_string),
                None => None,
            })
        };
        Some(PushCall {
            program: PathBuf::from(program.replace("%%", "%")),
            config: option("--config").map(|c| PathBuf::from(c.replace("%%", "%"))),
            db: option("--db"),
            has_path: words.iter().any(|w| w.contains("%p")),
        })
    }
}

/// Words as a shell splits them: quotes and backslashes, nothing more.
fn shell_words(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match (quote, c) {
            (Some(q), c) if c == q => quote = None,
            (Some('\''), c) => word.get_or_insert_default().push(c),
            (_, '\\') => word.get_or_insert_default().extend(chars.next()),
            (Some(_), c) => word.get_or_insert_default().push(c),
            (None, '\'' | '"') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None, c) if c.is_whitespace() || c == ';' => words.extend(word.take()),
            (None, c) => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    words
}

fn judge_command(
    command: &str,
    library: &str,
    wanted: &Wanted,
    same_policy: impl Fn(&Path) -> bool,
) -> Vec<Line> {
    const NAME: &str = "postgres.archive-command";
    let set = format!(
        "run `alter system set archive_command = '{}'` and `select pg_reload_conf()`",
        wanted.command.replace('\'', "''")
    );
    if !library.is_empty() {
        return vec![Line::warn(
            NAME,
            format!("archive_library is `{library}`: holdfast gets no wal from this server"),
            format!("run `alter system set archive_library = ''`, then {}", set.trim_start_matches("run ")),
        )];
    }
    // What the server shows instead of the command while archive_mode is off.
    if command == "(disabled)" {
        return vec![Line::fail(NAME, "archive_command is disabled as long as archive_mode is off", set)];
    }
    if command.trim().is_empty() {
        return vec![Line::fail(NAME, "archive_command is empty: wal is not archived", set)];
    }
    let Some(call) = PushCall::parse(command) else {
        return vec![Line::warn(NAME, "archive_command does not call `holdfast wal push` itself", set)];
    };
    let mut lines = Vec::new();
    if !call.has_path {
        lines.push(Line::fail(
            NAME,
            "archive_command does not pass %p: `wal push` gets no file",
            set.clone(),
        ));
    }
    match &call.db {
        None if wanted.several => lines.push(Line::fail(
            NAME,
            "archive_command does not say which database of the policy this server is",
            set.clone(),
        )),
        Some(db) if *db != wanted.database => lines.push(Line::fail(
            NAME,
            format!("archive_command pushes to `{db}`, not to `{}`", wanted.database),
            set.clone(),
        )),
        _ => {}
    }
    if !call.program.is_absolute() {
        lines.push(Line::warn(
            NAME,
            format!(
                "archive_command names `{}` without its path: the server's PATH decides",
                call.program.display()
            ),
            set.clone(),
        ));
    }
    match &call.config {
        None => lines.push(Line::warn(NAME, "archive_command names no policy with --config", set)),
        Some(c) if !c.is_absolute() => lines.push(Line::warn(
            NAME,
            format!(
                "archive_command names the policy `{}`, which the server looks for in its data directory",
                c.display()
            ),
            set,
        )),
        Some(c) if !same_policy(c) => lines.push(Line::warn(
            NAME,
            format!("archive_command uses another policy, `{}`", c.display()),
            set,
        )),
        Some(_) => {}
    }
    if lines.is_empty() {
        lines.push(Line::ok(NAME, "archive_command pushes to this policy's vaults"));
    }
    lines
}

fn archive_program(program: &Path, exists: bool, runs: bool, user: &str) -> Line {
    const NAME: &str = "postgres.archive-program";
    let p = program.display();
    if runs {
        return Line::ok(NAME, format!("the server's user {user} can run `{p}`"));
    }
    let what = if exists { format!("the server's user {user} cannot run") } else { "there is no".into() };
    Line::fail(
        NAME,
        format!("archive_command names `{p}`, and {what} such a program"),
        format!("install holdfast at `{p}`, executable for {user}, or change archive_command"),
    )
}

fn archive_timeout(seconds: u64, rpo: Option<Duration>) -> Line {
    const NAME: &str = "postgres.archive-timeout";
    let want = rpo.unwrap_or(Duration(60));
    // Half of the objective leaves time for the push.
    let set = format!(
        "run `alter system set archive_timeout = '{}s'` and `select pg_reload_conf()`",
        (want.0 / 2).clamp(1, 3_600)
    );
    match (seconds, rpo) {
        (0, _) => Line::warn(
            NAME,
            "archive_timeout is 0: on a quiet server the newest work waits without limit",
            set,
        ),
        (s, Some(rpo)) if s > rpo.0 => Line::warn(
            NAME,
            format!(
                "archive_timeout is {}, more than the rpo of {rpo} that the policy promises",
                Duration(s)
            ),
            set,
        ),
        (s, _) => Line::ok(NAME, format!("archive_timeout is {}", Duration(s))),
    }
}

fn archiver_state(a: &ArchiverState) -> Line {
    const NAME: &str = "postgres.archiver";
    if a.failing {
        return Line::fail(
            NAME,
            format!(
                "archiving fails at {}; {} tries failed so far",
                a.last_failed.as_deref().unwrap_or("an unknown file"),
                a.failed
            ),
            "read the server's log, or run archive_command by hand as the server's user, in the data directory",
        );
    }
    match &a.last_archived {
        Some(last) => Line::ok(NAME, format!("the archiver works; the last file was {last}")),
        None => {
            Line::ok(NAME, "nothing has been archived yet").hint("run `select pg_switch_wal()` to try it")
        }
    }
}

/// Files that wait for the archiver, and the age of the oldest.
#[derive(Debug, Default)]
struct Ready {
    count: u64,
    oldest: std::time::Duration,
}

fn ready_files(data_dir: &Path) -> Option<Ready> {
    let mut ready = Ready::default();
    let now = SystemTime::now();
    for e in std::fs::read_dir(data_dir.join("pg_wal/archive_status")).ok()?.flatten() {
        if e.path().extension().is_some_and(|x| x == "ready") {
            ready.count += 1;
            let age = e.metadata().and_then(|m| m.modified()).ok().and_then(|t| now.duration_since(t).ok());
            ready.oldest = ready.oldest.max(age.unwrap_or_default());
        }
    }
    Some(ready)
}

fn backlog(ready: &Ready, rpo: Option<Duration>) -> Line {
    const NAME: &str = "postgres.archive-backlog";
    let hint =
        "look at `postgres.archiver` above and at the speed of the vault; pg_wal grows until it is archived";
    // A push takes seconds; without an objective ten minutes are long.
    let limit = rpo.map_or(std::time::Duration::from_secs(600), Duration::std);
    let text = format!(
        "{} waiting in pg_wal, the oldest for {}",
        super::count(ready.count, "file"),
        human(ready.oldest)
    );
    match ready.count {
        0 => Line::ok(NAME, "nothing waits for the archiver"),
        101.. => Line::fail(NAME, text, hint),
        11.. => Line::warn(NAME, text, hint),
        _ if ready.oldest > limit => Line::warn(NAME, text, hint),
        _ => Line::ok(NAME, text),
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Status, worst};
    use super::*;

    fn wanted(several: bool) -> Wanted {
        Wanted { command: "/usr/bin/holdfast wal push %p".into(), database: "orders".into(), several }
    }

    fn judge(command: &str, several: bool) -> Vec<Line> {
        judge_command(command, "", &wanted(several), |p| p == Path::new("/etc/h.toml"))
    }

    #[test]
    fn the_command_that_is_advised_passes() {
        let db: DatabaseName = "orders".parse().unwrap();
        for (program, policy) in
            [("/usr/bin/holdfast", "/etc/h.toml"), ("/opt/a b/holdfast", "/etc/100% it's.toml")]
        {
            let c = archive_command(Path::new(program), Path::new(policy), Some(&db));
            let call = PushCall::parse(&c).unwrap();
            assert_eq!(call.program, Path::new(program), "{c}");
            assert_eq!(call.config.as_deref(), Some(Path::new(policy)), "{c}");
            assert!(call.db.as_deref() == Some("orders") && call.has_path);
        }
        let c = archive_command(Path::new("/usr/bin/holdfast"), Path::new("/etc/h.toml"), None);
        assert_eq!(c, "/usr/bin/holdfast --config /etc/h.toml wal push %p");
        assert_eq!(worst(&judge(&c, false)), Status::Ok);
        let c = "env 'A=b c' /x/holdfast-1 --config=/etc/h.toml wal push \"%p\" --db orders";
        assert_eq!(worst(&judge(c, true)), Status::Ok);
    }

    #[test]
    fn commands_that_cannot_work_fail_and_odd_ones_warn() {
        let cases = [
            ("", false, Status::Fail),
            ("(disabled)", false, Status::Fail),
            ("cp %p /backup/%f", false, Status::Warn),
            ("holdfast --config /etc/h.toml wal push %p", false, Status::Warn),
            ("/usr/bin/holdfast wal push %p", false, Status::Warn),
            ("/usr/bin/holdfast --config h.toml wal push %p", false, Status::Warn),
            ("/usr/bin/holdfast --config /etc/other.toml wal push %p", false, Status::Warn),
            ("/usr/bin/holdfast --config /etc/h.toml wal push", false, Status::Fail),
            ("/usr/bin/holdfast --config /etc/h.toml wal push %p", true, Status::Fail),
            ("/usr/bin/holdfast --config /etc/h.toml wal push --db shop %p", true, Status::Fail),
        ];
        for (command, several, status) in cases {
            let lines = judge(command, several);
            assert_eq!(worst(&lines), status, "{command}: {lines:?}");
            assert!(
                lines.iter().all(|l| l.hint.as_deref().unwrap().contains("alter system set archive_command"))
            );
        }
        assert_eq!(worst(&judge_command("", "basic_archive", &wanted(false), |_| true)), Status::Warn);
    }

    #[test]
    fn words_are_split_as_a_shell_does() {
        assert_eq!(
            shell_words(r#"a  'b c'd "e \" f" g\ h '' 'x\'"#),
            ["a", "b cd", "e \" f", "g h", "", "x\\"]
        );
    }

    #[test]
    fn programs_timeouts_and_modes() {
        let p = Path::new("/usr/bin/holdfast");
        assert_eq!(archive_program(p, true, true, "postgres").status, Status::Ok);
        assert!(archive_program(p, true, false, "postgres").message.contains("cannot run"));
        assert_eq!(archive_program(p, false, false, "postgres").status, Status::Fail);
        assert_eq!(archive_mode("always").status, Status::Ok);
        assert_eq!(archive_mode("off").status, Status::Fail);
        let rpo = Some(Duration(300));
        assert_eq!(archive_timeout(0, None).status, Status::Warn);
        assert_eq!(archive_timeout(300, rpo).status, Status::Ok);
        assert!(archive_timeout(301, rpo).hint.unwrap().contains("'150s'"));
    }

    #[test]
    fn the_archivers_troubles_are_seen() {
        let good = ArchiverState {
            archived: 1,
            failed: 3,
            last_archived: Some("A".into()),
            last_failed: Some("B".into()),
            failing: false,
        };
        assert_eq!(archiver_state(&good).status, Status::Ok);
        let l = archiver_state(&ArchiverState { failing: true, ..good.clone() });
        assert!(l.status == Status::Fail && l.message.contains("fails at B"));
        assert!(archiver_state(&ArchiverState { last_archived: None, ..good }).hint.is_some());
        let ready = |count, secs| Ready { count, oldest: std::time::Duration::from_secs(secs) };
        assert_eq!(backlog(&ready(0, 0), None).status, Status::Ok);
        assert_eq!(backlog(&ready(3, 100), None).status, Status::Ok);
        assert_eq!(backlog(&ready(3, 100), Some(Duration(60))).status, Status::Warn);
        assert_eq!(backlog(&ready(11, 1), None).status, Status::Warn);
        assert_eq!(backlog(&ready(101, 1), None).status, Status::Fail);
        let t = tempfile::tempdir().unwrap();
        let dir = t.path().join("pg_wal/archive_status");
        std::fs::create_dir_all(&dir).unwrap();
        for f in ["1.ready", "2.done", "3.ready"] {
            std::fs::write(dir.join(f), "").unwrap();
        }
        assert_eq!(ready_files(t.path()).unwrap().count, 2);
    }
}
