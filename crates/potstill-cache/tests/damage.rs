//! Every kind of damage has its finding; a clean cache has none.

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use common::{build_cache, build_cache_with, build_teacher, latents_plan, prediction, teacher_plan, text_plan};
use potstill_cache::{
    CacheError, ComponentId, FolderSource, Level, MemorySource, Plan, PredictionKind, Report, Source, VerifyOptions,
    canonical_json, seal, verify,
};
use potstill_io::{Dtype, Header, f32_to_bytes};
use tempfile::TempDir;

/// Clean caches, built once.
fn clean(kind: PredictionKind) -> &'static Path {
    static CACHES: [OnceLock<TempDir>; 2] = [OnceLock::new(), OnceLock::new()];
    let index = usize::from(kind != PredictionKind::Epsilon);
    let folder = CACHES[index].get_or_init(|| {
        let folder = tempfile::tempdir().unwrap();
        build_cache(folder.path(), kind);
        folder
    });
    folder.path()
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

fn report(cache: &Path) -> Report {
    verify(
        &FolderSource::new(cache),
        &VerifyOptions {
            level: Level::Determinism,
            progress: None,
            images: None,
        },
    )
    .unwrap()
}

/// The codes found in a copy after `damage`, as `component code` (each once).
fn codes(kind: PredictionKind, damage: impl FnOnce(&Path)) -> Vec<String> {
    let folder = tempfile::tempdir().unwrap();
    copy(clean(kind), folder.path());
    damage(folder.path());
    let report = report(folder.path());
    let mut codes: Vec<String> = report
        .findings
        .iter()
        .map(|f| format!("{} {}", f.component, f.code))
        .collect();
    codes.sort();
    codes.dedup();
    codes
}

fn epsilon(damage: impl FnOnce(&Path)) -> Vec<String> {
    codes(PredictionKind::Epsilon, damage)
}

fn edit(path: PathBuf, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = fs::read(&path).unwrap();
    change(&mut bytes);
    fs::write(path, bytes).unwrap();
}

fn edit_text(path: PathBuf, from: &str, to: &str) {
    let text = fs::read_to_string(&path).unwrap();
    assert!(text.contains(from), "{from}");
    fs::write(path, text.replacen(from, to, 1)).unwrap();
}

/// Seals a component again over whatever its shards now hold, as one who covers tracks would.
fn reseal(cache: &Path, component: &str) {
    fs::remove_file(cache.join(component).join("seal.json")).unwrap();
    seal(cache, &component.parse().unwrap()).unwrap();
}

/// Changes a record's values of a field in place.
fn change_record(path: &Path, field: &str, within: usize, change: impl FnOnce(&mut Vec<f32>)) {
    edit(path.to_owned(), |bytes| {
        let header = Header::from_bytes(bytes).unwrap();
        let tensor = header.get(field).unwrap();
        let size = tensor.bytes() as usize / tensor.shape[0];
        let start = header.data_start() as usize + tensor.start as usize + within * size;
        let mut values = Dtype::F16.to_f32(&bytes[start..start + size]).unwrap();
        change(&mut values);
        bytes[start..start + size].copy_from_slice(&f32_to_bytes(&values, Dtype::F16).unwrap());
    });
}

fn read_record(path: &Path, field: &str, within: usize) -> Vec<f32> {
    let mut out = Vec::new();
    change_record(path, field, within, |values| out.clone_from(values));
    out
}

#[test]
fn clean_caches_have_no_findings() {
    for kind in [PredictionKind::Epsilon, PredictionKind::V] {
        let report = report(clean(kind));
        assert!(report.ok() && report.findings.is_empty(), "{:?}", report.findings);
        assert_eq!(report.components.len(), 4);
        assert_eq!(report.statistics.len(), 4);
        let bands = &report.statistics[0].bands;
        assert_eq!(bands.len(), 10);
        assert!(bands.iter().all(|b| (b.calibration - 1.0).abs() < 0.1), "{bands:?}");
    }
}

