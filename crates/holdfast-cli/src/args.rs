//! What was typed: exactly the command line, nothing looked up, nothing decided.

use clap::{Args, Parser, Subcommand};
use std::path::PathBuf;

/// Backs up PostgreSQL, brings it back to any second, and keeps proving that it can.
#[derive(Debug, Parser)]
#[command(name = "holdfast", version, about, max_term_width = 100)]
pub struct Cli {
    /// The policy file [default: ./holdfast.toml, then /etc/holdfast/holdfast.toml]
    #[arg(long, global = true, env = "HOLDFAST_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// One JSON document on stdout; progress as JSON lines on stderr
    #[arg(long, global = true)]
    pub json: bool,
    /// Say more
    #[arg(short, long, global = true)]
    pub verbose: bool,
    /// No progress bar
    #[arg(long, global = true)]
    pub no_progress: bool,
    /// Use this vault of the policy instead of the database's first
    #[arg(long, global = true, value_name = "NAME")]
    pub vault: Option<String>,
    /// Try a PostgreSQL version that is not supported
    #[arg(long, global = true)]
    pub allow_unsupported: bool,
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Set up: write the policy, make vault and key, print what the server needs
    Init(InitArgs),
    /// Make a recovery point
    Backup(BackupArgs),
    /// List recovery points
    List { database: Option<String> },
    /// Show everything about one point
    Show { point: String },
    /// Bring a database back
    Restore(Box<RestoreArgs>),
    /// Archive and fetch write-ahead log
    #[command(subcommand)]
    Wal(WalCommand),
    /// Show that a point restores
    Verify(VerifyArgs),
    /// Check the vaults: is everything there and unharmed?
    Check {
        database: Option<String>,
        /// Do not read and authenticate every byte
        #[arg(long, conflicts_with = "undelete")]
        fast: bool,
        /// Take away what somebody put over objects: delete markers and later versions. Prints the plan
        #[arg(long)]
        undelete: bool,
        /// With --undelete: do it
        #[arg(long, requires = "undelete")]
        yes: bool,
    },
    /// Bring points and WAL to another vault
    Copy(CopyArgs),
    /// Show what the rules keep and what they let go; with --apply, mark it for the sweep
    Expire {
        /// A database, or one point to let go whatever the rules say
        target: Option<String>,
        /// Write the notes; without it, only the plan is shown
        #[arg(long)]
        apply: bool,
    },
    /// Remove what was expired and what nobody needs any more
    Sweep {
        database: Option<String>,
        /// Print what would be removed, touch nothing
        #[arg(long)]
        plan: bool,
    },
    /// Show what is locked shorter than the points that need it; with --apply, lock it for longer
    Lock {
        database: Option<String>,
        /// Extend the locks; without it, only the plan is shown
        #[arg(long)]
        apply: bool,
    },
    /// Keep a point whatever the rules say
    Hold(HoldArgs),
    /// End a hold
    Release {
        /// The id of the hold (see `hold --list`)
        hold: String,
        #[arg(long, default_value = "")]
        reason: String,
        #[arg(long)]
        db: Option<String>,
    },
    /// Bring the application to a restored managed database, step by step; goes back if a step fails
    Cutover(CutoverArgs),
    /// Delete a managed database that a cutover replaced, with a last snapshot, when its quarantine is over
    Retire {
        /// What it is called now
        id: String,
        #[arg(long)]
        db: Option<String>,
        /// Do it; without it, only the plan is shown
        #[arg(long)]
        yes: bool,
        /// How long to wait for the provider [default: 6h]
        #[arg(long, value_name = "SPAN")]
        wait_for: Option<String>,
    },
    /// Remove temporary databases, snapshots and security groups at the provider that are past their end of life
    Reap {
        /// Only in the regions of this database
        database: Option<String>,
        /// Do it; without it, only the plan is shown
        #[arg(long)]
        yes: bool,
    },
    /// What differs between the policy and the settings, vaults, plans and locks of managed databases at the provider
    Plan {
        /// One database of the policy [default: all managed ones]
        database: Option<String>,
    },
    /// Bring the settings of managed databases at the provider to the policy
    Apply(ApplyArgs),
    /// After an incident: which ways there are for a managed database, from what is really there, and taking one
    Recover(RecoverArgs),
    /// Check every setting that could make backup or recovery fail
    Doctor { database: Option<String> },
    /// Check the policy: its form, and the rules that backups have to hold to
    Validate(ValidateArgs),
    /// Print the IAM policy that a role needs (managed databases)
    Iam(IamArgs),
    /// Keys: export for a host, recovery copy under a passphrase
    #[command(subcommand)]
    Key(KeyCommand),
}

