//! Several builders of one component.

mod common;

use std::fs;
use std::path::Path;

use common::{VALUES, latent, latents_plan, teacher_plan, text_plan};
use potstill_cache::{
    Builder, CacheError, ComponentId, FolderSource, Level, Plan, PredictionKind, ShardInfo, VerifyOptions, coverage,
    seal, verify,
};
use potstill_io::Header;

fn write(builder: &Builder, index: u32, scale: f32) -> ShardInfo {
    let mut writer = builder.shard(index).unwrap();
    let range = writer.range();
    for record in range.start..range.start + u64::from(range.records) {
        let n = if record < 40 { VALUES } else { 2 * VALUES };
        let values: Vec<f32> = latent(record, n).iter().map(|v| v * scale).collect();
        writer.put("latents", &values).unwrap();
    }
    writer.finish().unwrap()
}

fn codes(cache: &Path) -> Vec<String> {
    let options = VerifyOptions {
        level: Level::Determinism,
        progress: None,
        images: None,
    };
    let report = verify(&FolderSource::new(cache), &options).unwrap();
    report
        .findings
        .iter()
        .map(|f| format!("{}: {}", f.component, f.code))
        .collect()
}

#[test]
fn parts_write_what_one_builder_writes() {
    let (whole, parts) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let plan = Plan::Latents(latents_plan(40));
    let alone = Builder::begin(whole.path(), &plan).unwrap();
    for index in 0..4 {
        write(&alone, index, 1.0);
    }
    let wanted = alone.seal().unwrap();

    let builders = [0, 1].map(|_| Builder::begin_part(parts.path(), &plan).unwrap());
    let busy = |result: Result<(), CacheError>| matches!(result, Err(CacheError::Busy { process: None, .. }));
    assert!(busy(Builder::begin(parts.path(), &plan).map(drop)));
    assert!(busy(seal(parts.path(), &ComponentId::Latents).map(drop)));
    for index in 0..4 {
        assert!(!builders[0].is_done(index).unwrap());
        write(&builders[index as usize % 2], index, 1.0);
        assert!(builders[0].is_done(index).unwrap());
    }
    for builder in builders {
        builder.end();
    }
    assert_eq!(seal(parts.path(), &ComponentId::Latents).unwrap(), wanted);
    let bytes = |folder: &Path| fs::read(folder.join("latents/shard-00002.safetensors")).unwrap();
    assert_eq!(bytes(parts.path()), bytes(whole.path()));
    assert_eq!(fs::read_dir(parts.path().join("latents")).unwrap().count(), 4 + 2);
}

#[test]
fn of_two_that_write_a_shard_the_first_wins() {
    let folder = tempfile::tempdir().unwrap();
    let plan = Plan::Latents(latents_plan(40));
    let [one, two] = [0, 1].map(|_| Builder::begin_part(folder.path(), &plan).unwrap());
    let first = write(&one, 0, 1.0);
    // Another machine's last bits.
    assert_eq!(write(&two, 0, 2.0), first);
    for index in 1..4 {
        write(&two, index, 1.0);
    }
    // Any part that sees all shards may seal them; it is the same seal.
    assert_eq!(two.seal().unwrap().shards[0], first);
    assert_eq!(codes(folder.path()), Vec::<String>::new());
    // What is damaged is replaced.
    let other = tempfile::tempdir().unwrap();
    let part = Builder::begin_part(other.path(), &plan).unwrap();
    fs::write(other.path().join("latents/shard-00000.safetensors"), "cut").unwrap();
    assert_eq!(write(&part, 0, 1.0), first);
    assert!(part.is_done(0).unwrap());
}

#[test]
fn a_part_leaves_what_others_are_writing() {
    let folder = tempfile::tempdir().unwrap();
    let plan = Plan::Latents(latents_plan(40));
    let one = Builder::begin_part(folder.path(), &plan).unwrap();
    let temporary = folder.path().join("latents/.potstill-abc.tmp");
    fs::write(&temporary, "half").unwrap();
    drop(Builder::begin_part(folder.path(), &plan).unwrap());
    assert!(temporary.exists());
    drop(one);
    drop(Builder::begin(folder.path(), &plan).unwrap());
    assert!(!temporary.exists());
    // A part of another plan is no part.
    let other = Plan::Latents(latents_plan(39));
    assert!(matches!(
        Builder::begin_part(folder.path(), &other),
        Err(CacheError::ForeignPlan { .. })
    ));
}