#[test]
fn the_report_is_the_same_from_memory_and_holds_no_paths() {
    let folder = FolderSource::new(clean(PredictionKind::Epsilon));
    let files = folder.list().unwrap().into_iter().map(|path| {
        let bytes = folder.read_all(&path, u64::MAX).unwrap();
        (path, bytes)
    });
    let memory = MemorySource { files: files.collect() };
    let options = VerifyOptions {
        level: Level::Determinism,
        progress: None,
        images: None,
    };
    let (a, b) = (
        verify(&folder, &options).unwrap().to_json().unwrap(),
        verify(&memory, &options).unwrap().to_json().unwrap(),
    );
    assert_eq!(a, b);
    let text = String::from_utf8(a).unwrap();
    assert!(!text.contains(&*folder.root().to_string_lossy()));
    let level_1 = VerifyOptions {
        level: Level::Structure,
        progress: None,
        images: None,
    };
    assert!(verify(&folder, &level_1).unwrap().statistics.is_empty());
}

/// Of many shards those of all teachers with the same number are looked at together, and the noise of one is kept for the others.
#[test]
fn the_statistics_do_not_depend_on_how_many_shards_there_are() {
    for kind in [PredictionKind::Epsilon, PredictionKind::V] {
        let of_shards = |records: u32, seed_of_food: u64| {
            let cache = tempfile::tempdir().unwrap();
            build_cache_with(cache.path(), kind, latents_plan(8), |plan, _| {
                plan.shard_records = records;
                if plan.id == "food" {
                    plan.noise.base_seed = seed_of_food;
                }
            });
            report(cache.path())
        };
        let (few, many) = (of_shards(16, 42), of_shards(1, 42));
        assert!(
            many.components[2].shards >= 32 && many.findings.is_empty(),
            "{:?}",
            many.findings
        );
        assert_eq!(few.statistics, many.statistics);
        // Another teacher's noise is taken for its own where it is the same alone.
        let (few, many) = (of_shards(16, 43), of_shards(1, 43));
        assert!(many.findings.iter().all(|finding| finding.code == "draws-differ"));
        assert_eq!(few.statistics, many.statistics);
    }
}

#[test]
fn progress_reaches_the_total() {
    let seen = std::sync::Mutex::new((0, 0));
    let progress = |done: u64, total: u64| {
        let mut seen = seen.lock().unwrap();
        *seen = (seen.0.max(done), total);
    };
    let options = VerifyOptions {
        level: Level::Structure,
        progress: Some(&progress),
        images: None,
    };
    let report = verify(&FolderSource::new(clean(PredictionKind::Epsilon)), &options).unwrap();
    let (done, total) = *seen.lock().unwrap();
    assert!(done == total && total == report.components.iter().map(|c| c.bytes).sum::<u64>());
}

#[test]
fn flipped_bits() {
    for (file, component) in [
        ("latents/shard-00000.safetensors", "latents"),
        ("text/shard-00000.safetensors", "text"),
        ("teachers/food/shard-00002.safetensors", "teachers/food"),
    ] {
        // The lowest bit of a number in the middle of the data: harmless to the eye.
        let found = epsilon(|cache| {
            edit(cache.join(file), |bytes| {
                let middle = (bytes.len() / 2) & !1;
                bytes[middle] ^= 1;
            })
        });
        assert_eq!(found, [format!("{component} shard-digest")], "{file}");
    }
}

#[test]
fn truncated_and_lengthened_shards() {
    let shard = "teachers/animals/shard-00001.safetensors";
    let cut = epsilon(|cache| edit(cache.join(shard), |bytes| bytes.truncate(bytes.len() - 100)));
    assert_eq!(cut, ["teachers/animals shard-header", "teachers/animals shard-size"]);
    let long = epsilon(|cache| edit(cache.join(shard), |bytes| bytes.push(0)));
    assert_eq!(long, ["teachers/animals shard-header", "teachers/animals shard-size"]);
    let empty = epsilon(|cache| fs::write(cache.join(shard), b"").unwrap());
    assert_eq!(empty, ["teachers/animals shard-header", "teachers/animals shard-size"]);
}