#[derive(Debug, Args)]
pub struct ApplyArgs {
    /// One database of the policy [default: all managed ones]
    pub database: Option<String>,
    /// Do it; without it, only the plan is shown
    #[arg(long)]
    pub yes: bool,
    /// Put the compliance lock on this vault of the policy: after its grace nobody can remove it. Repeatable
    #[arg(long, value_name = "VAULT")]
    pub confirm_lock: Vec<String>,
    /// Also change what lets go of backups or of protection: fewer days, stopped replication, removed locks
    #[arg(long)]
    pub allow_loss: bool,
    /// How long to wait for each change at the provider [default: 6h]
    #[arg(long, value_name = "SPAN")]
    pub wait_for: Option<String>,
}

#[derive(Debug, Args)]
pub struct ValidateArgs {
    /// Also show what each scenario would lose, windows by the clock, and what it costs
    #[arg(long)]
    pub explain: bool,
    /// Look at managed databases as well: what is there, what was measured, what others keep
    #[arg(long)]
    pub live: bool,
}

#[derive(Debug, Args)]
pub struct IamArgs {
    /// observe, backup, configure, restore or delete
    #[arg(long, required_unless_present = "key_for")]
    pub role: Option<String>,
    /// What the key of the snapshots has to say so that this account (12 digits) can copy them
    #[arg(long, value_name = "ACCOUNT", conflicts_with_all = ["role", "account", "region"])]
    pub key_for: Option<String>,
    /// For this account only (12 digits) [default: any]
    #[arg(long)]
    pub account: Option<String>,
    /// For this region only [default: any]
    #[arg(long)]
    pub region: Option<String>,
    /// aws, aws-cn or aws-us-gov
    #[arg(long, default_value = "aws")]
    pub partition: String,
}

#[derive(Debug, Args)]
pub struct InitArgs {
    /// What the database is called in the policy and in the vault
    #[arg(long)]
    pub name: Option<String>,
    /// How to reach it: 'host=/run/postgresql port=5432 user=postgres' (never with a password)
    #[arg(long, value_name = "CONNINFO")]
    pub conninfo: Option<String>,
    /// Where backups go. Note: init writes it into the policy under the name `local` or `main`
    #[arg(long = "vault-url", alias = "url", value_name = "URL")]
    pub vault_url: Option<String>,
    /// The key file: used if it exists, made if not
    #[arg(long, value_name = "FILE")]
    pub key_file: Option<PathBuf>,
    /// Also keep a copy of the keys in the vault, wrapped by the passphrase in this file
    #[arg(long, value_name = "FILE")]
    pub passphrase_file: Option<PathBuf>,
    /// Leave backups readable by anyone who can read the vault (they are still signed and digested)
    #[arg(long)]
    pub no_encryption: bool,
    /// Ask nothing
    #[arg(long)]
    pub yes: bool,
}

#[derive(Debug, Args)]
pub struct BackupArgs {
    pub database: Option<String>,
    /// Store every block anew
    #[arg(long, conflicts_with = "incremental")]
    pub full: bool,
    /// Store what changed (a full if there is nothing to build on)
    #[arg(long)]
    pub incremental: bool,
    /// Over the replication protocol, from another host than the server's (see `method` in the policy)
    #[arg(long)]
    pub remote: bool,
    /// Managed databases: for this tier of the policy: a snapshot, which its rules expire, or a recovery point in its
    /// vault of AWS Backup
    #[arg(long, value_name = "TIER")]
    pub tier: Option<String>,
    /// Managed databases: the snapshot's own end of life, such as 30d; without --tier and this it stays
    #[arg(long, value_name = "SPAN", conflicts_with = "tier")]
    pub keep_for: Option<String>,
    /// Managed databases: how long to wait for the provider [default: 6h]
    #[arg(long, value_name = "SPAN")]
    pub wait_for: Option<String>,
    /// Tag the point
    #[arg(long = "tag", value_name = "KEY=VALUE")]
    pub tags: Vec<String>,
    /// A note for the point
    #[arg(long, default_value = "")]
    pub note: String,
    /// Read what shows no sign of change as well, or so many percent of it, and say if it changed
    #[arg(
        long,
        value_name = "PERCENT",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "100",
        value_parser = clap::value_parser!(u8).range(1..=100)
    )]
    pub reread: Option<u8>,
}

