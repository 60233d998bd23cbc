//! The files layout: written, read back, verified; every kind of damage has its finding.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use potstill_cache::{
    CacheError, FilesEntry, FilesName, FolderSource, Level, MemorySource, Report, Severity, Source, Verdict,
    VerifyOptions, files_seed, verify,
};
use potstill_io::{Dtype, Header};
use potstill_noise::{Generator, Mt19937, PhiloxNormals, Stream, TorchCudaNormals, TorchGenerator};
use tempfile::TempDir;

const IMAGES: usize = 40;
const BASE_SEED: i64 = 42;

/// How a builder makes a sample.
#[derive(Clone, Copy)]
struct Maker {
    /// Draws the noise of a seed.
    noise: fn(u64, &mut [f32]),
    /// Makes the seed of an image for a teacher.
    seed: fn(&str, &str) -> u64,
    timesteps: (i64, i64),
    metadata: bool,
}

const TORCH: Maker = Maker {
    noise: |seed, out| TorchGenerator::new(seed).randn(out),
    seed: |image, _| files_seed(image, BASE_SEED),
    timesteps: (0, 1000),
    metadata: true,
};

fn normals(seed: u64, n: usize) -> Vec<f32> {
    let mut out = vec![0.0; n];
    PhiloxNormals::new(seed, Stream::VaeSample).fill(&mut out);
    out
}

fn size(image: usize) -> (u32, u32) {
    if image.is_multiple_of(5) {
        (192, 128)
    } else {
        (128, 128)
    }
}

fn image_id(image: usize) -> String {
    format!("pets/{image:03}")
}

fn name(image: usize) -> FilesName {
    let (width, height) = size(image);
    FilesName::of(&image_id(image), width, height, "1")
}

fn sample(maker: &Maker, teacher: &str, image: usize) -> FilesEntry {
    let (id, name) = (image_id(image), name(image));
    let n = (name.width / 8 * name.height / 8 * 4) as usize;
    let seed = (maker.seed)(&id, teacher);
    let mut timestep = [0];
    let (min, max) = maker.timesteps;
    TorchGenerator::new(seed).randint(min, max, &mut timestep).unwrap();
    let mut noise = vec![0.0; n];
    (maker.noise)(seed, &mut noise);
    // The best guess in the least-squares sense of a share r² of the noise.
    let r2 = 0.35 + 0.64 * (timestep[0] as f64 / 1000.0).powf(0.3);
    let b = (r2 - r2 * r2).sqrt() as f32;
    let error = normals(seed ^ u64::from(teacher.as_bytes()[0]) << 40, n);
    let prediction = noise.iter().zip(error).map(|(e, x)| r2 as f32 * e + b * x).collect();
    let metadata = [("image_id", id.as_str()), ("base_seed", "42"), ("teacher_id", teacher)];
    FilesEntry {
        name,
        seed,
        timestep: timestep[0],
        prediction,
        noise,
        text: [5, 8],
        hidden_states: normals(image as u64, 40),
        pooled: Some(normals(900 + image as u64, 6)),
        dtype: Dtype::F16,
        metadata: metadata
            .into_iter()
            .filter(|_| maker.metadata)
            .map(|(k, v)| (k.to_owned(), v.to_owned()))
            .collect(),
    }
}

fn build_files(cache: &Path, maker: &Maker, teachers: &[&str]) {
    for teacher in teachers {
        for image in 0..IMAGES {
            sample(maker, teacher, image).write(&cache.join(teacher)).unwrap();
        }
    }
}

fn clean() -> &'static Path {
    static CACHE: OnceLock<TempDir> = OnceLock::new();
    CACHE
        .get_or_init(|| {
            let folder = tempfile::tempdir().unwrap();
            build_files(folder.path(), &TORCH, &["animals", "food"]);
            folder
        })
        .path()
}

fn report_at(cache: &Path, level: Level) -> Report {
    let options = VerifyOptions {
        level,
        progress: None,
        images: None,
    };
    verify(&FolderSource::new(cache), &options).unwrap()
}

fn report(cache: &Path) -> Report {
    report_at(cache, Level::Determinism)
}

fn codes_of(report: &Report) -> Vec<String> {
    let mut codes: Vec<String> = report
        .findings
        .iter()
        .map(|f| format!("{} {}", f.component, f.code))
        .collect();
    codes.sort();
    codes.dedup();
    codes
}

fn made_by(maker: &Maker) -> Report {
    let folder = tempfile::tempdir().unwrap();
    build_files(folder.path(), maker, &["animals", "food"]);
    report(folder.path())
}

/// The report of a copy after `damage`.
fn damaged(damage: impl FnOnce(&Path)) -> Report {
    let folder = tempfile::tempdir().unwrap();
    for teacher in ["animals", "food"] {
        fs::create_dir(folder.path().join(teacher)).unwrap();
        for entry in fs::read_dir(clean().join(teacher)).unwrap() {
            let entry = entry.unwrap();
            fs::copy(entry.path(), folder.path().join(teacher).join(entry.file_name())).unwrap();
        }
    }
    damage(folder.path());
    report(folder.path())
}

fn file(cache: &Path, teacher: &str, image: usize) -> PathBuf {
    cache.join(teacher).join(name(image).file())
}

fn rewrite(cache: &Path, teacher: &str, image: usize, change: impl FnOnce(&mut FilesEntry)) {
    let mut entry = FilesEntry::read(&FolderSource::new(cache), &format!("{teacher}/{}", name(image).file())).unwrap();
    change(&mut entry);
    entry.write(&cache.join(teacher)).unwrap();
}

