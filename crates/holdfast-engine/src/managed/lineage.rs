//! Which databases one database of the policy has been: after a cutover it is another instance or cluster, and the
//! snapshots of the one before are its snapshots still.
//!
//! A cutover writes the resource ids of what was replaced on the new database ([`tags::REPLACES`]); a resource id is
//! of one database for ever, in all regions. So whoever looks, on whatever host, knows which snapshots belong
//! together, whatever the database is called now and wherever it is.
//!
//! Is the database gone, what was seen of it last counts ([`super::observed`]). A lineage that is not known makes less
//! belong to it, never more: what does not belong is neither copied nor removed.

use super::abroad::account_of;
use super::{Managed, observed};
use holdfast_core::managed::{Database, Snapshot, Source, Tags, tags};
use jiff::Timestamp;

/// The resource ids, newest first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Lineage {
    ids: Vec<String>,
    /// When the newest was made.
    since: Option<Timestamp>,
}

impl Lineage {
    /// Of a database as a describe shows it.
    pub fn seen(database: &Database) -> Self {
        Lineage { since: database.created, ..Self::read(&database.resource_id, &database.tags) }
    }

    /// Whether this resource id is of this lineage.
    pub fn has(&self, id: &str) -> bool {
        self.ids.iter().any(|own| own == id)
    }

    /// Whether a cutover replaced another database than the newest.
    pub fn is_long(&self) -> bool {
        self.ids.len() > 1
    }

    /// Which database took the place of the one with this id; `None`: none did, or it is not of this lineage.
    pub fn successor(&self, id: &str) -> Option<&str> {
        let at = self.ids.iter().position(|own| own == id)?;
        self.ids.get(at.checked_sub(1)?).map(String::as_str)
    }

    /// When the database with this id was made, if it is the newest.
    pub fn made_at(&self, id: &str) -> Option<Timestamp> {
        self.since.filter(|_| self.ids.first().is_some_and(|own| own == id))
    }

    fn read(own: &str, of: &Tags) -> Self {
        let before = of.get(tags::REPLACES).unwrap_or_default();
        let ids = std::iter::once(own).chain(before.split(' ')).filter(|id| !id.is_empty());
        Lineage { ids: ids.map(Into::into).collect(), since: None }
    }

    /// The ids of what a database replaces that replaces this one, whose own id is `old` if it is known.
    pub fn replaced_with(mut self, old: &str) -> Vec<String> {
        self.ids.retain(|id| id != old);
        if !old.is_empty() {
            self.ids.insert(0, old.to_string());
        }
        self.ids
    }

    /// Whether Holdfast made this snapshot of a database of this lineage, under this name of the policy, or of
    /// `source`. Another policy may have a database of the same name, of another source, in the same account.
    ///
    /// Not what another account copied here: that account may have a database of the same name and source, whose rules
    /// decide about its copies ([`Lineage::made_abroad`]).
    pub fn made(&self, s: &Snapshot, name: &str, source: &Source) -> bool {
        is_of_its_account(s) && self.made_anywhere(s, name, source)
    }

    fn made_anywhere(&self, s: &Snapshot, name: &str, source: &Source) -> bool {
        let region = s.of_original(tags::COPY_FROM_REGION).unwrap_or(s.at.region.as_str());
        let by_name = s.source_id == source.id && region == source.region.as_str();
        let by_id = s.tags.get(tags::SOURCE).is_some_and(|id| self.has(id));
        s.is_ours()
            && s.tags.get(tags::DATABASE) == Some(name)
            && s.at.engine == source.engine
            && (by_name || by_id)
    }

    /// The same of a copy in another account, where copies from several accounts may lie: its original is in
    /// `account`. An account that is not known says nothing.
    pub fn made_abroad(&self, s: &Snapshot, name: &str, source: &Source, account: Option<&str>) -> bool {
        let from = s.of_original(tags::COPY_OF).and_then(account_of);
        s.is_our_copy() && self.made_anywhere(s, name, source) && (account.is_none() || account == from)
    }
}

/// Whether a snapshot, if it is a copy of ours, was copied within its account.
pub(super) fn is_of_its_account(s: &Snapshot) -> bool {
    s.of_original(tags::COPY_OF).and_then(account_of).is_none_or(|a| Some(a) == account_of(&s.arn))
}

/// Which backups are of the policy's database, and which of another one that has or had its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Whose {
    id: String,
    line: Lineage,
}

impl Whose {
    /// `id` is the resource id that the policy says; without it that of `seen`, the last observation, counts. `lines`
    /// are all that are known. `None`: nobody knows which it was.
    pub fn new(id: Option<&str>, seen: Option<&Database>, lines: &[Lineage]) -> Option<Self> {
        let id = id.or(seen.map(|d| d.resource_id.as_str()))?;
        let line = lines.iter().find(|l| l.has(id)).cloned().unwrap_or_default();
        Some(Whose { id: id.to_string(), line })
    }