#[derive(Debug, Args)]
pub struct CopyArgs {
    /// A database (what the target lacks and its rules want, then WAL), one point, or one snapshot of a managed
    /// database
    pub target: String,
    /// Managed databases: whose snapshot it is [default: the one that has it]
    #[arg(long, value_name = "DB")]
    pub db: Option<String>,
    /// The vault to copy to; without it, all that `copies` of the policy name
    #[arg(long, value_name = "VAULT")]
    pub to: Option<String>,
    /// The vault to copy from [default: the first of the database that can be read]
    #[arg(long, value_name = "VAULT")]
    pub from: Option<String>,
    /// Print what would be copied, touch nothing
    #[arg(long)]
    pub plan: bool,
    /// Managed databases: how long to wait for the provider [default: 6h]
    #[arg(long, value_name = "SPAN")]
    pub wait_for: Option<String>,
}

#[derive(Debug, Args)]
pub struct CutoverArgs {
    pub database: Option<String>,
    /// The restored database
    #[arg(long, value_name = "ID", conflicts_with_all = ["resume", "back"])]
    pub to_id: Option<String>,
    /// Its region [default: that of the policy's source]
    #[arg(long, value_name = "REGION", requires = "to_id")]
    pub region: Option<String>,
    /// The old database is lost: it need not be there, and nothing goes back to it by itself
    #[arg(long, requires = "to_id")]
    pub lost: bool,
    /// Do it; without it, only the plan is shown
    #[arg(long)]
    pub yes: bool,
    /// Go on with one that was stopped
    #[arg(long, conflicts_with = "back")]
    pub resume: bool,
    /// Put back what an unfinished one changed
    #[arg(long)]
    pub back: bool,
    /// How long to wait for each step at the provider [default: 6h]
    #[arg(long, value_name = "SPAN")]
    pub wait_for: Option<String>,
}

#[derive(Debug, Args)]
pub struct RecoverArgs {
    pub database: Option<String>,
    /// What happened: accidental-deletion, corruption, complete-loss, region-loss, malicious-deletion
    #[arg(long, value_name = "SCENARIO")]
    pub scenario: Option<String>,
    /// When it began: 2026-11-21T09:35:00+01:00; of a loss, when it was last seen alive
    #[arg(long, value_name = "TIME")]
    pub at: Option<String>,
    /// Which of the ways, by its number or by what is restored (`source`, REGION/ID, ARN) [default: 1, the best]
    #[arg(long, value_name = "WAY")]
    pub way: Option<String>,
    /// The new instance or cluster [default: by restore-id of the policy]
    #[arg(long, value_name = "ID")]
    pub to_id: Option<String>,
    /// Only ways in this region
    #[arg(long, value_name = "REGION")]
    pub region: Option<String>,
    /// Take the nearest moment if the one that was chosen can no longer be reached
    #[arg(long)]
    pub nearest: bool,
    /// How long to wait for the provider [default: 6h]
    #[arg(long, value_name = "SPAN")]
    pub wait_for: Option<String>,
    /// Show the ways and the plan, ask nothing more, do nothing
    #[arg(long, conflicts_with = "yes")]
    pub plan: bool,
    /// Restore; without it, only the ways and the plan are shown
    #[arg(long)]
    pub yes: bool,
}

#[derive(Debug, Args)]
pub struct HoldArgs {
    /// The point
    #[arg(required_unless_present = "list")]
    pub point: Option<String>,
    /// Why it is held
    #[arg(long, required_unless_present = "list")]
    pub title: Option<String>,
    /// Until when (2027-01-31, 2027-01-31T12:00:00Z); without it, until it is released
    #[arg(long, value_name = "TIME")]
    pub until: Option<String>,
    /// List the holds in force
    #[arg(long, conflicts_with_all = ["point", "title", "until"])]
    pub list: bool,
    #[arg(long)]
    pub db: Option<String>,
}