#[test]
fn sealing_proves_that_every_record_is_there_once() {
    let folder = tempfile::tempdir().unwrap();
    let plan = Plan::Latents(latents_plan(40));
    let part = Builder::begin_part(folder.path(), &plan).unwrap();
    write(&part, 1, 1.0);
    write(&part, 3, 1.0);
    part.end();
    let found = coverage(folder.path(), &ComponentId::Latents).unwrap();
    assert_eq!((found.records, found.shards, found.missing), (42, 4, vec![0, 2]));
    let refused = |shard: u32, what: &str| {
        let error = seal(folder.path(), &ComponentId::Latents).unwrap_err();
        assert!(
            matches!(error, CacheError::Shard { shard: s, .. } if s == shard),
            "{error}"
        );
        assert!(error.to_string().contains(what), "{error}");
        assert!(!folder.path().join("latents/seal.json").exists());
    };
    refused(0, "missing");
    let part = Builder::begin_part(folder.path(), &plan).unwrap();
    write(&part, 0, 1.0);
    write(&part, 2, 1.0);
    part.end();

    let path = |index: u32| folder.path().join(format!("latents/shard-{index:05}.safetensors"));
    let whole = fs::read(path(2)).unwrap();
    // The last record's key is that of the first: one record twice, another not at all.
    let header = Header::from_bytes(&whole).unwrap();
    let at = (header.data_start() + header.get("key").unwrap().start) as usize;
    let mut twice = whole.clone();
    twice.copy_within(at..at + 32, at + 7 * 32);
    fs::write(path(2), &twice).unwrap();
    refused(2, "another record in the place of");
    fs::write(path(2), &whole[..whole.len() - 1]).unwrap();
    refused(2, "not a sound safetensors file");
    fs::write(path(2), &whole).unwrap();
    fs::write(path(4), &whole).unwrap();
    refused(4, "beyond the plan");
    fs::remove_file(path(4)).unwrap();
    assert_eq!(seal(folder.path(), &ComponentId::Latents).unwrap().records, 42);
}

#[test]
fn a_teacher_is_sealed_after_what_it_was_made_on() {
    let folder = tempfile::tempdir().unwrap();
    let (latents, text) = (latents_plan(40), text_plan());
    let part = Builder::begin_part(folder.path(), &Plan::Latents(latents.clone())).unwrap();
    (0..4).for_each(|index| drop(write(&part, index, 1.0)));
    part.end();
    Builder::begin_part(folder.path(), &Plan::Text(text.clone()))
        .unwrap()
        .end();
    let plan = Plan::Teacher(teacher_plan("animals", PredictionKind::Epsilon, &latents, &text));
    Builder::begin_part(folder.path(), &plan).unwrap().end();
    let unsealed = seal(folder.path(), &plan.component()).unwrap_err();
    assert!(
        matches!(
            unsealed,
            CacheError::Unsealed {
                component: ComponentId::Latents
            }
        ),
        "{unsealed}"
    );
}

/// What is not there of a component without a seal was not written yet: one finding says so, and nothing is blamed on a copy.
#[test]
fn verification_knows_a_cache_that_is_not_finished() {
    let folder = tempfile::tempdir().unwrap();
    let part = Builder::begin_part(folder.path(), &Plan::Latents(latents_plan(40))).unwrap();
    write(&part, 1, 1.0);
    write(&part, 3, 1.0);
    assert_eq!(codes(folder.path()), ["latents: unsealed"]);
    part.end();
    let options = VerifyOptions {
        level: Level::Structure,
        progress: None,
        images: None,
    };
    let report = verify(&FolderSource::new(folder.path()), &options).unwrap();
    assert_eq!(report.findings[0].found, "no seal; 2 of 4 shards, without 0, 2");
    // What is there is looked at all the same.
    let path = folder.path().join("latents/shard-00001.safetensors");
    let mut bytes = fs::read(&path).unwrap();
    let end = bytes.len();
    bytes[end - 2..].copy_from_slice(&0x7c00u16.to_le_bytes());
    fs::write(&path, bytes).unwrap();
    assert!(
        codes(folder.path())
            .iter()
            .any(|code| code == "latents: not-finite" || code == "latents: key-mismatch")
    );
}
