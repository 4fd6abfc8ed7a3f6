//! Everything in several regions at once: [`RegionSurvey`], [`Surveys`].

use super::automated::AutomatedBackup;
use super::backup_job::{BackupJob, CopyJob, JobFilter, RestoreJob};
use super::backup_plan::BackupPlan;
use super::backup_vault::BackupVault;
use super::database::Database;
use super::error::ManagedError;
use super::recovery_point::RecoveryPoint;
use super::snapshot::Snapshot;
use super::source::{Engine, Region};
use async_trait::async_trait;

/// What to look at. Everything that is off costs no call.
#[derive(Debug, Clone, Default)]
pub struct SurveyScope {
    /// Snapshots and automated backups of these engines; databases in any case.
    pub engines: Vec<Engine>,
    /// Vaults and recovery points.
    pub backup: bool,
    pub plans: bool,
    /// Jobs of AWS Backup.
    pub jobs: Option<JobFilter>,
}

impl SurveyScope {
    /// All engines, vaults and recovery points; no plans, no jobs: what `list` shows.
    pub fn backups() -> Self {
        SurveyScope { engines: Engine::ALL.to_vec(), backup: true, ..Default::default() }
    }
}

/// One region, with whatever could be seen of it.
#[derive(Debug)]
pub struct RegionSurvey {
    pub region: Region,
    pub databases: Vec<Database>,
    pub snapshots: Vec<Snapshot>,
    pub automated: Vec<AutomatedBackup>,
    pub vaults: Vec<BackupVault>,
    pub points: Vec<RecoveryPoint>,
    pub plans: Vec<BackupPlan>,
    pub backup_jobs: Vec<BackupJob>,
    pub copy_jobs: Vec<CopyJob>,
    pub restore_jobs: Vec<RestoreJob>,
    /// What could not be seen. **Missing is not empty**: nothing may be concluded about it.
    pub failures: Vec<ManagedError>,
}

impl RegionSurvey {
    /// Of a region at which nothing has been looked at yet.
    pub fn empty(region: Region) -> Self {
        RegionSurvey {
            region,
            databases: Vec::new(),
            snapshots: Vec::new(),
            automated: Vec::new(),
            vaults: Vec::new(),
            points: Vec::new(),
            plans: Vec::new(),
            backup_jobs: Vec::new(),
            copy_jobs: Vec::new(),
            restore_jobs: Vec::new(),
            failures: Vec::new(),
        }
    }
}

/// Surveys.
#[async_trait]
pub trait Surveys: Send + Sync {
    /// Looks at all regions in parallel, within a bound on calls. A region that is down, or a service that is
    /// denied, is a failure of that region and of nothing else. In the order of `regions`.
    async fn survey(&self, regions: &[Region], scope: &SurveyScope) -> Vec<RegionSurvey>;
}