/// Changes the bytes of a tensor.
fn edit(path: &Path, tensor: &str, change: impl FnOnce(&mut [u8])) {
    let mut bytes = fs::read(path).unwrap();
    let header = Header::from_bytes(&bytes).unwrap();
    let (start, info) = (header.data_start(), header.get(tensor).unwrap());
    change(&mut bytes[(start + info.start) as usize..(start + info.end) as usize]);
    fs::write(path, bytes).unwrap();
}

#[test]
fn a_file_comes_back_as_it_was_written() {
    let folder = tempfile::tempdir().unwrap();
    let mut entry = sample(&TORCH, "animals", 3);
    entry.seed = u64::MAX - 5;
    let path = entry.write(folder.path()).unwrap();
    let back = FilesEntry::read(&FolderSource::new(folder.path()), &entry.name.file()).unwrap();
    let half = |values: &[f32]| {
        Dtype::F16
            .to_f32(&potstill_io::f32_to_bytes(values, Dtype::F16).unwrap())
            .unwrap()
    };
    let expected = FilesEntry {
        prediction: half(&entry.prediction),
        noise: half(&entry.noise),
        hidden_states: half(&entry.hidden_states),
        pooled: entry.pooled.as_deref().map(half),
        ..entry.clone()
    };
    assert_eq!(back, expected);
    let header = Header::from_bytes(&fs::read(path).unwrap()).unwrap();
    let seen: Vec<String> = header
        .tensors()
        .iter()
        .map(|t| format!("{} {} {:?}", t.name, t.dtype.name(), t.shape))
        .collect();
    assert_eq!(
        seen,
        [
            "seed I64 [1]",
            "timestep I64 [1]",
            "resolution I32 [2]",
            "encoder_hidden_states F16 [5, 8]",
            "noise F16 [4, 16, 16]",
            "pooled_embeds F16 [6]",
            "teacher_pred F16 [4, 16, 16]",
        ]
    );
    entry.noise[7] = 70_000.0;
    assert!(matches!(entry.write(folder.path()), Err(CacheError::Entry { .. })));
    entry.noise.pop();
    assert!(matches!(entry.write(folder.path()), Err(CacheError::Entry { .. })));
}

#[test]
fn reading_refuses_what_is_not_of_the_layout() {
    let folder = tempfile::tempdir().unwrap();
    let entry = sample(&TORCH, "animals", 3);
    let path = entry.write(folder.path()).unwrap();
    let source = FolderSource::new(folder.path());
    let refused = |file: &str| match FilesEntry::read(&source, file) {
        Err(CacheError::Entry { reason, .. }) => reason,
        other => panic!("{other:?}"),
    };
    let renamed = FilesName {
        width: 192,
        ..entry.name
    };
    fs::copy(&path, folder.path().join(renamed.file())).unwrap();
    assert!(refused(&renamed.file()).contains("is F16 [4, 16, 16], not F16 [4, 16, 24]"));
    fs::copy(&path, folder.path().join("a.safetensors")).unwrap();
    assert!(refused("a.safetensors").contains("its name is not"));
    edit(&path, "resolution", |bytes| bytes[0] ^= 8);
    assert!(refused(&entry.name.file()).contains("resolution"));
    fs::write(&path, [0xff; 64]).unwrap();
    assert!(refused(&entry.name.file()).contains("header claims"));
}

#[test]
fn a_clean_cache_has_no_findings_and_says_how_it_was_made() {
    let report = report(clean());
    assert_eq!(codes_of(&report), [""; 0]);
    assert!(report.ok());
    assert_eq!(report.layout, Some("files"));
    let components: Vec<_> = report
        .components
        .iter()
        .map(|c| (c.component.as_str(), c.records))
        .collect();
    assert_eq!(components, [("animals", 40), ("food", 40)]);
    for provenance in &report.provenance {
        assert_eq!((provenance.timesteps, provenance.seeds), (Some((0, 1000)), "image"));
        let noise: Vec<_> = provenance.noise.iter().map(|n| (n.noise.as_str(), n.entries)).collect();
        assert_eq!(noise, [("torch-cpu-avx2", 40)]);
    }
    let slopes = report
        .statistics
        .iter()
        .flat_map(|s| &s.bands)
        .map(|band| band.calibration);
    assert!(slopes.into_iter().all(|slope| (slope - 1.0).abs() < 0.1));
}

#[test]
fn the_folder_of_one_teacher_is_a_cache_too() {
    let report = report(&clean().join("food"));
    assert_eq!(codes_of(&report), [""; 0]);
    assert_eq!(report.components[0].component, ".");
}

#[test]
fn noise_is_recognised_whoever_made_it() {
    let cuda = Maker {
        noise: |seed, out| TorchCudaNormals::new(seed, 512).fill_from(0, out),
        ..TORCH
    };
    let bf16 = Maker {
        noise: |seed, out| {
            TorchGenerator::new(seed).randn(out);
            let bytes = potstill_io::f32_to_bytes(out, Dtype::Bf16).unwrap();
            Dtype::Bf16.to_f32_into(&bytes, out).unwrap();
        },
        ..TORCH
    };
    let philox = Maker {
        noise: |seed, out| Generator::Philox.fill_noise(seed, out),
        ..TORCH
    };
    for (maker, expected) in [
        (cuda, "torch-cuda-512-threads"),
        (bf16, "torch-cpu-avx2, rounded to bf16"),
        (philox, "philox"),
    ] {
        let report = made_by(&maker);
        assert_eq!(codes_of(&report), [""; 0], "{expected}");
        assert_eq!(report.provenance[1].noise[0].noise, expected);
    }
}

/// The clean cache with each entry of the teacher `food` changed, and its noise as it was before any rounding.
fn with_other_food(change: impl Fn(&mut FilesEntry)) -> Report {
    damaged(|cache| {
        for image in 0..IMAGES {
            rewrite(cache, "food", image, |entry| {
                entry.noise = sample(&TORCH, "food", image).noise;
                change(entry);
            });
        }
    })
}

