//! Reading ahead of a caller that computes.

mod common;

use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use common::build_cache;
use potstill_cache::{CacheReader, ComponentId, FolderSource, PredictionKind, ReadAhead, Rows, Source, SourceError};

/// Longer than anything here takes; a test that waits so long has failed.
const PATIENCE: Duration = Duration::from_secs(60);

/// A disk that answers reads of shards when it is told to, and counts those that wait.
#[derive(Default)]
struct Gate {
    state: Mutex<(bool, usize)>,
    changed: Condvar,
}

impl Gate {
    fn open(&self) {
        self.state.lock().unwrap().0 = true;
        self.changed.notify_all();
    }

    fn pass(&self) {
        let mut state = self.state.lock().unwrap();
        state.1 += 1;
        self.changed.notify_all();
        let (_open, timeout) = self
            .changed
            .wait_timeout_while(state, PATIENCE, |(open, _)| !*open)
            .unwrap();
        assert!(!timeout.timed_out(), "the disk was never told to answer");
    }

    /// Waits until that many reads have begun.
    fn begun(&self, reads: usize) {
        let state = self.state.lock().unwrap();
        let (_state, timeout) = self
            .changed
            .wait_timeout_while(state, PATIENCE, |(_, begun)| *begun < reads)
            .unwrap();
        assert!(!timeout.timed_out(), "nothing was read ahead");
    }

    fn reads(&self) -> usize {
        self.state.lock().unwrap().1
    }
}

struct SlowDisk {
    folder: FolderSource,
    gate: Arc<Gate>,
}

impl Source for SlowDisk {
    fn list(&self) -> Result<Vec<String>, SourceError> {
        self.folder.list()
    }

    fn size(&self, path: &str) -> Result<u64, SourceError> {
        self.folder.size(path)
    }

    fn read(&self, path: &str, offset: u64, buffer: &mut [u8]) -> Result<(), SourceError> {
        if path.ends_with(".safetensors") {
            self.gate.pass();
        }
        self.folder.read(path, offset, buffer)
    }
}

struct Fixture {
    cache: tempfile::TempDir,
    gate: Arc<Gate>,
    ahead: ReadAhead,
}

fn fixture() -> Fixture {
    let cache = tempfile::tempdir().unwrap();
    build_cache(cache.path(), PredictionKind::Epsilon);
    let gate = Arc::new(Gate::default());
    let disk = SlowDisk {
        folder: FolderSource::new(cache.path()),
        gate: Arc::clone(&gate),
    };
    let ahead = ReadAhead::new(CacheReader::open(Box::new(disk), None).unwrap());
    Fixture { cache, gate, ahead }
}

fn latents(records: &[u64]) -> Rows {
    Rows {
        component: ComponentId::Latents,
        fields: vec!["latents".to_owned()],
        records: records.to_vec(),
    }
}

#[test]
fn a_slow_disk_reads_while_the_caller_computes() {
    let Fixture {
        cache: _cache,
        gate,
        ahead,
    } = fixture();
    // Returns although the disk does not answer, and the disk is at it although nobody has taken anything.
    ahead.ask(latents(&[3, 1]));
    gate.begun(1);
    assert_eq!(ahead.waited(), Duration::ZERO);
    gate.open();
    let read = ahead.take(&latents(&[3, 1])).unwrap();
    assert_eq!(read, ahead.reader().latents(&[3, 1]).unwrap());
    assert!(ahead.waited() > Duration::ZERO);
}

#[test]
fn rows_are_the_same_in_any_order_of_asking_and_taking_and_are_read_once() {
    let Fixture {
        cache: _cache,
        gate,
        ahead,
    } = fixture();
    gate.open();
    let teacher: ComponentId = "teachers/food".parse().unwrap();
    let mixed = Rows {
        component: teacher.clone(),
        fields: vec!["cond".to_owned(), "uncond".to_owned()],
        records: vec![9, 4],
    };
    let one_by_one = |field: &str, record| ahead.reader().read(&teacher, field, &[record]).unwrap().values;
    let expected = [one_by_one("cond", 9), one_by_one("uncond", 4)].concat();
    for rows in [latents(&[0]), mixed.clone(), latents(&[5, 6]), latents(&[0])] {
        ahead.ask(rows);
    }
    assert_eq!(
        ahead.take(&latents(&[5, 6])).unwrap(),
        ahead.reader().latents(&[5, 6]).unwrap()
    );
    assert_eq!(ahead.take(&mixed).unwrap().values, expected);
    // Never asked for.
    assert_eq!(ahead.take(&mixed).unwrap().values, expected);
    let first = ahead.take(&latents(&[0])).unwrap();
    let reads = gate.reads();
    // The second asking for the same rows was no second reading: it is taken, and now read again.
    assert_eq!(ahead.take(&latents(&[0])).unwrap(), first);
    assert_eq!(gate.reads(), reads + 1);
}

#[test]
fn what_nobody_takes_is_forgotten_and_read_when_it_is_taken() {
    let Fixture {
        cache: _cache,
        gate,
        ahead,
    } = fixture();
    let asked: Vec<Rows> = (0..100).map(|i| latents(&[i % 40, i / 40])).collect();
    for rows in &asked {
        ahead.ask(rows.clone());
    }
    gate.open();
    for rows in &asked {
        assert_eq!(ahead.take(rows).unwrap(), ahead.reader().rows(rows).unwrap());
    }
}

#[test]
fn errors_name_the_entry_where_it_is_taken() {
    let Fixture { cache, gate, ahead } = fixture();
    gate.open();
    // The header is known from here on; the records after it are gone.
    ahead.take(&latents(&[0])).unwrap();
    let shard = cache.path().join("latents/shard-00000.safetensors");
    let file = std::fs::OpenOptions::new().write(true).open(shard).unwrap();
    file.set_len(4096).unwrap();
    let name = ahead.reader().layout(&ComponentId::Latents).unwrap().name(15).unwrap();
    ahead.ask(latents(&[15]));
    let error = ahead.take(&latents(&[15])).unwrap_err();
    assert_eq!(error.code(), "unreadable");
    let said = error.to_string();
    assert!(said.contains(&format!("latents of {name}")), "{said}");
    assert!(said.contains("latents/shard-00000.safetensors"), "{said}");
    let remedy = error.remedy().unwrap();
    assert!(remedy.contains("Copy the file again"), "{remedy}");
    let unknown = Rows {
        fields: vec!["cond".to_owned(); 3],
        ..latents(&[1, 2])
    };
    ahead.ask(unknown.clone());
    assert!(
        ahead
            .take(&unknown)
            .unwrap_err()
            .to_string()
            .contains("3 fields for 2 records")
    );
}

#[test]
fn its_end_waits_for_no_disk() {
    let Fixture {
        cache: _cache,
        gate,
        ahead,
    } = fixture();
    for i in 0..8 {
        ahead.ask(latents(&[i]));
    }
    gate.begun(1);
    drop(ahead);
    gate.open();
}