#[derive(Debug, Args)]
pub struct RestoreArgs {
    pub database: Option<String>,
    /// The directory to restore into (empty, or not there yet; with --delta, a stopped data directory)
    #[arg(long, value_name = "DIR")]
    pub to: Option<PathBuf>,
    #[command(flatten)]
    pub managed: ManagedRestoreArgs,
    /// Over the directory that is there: rewrite what differs, remove what is not in the point
    #[arg(long)]
    pub delta: bool,
    /// Only this database, by name or OID; repeatable. The others are left out, and cannot be connected to
    #[arg(long, value_name = "DATABASE", conflicts_with = "standby")]
    pub only_database: Vec<String>,
    /// As a standby: keeps recovering from the archive, and from a primary if one is named
    #[arg(long, conflicts_with_all = ["target", "target_action", "exclusive"])]
    pub standby: bool,
    /// The primary that the standby follows: 'host=db1 user=replicator' (never with a password)
    #[arg(long, value_name = "CONNINFO", requires = "standby")]
    pub primary_conninfo: Option<String>,
    /// The replication slot that the standby uses there
    #[arg(long, value_name = "NAME", requires = "primary_conninfo")]
    pub primary_slot: Option<String>,
    /// To a time: 2026-11-21T09:35:00+01:00, or '10 minutes ago'
    #[arg(long, value_name = "TIME", group = "target")]
    pub at: Option<String>,
    /// To a position: 16/B374D848
    #[arg(long, value_name = "LSN", group = "target")]
    pub lsn: Option<String>,
    /// To a transaction
    #[arg(long, value_name = "XID", group = "target")]
    pub xid: Option<u32>,
    /// To a restore point made with pg_create_restore_point
    #[arg(long, value_name = "NAME", group = "target")]
    pub name: Option<String>,
    /// As soon as the point is consistent
    #[arg(long, group = "target")]
    pub immediate: bool,
    /// From this point instead of the newest that fits
    #[arg(long, value_name = "POINT")]
    pub point: Option<String>,
    /// Of this cluster (system identifier), where the database has had several
    #[arg(long, value_name = "CLUSTER")]
    pub cluster: Option<String>,
    /// On this timeline: a number, `latest` or `current`
    #[arg(long, value_name = "TIMELINE", default_value = "latest")]
    pub timeline: String,
    /// Print what would be done, touch nothing
    #[arg(long)]
    pub plan: bool,
    /// Put a tablespace elsewhere
    #[arg(long = "tablespace-map", value_name = "OLD=NEW")]
    pub tablespace_map: Vec<String>,
    /// What the server does at the target: promote, pause or shutdown
    #[arg(long, default_value = "promote")]
    pub target_action: String,
    /// Stop just before the target, not just after it
    #[arg(long)]
    pub exclusive: bool,
    /// A setting for the copy, such as port=5433
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// WAL rescued from a crashed host's pg_wal
    #[arg(long, value_name = "DIR")]
    pub wal_from: Option<PathBuf>,
    /// From a cold vault: retrieve what is archived, and wait: bulk, standard (default) or expedited.
    /// With --plan: how long it takes and what it costs
    #[arg(
        long,
        value_name = "SPEED",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "standard"
    )]
    pub retrieve: Option<String>,
    /// With --retrieve: for so many days the retrieved copies stay [default: 3, more if much is to be read]
    #[arg(
        long,
        value_name = "DAYS",
        requires = "retrieve",
        value_parser = clap::value_parser!(u16).range(1..=365)
    )]
    pub retrieve_days: Option<u16>,
    /// With --retrieve: wait so long, such as 12h; 0s asks and does not wait [default: twice the usual time]
    #[arg(long, value_name = "SPAN", requires = "retrieve")]
    pub retrieve_for: Option<String>,
    /// With --retrieve, or of a managed database: do it, though it costs money
    #[arg(long)]
    pub yes: bool,
}