#[test]
fn the_same_draw_stored_otherwise_is_no_other_draw() {
    for dtype in [Dtype::F32, Dtype::Bf16] {
        let report = with_other_food(|entry| entry.dtype = dtype);
        // What was encoded cannot be made anew, so its bytes are compared.
        assert_eq!(codes_of(&report), ["food text-differs"], "{dtype:?}");
    }
    let other_cpu = with_other_food(|entry| {
        entry.dtype = Dtype::F32;
        TorchGenerator::new(entry.seed).randn_libm_class(&mut entry.noise);
    });
    assert_eq!(other_cpu.provenance[1].noise[0].noise, "torch-cpu-default");
    assert_eq!(codes_of(&other_cpu), ["food text-differs"]);
}

#[test]
fn noise_drawn_in_another_precision_is_a_warning_and_by_another_generator_an_error() {
    let rounded = with_other_food(|entry| {
        let bytes = potstill_io::f32_to_bytes(&entry.noise, Dtype::Bf16).unwrap();
        Dtype::Bf16.to_f32_into(&bytes, &mut entry.noise).unwrap();
    });
    assert_eq!(codes_of(&rounded), ["food draws-rounded"]);
    assert_eq!(rounded.verdict, Verdict::Ok);
    assert_eq!(
        rounded.findings[0].found,
        "by torch-cpu-avx2, rounded to bf16 in 40 of 40 entries"
    );
    let philox = with_other_food(|entry| Generator::Philox.fill_noise(entry.seed, &mut entry.noise));
    assert_eq!(philox.counts["food"]["draws-differ"], IMAGES as u64);
    let finding = philox.findings.iter().find(|f| f.code == "draws-differ").unwrap();
    assert!(
        finding.expected.contains("noise by torch-cpu-avx2, as animals has"),
        "{finding:?}"
    );
    assert!(finding.found.ends_with("noise by philox"), "{finding:?}");
}

#[test]
fn unknown_provenance_is_a_warning_and_no_error() {
    let unknown = Maker {
        noise: |seed, out| PhiloxNormals::new(seed, Stream::Timestep).fill(out),
        metadata: false,
        ..TORCH
    };
    let report = made_by(&unknown);
    let expected = [
        "animals noise-unknown",
        "animals seeds-unknown",
        "food noise-unknown",
        "food seeds-unknown",
    ];
    assert_eq!(codes_of(&report), expected);
    assert_eq!(report.verdict, Verdict::Ok);
    assert_eq!(report.provenance[0].noise[0].noise, "unknown");
    assert_eq!(report.provenance[0].seeds, "unknown");
}

/// Noise that another teacher has as well is not made anew, if the seed is the same.
#[test]
fn the_first_teachers_noise_is_judged_by_the_seed_beside_it() {
    let report = damaged(|cache| {
        edit(&file(cache, "food", 3), "seed", |bytes| bytes[0] ^= 1);
    });
    let codes = codes_of(&report);
    for code in ["food noise-mismatch", "food draws-differ", "food timestep-mismatch"] {
        assert!(codes.contains(&code.to_owned()), "{codes:?}");
    }
    assert!(codes.iter().all(|code| !code.starts_with("animals")), "{codes:?}");
    let generators = |teacher: usize| -> Vec<(&str, u64)> {
        let shares = report.provenance[teacher].noise.iter();
        shares.map(|share| (share.noise.as_str(), share.entries)).collect()
    };
    assert_eq!(generators(0), [("torch-cpu-avx2", 40)]);
    assert_eq!(generators(1), [("torch-cpu-avx2", 39), ("unknown", 1)]);
}

#[test]
fn teachers_with_other_noise_of_no_generator_are_named_with_both_digests() {
    let unknown = Maker {
        noise: |seed, out| PhiloxNormals::new(seed, Stream::Timestep).fill(out),
        metadata: false,
        ..TORCH
    };
    let folder = tempfile::tempdir().unwrap();
    build_files(folder.path(), &unknown, &["animals", "food", "plants"]);
    rewrite(folder.path(), "food", 3, |entry| entry.noise[0] += 1.0);
    let report = report(folder.path());
    let found: Vec<_> = report.findings.iter().filter(|f| f.code == "draws-differ").collect();
    assert_eq!(found.len(), 1, "{found:?}");
    let bytes = |teacher: &str| {
        let bytes = fs::read(file(folder.path(), teacher, 3)).unwrap();
        let header = Header::from_bytes(&bytes).unwrap();
        let (start, info) = (header.data_start(), header.get("noise").unwrap());
        blake3::hash(&bytes[(start + info.start) as usize..(start + info.end) as usize]).to_string()
    };
    assert!(found[0].expected.contains(&bytes("animals")), "{found:?}");
    assert!(found[0].found.contains(&bytes("food")), "{found:?}");
    assert_eq!(found[0].component, "food");
}

#[test]
fn the_range_of_the_timesteps_is_found() {
    let report = made_by(&Maker {
        timesteps: (200, 900),
        ..TORCH
    });
    assert_eq!(codes_of(&report), [""; 0]);
    assert_eq!(report.provenance[0].timesteps, Some((200, 900)));
}

