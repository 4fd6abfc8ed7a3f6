//! What a restored copy is told: how to recover, and to leave the world alone.
//!
//! Everything goes to the end of `postgresql.auto.conf`, where the last line wins, between two marker
//! lines that say what it is.

use super::plan::RestorePlan;
use super::target::ServerTarget;
use crate::error::{EngineError, Result};
use holdfast_core::conninfo;
use holdfast_pg::process::Programs;
use std::fmt::Write;
use std::path::Path;

/// Extensions that act by themselves: jobs of the source must not run in a copy.
const SCHEDULERS: [&str; 5] = ["pg_cron", "pg_partman_bgw", "pgagent", "pg_task", "pglogical"];

/// What the server does at the target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum TargetAction {
    #[default]
    Promote,
    Pause,
    Shutdown,
}

impl TargetAction {
    pub fn word(self) -> &'static str {
        match self {
            TargetAction::Promote => "promote",
            TargetAction::Pause => "pause",
            TargetAction::Shutdown => "shutdown",
        }
    }
}

/// Whom a replica follows. Both empty: only the archive.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct Standby {
    /// `primary_conninfo`; never with a password.
    pub conninfo: String,
    /// `primary_slot_name`.
    pub slot: String,
}

impl Standby {
    /// Refuses a password: it would lie readable in the data directory, and in every backup of it.
    pub fn new(conninfo: &str, slot: &str) -> Result<Self> {
        let settings = match conninfo {
            "" => Some(Vec::new()),
            // A setting ends with its line.
            c if c.contains(['\n', '\r']) => None,
            c => conninfo::url(c).or_else(|| conninfo::keyword_value(c)),
        };
        let usage = |what: &str| {
            EngineError::usage(
                what,
                "--primary-conninfo 'host=db1 port=5432 user=replicator'; passwords belong into the server user's ~/.pgpass",
            )
        };
        let settings = settings.ok_or_else(|| usage("--primary-conninfo is no connection string"))?;
        if settings.iter().any(|(k, _)| k.contains("password")) {
            return Err(usage("--primary-conninfo holds a password"));
        }
        let name = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        if !slot.chars().all(name) || slot.len() > 63 {
            return Err(EngineError::usage(
                format!("`{slot}` is no name of a replication slot"),
                "lower-case letters, digits and underscores",
            ));
        }
        Ok(Standby { conninfo: conninfo.into(), slot: slot.into() })
    }
}

/// A value of postgresql.conf in quotes (`GUC_scanstr`, src/backend/utils/misc/guc-file.l: a backslash
/// escapes what follows it).
pub fn quote(v: &str) -> String {
    format!("'{}'", v.replace('\\', "\\\\").replace('\'', "''"))
}

/// A word of a shell command in quotes.
pub fn shell_quote(v: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+:=@".contains(c);
    if !v.is_empty() && v.chars().all(plain) {
        v.to_string()
    } else {
        format!("'{}'", v.replace('\'', "'\\''"))
    }
}

/// The restore_command of a copy.
pub fn restore_command(program: &Path, policy: &Path, plan: &RestorePlan) -> String {
    // In postgresql.conf a percent sign of a path would be taken for a placeholder.
    let word = |p: &Path| shell_quote(&p.display().to_string()).replace('%', "%%");
    // Without a choice of the user's, every vault of the database is asked.
    let vault = match plan.vault_chosen {
        true => format!(" --vault {}", shell_quote(&plan.vault)),
        false => String::new(),
    };
    // What the plan saw must not be taken for the end of the log if it goes missing meanwhile. The server
    // reads ahead of its target, beyond which WAL may be missing.
    let reach = match (plan.bounded, &plan.wal_last) {
        // Nothing that is missing ends a standby: it asks again, or its primary has it. Beyond the first
        // segment, that is; without it there is nothing to follow from.
        _ if plan.standby.is_some() => format!(" --reach {}", plan.wal_first),
        (_, None) => String::new(),
        (true, Some(last)) => format!(" --reach {last}"),
        (false, Some(last)) => format!(" --planned {last}"),
    };
    format!(
        "{} --config {} wal get --db {} --cluster {} --timeline {}{reach}{vault} %f \"%p\"",
        word(program),
        word(policy),
        shell_quote(plan.database.as_str()),
        plan.cluster,
        plan.timeline,
    )
}

/// Libraries to preload: those of the source that exist here and do not act by themselves.
pub fn preload(source: &str, programs: Option<&Programs>) -> (String, Vec<String>) {
    let mut dropped = Vec::new();
    let keep: Vec<&str> = source
        .split(',')
        .map(|l| l.trim().trim_matches('"'))
        .filter(|l| !l.is_empty())
        .filter(|l| {
            let name = l.rsplit('/').next().unwrap_or(l);
            let acts = SCHEDULERS.contains(&name);
            let here = programs.is_none_or(|p| {
                let lib = p.bin().parent().map(|d| d.join("lib").join(format!("{name}.so")));
                lib.is_none_or(|f| f.exists())
                    || Path::new(l).is_absolute() && Path::new(&format!("{l}.so")).exists()
            });
            if acts || !here {
                dropped.push((*l).to_string());
            }
            !acts && here
        })
        .collect();
    (keep.join(","), dropped)
}