#[test]
fn missing_extra_and_exchanged_shards() {
    let missing = epsilon(|cache| fs::remove_file(cache.join("latents/shard-00001.safetensors")).unwrap());
    assert_eq!(missing, ["latents shard-missing"]);
    let extra = epsilon(|cache| {
        fs::copy(
            cache.join("latents/shard-00001.safetensors"),
            cache.join("latents/shard-00099.safetensors"),
        )
        .unwrap();
        fs::write(cache.join("text/notes.txt"), "?").unwrap();
        fs::write(cache.join("text/.potstill-x.tmp"), "?").unwrap();
    });
    assert_eq!(extra, ["latents shard-extra", "text file-unknown", "text leftover"]);
    let locked = epsilon(|cache| fs::write(cache.join("text/.potstill-build.lock"), "1\n").unwrap());
    assert_eq!(locked, [""; 0]);
    let exchanged = epsilon(|cache| {
        fs::copy(
            cache.join("teachers/food/shard-00001.safetensors"),
            cache.join("teachers/food/shard-00000.safetensors"),
        )
        .unwrap();
    });
    for code in [
        "shard-of-another-plan",
        "shard-digest",
        "key-mismatch",
        "seed-mismatch",
        "timestep-mismatch",
    ] {
        assert!(
            exchanged.contains(&format!("teachers/food {code}")),
            "{code} among {exchanged:?}"
        );
    }
}

#[test]
fn swapped_predictions_are_found_though_everything_was_sealed_again() {
    for kind in [PredictionKind::Epsilon, PredictionKind::V] {
        let folder = tempfile::tempdir().unwrap();
        copy(clean(kind), folder.path());
        // Draw 2 of two images: the same quarter of the timesteps, another noise.
        let (a, b) = (
            folder.path().join("teachers/food/shard-00001.safetensors"),
            folder.path().join("teachers/food/shard-00004.safetensors"),
        );
        let (first, second) = (read_record(&a, "cond", 6), read_record(&b, "cond", 10));
        change_record(&a, "cond", 6, |values| *values = second);
        change_record(&b, "cond", 10, |values| *values = first);
        reseal(folder.path(), "teachers/food");
        let report = report(folder.path());
        let swapped: Vec<_> = report
            .findings
            .iter()
            .filter(|f| f.code == "prediction-swapped")
            .collect();
        assert_eq!(swapped.len(), 2, "{kind:?}: {:?}", report.findings);
        assert_eq!(report.findings.len(), 2);
        // Each is said to belong to the other.
        let name = |f: &potstill_cache::Finding| f.entry.trim_end_matches("|cond").to_owned();
        assert!(swapped[0].found.contains(&name(swapped[1])) && swapped[1].found.contains(&name(swapped[0])));
        assert!(swapped.iter().all(|f| f.training));
    }
}

#[test]
fn scaled_zeroed_and_corrupted_predictions_stand_out() {
    type Damage = fn(&mut Vec<f32>);
    let damages: [(&str, Damage); 4] = [
        ("halved", |v| v.iter_mut().for_each(|x| *x *= 0.5)),
        ("tripled", |v| v.iter_mut().for_each(|x| *x *= 3.0)),
        ("zero", |v| v.fill(0.0)),
        ("one huge value", |v| v[3] = 900.0),
    ];
    for kind in [PredictionKind::Epsilon, PredictionKind::V] {
        for (name, damage) in damages {
            let found = codes(kind, |cache| {
                change_record(
                    &cache.join("teachers/animals/shard-00002.safetensors"),
                    "uncond",
                    7,
                    damage,
                );
                reseal(cache, "teachers/animals");
            });
            assert_eq!(found, ["teachers/animals prediction-implausible"], "{kind:?} {name}");
        }
    }
}

#[test]
fn values_that_are_not_finite() {
    for (component, file, field) in [
        ("latents", "latents/shard-00000.safetensors", "latents"),
        ("text", "text/shard-00000.safetensors", "pooled"),
        ("teachers/food", "teachers/food/shard-00000.safetensors", "cond"),
    ] {
        for value in [f32::NAN, f32::INFINITY] {
            let found = epsilon(|cache| {
                change_record(&cache.join(file), field, 1, |values| values[2] = value);
                reseal(cache, component);
                if !component.starts_with("teachers") {
                    reseal(cache, "teachers/food");
                    reseal(cache, "teachers/animals");
                }
            });
            assert_eq!(found, [format!("{component} not-finite")]);
        }
    }
}

