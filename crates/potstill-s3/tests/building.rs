//! Caches built on a server, against the same in a folder.

mod common;
#[allow(unused_imports)]
#[path = "../../potstill-cache/tests/common/mod.rs"]
mod synthetic;

use std::fs;

use common::Server;
use potstill_cache::{
    Builder, CacheError, CachePlace, ComponentId, FolderSource, Level, Plan, PredictionKind, VerifyOptions, coverage,
    seal, verify,
};
use potstill_s3::S3Store;
use synthetic::{build_cache, latent, latents_plan, normals, prediction, teacher_plan, text_plan};

fn place(server: &Server, prefix: &str) -> CachePlace {
    CachePlace::new(S3Store::new(server.bucket(prefix)))
}

fn write(builder: &Builder, index: u32, values: impl Fn(&str, u64, usize) -> Vec<f32>) {
    let mut writer = builder.shard(index).unwrap();
    let range = writer.range();
    for record in range.start..range.start + u64::from(range.records) {
        for (field, shape) in builder.layout().fields(record).unwrap() {
            writer
                .put(field, &values(field, record, shape.iter().product()))
                .unwrap();
        }
    }
    writer.finish().unwrap();
}

#[test]
fn parts_on_a_server_give_the_bytes_of_one_build_in_a_folder() {
    let server = Server::start();
    let folder = tempfile::tempdir().unwrap();
    build_cache(folder.path(), PredictionKind::V);
    let cache = place(&server, "a/b");
    let (latents, text) = (latents_plan(40), text_plan());
    synthetic::build(
        cache.clone(),
        &Plan::Latents(latents.clone()),
        &mut |_, _, record, n| latent(record, n),
    );
    synthetic::build(cache.clone(), &Plan::Text(text.clone()), &mut |_, field, record, n| {
        normals(record + field.len() as u64, n)
    });
    for id in ["animals", "food"] {
        let teacher = teacher_plan(id, PredictionKind::V, &latents, &text);
        let plan = Plan::Teacher(teacher.clone());
        // Two parts, each with every other shard; the second writes one that the first has written already.
        let parts = [0, 1].map(|_| Builder::begin_part(cache.clone(), &plan).unwrap());
        let values =
            |layout: &potstill_cache::Layout, field: &str, record, n| prediction(layout, &teacher, field, record, n);
        for shard in parts[0].layout().shards() {
            let part = &parts[shard.index as usize % 2];
            write(part, shard.index, |field, record, n| {
                values(part.layout(), field, record, n)
            });
        }
        write(&parts[1], 0, |field, record, n| {
            values(parts[1].layout(), field, record, n)
        });
        let component = plan.component();
        let found = coverage(cache.clone(), &component).unwrap();
        assert_eq!(
            (found.missing.len(), found.shards),
            (0, parts[0].layout().shard_count())
        );
        seal(cache.clone(), &component).unwrap();
        assert!(matches!(
            seal(cache.clone(), &component),
            Err(CacheError::Sealed { .. })
        ));
        assert!(matches!(
            Builder::begin_part(cache.clone(), &plan),
            Err(CacheError::Sealed { .. })
        ));
    }
    let own = FolderSource::new(&server.folder("a/b"));
    let files = potstill_cache::Source::list(&own).unwrap();
    assert_eq!(
        files,
        potstill_cache::Source::list(&FolderSource::new(folder.path())).unwrap()
    );
    for file in files {
        let [here, there] =
            [folder.path().to_owned(), server.folder("a/b")].map(|at| fs::read(at.join(&file)).unwrap());
        assert!(here == there, "{file}");
    }
    let options = VerifyOptions {
        level: Level::Determinism,
        progress: None,
        images: None,
    };
    assert!(verify(cache.source(), &options).unwrap().ok());
}

#[test]
fn what_is_there_is_kept_unless_it_is_damaged() {
    let server = Server::start();
    let cache = place(&server, "a");
    let plan = Plan::Latents(latents_plan(40));
    let builder = Builder::begin(cache.clone(), &plan).unwrap();
    for shard in 0..4 {
        assert!(!builder.is_done(shard).unwrap());
        write(&builder, shard, |_, record, n| latent(record, n));
        assert!(builder.is_done(shard).unwrap());
    }
    let first = server.folder("a/latents/shard-00000.safetensors");
    let before = fs::read(&first).unwrap();
    // Other values than were written: they come too late.
    write(&builder, 0, |_, record, n| normals(record, n));
    assert!(fs::read(&first).unwrap() == before);

    fs::write(&first, &before[..before.len() - 1]).unwrap();
    assert_eq!(coverage(cache.clone(), &ComponentId::Latents).unwrap().missing, [0]);
    assert!(matches!(builder.seal(), Err(CacheError::Shard { shard: 0, .. })));
    let again = Builder::begin(cache.clone(), &plan).unwrap();
    assert_eq!(again.done().unwrap(), [1, 2, 3]);
    write(&again, 0, |_, record, n| latent(record, n));
    assert!(fs::read(&first).unwrap() == before);
    again.seal().unwrap();
}

#[test]
fn another_plan_is_refused() {
    let server = Server::start();
    let cache = place(&server, "a");
    Builder::begin(cache.clone(), &Plan::Latents(latents_plan(40))).unwrap();
    let other = Plan::Latents(latents_plan(41));
    assert!(matches!(
        Builder::begin(cache, &other),
        Err(CacheError::ForeignPlan { .. })
    ));
}