/// The older builder's mistake: every teacher saw other noise.
#[test]
fn noise_keyed_by_teacher_is_named_with_and_without_metadata() {
    let seed: fn(&str, &str) -> u64 = |image, teacher| files_seed(&format!("{image}|{teacher}"), BASE_SEED);
    for metadata in [true, false] {
        let keyed = Maker {
            seed,
            metadata,
            ..TORCH
        };
        let report = made_by(&keyed);
        assert!(
            codes_of(&report).contains(&"food noise-keyed-by-teacher".to_owned()),
            "{metadata}"
        );
        assert_eq!(report.verdict, Verdict::Damaged);
        assert!(
            report
                .findings
                .iter()
                .filter(|f| f.severity == Severity::Error)
                .all(|f| f.training)
        );
        assert_eq!(report.counts["food"].get("draws-differ"), None);
        assert_eq!(
            report.provenance[0].seeds,
            if metadata { "image and teacher" } else { "unknown" }
        );
        // A teacher alone contradicts nobody.
        let folder = tempfile::tempdir().unwrap();
        build_files(folder.path(), &keyed, &["food"]);
        let alone = self::report(folder.path());
        assert_eq!(alone.verdict, Verdict::Ok);
        let code = if metadata {
            "food noise-keyed-by-teacher"
        } else {
            "food seeds-unknown"
        };
        assert_eq!(codes_of(&alone), [code]);
    }
}

#[test]
fn every_damage_is_named() {
    let unnamed = |path: PathBuf| fs::rename(&path, path.with_file_name("notes.txt")).unwrap();
    type Damage = Box<dyn Fn(&Path)>;
    let cases: Vec<(Damage, &[&str])> = vec![
        (
            Box::new(|c| fs::remove_file(file(c, "food", 3)).unwrap()),
            &["food entry-missing"],
        ),
        (
            Box::new(move |c| unnamed(file(c, "animals", 3))),
            &["animals entry-missing", "animals file-unknown"],
        ),
        (
            Box::new(|c| fs::write(c.join("food/.potstill-a1.tmp"), "half").unwrap()),
            &["food leftover"],
        ),
        (
            Box::new(|c| fs::write(file(c, "food", 1), [0xff; 80]).unwrap()),
            &["food file-header"],
        ),
        (
            Box::new(|c| {
                fs::File::options()
                    .write(true)
                    .open(file(c, "food", 1))
                    .unwrap()
                    .set_len(900)
                    .unwrap()
            }),
            &["food file-header"],
        ),
        (
            Box::new(|c| edit(&file(c, "food", 5), "resolution", |b| b[1] ^= 1)),
            &["food resolution-mismatch"],
        ),
        (
            Box::new(|c| {
                // The file of one size under the name of another.
                let wrong = FilesName { width: 128, ..name(5) };
                fs::rename(file(c, "food", 5), c.join("food").join(wrong.file())).unwrap();
            }),
            &[
                "animals entry-missing",
                "food entry-missing",
                "food metadata-mismatch",
                "food resolution-mismatch",
                "food tensor-shape",
            ],
        ),
        (
            // Two files exchanged: each under the other's name.
            Box::new(|c| {
                fs::rename(file(c, "food", 1), c.join("x")).unwrap();
                fs::rename(file(c, "food", 2), file(c, "food", 1)).unwrap();
                fs::rename(c.join("x"), file(c, "food", 2)).unwrap();
            }),
            &["food draws-differ", "food metadata-mismatch", "food text-differs"],
        ),
        (
            Box::new(|c| {
                edit(&file(c, "food", 7), "teacher_pred", |b| {
                    b[..2].copy_from_slice(&[0, 0x7e])
                })
            }),
            &["food not-finite"],
        ),
        (
            Box::new(|c| rewrite(c, "food", 7, |e| e.timestep = (e.timestep + 1) % 1000)),
            &["food draws-differ", "food timestep-mismatch"],
        ),
        (
            Box::new(|c| {
                for teacher in ["animals", "food"] {
                    rewrite(c, teacher, 7, |e| e.noise[100] += 0.5);
                }
            }),
            &["animals noise-mismatch", "food noise-mismatch"],
        ),
        (
            Box::new(|c| rewrite(c, "food", 7, |e| e.seed += 1)),
            &[
                "food draws-differ",
                "food noise-mismatch",
                "food seed-mismatch",
                "food timestep-mismatch",
            ],
        ),
        (
            Box::new(|c| {
                let (mut a, mut b) = (Vec::new(), Vec::new());
                rewrite(c, "food", 8, |e| a = e.prediction.clone());
                rewrite(c, "food", 9, |e| b = std::mem::replace(&mut e.prediction, a));
                rewrite(c, "food", 8, |e| e.prediction = b);
            }),
            &["food prediction-swapped"],
        ),
        (
            Box::new(|c| rewrite(c, "food", 8, |e| e.prediction.iter_mut().for_each(|v| *v *= 3.0))),
            &["food prediction-implausible"],
        ),
        (
            Box::new(|c| {
                for image in 0..IMAGES {
                    rewrite(c, "food", image, |e| {
                        e.prediction = normals(image as u64, e.prediction.len())
                    });
                }
            }),
            &["food teacher-implausible"],
        ),
        (
            Box::new(|c| rewrite(c, "food", 8, |e| e.hidden_states[3] += 1.0)),
            &["food text-differs"],
        ),
        (
            Box::new(|c| rewrite(c, "food", 8, |e| e.pooled = Some(vec![0.5; 7]))),
            &["food tensor-shape", "food text-differs"],
        ),
        (
            Box::new(|c| {
                rewrite(c, "food", 8, |e| {
                    drop(e.metadata.insert("teacher_id".into(), "animals".into()))
                })
            }),
            &["food metadata-mismatch"],
        ),
    ];
    for (damage, expected) in cases {
        let report = damaged(damage);
        assert_eq!(codes_of(&report), expected);
        for finding in &report.findings {
            assert!(!finding.remedy.is_empty() && !finding.expected.is_empty() && !finding.found.is_empty());
            assert!(!finding.file.is_empty() || finding.entry.is_empty(), "{finding:?}");
        }
    }
}

