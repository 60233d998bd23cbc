//! Building, resuming, sealing and reading.

mod common;

use std::fs;

use common::{VALUES, build_cache, build_teacher, latent, latents_plan, normals, prediction, teacher_plan, text_plan};
use potstill_cache::{
    Builder, CacheError, CacheReader, ComponentId, ComponentState, FolderSource, Plan, PredictionKind, component_state,
    seal,
};

fn close(a: &[f32], b: &[f32]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(x, y)| (x - y).abs() <= 1e-3 * x.abs().max(1.0))
}

#[test]
fn what_was_written_is_read() {
    let folder = tempfile::tempdir().unwrap();
    build_cache(folder.path(), PredictionKind::Epsilon);
    let reader = CacheReader::open(Box::new(FolderSource::new(folder.path())), None).unwrap();
    assert_eq!(reader.teachers().collect::<Vec<_>>(), ["animals", "food"]);
    let latents = reader.latents(&[39, 0, 17]).unwrap();
    assert_eq!(latents.shape, [3, 4, 16, 16]);
    assert!(close(&latents.values[..VALUES], &latent(39, VALUES)));
    assert_eq!(reader.latents(&[40]).unwrap().shape, [1, 4, 16, 32]);
    assert!(matches!(
        reader.latents(&[0, 40]),
        Err(CacheError::MixedShapes {
            first: 0,
            other: 40,
            ..
        })
    ));
    assert!(matches!(reader.latents(&[42]), Err(CacheError::OutOfRange { .. })));
    let text = reader.read(&ComponentId::Text, "pooled", &[3]).unwrap();
    assert_eq!(text.shape, [1, 6]);
    assert!(close(&text.values, &normals(3 + 6, 6)));

    let teacher = ComponentId::Teacher("food".to_owned());
    let layout = reader.layout(&teacher).unwrap();
    assert_eq!(layout.records(), 42 * 4);
    let plan = reader.teacher_plan("food").unwrap();
    let record = 4 * 5 + 3;
    let cond = reader.read(&teacher, "cond", &[record]).unwrap();
    assert!(close(&cond.values, &prediction(layout, plan, "cond", record, VALUES)));
    let draw = reader.draw("food", record).unwrap();
    assert!(
        (750..1000).contains(&draw.timestep),
        "draw 3 of 4 lies in the last quarter"
    );
    let mut noise = vec![0.0; VALUES];
    potstill_noise::Generator::Philox.fill_noise(draw.seed, &mut noise);
    assert_eq!(reader.noise("food", &[record]).unwrap().values, noise);
    assert!(matches!(
        reader.read(&teacher, "latents", &[0]),
        Err(CacheError::OutOfRange { .. })
    ));
}

#[test]
fn a_killed_build_resumes_shard_by_shard() {
    let folder = tempfile::tempdir().unwrap();
    let plan = Plan::Latents(latents_plan(40));
    assert_eq!(component_state(folder.path(), &plan).unwrap(), ComponentState::Absent);
    let builder = Builder::begin(folder.path(), &plan).unwrap();
    // 40 square views in shards of 16, 16 and 8, then 2 wide ones.
    let ranges: Vec<_> = builder.layout().shards().map(|r| (r.start, r.records)).collect();
    assert_eq!(ranges, [(0, 16), (16, 16), (32, 8), (40, 2)]);
    let write = |builder: &Builder, index: u32| {
        let mut writer = builder.shard(index).unwrap();
        let range = writer.range();
        let n = VALUES * if index == 3 { 2 } else { 1 };
        let values: Vec<f32> = (0..range.records)
            .flat_map(|i| latent(range.start + u64::from(i), n))
            .collect();
        writer.put("latents", &values).unwrap();
        writer.finish().unwrap()
    };
    write(&builder, 2);
    let first = write(&builder, 0);
    drop(builder);
    let state = |folder: &std::path::Path| component_state(folder, &plan).unwrap();
    assert_eq!(
        state(folder.path()),
        ComponentState::Partial {
            done: vec![0, 2],
            total: 4
        }
    );

    // Killed while writing: a temporary file, and (on another system) a truncated shard.
    let latents = folder.path().join("latents");
    fs::write(latents.join(".potstill-abc.tmp"), b"half").unwrap();
    let bytes = fs::read(latents.join("shard-00002.safetensors")).unwrap();
    fs::write(latents.join("shard-00002.safetensors"), &bytes[..bytes.len() - 1]).unwrap();
    let resumed = Builder::begin(folder.path(), &plan).unwrap();
    assert!(!latents.join(".potstill-abc.tmp").exists());
    assert_eq!(resumed.done().unwrap(), [0]);
    assert!(matches!(resumed.seal(), Err(CacheError::Shard { shard: 1, .. })));
    for index in [1, 2, 3] {
        write(&resumed, index);
    }
    let sealed = resumed.seal().unwrap();
    assert_eq!(sealed.shards[0], first);
    assert_eq!(sealed.records, 42);
    assert_eq!(state(folder.path()), ComponentState::Sealed(sealed));
    assert!(matches!(
        Builder::begin(folder.path(), &plan),
        Err(CacheError::Sealed { .. })
    ));
    assert!(matches!(
        seal(folder.path(), &ComponentId::Latents),
        Err(CacheError::Sealed { .. })
    ));

    let other = Plan::Latents(latents_plan(41));
    assert!(matches!(
        component_state(folder.path(), &other).unwrap(),
        ComponentState::Foreign { .. }
    ));
    assert!(matches!(
        Builder::begin(folder.path(), &other),
        Err(CacheError::ForeignPlan { .. })
    ));
}