    /// Whether the database with this resource id is the one, or one that it replaced or was replaced by.
    pub fn is_own(&self, resource_id: &str) -> bool {
        self.id == resource_id || self.line.has(resource_id)
    }

    pub fn line(&self) -> &Lineage {
        &self.line
    }
}

/// The resource id of the database that a snapshot shows, where that is known.
pub fn of_snapshot(s: &Snapshot) -> Option<&str> {
    // What other people's have of our tags is inherited.
    s.tags.get(tags::SOURCE).filter(|_| s.is_ours()).or(s.source_resource_id.as_deref())
}

/// Of the policy's database. What cannot be asked is remembered, or not known.
pub async fn of(m: &Managed) -> Lineage {
    match m.cloud.describe(&m.source).await {
        Ok(d) => Lineage::seen(&d),
        Err(e) => {
            let remembered = observed::last(m).ok().flatten().map(|seen| Lineage::seen(&seen.database));
            if !e.is_not_found() && remembered.is_none() {
                m.monitor.warning(format!(
                    "{e}: which databases `{}` has replaced is not known, so their snapshots are left alone",
                    m.source
                ));
            }
            remembered.unwrap_or_default()
        }
    }
}

/// The value of the tag for a database that replaces these, which is not among them itself. A tag takes 256
/// characters: of a long line the oldest are forgotten, whole.
pub fn written(replaced: &[String], own: &str) -> String {
    let mut out = String::new();
    for id in replaced.iter().filter(|id| *id != own) {
        if out.len() + 1 + id.len() > tags::VALUE_MAX {
            break;
        }
        if !out.is_empty() {
            out.push(' ');
        }
        out.push_str(id);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::managed::testing;

    #[test]
    fn a_line_is_written_and_read_and_never_cut_in_an_id() {
        let ids: Vec<String> = (0..12).map(|i| format!("db-{i:026}")).collect();
        let text = written(&ids, &ids[3]);
        assert!(text.len() <= 256 && !text.contains(&ids[3]));
        let read = Lineage::read("db-NEW", &Tags::default().with(tags::REPLACES, &text));
        assert_eq!(read.ids[..3], ["db-NEW".to_string(), ids[0].clone(), ids[1].clone()]);
        assert!(read.ids.iter().skip(1).all(|id| ids.contains(id)));
        assert_eq!((read.successor("db-NEW"), read.successor(&ids[0])), (None, Some("db-NEW")));
        assert_eq!(Lineage::default().replaced_with(""), Vec::<String>::new());
    }

    #[test]
    fn what_carries_inherited_tags_is_nobodys() {
        let source: Source = "rds://us-east-1/shop-new".parse().unwrap();
        let line = Lineage { ids: vec!["db-NEW".into(), "db-OLD".into()], since: None };
        let mut s = testing::snapshot("shop-1");
        s.tags = Tags::default()
            .with(tags::OPERATION, "op")
            .with(tags::DATABASE, "shop")
            .with(tags::SOURCE, "db-OLD");
        assert!(!line.made(&s, "shop", &source), "without the mark of this very snapshot");
        s.tags.set(tags::SNAPSHOT, &tags::snapshot_mark(&s.at));
        assert!(line.made(&s, "shop", &source));
        assert!(!line.made(&s, "other", &source));
        assert!(!Lineage::default().made(&s, "shop", &source), "of another database");
        s.tags.set(tags::SNAPSHOT, "us-east-1/shop-2");
        assert!(!line.made(&s, "shop", &source), "inherited from another snapshot");
    }

    #[test]
    fn a_copy_in_another_account_is_of_the_account_of_its_original() {
        let source: Source = "rds://us-east-1/shop".parse().unwrap();
        let mut s = testing::snapshot("shop-1-123456789012");
        s.tags = Tags::default()
            .with(tags::OPERATION, "op")
            .with(tags::DATABASE, "shop")
            .with(tags::COPY_OF, "arn:aws:rds:us-east-1:123456789012:snapshot:shop-1")
            .with(tags::COPY_FROM_REGION, "us-east-1")
            .with(tags::SNAPSHOT, &tags::copy_mark(&s.at));
        let of = |s: &Snapshot, account| Lineage::default().made_abroad(s, "shop", &source, account);
        assert!(of(&s, Some("123456789012")) && of(&s, None));
        assert!(!of(&s, Some("111111111111")), "of another account's database of that name");
        // Where it lies there may be a database of that name, too: it is no business of that one's rules.
        assert!(Lineage::default().made(&s, "shop", &source));
        s.arn = s.arn.replace("123456789012", "999999999999");
        assert!(!Lineage::default().made(&s, "shop", &source));
        s.tags.set(tags::SNAPSHOT, &tags::snapshot_mark(&s.at));
        assert!(!Lineage::default().made_abroad(&s, "shop", &source, None), "made there, not copied there");
    }
}
