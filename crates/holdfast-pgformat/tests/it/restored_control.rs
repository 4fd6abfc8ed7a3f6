//! A restored cluster whose checkpoint was invalidated starts with its backup_label and only so.

use crate::server::{Server, installed};
use holdfast_pgformat::control::ControlFile;
use holdfast_pgformat::label::BackupLabel;

#[test]
fn starts_only_with_its_backup_label() {
    let found = installed();
    if found.is_empty() {
        eprintln!("skipped: no postgresql is installed here");
    }
    for (v, bin) in found {
        let mut server = Server::init(&bin, 1, "");
        server.start();
        server.sql("create table t as select generate_series(1, 1000) x;");
        let copy = server.dir.path().join("copy");
        server.run("pg_basebackup", &["-D", copy.to_str().unwrap(), "-X", "stream", "-c", "fast", "-N"]);
        let data = server.data();
        server.stop(&data, "fast");

        let control = copy.join("global/pg_control");
        let bytes = std::fs::read(&control).unwrap();
        let before = ControlFile::parse(&bytes).unwrap();
        let label = std::fs::read_to_string(copy.join("backup_label")).unwrap();
        let parsed = BackupLabel::parse(&label).unwrap();
        assert_eq!(parsed.to_string(), label);
        assert_eq!(parsed.checkpoint_lsn, before.checkpoint);
        assert_eq!(parsed.start_lsn, before.checkpoint_copy.redo);
        std::fs::write(&control, ControlFile::with_invalid_checkpoint(&bytes).unwrap()).unwrap();

        std::fs::rename(copy.join("backup_label"), copy.join("aside")).unwrap();
        assert!(!server.try_start(&copy), "postgresql {v} started without backup_label");
        assert!(server.log().contains("checkpoint record"), "{}", server.log());
        std::fs::rename(copy.join("aside"), copy.join("backup_label")).unwrap();
        assert!(server.try_start(&copy), "postgresql {v}: {}", server.log());
        server.sql("select 1 / (count(*) = 1000)::int from t;");
        server.stop(&copy, "fast");
        eprintln!("postgresql {v}: an invalidated pg_control needs its backup_label");
    }
}