#[test]
fn a_component_is_built_by_one_at_a_time() {
    let folder = tempfile::tempdir().unwrap();
    let plan = Plan::Latents(latents_plan(2));
    let builder = Builder::begin(folder.path(), &plan).unwrap();
    let busy = |result: Result<(), CacheError>| matches!(result, Err(CacheError::Busy { process: Some(_), .. }));
    assert!(busy(Builder::begin(folder.path(), &plan).map(drop)));
    assert!(busy(seal(folder.path(), &ComponentId::Latents).map(drop)));
    // Another component is another matter.
    let text = Builder::begin(folder.path(), &Plan::Text(text_plan())).unwrap();

    // What is being written is left alone, and a writer of a build that has ended writes nothing.
    let temporary = folder.path().join("latents/.potstill-abc.tmp");
    fs::write(&temporary, b"half").unwrap();
    assert!(Builder::begin(folder.path(), &plan).is_err() && temporary.exists());
    let mut late = builder.shard(0).unwrap();
    late.put("latents", &latent(0, 2 * VALUES)).unwrap();
    builder.end();
    let next = Builder::begin(folder.path(), &plan).unwrap();
    assert!(!temporary.exists());
    assert!(matches!(late.finish(), Err(CacheError::Shard { shard: 0, .. })));
    assert_eq!(next.done().unwrap(), Vec::<u32>::new());
    drop((next, text));
    let left: Vec<_> = fs::read_dir(folder.path().join("latents"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert_eq!(left, ["plan.json"]);
}

#[test]
fn building_twice_gives_the_same_bytes() {
    let (a, b) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    for folder in [&a, &b] {
        build_cache(folder.path(), PredictionKind::V);
    }
    for file in [
        "latents/seal.json",
        "text/seal.json",
        "teachers/food/seal.json",
        "teachers/food/shard-00003.safetensors",
    ] {
        assert_eq!(
            fs::read(a.path().join(file)).unwrap(),
            fs::read(b.path().join(file)).unwrap(),
            "{file}"
        );
    }
}

#[test]
fn what_cannot_be_stored_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let plan = Plan::Latents(latents_plan(2));
    let builder = Builder::begin(folder.path(), &plan).unwrap();
    let mut writer = builder.shard(0).unwrap();
    writer.put("latents", &vec![65_519.9; VALUES]).unwrap();
    let mut bad = vec![0.0; VALUES];
    bad[7] = 65_520.0;
    let Err(CacheError::NotFinite { entry, index: 7, .. }) = writer.put("latents", &bad) else {
        panic!()
    };
    assert_eq!(entry, builder.layout().name(1).unwrap());
    assert!(matches!(writer.put("latents", &[1.0]), Err(CacheError::Shard { .. })));
    assert!(matches!(writer.put("cond", &[1.0]), Err(CacheError::Shard { .. })));
    assert!(matches!(
        writer.put("latents", &vec![0.0; 2 * VALUES]),
        Err(CacheError::Shard { .. })
    ));
    assert!(matches!(writer.finish(), Err(CacheError::Shard { .. })));
    assert!(matches!(builder.shard(2), Err(CacheError::OutOfRange { .. })));
    assert!(builder.done().unwrap().is_empty());
}

#[test]
fn components_that_do_not_belong_together_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (latents, text) = (latents_plan(4), text_plan());
    let teacher = teacher_plan("late", PredictionKind::Epsilon, &latents, &text);
    let unplanned = Builder::begin(folder.path(), &Plan::Teacher(teacher.clone()));
    assert!(matches!(
        unplanned,
        Err(CacheError::Unplanned {
            component: ComponentId::Latents
        })
    ));

    build_cache(folder.path(), PredictionKind::Epsilon);
    let error = Builder::begin(folder.path(), &Plan::Teacher(teacher)).unwrap_err();
    let CacheError::Mismatch {
        what: "plan of latents",
        ..
    } = error
    else {
        panic!("{error}")
    };
    assert!(error.to_string().contains("latents"));
    assert!(error.remedy().unwrap().contains("Build this teacher again"));

    // Latents with the same plan but built again to other bytes: the teacher's seal names the old ones.
    let good = latents_plan(40);
    build_teacher(
        folder.path(),
        &teacher_plan("third", PredictionKind::Epsilon, &good, &text),
    );
    fs::remove_dir_all(folder.path().join("latents")).unwrap();
    common::build(folder.path(), &Plan::Latents(good), &mut |_, _, record, n| {
        latent(record + 1, n)
    });
    let error = CacheReader::open(Box::new(FolderSource::new(folder.path())), None)
        .err()
        .unwrap();
    assert!(
        matches!(
            error,
            CacheError::Mismatch {
                what: "build of latents",
                ..
            }
        ),
        "{error}"
    );
    fs::remove_file(folder.path().join("latents/seal.json")).unwrap();
    let error = CacheReader::open(Box::new(FolderSource::new(folder.path())), Some(&[]))
        .err()
        .unwrap();
    assert!(
        matches!(
            error,
            CacheError::Unsealed {
                component: ComponentId::Latents
            }
        ),
        "{error}"
    );
    let empty = tempfile::tempdir().unwrap();
    assert!(matches!(
        CacheReader::open(Box::new(FolderSource::new(empty.path())), None).err(),
        Some(CacheError::NoCache)
    ));
}