/// What is for databases that a provider runs. `--at` takes a time with its zone, or `latest`.
#[derive(Debug, Args)]
#[command(next_help_heading = "Managed databases")]
pub struct ManagedRestoreArgs {
    /// The new instance or cluster; nothing that exists is ever overwritten
    #[arg(long, value_name = "ID", conflicts_with = "to")]
    pub to_id: Option<String>,
    /// Its region [default: the source's]
    #[arg(long, value_name = "REGION", requires = "to_id")]
    pub region: Option<String>,
    /// In this account, which a vault of the policy is in, from what is there (12 digits) [default: the source's]
    #[arg(long, value_name = "ACCOUNT", requires = "to_id")]
    pub account: Option<String>,
    /// From this snapshot, by name or ARN
    #[arg(long, value_name = "ID", requires = "to_id", conflicts_with = "at")]
    pub from_snapshot: Option<String>,
    /// From this recovery point of AWS Backup; a continuous one --at a time or `latest`
    #[arg(long, value_name = "ARN", requires = "to_id", conflicts_with_all = ["from_snapshot", "newest_snapshot"])]
    pub from_point: Option<String>,
    /// Even if it is of another database that has, or had, this name
    #[arg(long, requires = "to_id")]
    pub of_another: bool,
    /// From the newest snapshot of the region
    #[arg(long, requires = "to_id", conflicts_with_all = ["at", "from_snapshot"])]
    pub newest_snapshot: bool,
    /// With --at: of a database that is gone, by the ARN of its automated backup or its resource id
    #[arg(long, value_name = "ARN", requires = "to_id", conflicts_with_all = ["from_snapshot", "newest_snapshot", "from_point"])]
    pub from_automated: Option<String>,
    /// Take the nearest moment if the one asked for cannot be reached
    #[arg(long, requires = "to_id")]
    pub nearest: bool,
    /// Instance class instead of the source's
    #[arg(long, value_name = "CLASS", requires = "to_id")]
    pub class: Option<String>,
    /// How many instances a cluster gets
    #[arg(long, value_name = "N", requires = "to_id")]
    pub instances: Option<u32>,
    /// Capacity of Serverless v2: 0.5-8
    #[arg(long, value_name = "MIN-MAX", requires = "to_id")]
    pub acu: Option<String>,
    #[arg(long, value_name = "NAME", requires = "to_id")]
    pub subnet_group: Option<String>,
    #[arg(long = "security-group", value_name = "ID", requires = "to_id")]
    pub security_groups: Vec<String>,
    #[arg(long, value_name = "NAME", requires = "to_id")]
    pub parameter_group: Option<String>,
    #[arg(long, value_name = "NAME", requires = "to_id")]
    pub option_group: Option<String>,
    /// If a step fails, remove what was made
    #[arg(long, requires = "to_id")]
    pub remove_on_failure: bool,
    /// How long to wait for the provider [default: 6h]
    #[arg(long, value_name = "SPAN", requires = "to_id")]
    pub wait_for: Option<String>,
}

#[derive(Debug, Subcommand)]
pub enum WalCommand {
    /// Store a WAL file (archive_command gives %p)
    Push {
        #[arg(long)]
        db: Option<String>,
        path: PathBuf,
    },
    /// Fetch a WAL file (restore_command gives %f and %p); exits 1 only if it is certainly absent
    Get {
        #[arg(long)]
        db: Option<String>,
        /// Only the archive of this system identifier
        #[arg(long, hide = true)]
        cluster: Option<u64>,
        /// The timeline that the recovery goes to
        #[arg(long, hide = true)]
        timeline: Option<u32>,
        /// What is missing behind this segment is not needed
        #[arg(long, hide = true)]
        reach: Option<String>,
        /// What is missing up to this segment was removed, and is not the end
        #[arg(long, hide = true)]
        planned: Option<String>,
        /// How long to try again when the store has trouble
        #[arg(long, default_value = "60s", value_name = "SPAN")]
        retry_for: String,
        /// Segments to fetch ahead
        #[arg(long, default_value_t = holdfast_engine::wal::get::PREFETCH)]
        prefetch: u64,
        name: String,
        dest: PathBuf,
    },
    /// What the archive holds, where it has gaps, who owns it
    Status { database: Option<String> },
    /// Take the archive over for this data directory, after recovery or failover
    Adopt {
        database: Option<String>,
        /// The data directory [default: from the policy]
        #[arg(long, value_name = "DIR")]
        data_dir: Option<PathBuf>,
    },
    /// Fills the spool; started by `wal get`
    #[command(hide = true)]
    Prefetch {
        #[arg(long)]
        db: Option<String>,
        #[arg(long)]
        cluster: u64,
        #[arg(long)]
        ahead: u64,
        name: String,
    },
}