#[test]
fn structure_alone_makes_nothing_anew() {
    let folder = tempfile::tempdir().unwrap();
    let unknown = Maker {
        seed: |_, teacher| teacher.len() as u64,
        ..TORCH
    };
    build_files(
        folder.path(),
        &Maker {
            metadata: false,
            ..unknown
        },
        &["animals", "food"],
    );
    let report = report_at(folder.path(), Level::Structure);
    assert_eq!(codes_of(&report), [""; 0]);
    assert!(report.provenance.is_empty() && report.statistics.is_empty());
}

#[cfg(unix)]
#[test]
fn links_are_not_followed() {
    let report = damaged(|cache| {
        let path = file(cache, "food", 4);
        fs::rename(&path, cache.join("moved")).unwrap();
        std::os::unix::fs::symlink(cache.join("moved"), path).unwrap();
    });
    assert_eq!(codes_of(&report), ["food unreadable"]);
}

/// No plan, no digests: not all damage shows. But none is a panic, and what is read stays within bounds.
#[test]
fn random_damage_never_panics() {
    let source = FolderSource::new(clean());
    let files: BTreeMap<String, Vec<u8>> = source
        .list()
        .unwrap()
        .into_iter()
        .take(3)
        .map(|path| (path.clone(), source.read_all(&path, u64::MAX).unwrap()))
        .collect();
    let options = VerifyOptions {
        level: Level::Determinism,
        progress: None,
        images: None,
    };
    let mut random = Mt19937::new(11);
    for round in 0..600 {
        let mut damaged = MemorySource { files: files.clone() };
        let bytes = damaged.files.values_mut().nth(round % 3).unwrap();
        // Most of the rounds in the header.
        let limit = if round % 4 == 0 { bytes.len() } else { 700 };
        let at = random.next_u32() as usize % limit;
        match round % 5 {
            0 => bytes[at] ^= 1 << (random.next_u32() % 8),
            1 => bytes.truncate(at),
            2 => bytes.insert(at, b"0129\"{}[],:-e."[random.next_u32() as usize % 14]),
            3 => drop(bytes.remove(at)),
            _ => bytes[at] = random.next_u32() as u8,
        }
        for path in files.keys() {
            let _ = FilesEntry::read(&damaged, path);
        }
        verify(&damaged, &options).unwrap().to_json().unwrap();
    }
}

/// What torch and safetensors write, as `test/fixtures/make_files_cache.py` has it.
#[test]
fn caches_made_with_torch_are_read_and_recognised() {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../test/fixtures/files_cache");
    let shared = report(&fixtures.join("shared"));
    assert_eq!(
        codes_of(&shared),
        ["teacher_chaos seeds-unknown", "teacher_v8 seeds-unknown"]
    );
    assert_eq!(shared.verdict, Verdict::Ok);
    assert_eq!(shared.provenance[0].noise[0].noise, "torch-cpu-avx2");
    assert_eq!(shared.provenance[0].timesteps, Some((0, 1000)));

    let keyed = report(&fixtures.join("keyed"));
    let found = codes_of(&keyed);
    assert!(
        found.contains(&"teacher_v8 noise-keyed-by-teacher".to_owned()),
        "{found:?}"
    );
    assert_eq!(keyed.provenance[0].noise[0].noise, "torch-cpu-avx2, rounded to bf16");

    let name = FilesName::of("cats/2", 96, 64, "1");
    let source = FolderSource::new(&fixtures);
    let entry = FilesEntry::read(&source, &format!("shared/teacher_v8/{}", name.file())).unwrap();
    assert_eq!((entry.seed, entry.text), (files_seed("cats/2", BASE_SEED), [77, 8]));
}

mod common;

use common::{build_cache, build_cache_of, build_cache_with, latents_plan, latents_plan_of};
use potstill_cache::{
    CacheReader, ComponentId, Digest32, ExportOptions, Exported, PredictionKind, export_files, sha256,
};
use potstill_noise::View;

fn export(cache: &Path, out: &Path, image_ids: &BTreeMap<Digest32, Vec<String>>) -> Result<Exported, CacheError> {
    let reader = CacheReader::open(Box::new(FolderSource::new(cache)), None).unwrap();
    let progress = |_: u64, _: u64| {};
    let options = ExportOptions {
        image_ids,
        progress: Some(&progress),
    };
    export_files(&reader, out, &options)
}

#[test]
fn an_exported_cache_verifies_and_says_what_was_left_out() {
    let (cache, out) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    build_cache(cache.path(), PredictionKind::Epsilon);
    let latents = latents_plan(40);
    let ids = BTreeMap::from([(latents.views[0].image, vec!["pets/0".to_owned(), "again/0".to_owned()])]);
    let exported = export(cache.path(), out.path(), &ids).unwrap();
    // 40 images with 4 draws, one of them under two names, for two teachers; two mirrored views.
    assert_eq!(
        exported,
        Exported {
            teachers: vec!["animals".to_owned(), "food".to_owned()],
            files: 2 * 41 * 4,
            unnamed_images: 39,
            flipped_samples: 2,
            repeated_samples: 0,
            uncond_predictions: 2 * 42 * 4,
            latents: 42,
            other_predictions: Vec::new(),
            other_time_ids: 0,
        }
    );
    let report = report(out.path());
    assert_eq!(codes_of(&report), [""; 0]);
    for provenance in &report.provenance {
        assert_eq!(provenance.seeds, "image, view and draw");
        assert_eq!(provenance.timesteps, Some((0, 1000)));
        assert_eq!(provenance.noise[0].noise, "philox");
    }
    // The values are those of the cache, under the name that a reader of the layout makes.
    let reader = CacheReader::open(Box::new(FolderSource::new(cache.path())), None).unwrap();
    let source = FolderSource::new(out.path());
    for (draw, version) in ["1", "1.1", "1.2", "1.3"].into_iter().enumerate() {
        let name = FilesName::of("pets/0", 128, 128, version);
        let entry = FilesEntry::read(&source, &format!("food/{}", name.file())).unwrap();
        let teacher = "teachers/food".parse::<ComponentId>().unwrap();
        let drawn = reader.layout(&teacher).unwrap().draw(draw as u64).unwrap();
        assert_eq!((entry.seed, entry.timestep), (drawn.seed, i64::from(drawn.timestep)));
        assert_eq!(
            entry.prediction,
            reader.read(&teacher, "cond", &[draw as u64]).unwrap().values
        );
        let states = reader.read(&ComponentId::Text, "encoder_hidden_states", &[1]).unwrap();
        assert_eq!(entry.hidden_states, states.values);
    }
    let again = export(cache.path(), out.path(), &ids);
    assert!(matches!(again, Err(CacheError::Occupied { folder }) if folder == "animals"));
    // Metadata that tell another draw are found.
    let name = FilesName::of("pets/0", 128, 128, "1");
    let path = format!("food/{}", name.file());
    let mut entry = FilesEntry::read(&source, &path).unwrap();
    entry.metadata.insert("potstill.draw".to_owned(), "1".to_owned());
    entry.write(&out.path().join("food")).unwrap();
    let found = codes_of(&self::report(out.path()));
    assert_eq!(found, ["food seed-mismatch", "food timestep-mismatch"]);
}

