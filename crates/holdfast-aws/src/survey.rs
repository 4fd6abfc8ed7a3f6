//! [`Surveys`]: everything in several regions, in parallel, failures kept per region.

use crate::cloud::AwsCloud;
use async_trait::async_trait;
use futures::future::join_all;
use holdfast_core::managed::{
    AutomatedBackups, BackupJobs, BackupPlans, BackupVaults, Databases, JobFilter, ManagedError, PointFilter,
    RecoveryPoints, Region, RegionSurvey, Result, SnapshotFilter, Snapshots, SurveyScope, Surveys,
};

/// The value, or its error among the failures.
fn keep<T: Default>(found: Result<T>, failures: &mut Vec<ManagedError>) -> T {
    found.unwrap_or_else(|e| {
        failures.push(e);
        T::default()
    })
}

#[async_trait]
impl Surveys for AwsCloud {
    async fn survey(&self, regions: &[Region], scope: &SurveyScope) -> Vec<RegionSurvey> {
        join_all(regions.iter().map(|region| self.survey_region(region, scope))).await
    }
}

impl AwsCloud {
    async fn survey_region(&self, region: &Region, scope: &SurveyScope) -> RegionSurvey {
        let mut out = RegionSurvey::empty(region.clone());
        // One that fails does not stop the others; the semaphore of the calls bounds them all.
        let filter = SnapshotFilter::default();
        let snapshots = join_all(scope.engines.iter().map(|e| self.snapshots(*e, region, &filter)));
        let automated = join_all(scope.engines.iter().map(|e| self.automated_backups(*e, region)));
        let (databases, snapshots, automated, vaults, plans, jobs) = futures::join!(
            Databases::list(self, region),
            snapshots,
            automated,
            self.vaults_and_points(region, scope.backup),
            self.plans_if(region, scope.plans),
            self.jobs(region, scope.jobs.as_ref()),
        );
        out.databases = keep(databases, &mut out.failures);
        for found in snapshots {
            out.snapshots.extend(keep(found, &mut out.failures));
        }
        for found in automated {
            out.automated.extend(keep(found, &mut out.failures));
        }
        let (vaults, points) = vaults;
        out.vaults = keep(vaults, &mut out.failures);
        for found in points {
            out.points.extend(keep(found, &mut out.failures));
        }
        out.plans = keep(plans, &mut out.failures);
        let (backup, copy, restore) = jobs;
        out.backup_jobs = keep(backup, &mut out.failures);
        out.copy_jobs = keep(copy, &mut out.failures);
        out.restore_jobs = keep(restore, &mut out.failures);
        out
    }

    async fn vaults_and_points(
        &self,
        region: &Region,
        wanted: bool,
    ) -> (
        Result<Vec<holdfast_core::managed::BackupVault>>,
        Vec<Result<Vec<holdfast_core::managed::RecoveryPoint>>>,
    ) {
        if !wanted {
            return (Ok(Vec::new()), Vec::new());
        }
        let vaults = self.vaults(region).await;
        let all = PointFilter::default();
        let names = vaults.iter().flatten().map(|v| v.name.as_str());
        let points = join_all(names.map(|name| self.recovery_points(region, name, &all))).await;
        (vaults, points)
    }

    async fn plans_if(
        &self,
        region: &Region,
        wanted: bool,
    ) -> Result<Vec<holdfast_core::managed::BackupPlan>> {
        if wanted { self.plans(region).await } else { Ok(Vec::new()) }
    }

    async fn jobs(
        &self,
        region: &Region,
        filter: Option<&JobFilter>,
    ) -> (
        Result<Vec<holdfast_core::managed::BackupJob>>,
        Result<Vec<holdfast_core::managed::CopyJob>>,
        Result<Vec<holdfast_core::managed::RestoreJob>>,
    ) {
        match filter {
            None => (Ok(Vec::new()), Ok(Vec::new()), Ok(Vec::new())),
            Some(f) => {
                futures::join!(
                    self.backup_jobs(region, f),
                    self.copy_jobs(region, f),
                    self.restore_jobs(region, f)
                )
            }
        }
    }
}