#[derive(Debug, Args)]
pub struct VerifyArgs {
    /// A database (its newest point) or a point
    pub target: Option<String>,
    /// L0 stored, L1 authentic, L2 complete, L3 started and recovered, L4 content checked [default: L3; managed: the
    /// policy's, else L4]
    #[arg(long)]
    pub level: Option<String>,
    #[command(flatten)]
    pub managed: ManagedVerifyArgs,
}

/// What is for databases that a provider runs: a temporary copy is restored, looked into, and removed.
#[derive(Debug, Args)]
#[command(next_help_heading = "Managed databases")]
pub struct ManagedVerifyArgs {
    /// Restore and verify; without it, only the plan is printed
    #[arg(long, conflicts_with = "plan")]
    pub yes: bool,
    /// Print the plan, do nothing
    #[arg(long)]
    pub plan: bool,
    /// This moment of the source: a time with its zone, or `latest`
    #[arg(long, value_name = "TIME")]
    pub at: Option<String>,
    /// Any second of the restorable window
    #[arg(long, conflicts_with = "at")]
    pub random: bool,
    /// This snapshot, by name or ARN
    #[arg(long, value_name = "ID", conflicts_with_all = ["at", "random"])]
    pub from_snapshot: Option<String>,
    /// The newest snapshot of the region: the default
    #[arg(long, conflicts_with_all = ["at", "random", "from_snapshot"])]
    pub newest_snapshot: bool,
    /// This recovery point of AWS Backup
    #[arg(long, value_name = "ARN", conflicts_with_all = ["at", "random", "from_snapshot", "newest_snapshot"])]
    pub from_point: Option<String>,
    /// With --from-point: the role under which AWS Backup restores [default: the policy's, else AWS Backup's own]
    #[arg(long, value_name = "ARN", requires = "from_point")]
    pub role_arn: Option<String>,
    /// Where to restore: what is verified must be there [default: the source's]
    #[arg(long, value_name = "REGION")]
    pub region: Option<String>,
    /// Class of the temporary instance [default: the policy's, else the smallest sensible]
    #[arg(long, value_name = "CLASS")]
    pub class: Option<String>,
    #[arg(long, value_name = "NAME")]
    pub subnet_group: Option<String>,
    /// Who may connect to the copy, such as 10.0.0.7/32 [default: this host]
    #[arg(long, value_name = "CIDR")]
    pub from_cidr: Option<String>,
    /// The provider's root certificates, in PEM [default: the policy's]
    #[arg(long, value_name = "FILE")]
    pub ca_file: Option<PathBuf>,
    /// Set a new password on the copy, and use that
    #[arg(long)]
    pub reset_password: bool,
    /// How long to wait for the provider [default: 6h]
    #[arg(long, value_name = "SPAN")]
    pub wait_for: Option<String>,
}

#[derive(Debug, Subcommand)]
pub enum KeyCommand {
    /// Write a key file with only what a role needs
    Export {
        /// `host` adds but cannot read or release; `owner` has everything
        #[arg(long)]
        role: String,
        /// Where to write it (must not exist)
        #[arg(long, value_name = "FILE")]
        to: PathBuf,
        #[arg(long)]
        db: Option<String>,
    },
    /// Keep a copy of the keys in the vault, wrapped by a passphrase
    Passphrase {
        #[arg(long, value_name = "FILE")]
        passphrase_file: PathBuf,
        #[arg(long)]
        db: Option<String>,
    },
    /// Write the key file anew from the copy in the vault
    Recover {
        #[arg(long, value_name = "FILE")]
        passphrase_file: PathBuf,
        #[arg(long, value_name = "FILE")]
        to: PathBuf,
        #[arg(long)]
        db: Option<String>,
    },
}