/// The layout has no list of its files: half an export would be taken for a whole one.
#[test]
fn a_stopped_export_leaves_nothing_that_looks_like_one() {
    let (cache, out) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    build_cache(cache.path(), PredictionKind::Epsilon);
    // Cut off where it stands, as by a kill: nothing is in its place, and what was written is no cache.
    let kept = tempfile::tempdir().unwrap();
    let looked = std::sync::atomic::AtomicBool::new(false);
    let progress = |done: u64, total: u64| {
        if done < total {
            return;
        }
        looked.store(true, std::sync::atomic::Ordering::Relaxed);
        copy_folder(out.path(), kept.path());
        for teacher in ["animals", "food"] {
            assert!(!out.path().join(teacher).exists());
        }
        let options = VerifyOptions {
            level: Level::Structure,
            progress: None,
            images: None,
        };
        let half = verify(&FolderSource::new(out.path()), &options);
        assert!(matches!(half, Err(CacheError::NoCache)), "{half:?}");
        let second = export(cache.path(), out.path(), &BTreeMap::new());
        assert!(matches!(second, Err(CacheError::Busy { .. })), "{second:?}");
    };
    let reader = CacheReader::open(Box::new(FolderSource::new(cache.path())), None).unwrap();
    let image_ids = BTreeMap::new();
    let options = ExportOptions {
        image_ids: &image_ids,
        progress: Some(&progress),
    };
    export_files(&reader, out.path(), &options).unwrap();
    assert!(looked.into_inner());
    // The next call goes on from what a killed one left, and leaves nothing else.
    export(cache.path(), kept.path(), &image_ids).unwrap();
    for folder in [out.path(), kept.path()] {
        let mut names: Vec<_> = fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        names.sort();
        assert_eq!(names, ["animals", "food"]);
        assert_eq!(codes_of(&report(folder)), [""; 0]);
    }
    // One that fails takes its folders with it.
    let failed = tempfile::tempdir().unwrap();
    let shard = cache.path().join("teachers/food/shard-00000.safetensors");
    let length = fs::metadata(&shard).unwrap().len();
    fs::File::options()
        .write(true)
        .open(&shard)
        .unwrap()
        .set_len(length - 8)
        .unwrap();
    export(cache.path(), failed.path(), &image_ids).unwrap_err();
    assert_eq!(fs::read_dir(failed.path()).unwrap().count(), 0);
}

fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let place = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_folder(&entry.path(), &place);
        } else {
            fs::copy(entry.path(), place).unwrap();
        }
    }
}

/// What readers of the layout assume of a teacher is not so of every one.
#[test]
fn an_export_says_what_readers_would_take_for_something_else() {
    let (cache, out) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut latents = latents_plan(40);
    // Not square: what potstill gives SDXL, [H, W, …], is not what readers give.
    let wide: Vec<_> = latents.views.split_off(40);
    latents.views.extend(wide.into_iter().map(|mut view| {
        view.view.flipped = false;
        view
    }));
    build_cache_with(cache.path(), PredictionKind::V, latents, |plan, latents| {
        let ids = |view: &View| [view.height, view.width, 0, 0, view.height, view.width].map(f64::from);
        plan.time_ids = Some(latents.views.iter().map(|shown| ids(&shown.view)).collect());
    });
    let exported = export(cache.path(), out.path(), &BTreeMap::new()).unwrap();
    assert_eq!(exported.other_predictions, ["animals", "food"]);
    assert_eq!(exported.other_time_ids, 2);
    // Held against the noise, the predictions of a v-teacher would be findings.
    let found = report(out.path());
    assert_eq!(
        codes_of(&found),
        ["animals predictions-unjudged", "food predictions-unjudged"]
    );
    assert_eq!(found.findings[0].found, "predictions of v in 168 of 168 entries");
    assert!(found.statistics.iter().all(|statistics| statistics.bands.is_empty()));

    let image = latents_plan(40).views[40].image.to_string();
    let path = format!("food/{}", FilesName::of(&image, 256, 128, "1").file());
    let source = FolderSource::new(out.path());
    let mut entry = FilesEntry::read(&source, &path).unwrap();
    let plan = fs::read(cache.path().join("teachers/food/plan.json")).unwrap();
    assert_eq!(entry.metadata["potstill.plan"], sha256(&plan).to_string());
    assert_eq!(entry.metadata["potstill.time_ids"], "128,256,0,0,128,256");
    entry
        .metadata
        .insert("potstill.prediction".to_owned(), "noise".to_owned());
    entry.write(&out.path().join("food")).unwrap();
    assert!(codes_of(&report(out.path())).contains(&"food metadata-mismatch".to_owned()));
}

