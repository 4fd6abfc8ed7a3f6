//! Sessions with the driver.

use crate::errors::translate;
use async_trait::async_trait;
use futures::TryStreamExt as _;
use holdfast_core::managed::{DocumentError, DocumentLogin, DocumentServers, Documents, NewestDocument};
use jiff::Timestamp;
use mongodb::bson::{Bson, Document, doc};
use mongodb::options::{
    ClientOptions, Credential, ReadPreference, SelectionCriteria, ServerAddress, Tls, TlsOptions,
};
use mongodb::{Client, Database};
use std::time::Duration;

/// The server's own databases.
const NOT_OURS: [&str; 3] = ["admin", "config", "local"];
/// For what needs no scan.
const SHORT: Duration = Duration::from_secs(60);

type Result<T> = std::result::Result<T, DocumentError>;

/// Opens sessions with the MongoDB driver.
#[derive(Debug, Clone, Copy, Default)]
pub struct DocumentClients;

#[async_trait]
impl DocumentServers for DocumentClients {
    async fn open(&self, login: &DocumentLogin) -> Result<Box<dyn Documents>> {
        let client = Client::with_options(options(login)?).map_err(|e| translate(&e))?;
        let session = Session { client };
        // `ping` needs no login, and a refused one would be seen late: this needs one.
        session.list(&doc! { "listDatabases": 1, "nameOnly": true }).await?;
        Ok(Box::new(session))
    }
}

fn options(login: &DocumentLogin) -> Result<ClientOptions> {
    let password = String::from_utf8(login.password.expose_bytes().to_vec())
        .map_err(|_| DocumentError::Login("the password is no text".into()))?;
    let mut tls = TlsOptions::default();
    tls.ca_file_path.clone_from(&login.ca_file);
    let credential =
        Credential::builder().username(login.user.clone()).password(password).source("admin".to_string());
    Ok(ClientOptions::builder()
        .hosts(vec![ServerAddress::Tcp { host: login.host.clone(), port: Some(login.port) }])
        .app_name("holdfast verify".to_string())
        .direct_connection(true)
        .retry_writes(false)
        .retry_reads(false)
        .tls(if login.tls { Tls::Enabled(tls) } else { Tls::Disabled })
        .credential(credential.build())
        .max_pool_size(2)
        .connect_timeout(login.connect_timeout)
        .server_selection_timeout(login.connect_timeout)
        // Whatever the only instance of a copy is, primary or not yet.
        .selection_criteria(SelectionCriteria::ReadPreference(ReadPreference::PrimaryPreferred {
            options: Default::default(),
        }))
        .build())
}

struct Session {
    client: Client,
}

impl Session {
    fn database(&self, name: &str) -> Database {
        self.client.database(name)
    }

    async fn list(&self, command: &Document) -> Result<Document> {
        let admin = self.database("admin");
        within(SHORT, async { admin.run_command(command.clone()).await }).await
    }
}

/// The server is told how long it may take; should it not listen, we stop waiting a little later.
async fn within<T>(limit: Duration, ask: impl Future<Output = mongodb::error::Result<T>>) -> Result<T> {
    match tokio::time::timeout(limit + Duration::from_secs(5), ask).await {
        Ok(done) => done.map_err(|e| translate(&e)),
        Err(_) => Err(DocumentError::TimeUp),
    }
}

#[async_trait]
impl Documents for Session {
    async fn version(&self) -> Result<String> {
        let info = self.list(&doc! { "buildInfo": 1 }).await?;
        Ok(info.get_str("version").unwrap_or("unknown").to_string())
    }

    async fn databases(&self) -> Result<Vec<String>> {
        let all = within(SHORT, async { self.client.list_database_names().await }).await?;
        let mut all: Vec<String> = all.into_iter().filter(|n| !NOT_OURS.contains(&n.as_str())).collect();
        all.sort();
        Ok(all)
    }

    async fn collections(&self, database: &str) -> Result<Vec<String>> {
        let ask = async { self.database(database).list_collections().await?.try_collect::<Vec<_>>().await };
        let all = within(SHORT, ask).await?;
        let real =
            all.into_iter().filter(|c| !matches!(c.collection_type, mongodb::results::CollectionType::View));
        let mut names: Vec<String> = real.map(|c| c.name).filter(|n| !n.starts_with("system.")).collect();
        names.sort();
        Ok(names)
    }

    async fn count(&self, database: &str, collection: &str, limit: Duration) -> Result<u64> {
        let all = self.database(database).collection::<Document>(collection);
        within(limit, async { all.count_documents(doc! {}).max_time(limit).await }).await
    }

    async fn newest(
        &self,
        database: &str,
        collection: &str,
        field: &str,
        limit: Duration,
    ) -> Result<NewestDocument> {
        let all = self.database(database).collection::<Document>(collection);
        let times = doc! { "$or": [
            { field: { "$type": "date" } }, { field: { "$type": "objectId" } }, { field: { "$type": "timestamp" } },
        ] };
        let last = async {
            all.find_one(times).sort(doc! { field: -1 }).projection(doc! { field: 1 }).max_time(limit).await
        };
        if let Some(found) = within(limit, last).await? {
            return Ok(time_of(&found, field).map_or(NewestDocument::NoTime, NewestDocument::At));
        }
        let any = within(limit, async { all.find_one(doc! {}).max_time(limit).await }).await?;
        Ok(if any.is_some() { NewestDocument::NoTime } else { NewestDocument::Empty })
    }

    async fn indexes(&self, database: &str, collection: &str) -> Result<Vec<String>> {
        let all = self.database(database).collection::<Document>(collection);
        within(SHORT, async { all.list_index_names().await }).await
    }
}

/// The time in a field; a dot leads into a document.
fn time_of(document: &Document, field: &str) -> Option<Timestamp> {
    let (first, rest) = field.split_once('.').map_or((field, None), |(a, b)| (a, Some(b)));
    match (document.get(first)?, rest) {
        (Bson::Document(inner), Some(rest)) => time_of(inner, rest),
        (Bson::DateTime(t), None) => Timestamp::from_millisecond(t.timestamp_millis()).ok(),
        (Bson::ObjectId(id), None) => Timestamp::from_millisecond(id.timestamp().timestamp_millis()).ok(),
        (Bson::Timestamp(t), None) => Timestamp::from_second(i64::from(t.time)).ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mongodb::bson::{DateTime, oid::ObjectId};

    #[test]
    fn times_are_found_in_dates_and_ids() {
        let at = DateTime::from_millis(1_790_000_000_123);
        let id = ObjectId::from_parts(1_790_000_000, Default::default(), Default::default());
        let found = doc! { "_id": id, "at": at, "meta": { "at": at }, "text": "2026" };
        let seconds = |f: &str| time_of(&found, f).map(|t| t.as_second());
        assert_eq!(seconds("_id"), Some(1_790_000_000));
        assert_eq!(time_of(&found, "at").map(|t| t.as_millisecond()), Some(1_790_000_000_123));
        assert_eq!(seconds("meta.at"), Some(1_790_000_000));
        assert_eq!((seconds("text"), seconds("nothing"), seconds("at.more")), (None, None, None));
    }
}
