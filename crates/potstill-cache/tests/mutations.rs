//! Random damage to any file of a cache: never a panic, never unnoticed.

mod common;

use common::{build, latent, latents_plan_of, normals, teacher_plan, text_plan};
use potstill_cache::{
    CacheReader, FolderSource, Level, MemorySource, Plan, PredictionKind, Source, VerifyOptions, canonical_json, verify,
};
use potstill_noise::Mt19937;

/// Rounds per file: a fraction of a second for the small cache.
const ROUNDS: usize = 150;

fn small_cache() -> MemorySource {
    let folder = tempfile::tempdir().unwrap();
    let (latents, text) = (latents_plan_of(3, 2), text_plan());
    build(
        folder.path(),
        &Plan::Latents(latents.clone()),
        &mut |_, _, record, n| latent(record, n),
    );
    build(folder.path(), &Plan::Text(text.clone()), &mut |_, _, record, n| {
        normals(record, n)
    });
    common::build_teacher(folder.path(), &teacher_plan("only", PredictionKind::V, &latents, &text));
    let source = FolderSource::new(folder.path());
    let read = |path: String| (path.clone(), source.read_all(&path, u64::MAX).unwrap());
    MemorySource {
        files: source.list().unwrap().into_iter().map(read).collect(),
    }
}

fn mutate(bytes: &mut Vec<u8>, random: &mut Mt19937) {
    let mut below = |n: usize| random.next_u32() as usize % n.max(1);
    let at = below(bytes.len());
    match below(6) {
        0 => bytes[at] ^= 1 << below(8),
        1 => bytes[at] = below(256) as u8,
        2 => bytes.truncate(at),
        3 => bytes.insert(at, b"0129\"{}[],:-e."[below(14)]),
        4 => drop(bytes.remove(at)),
        _ => {
            // A digit made another: plans and headers stay well-formed.
            let digits: Vec<usize> = (0..bytes.len()).filter(|&i| bytes[i].is_ascii_digit()).collect();
            if let Some(&i) = digits.get(below(digits.len())) {
                bytes[i] = b'0' + below(10) as u8;
            }
        }
    }
}

#[test]
fn random_damage_is_found() {
    let clean = small_cache();
    let options = VerifyOptions {
        level: Level::Determinism,
        progress: None,
        images: None,
    };
    assert!(verify(&clean, &options).unwrap().ok());
    let mut random = Mt19937::new(2024);
    for path in clean.list().unwrap() {
        for round in 0..ROUNDS {
            let mut damaged = clean.clone();
            let bytes = damaged.files.get_mut(&path).unwrap();
            mutate(bytes, &mut random);
            if *bytes == clean.files[&path] {
                continue;
            }
            let text = String::from_utf8_lossy(bytes).into_owned();
            let report = verify(&damaged, &options).unwrap();
            assert!(!report.ok(), "round {round} of {path} went unnoticed: {text}");
            // Readers may open or refuse it, but not panic.
            if let Ok(reader) = CacheReader::open(Box::new(damaged), None) {
                let _ = reader.latents(&[0, 1, 2]);
                let _ = reader.noise("only", &[0, 5]);
            }
        }
    }
}

#[test]
fn small_plans_that_ask_for_much() {
    let clean = small_cache();
    let options = VerifyOptions {
        level: Level::Structure,
        progress: None,
        images: None,
    };
    let Plan::Teacher(plan) = Plan::parse(&clean.files["teachers/only/plan.json"]).unwrap() else {
        panic!()
    };
    let with = |change: &dyn Fn(&mut potstill_cache::TeacherPlan)| {
        let (mut source, mut plan) = (clean.clone(), plan.clone());
        change(&mut plan);
        source
            .files
            .insert("teachers/only/plan.json".to_owned(), canonical_json(&plan).unwrap());
        let report = verify(&source, &options).unwrap();
        report.findings.iter().map(|f| f.code).collect::<Vec<_>>()
    };
    let many = with(&|plan| {
        plan.samples.truncate(1);
        plan.draws = u32::MAX;
        plan.shard_records = 1;
    });
    assert!(many.contains(&"plan-invalid"), "{many:?}");
    let beyond = with(&|plan| plan.draws = u32::MAX);
    assert!(beyond.contains(&"plan-invalid"), "{beyond:?}");
    let gap = with(&|plan| plan.samples.push((u32::MAX, 0)));
    assert!(gap.contains(&"plan-invalid"), "{gap:?}");
}