#[test]
fn edited_plans() {
    let plan = "teachers/food/plan.json";
    let edited = epsilon(|cache| edit_text(cache.join(plan), "\"storage\":\"f32\"", "\"storage\":\"f32\" "));
    assert!(edited.contains(&"teachers/food plan-invalid".to_owned()), "{edited:?}");
    let mut base_seed = epsilon(|cache| edit_text(cache.join(plan), "\"baseSeed\":42", "\"baseSeed\":43"));
    base_seed.retain(|code| code.starts_with("teachers/food "));
    for code in [
        "plan-edited",
        "shard-of-another-plan",
        "seed-mismatch",
        "timestep-mismatch",
        "draws-differ",
    ] {
        assert!(
            base_seed.contains(&format!("teachers/food {code}")),
            "{code} among {base_seed:?}"
        );
    }
    let latents = epsilon(|cache| {
        edit_text(
            cache.join("latents/plan.json"),
            "\"scalingFactor\":0.18215",
            "\"scalingFactor\":0.13025",
        )
    });
    for code in [
        "latents plan-edited",
        "teachers/food dependency-plan",
        "teachers/animals dependency-plan",
    ] {
        assert!(latents.contains(&code.to_owned()), "{code} among {latents:?}");
    }
    for (from, to) in [
        ("\"version\":1", "\"version\":2"),
        ("\"draws\":4", "\"draws\":0"),
        ("\"timesteps\":[0,1000]", "\"timesteps\":[0,1001]"),
        ("\"id\":\"food\"", "\"id\":\"fool\""),
        ("\"samples\":[[0,1]", "\"samples\":[[9,1]"),
        ("\"fields\":[\"cond\",\"uncond\"]", "\"fields\":[]"),
        ("{", "["),
        ("\"storage\"", "\"storages\""),
    ] {
        let found = epsilon(|cache| edit_text(cache.join(plan), from, to));
        assert!(
            found.contains(&"teachers/food plan-invalid".to_owned()),
            "{from}: {found:?}"
        );
    }
    let beyond = epsilon(|cache| edit_text(cache.join(plan), "[41,3]]", "[41,4]]"));
    assert!(beyond.contains(&"teachers/food plan-invalid".to_owned()), "{beyond:?}");
}

#[test]
fn a_wrong_base_seed_under_a_proper_seal() {
    // The shards of a cache with another base seed, relabelled with this cache's plan.
    let found = epsilon(|cache| {
        let (latents, text) = (latents_plan(40), text_plan());
        let mut plan = teacher_plan("food", PredictionKind::Epsilon, &latents, &text);
        plan.noise.base_seed = 43;
        let right = fs::read(cache.join("teachers/food/plan.json")).unwrap();
        fs::remove_dir_all(cache.join("teachers/food")).unwrap();
        build_teacher(cache, &plan);
        let wrong = Plan::Teacher(plan).digest().unwrap().to_string();
        let name = potstill_cache::sha256(&right).to_string();
        fs::write(cache.join("teachers/food/plan.json"), right).unwrap();
        for entry in fs::read_dir(cache.join("teachers/food")).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|e| e == "safetensors") {
                edit(path, |bytes| {
                    let at = bytes.windows(64).position(|w| w == wrong.as_bytes()).unwrap();
                    bytes[at..at + 64].copy_from_slice(name.as_bytes());
                });
            }
        }
        reseal(cache, "teachers/food");
    });
    assert_eq!(
        found,
        [
            "teachers/food seed-mismatch",
            "teachers/food teacher-implausible",
            "teachers/food timestep-mismatch"
        ]
    );
}

#[test]
fn a_teacher_that_predicts_something_else_than_its_plan_says() {
    let found = epsilon(|cache| {
        let (latents, text) = (latents_plan(40), text_plan());
        let plan = teacher_plan("food", PredictionKind::Epsilon, &latents, &text);
        fs::remove_dir_all(cache.join("teachers/food")).unwrap();
        common::build(cache, &Plan::Teacher(plan.clone()), &mut |layout, field, record, n| {
            prediction(layout, &plan, field, record, n)
                .iter()
                .map(|v| v * 0.18)
                .collect()
        });
    });
    assert_eq!(found, ["teachers/food teacher-implausible"]);
}

