//! What differs, in words and as a call: [`Change`]; what is left alone, and why: [`Left`].

use holdfast_core::managed::{
    LockRequest, Modification, NewVault, PlanContent, Region, Replication, SelectionContent, Tags, VaultLock,
};
use serde::Serialize;

/// One difference between the policy and what is there.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Change {
    /// The resource: `rds://us-east-1/shop`, `aws-backup://us-east-1/primary`, `plan holdfast-rds-shop`.
    pub on: String,
    /// Which of its settings.
    pub what: &'static str,
    pub from: String,
    pub to: String,
    /// What that does, in full sentences.
    pub effect: String,
    /// Where it can be told.
    pub cost: Option<String>,
    /// Nobody can take it back.
    pub irreversible: bool,
    /// Backups or protection go: only with `--allow-loss`.
    pub loses: bool,
    /// The vault of the policy that has to be named: `--confirm-lock VAULT`.
    pub confirm: Option<String>,
    #[serde(skip)]
    pub action: Action,
}

/// What has to be called.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    Modify(Modification),
    Replicate(Replication),
    /// Stopped, and begun anew with another retention if there is one.
    StopReplication {
        from: Region,
        again: Option<Replication>,
    },
    CreateVault {
        vault: String,
        new: NewVault,
    },
    VaultPolicy {
        vault: String,
        document: String,
    },
    /// `was` is looked at again before: it may be for ever.
    Lock {
        vault: String,
        was: Option<VaultLock>,
        request: Option<LockRequest>,
    },
    CreatePlan {
        content: PlanContent,
        tags: Tags,
        selection: SelectionContent,
    },
    UpdatePlan {
        id: String,
        content: PlanContent,
    },
    TagPlan {
        arn: String,
        tags: Tags,
    },
    Select {
        plan: String,
        content: SelectionContent,
    },
    Unselect {
        plan: String,
        id: String,
    },
}

impl Change {
    pub(super) fn new(on: impl Into<String>, what: &'static str, action: Action) -> Self {
        Change {
            on: on.into(),
            what,
            from: String::new(),
            to: String::new(),
            effect: String::new(),
            cost: None,
            irreversible: false,
            loses: false,
            confirm: None,
            action,
        }
    }

    #[must_use]
    pub(super) fn between(mut self, from: impl ToString, to: impl ToString) -> Self {
        (self.from, self.to) = (from.to_string(), to.to_string());
        self
    }

    #[must_use]
    pub(super) fn effect(mut self, text: impl Into<String>) -> Self {
        self.effect = text.into();
        self
    }

    #[must_use]
    pub(super) fn loses(mut self, irreversible: bool) -> Self {
        (self.loses, self.irreversible) = (true, irreversible);
        self
    }

    /// Whether the command line allows it.
    pub fn allowed(&self, consent: &Consent) -> bool {
        (!self.loses || consent.loss) && self.confirm.as_ref().is_none_or(|v| consent.locks.contains(v))
    }

    /// `backup retention of rds://us-east-1/shop: 7 days to 14 days`
    pub fn line(&self) -> String {
        format!("{} of {}: {} to {}", self.what, self.on, self.from, self.to)
    }
}

/// What was confirmed on the command line.
#[derive(Debug, Clone, Default)]
pub struct Consent {
    /// `--allow-loss`
    pub loss: bool,
    /// `--confirm-lock VAULT`
    pub locks: std::collections::BTreeSet<String>,
}

/// What is not changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Left {
    pub on: String,
    pub what: &'static str,
    pub why: String,
    /// The policy wants it, and it cannot be.
    pub blocked: bool,
}

impl Left {
    pub(super) fn note(on: impl Into<String>, what: &'static str, why: impl Into<String>) -> Self {
        Left { on: on.into(), what, why: why.into(), blocked: false }
    }

    pub(super) fn blocked(on: impl Into<String>, what: &'static str, why: impl Into<String>) -> Self {
        Left { blocked: true, ..Left::note(on, what, why) }
    }
}

/// Differences, and what is left alone.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Difference {
    pub changes: Vec<Change>,
    pub left: Vec<Left>,
}

impl Difference {
    pub(super) fn extend(&mut self, other: Difference) {
        self.changes.extend(other.changes);
        self.left.extend(other.left);
    }
}

pub(super) fn days(n: u32) -> String {
    if n == 1 { "1 day".into() } else { format!("{n} days") }
}