/// The lines for `postgresql.auto.conf`.
pub fn render(plan: &RestorePlan, restore_command: &str, programs: Option<&Programs>) -> String {
    let mut out = String::new();
    let mut set = |k: &str, v: &str| {
        let _ = writeln!(out, "{k} = {}", quote(v));
    };
    for (k, v) in &plan.recovery_settings {
        if !v.is_empty() {
            set(k, v);
        }
    }
    set("restore_command", restore_command);
    let timeline = match plan.standby {
        Some(_) => "latest".into(),
        None if plan.timeline == plan.point_timeline => "current".into(),
        None => plan.timeline.to_string(),
    };
    set("recovery_target_timeline", &timeline);
    // The source may itself be a restored copy, whose settings still say where that restore went. An
    // empty value counts as a target that is set, so all of them come before the one that is meant.
    let all = [
        "recovery_target",
        "recovery_target_lsn",
        "recovery_target_name",
        "recovery_target_time",
        "recovery_target_xid",
    ];
    let meant = match &plan.server_target {
        ServerTarget::None => "",
        ServerTarget::Time(_) => "recovery_target_time",
        ServerTarget::Lsn(_) => "recovery_target_lsn",
        ServerTarget::Xid(_) => "recovery_target_xid",
        ServerTarget::Name(_) => "recovery_target_name",
        ServerTarget::Immediate => "recovery_target",
    };
    for k in all.into_iter().filter(|k| *k != meant) {
        set(k, "");
    }
    match &plan.server_target {
        ServerTarget::None => {}
        ServerTarget::Time(t) => {
            set("recovery_target_time", &t.strftime("%Y-%m-%d %H:%M:%S%.6f+00").to_string())
        }
        ServerTarget::Lsn(l) => set("recovery_target_lsn", &l.to_string()),
        ServerTarget::Xid(x) => set("recovery_target_xid", &x.to_string()),
        ServerTarget::Name(n) => set("recovery_target_name", n),
        ServerTarget::Immediate => set("recovery_target", "immediate"),
    }
    if plan.server_target != ServerTarget::None {
        set("recovery_target_inclusive", if plan.exclusive { "off" } else { "on" });
        set("recovery_target_action", plan.action.word());
    }
    // Sessions before the end of recovery are of use only where it pauses, or never ends. Without them
    // recovery does not stop when the source raised max_connections or its like on the way
    // (CheckRequiredParameterValues, src/backend/access/transam/xlogrecovery.c).
    let pauses = plan.server_target != ServerTarget::None && plan.action == TargetAction::Pause;
    set("hot_standby", if pauses || plan.standby.is_some() { "on" } else { "off" });
    // A copy must not act on the world.
    set("archive_mode", "off");
    set("archive_cleanup_command", "");
    set("recovery_end_command", "");
    let primary = plan.standby.clone().unwrap_or_default();
    set("primary_conninfo", &primary.conninfo);
    set("primary_slot_name", &primary.slot);
    set("synchronous_standby_names", "");
    set("max_logical_replication_workers", "0");
    let (preload, _) = preload(&plan.shared_preload_libraries, programs);
    set("shared_preload_libraries", &preload);
    let mut left_out = String::new();
    if let Some(s) = plan.selection.as_ref().filter(|s| !s.left_out.is_empty()) {
        // Some records name a page without its image (`super::select`); on a page of zeros the server
        // would stop. What it passes over stands in its log.
        set("ignore_invalid_pages", "on");
        left_out = s.comment();
    }
    for (k, v) in &plan.set {
        set(k, v);
    }
    format!(
        "\n# --- written by holdfast: restore of point {} ---\n# archiving is off until you turn it on: remove \
         `archive_mode` below, then run `holdfast wal adopt`\n{left_out}{out}# --- end of holdfast ---\n",
        plan.point
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_cannot_break_out() {
        assert_eq!(quote("a'b"), "'a''b'");
        assert_eq!(quote(r"it\'s"), r"'it\\''s'");
        assert_eq!(shell_quote("/usr/bin/holdfast"), "/usr/bin/holdfast");
        assert_eq!(shell_quote("/a b/c'd"), "'/a b/c'\\''d'");
    }

    #[test]
    fn standbys_hold_no_passwords() {
        let s = Standby::new("host=db1 user=replicator passfile=/x", "slot_1").unwrap();
        assert_eq!(
            (s.conninfo.as_str(), s.slot.as_str()),
            ("host=db1 user=replicator passfile=/x", "slot_1")
        );
        assert_eq!(Standby::new("", "").unwrap(), Standby::default());
        for bad in
            ["host=x password=y", "host=x sslpassword=y", "postgresql://a:b@h/", "host=x\nport=1", "nonsense"]
        {
            let e = Standby::new(bad, "").unwrap_err();
            assert!(!e.to_string().contains(bad), "{e}");
        }
        assert!(Standby::new("host=x", "Bad-Name").is_err());
    }

    #[test]
    fn schedulers_do_not_come_along() {
        let (keep, dropped) = preload("pg_stat_statements, pg_cron,\"auto_explain\"", None);
        assert_eq!(keep, "pg_stat_statements,auto_explain");
        assert_eq!(dropped, ["pg_cron"]);
    }
}