#[test]
fn teachers_with_other_draws() {
    let found = epsilon(|cache| {
        let (latents, text) = (latents_plan(40), text_plan());
        let mut plan = teacher_plan("other", PredictionKind::Epsilon, &latents, &text);
        plan.noise.base_seed = 7;
        build_teacher(cache, &plan);
    });
    assert_eq!(found, ["teachers/other draws-differ"]);
}

#[test]
fn seals() {
    let missing = epsilon(|cache| fs::remove_file(cache.join("text/seal.json")).unwrap());
    assert_eq!(missing, ["text unsealed"]);
    let other = epsilon(|cache| {
        let plan = fs::read(cache.join("latents/plan.json")).unwrap();
        let digest = potstill_cache::sha256(&plan).to_string();
        edit_text(cache.join("latents/seal.json"), &digest, &"ab".repeat(32));
    });
    assert!(other.contains(&"latents seal-of-another-plan".to_owned()), "{other:?}");
    assert!(other.contains(&"teachers/food dependency-seal".to_owned()), "{other:?}");
    let broken = epsilon(|cache| edit(cache.join("teachers/food/seal.json"), |bytes| bytes.truncate(9)));
    assert_eq!(broken, ["teachers/food seal-invalid"]);
    let fewer = epsilon(|cache| {
        let path = cache.join("teachers/food/seal.json");
        let mut seal = potstill_cache::Seal::parse(&fs::read(&path).unwrap()).unwrap();
        seal.shards.pop();
        fs::write(path, canonical_json(&seal).unwrap()).unwrap();
    });
    assert_eq!(fewer, ["teachers/food seal-coverage"]);
    let traversal = epsilon(|cache| {
        edit_text(
            cache.join("teachers/food/seal.json"),
            "shard-00000.safetensors",
            "../../../etc/passwd",
        )
    });
    assert_eq!(traversal, ["teachers/food seal-coverage"]);
}

#[test]
fn hostile_headers() {
    let shard = "text/shard-00000.safetensors";
    for (length, json) in [
        (u64::MAX, ""),
        (1 << 24, "{}"),
        (2, "[]"),
        (
            66,
            r#"{"latents":{"dtype":"F16","shape":[4294967296,4294967296,4294967296"#,
        ),
    ] {
        let found = epsilon(|cache| {
            let mut bytes = u64::to_le_bytes(length).to_vec();
            bytes.extend_from_slice(json.as_bytes());
            fs::write(cache.join(shard), bytes).unwrap();
        });
        assert_eq!(found, ["text shard-header", "text shard-size"], "{json}");
    }
    // A sound header that describes something else.
    let found = epsilon(|cache| {
        let path = cache.join(shard);
        let bytes = fs::read(&path).unwrap();
        let at = bytes.windows(8).position(|w| w == b"\"pooled\"").unwrap();
        edit(path, |bytes| bytes[at..at + 8].copy_from_slice(b"\"poolex\""));
    });
    assert_eq!(found, ["text shard-digest", "text tensor-extra", "text tensor-missing"]);
}

#[test]
fn missing_plans_links_and_folders_that_are_no_cache() {
    let missing = epsilon(|cache| fs::remove_file(cache.join("teachers/food/plan.json")).unwrap());
    assert_eq!(missing, ["teachers/food plan-missing"]);
    let without = epsilon(|cache| fs::remove_dir_all(cache.join("latents")).unwrap());
    assert_eq!(
        without,
        ["teachers/animals dependency-plan", "teachers/food dependency-plan"]
    );
    #[cfg(unix)]
    {
        let link = epsilon(|cache| {
            let path = cache.join("latents/shard-00000.safetensors");
            let elsewhere = cache.join("elsewhere");
            fs::rename(&path, &elsewhere).unwrap();
            std::os::unix::fs::symlink(elsewhere, path).unwrap();
        });
        assert_eq!(link, ["latents unreadable"]);
    }
    let empty = tempfile::tempdir().unwrap();
    let options = VerifyOptions {
        level: Level::Structure,
        progress: None,
        images: None,
    };
    assert!(matches!(
        verify(&FolderSource::new(empty.path()), &options),
        Err(CacheError::NoCache)
    ));
    assert!(verify(&FolderSource::new(&empty.path().join("none")), &options).is_err());
    assert!("teachers/../x".parse::<ComponentId>().is_err());
}