#[test]
fn pictures_beyond_the_layout_are_refused() {
    let (cache, out) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut latents = latents_plan_of(1, 2);
    latents.vae.downscale = 4;
    latents.views = vec![latents.views[0]];
    latents.views[0].view = "12x12+0+0".parse().unwrap();
    build_cache_of(cache.path(), PredictionKind::Epsilon, latents);
    let refused = export(cache.path(), out.path(), &BTreeMap::new());
    assert!(matches!(refused, Err(CacheError::Entry { .. })));
    assert_eq!(fs::read_dir(out.path()).unwrap().count(), 0);
}

use common::{build, latent, normals as common_normals, teacher_plan, text_plan};
use potstill_cache::{
    LatentsPlan, NoiseOfPlan, Plan, StorageDtype, TeacherPlan, TextPlan, import_teacher, survey_files,
};

/// A cache with latents and text, and the plan of a teacher whose predictions lie in files.
struct Imported {
    cache: TempDir,
    files: TempDir,
    plan: TeacherPlan,
    names: Vec<FilesName>,
}

const IMPORTED: usize = 40;

fn import_plans() -> (LatentsPlan, TextPlan) {
    let mut latents = latents_plan(IMPORTED);
    latents.views.truncate(IMPORTED);
    let mut text = text_plan();
    text.shape.tokens = 5;
    (latents, text)
}

fn caption_states(caption: u64, field: &str, n: usize) -> Vec<f32> {
    common_normals(caption + field.len() as u64, n)
}

/// Files that torch made on a GPU with few threads, in bf16: noise that nobody can make again to the bit.
fn import_fixture() -> Imported {
    let (cache, files) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (latents, text) = import_plans();
    build(cache.path(), &Plan::Latents(latents.clone()), &mut |_, _, record, n| {
        latent(record, n)
    });
    build(cache.path(), &Plan::Text(text.clone()), &mut |_, field, record, n| {
        caption_states(record, field, n)
    });
    let maker = Maker {
        noise: |seed, out| {
            TorchCudaNormals::new(seed, 256).fill_from(0, out);
            let bytes = potstill_io::f32_to_bytes(out, Dtype::Bf16).unwrap();
            Dtype::Bf16.to_f32_into(&bytes, out).unwrap();
        },
        metadata: false,
        ..TORCH
    };
    let mut plan = TeacherPlan {
        draws: 1,
        fields: vec![potstill_cache::PredictionField::Cond],
        ..teacher_plan("animals", PredictionKind::Epsilon, &latents, &text)
    };
    let mut names = Vec::new();
    for (view, caption) in &plan.samples {
        let mut entry = sample(&maker, "animals", *view as usize * 5 + 1);
        entry.hidden_states = caption_states(u64::from(*caption), "encoder_hidden_states", 40);
        entry.pooled = Some(caption_states(u64::from(*caption), "pooled", 6));
        entry.write(&files.path().join("animals")).unwrap();
        names.push(entry.name);
    }
    plan.noise.generator = NoiseOfPlan::Stored;
    let source = FolderSource::new(files.path());
    plan.given = Some(survey_files(&source, "animals", &names, StorageDtype::F16).unwrap());
    Imported {
        cache,
        files,
        plan,
        names,
    }
}

impl Imported {
    fn run(&self) -> Result<potstill_cache::ImportedTeacher, CacheError> {
        let source = FolderSource::new(self.files.path());
        import_teacher(self.cache.path(), &self.plan, &source, "animals", &self.names)
    }
}

#[test]
fn imported_files_lose_nothing_and_can_be_exported_again() {
    let fixture = import_fixture();
    let imported = fixture.run().unwrap();
    assert_eq!((imported.records, imported.other_texts), (IMPORTED as u64, 0));
    let report = report(fixture.cache.path());
    assert_eq!(codes_of(&report), [""; 0]);
    let reader = CacheReader::open(Box::new(FolderSource::new(fixture.cache.path())), None).unwrap();
    let (source, teacher) = (
        FolderSource::new(fixture.files.path()),
        "teachers/animals".parse().unwrap(),
    );
    for (record, name) in fixture.names.iter().enumerate() {
        let entry = FilesEntry::read(&source, &format!("animals/{}", name.file())).unwrap();
        let record = [record as u64];
        assert_eq!(reader.read(&teacher, "cond", &record).unwrap().values, entry.prediction);
        assert_eq!(reader.noise("animals", &record).unwrap().values, entry.noise);
        let draw = reader.draw("animals", record[0]).unwrap();
        assert_eq!((draw.seed, i64::from(draw.timestep)), (entry.seed, entry.timestep));
    }
    // Back again: the very tensors.
    let out = tempfile::tempdir().unwrap();
    let views = &reader.latents_plan().views;
    let ids = views
        .iter()
        .enumerate()
        .map(|(i, view)| (view.image, vec![image_id(i * 5 + 1)]));
    let exported = export(fixture.cache.path(), out.path(), &ids.collect()).unwrap();
    assert_eq!((exported.files, exported.unnamed_images), (IMPORTED as u64, 0));
    let back = FolderSource::new(out.path());
    for name in &fixture.names {
        let path = format!("animals/{}", name.file());
        let (before, after) = (
            FilesEntry::read(&source, &path).unwrap(),
            FilesEntry::read(&back, &path).unwrap(),
        );
        assert_eq!(
            FilesEntry {
                metadata: BTreeMap::new(),
                ..after
            },
            before
        );
    }
    assert!(matches!(fixture.run(), Err(CacheError::Sealed { .. })));
}

