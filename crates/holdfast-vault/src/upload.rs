//! Streams a pack into the store while worker threads go on: [`UploadSink`].
//!
//! A worker hands over parts of a few MiB; a task sends up to [`IN_FLIGHT`] of them at once. The
//! channel between them is short, so memory stays bounded when the store is slower than the workers.
//! A pack that fits one part is one plain PUT.

use crate::error::{Result, StoreError, StoreErrorKind, VaultError};
use crate::pack::PartSink;
use crate::store::Store;
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// Parts of one pack under way at once.
pub const IN_FLIGHT: usize = 3;
/// Bytes per part. S3 wants at least 5 MiB and at most 10,000 parts; a pack is far below that.
pub const PART_SIZE: usize = 8 << 20;

enum Message {
    Part(Bytes),
    Finish,
}

/// A [`PartSink`] over a [`Store`]. Must be used from threads that are not the runtime's own.
#[derive(Debug)]
pub struct UploadSink {
    tx: mpsc::Sender<Message>,
    task: Option<JoinHandle<Result<()>>>,
    handle: Handle,
    name: String,
}

impl UploadSink {
    pub fn new(store: &Store, name: &str, handle: &Handle) -> Self {
        let (tx, rx) = mpsc::channel(1);
        let task = handle.spawn(run(store.clone(), name.to_string(), rx));
        UploadSink { tx, task: Some(task), handle: handle.clone(), name: name.to_string() }
    }

    fn join(&mut self) -> Result<()> {
        match self.task.take() {
            None => Ok(()),
            Some(t) => self.handle.block_on(t).unwrap_or_else(|e| {
                Err(VaultError::Store(StoreError {
                    op: "write",
                    name: self.name.clone(),
                    kind: StoreErrorKind::Transient,
                    source: Some(Box::new(e)),
                }))
            }),
        }
    }

    fn send(&mut self, m: Message) -> Result<()> {
        if self.tx.blocking_send(m).is_err() {
            // The task ended early: it has the reason.
            self.join()?;
            return Err(VaultError::damaged(&self.name, "its upload ended before it was complete"));
        }
        Ok(())
    }
}

impl PartSink for UploadSink {
    fn part(&mut self, bytes: Bytes) -> Result<()> {
        self.send(Message::Part(bytes))
    }

    fn finish(mut self: Box<Self>) -> Result<()> {
        self.send(Message::Finish)?;
        self.join()
    }

    fn abort(mut self: Box<Self>) {
        // Without `Finish` the task drops what it sent.
        let (closed, _) = mpsc::channel(1);
        self.tx = closed;
        let _ = self.join();
    }
}

async fn run(store: Store, name: String, mut rx: mpsc::Receiver<Message>) -> Result<()> {
    let Some(Message::Part(first)) = rx.recv().await else { return Ok(()) };
    let second = match rx.recv().await {
        Some(Message::Part(p)) => p,
        Some(Message::Finish) => return store.create(&name, first).await.map(|_| ()),
        None => return Ok(()),
    };
    let mut upload = store.upload(&name).await?;
    let mut flying = FuturesUnordered::new();
    flying.push(tokio::spawn(upload.part(first)));
    flying.push(tokio::spawn(upload.part(second)));
    let result: Result<bool> = async {
        loop {
            while flying.len() >= IN_FLIGHT {
                landed(&name, flying.next().await)?;
            }
            match rx.recv().await {
                Some(Message::Part(p)) => flying.push(tokio::spawn(upload.part(p))),
                Some(Message::Finish) => break,
                None => return Ok(false),
            }
        }
        while let Some(r) = flying.next().await {
            landed(&name, Some(r))?;
        }
        Ok(true)
    }
    .await;
    match result {
        Ok(true) => upload.finish().await,
        Ok(false) => {
            while flying.next().await.is_some() {}
            upload.abort().await;
            Ok(())
        }
        Err(e) => {
            // A part that lands after the abort would stay, invisible and paid for.
            while flying.next().await.is_some() {}
            upload.abort().await;
            Err(e)
        }
    }
}

fn landed(name: &str, r: Option<Result<Result<()>, tokio::task::JoinError>>) -> Result<()> {
    match r {
        None | Some(Ok(Ok(()))) => Ok(()),
        Some(Ok(Err(e))) => Err(e),
        Some(Err(e)) => Err(VaultError::Store(StoreError {
            op: "write",
            name: name.to_string(),
            kind: StoreErrorKind::Transient,
            source: Some(Box::new(e)),
        })),
    }
}