#[test]
fn damage_to_an_imported_cache_is_found() {
    for (tensor, code) in [
        ("noise", "teachers/animals noise-mismatch"),
        ("seed", "teachers/animals seed-mismatch"),
        ("timestep", "teachers/animals timestep-mismatch"),
    ] {
        let fixture = import_fixture();
        fixture.run().unwrap();
        let teacher = fixture.cache.path().join("teachers/animals");
        edit(&teacher.join("shard-00001.safetensors"), tensor, |bytes| bytes[1] ^= 4);
        fs::remove_file(teacher.join("seal.json")).unwrap();
        potstill_cache::seal(fixture.cache.path(), &Plan::Teacher(fixture.plan.clone()).component()).unwrap();
        let found = codes_of(&report(fixture.cache.path()));
        assert!(found.contains(&code.to_owned()), "{code}: {found:?}");
    }
}

#[test]
fn an_import_tells_of_other_text_and_refuses_what_changed() {
    let fixture = import_fixture();
    for name in &fixture.names[..3] {
        let source = FolderSource::new(fixture.files.path());
        let mut entry = FilesEntry::read(&source, &format!("animals/{}", name.file())).unwrap();
        entry.hidden_states.iter_mut().for_each(|v| *v = -*v);
        entry.write(&fixture.files.path().join("animals")).unwrap();
    }
    assert_eq!(fixture.run().unwrap().other_texts, 3);

    let fixture = import_fixture();
    let path = fixture.files.path().join("animals").join(fixture.names[2].file());
    edit(&path, "seed", |bytes| bytes[0] ^= 1);
    assert!(matches!(fixture.run(), Err(CacheError::Entry { reason, .. }) if reason.contains("changed")));
    fs::remove_file(&path).unwrap();
    assert!(matches!(fixture.run(), Err(CacheError::Source(_))));
}

#[test]
fn plans_with_given_draws_are_checked() {
    let plan = import_fixture().plan;
    let refused = |change: &dyn Fn(&mut TeacherPlan)| {
        let mut plan = plan.clone();
        change(&mut plan);
        Plan::Teacher(plan).validate().unwrap_err().to_string()
    };
    assert!(Plan::Teacher(plan.clone()).validate().is_ok());
    let bytes = Plan::Teacher(plan.clone()).to_bytes().unwrap();
    assert_eq!(Plan::parse(&bytes).unwrap(), Plan::Teacher(plan.clone()));
    assert!(refused(&|plan| plan.given = None).contains("given must be there"));
    assert!(refused(&|plan| plan.noise.generator = Generator::Torch.into()).contains("given must be there"));
    assert!(refused(&|plan| plan.given.as_mut().unwrap().truncate(39)).contains("39 draws for 40 records"));
    assert!(refused(&|plan| plan.given.as_mut().unwrap()[3].timestep = 1000).contains("given[3] has timestep 1000"));
    // A seed of 64 bits survives.
    let mut wide = plan;
    wide.given.as_mut().unwrap()[0].seed = u64::MAX;
    let bytes = Plan::Teacher(wide.clone()).to_bytes().unwrap();
    assert_eq!(Plan::parse(&bytes).unwrap(), Plan::Teacher(wide));
}

use potstill_cache::FilesImages;

fn report_of_images(cache: &Path, ids: impl IntoIterator<Item = String>, base_seed: i64) -> Report {
    let images = FilesImages {
        ids: ids.into_iter().collect(),
        version: "1".to_owned(),
        base_seed,
    };
    let options = VerifyOptions {
        level: Level::Determinism,
        progress: None,
        images: Some(&images),
    };
    verify(&FolderSource::new(cache), &options).unwrap()
}

/// Files that do not name their images are held against the images that the caller names.
#[test]
fn images_that_are_named_prove_the_seeds() {
    let keyed = |image: &str, teacher: &str| files_seed(&format!("{image}|{teacher}"), BASE_SEED);
    let ids = || (0..IMAGES).map(image_id);
    let unnamed = Maker {
        metadata: false,
        ..TORCH
    };
    let folder = tempfile::tempdir().unwrap();
    build_files(folder.path(), &unnamed, &["food"]);
    let report = report_of_images(folder.path(), ids(), BASE_SEED);
    assert_eq!(codes_of(&report), [""; 0]);
    assert_eq!(report.provenance[0].seeds, "image");
    // Another base seed proves nothing, and accuses nobody.
    let other = report_of_images(folder.path(), ids(), 7);
    assert_eq!(codes_of(&other), ["food seeds-unknown"]);
    // An image more, and one renamed.
    let more = report_of_images(folder.path(), ids().skip(1).chain(["pets/new".to_owned()]), BASE_SEED);
    assert_eq!(codes_of(&more), ["food image-missing", "food image-unknown"]);
    assert!(more.findings.iter().any(|f| f.entry == "pets/new"));
    rewrite(folder.path(), "food", 7, |entry| entry.seed += 1);
    let wrong = report_of_images(folder.path(), ids(), BASE_SEED);
    assert!(codes_of(&wrong).contains(&"food seed-mismatch".to_owned()));

    let folder = tempfile::tempdir().unwrap();
    build_files(folder.path(), &Maker { seed: keyed, ..unnamed }, &["food"]);
    let alone = report_of_images(folder.path(), ids(), BASE_SEED);
    assert_eq!(codes_of(&alone), ["food noise-keyed-by-teacher"]);
    assert_eq!(
        (alone.verdict, alone.provenance[0].seeds),
        (Verdict::Ok, "image and teacher")
    );
}

#[test]
fn images_come_as_json() {
    let images = FilesImages::parse(r#"{"ids":["a/b"],"version":"1","baseSeed":-3}"#).unwrap();
    assert_eq!((images.ids.len(), images.base_seed), (1, -3));
    assert!(FilesImages::parse(r#"{"ids":[]}"#).is_err());
}
