//! Caches read from a server, against the same in a folder.

mod common;
#[allow(unused_imports)]
#[path = "../../potstill-cache/tests/common/mod.rs"]
mod synthetic;

use std::fs;
use std::path::Path;
use std::sync::Arc;

use common::{BUCKET, Server, copy};
use potstill_cache::{
    CacheError, CacheReader, FolderSource, Level, PredictionKind, RemoteFailure, Rows, Source, SourceError,
    VerifyOptions, verify,
};
use potstill_s3::{Bucket, S3ErrorKind, S3Source};

const OPTIONS: VerifyOptions<'static> = VerifyOptions {
    level: Level::Determinism,
    progress: None,
    images: None,
};

fn report_of_folder(cache: &Path) -> Vec<u8> {
    verify(&FolderSource::new(cache), &OPTIONS).unwrap().to_json().unwrap()
}

fn report_of_server(bucket: Bucket) -> Vec<u8> {
    let report = verify(&S3Source::streaming(bucket), &OPTIONS).unwrap();
    report.to_json().unwrap()
}

#[test]
fn reports_are_those_of_a_folder_to_the_byte() {
    let server = Server::start();
    let good = server.folder("good");
    synthetic::build_cache(&good, PredictionKind::V);
    assert_eq!(report_of_server(server.bucket("good")), report_of_folder(&good));

    // A shard less, one cut short, a byte turned, a file that nobody knows, a seal gone.
    let bad = server.folder("deep/er/bad");
    copy(&good, &bad);
    fs::remove_file(bad.join("teachers/food/shard-00001.safetensors")).unwrap();
    let cut = bad.join("teachers/animals/shard-00002.safetensors");
    let bytes = fs::read(&cut).unwrap();
    fs::write(&cut, &bytes[..bytes.len() / 2]).unwrap();
    let turned = bad.join("latents/shard-00000.safetensors");
    let mut bytes = fs::read(&turned).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    fs::write(&turned, bytes).unwrap();
    fs::write(bad.join("text/notes.txt"), "x").unwrap();
    fs::remove_file(bad.join("text/seal.json")).unwrap();
    let report = report_of_server(server.bucket("deep/er/bad"));
    assert_eq!(report, report_of_folder(&bad));
    let text = String::from_utf8(report).unwrap();
    for code in [
        "shard-missing",
        "shard-header",
        "shard-digest",
        "file-unknown",
        "unsealed",
    ] {
        assert!(text.contains(code), "{code}");
    }
}

#[test]
fn files_larger_than_a_block_are_read_whole() {
    let server = Server::start();
    let content: Vec<u8> = (0..9_000_000u32)
        .map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8)
        .collect();
    fs::create_dir_all(server.folder("a")).unwrap();
    fs::write(server.folder("a").join("large"), &content).unwrap();
    for source in [
        S3Source::streaming(server.bucket("a")),
        S3Source::scattered(server.bucket("a")),
    ] {
        assert_eq!(source.read_all("large", 10_000_000).unwrap(), content);
        let mut part = vec![0; 3_000_000];
        source.read("large", 3_500_000, &mut part).unwrap();
        assert_eq!(part, content[3_500_000..6_500_000]);
        let past = source.read("large", 8_999_999, &mut part);
        assert!(matches!(past, Err(SourceError::TooShort { end: 11_999_999, .. })));
        assert!(matches!(source.size("nothing"), Err(SourceError::Missing { .. })));
    }
}

#[test]
fn rows_for_training_are_those_of_a_folder() {
    let server = Server::start();
    let cache = server.folder("");
    synthetic::build_cache(&cache, PredictionKind::Epsilon);
    let rows = Rows {
        component: "teachers/food".parse().unwrap(),
        fields: vec!["cond".to_owned()],
        records: vec![77, 3, 120, 4],
    };
    let whole_bucket = server.open(&format!("s3://{BUCKET}"), &[]).unwrap();
    let remote = CacheReader::open(Box::new(S3Source::scattered(whole_bucket)), None).unwrap();
    let local = CacheReader::open(Box::new(FolderSource::new(&cache)), None).unwrap();
    assert_eq!(remote.rows(&rows).unwrap(), local.rows(&rows).unwrap());
}

#[test]
fn what_keeps_from_reading_is_an_error_and_no_finding() {
    let mut server = Server::start();
    synthetic::build_cache(&server.folder("a"), PredictionKind::Epsilon);
    let source = S3Source::streaming(server.bucket("a"));
    source.list().unwrap();
    server.stop();
    match verify(&source, &OPTIONS) {
        Err(CacheError::Source(SourceError::Remote(failure))) => {
            assert!(failure.place.starts_with("s3://caches/a/"), "{failure}");
            assert!(failure.is_here);
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_object_that_changes_while_it_is_read_is_refused() {
    let server = Server::start();
    fs::create_dir_all(server.folder("a")).unwrap();
    let file = server.folder("a").join("plan.json");
    fs::write(&file, "0123456789").unwrap();
    let source = S3Source::scattered(server.bucket("a"));
    let mut part = [0; 4];
    source.read("plan.json", 2, &mut part).unwrap();
    assert_eq!(&part, b"2345");
    fs::write(&file, "abcdefghij").unwrap();
    let error = source.read("plan.json", 2, &mut part).unwrap_err();
    assert_eq!(
        error.to_string(),
        "s3://caches/a/plan.json: the object changed while it was read"
    );
    assert!(source.failure().is_none(), "other objects can be read");
}

#[test]
fn refusals_name_the_place_and_the_remedy_and_no_secret() {
    let server = Server::start();
    let kind = |location: &str, others: &[(&str, &str)]| {
        let source = S3Source::streaming(server.open(location, others).unwrap());
        match source.list().unwrap_err() {
            SourceError::Remote(failure) => {
                assert!(!format!("{failure:?}").contains("wrong-secret"));
                let RemoteFailure {
                    place,
                    reason,
                    remedy,
                    is_here,
                } = *failure;
                (place, reason, remedy, is_here)
            }
            other => panic!("{other:?}"),
        }
    };
    let (place, reason, remedy, is_here) = kind("s3://caches/a", &[("AWS_SECRET_ACCESS_KEY", "wrong-secret")]);
    assert_eq!(place, "s3://caches/a");
    assert_eq!(reason, "the server refuses access (SignatureDoesNotMatch)");
    assert!(remedy.contains("AWS_SECRET_ACCESS_KEY") && !is_here);
    let (place, reason, ..) = kind("s3://elsewhere/a", &[]);
    assert_eq!(
        (place.as_str(), reason.as_str()),
        ("s3://elsewhere/a", "there is no such bucket")
    );
    let (_, reason, remedy, is_here) = kind("s3://caches/a", &[("AWS_ENDPOINT_URL", "http://127.0.0.1:1")]);
    assert_eq!(reason, "the server cannot be reached");
    assert!(remedy.contains("AWS_ENDPOINT_URL") && is_here);
}

#[test]
fn variables_that_cannot_be_are_named() {
    let server = Server::start();
    for (others, named) in [
        (&[("AWS_ALLOW_HTTP", "false")][..], "AWS_ALLOW_HTTP=true"),
        (&[("AWS_ENDPOINT_URL", "localhost:9000")][..], "AWS_ENDPOINT_URL"),
        (&[("AWS_SKIP_SIGNATURE", "perhaps")][..], "perhaps"),
    ] {
        let error = server.open("s3://caches/a", others).unwrap_err();
        assert_eq!(error.kind, S3ErrorKind::Configuration);
        assert!(error.reason.contains(named), "{error}");
    }
}

#[test]
fn whoever_gives_up_does_not_wait() {
    let server = Server::start();
    let location = "s3://caches/a".parse().unwrap();
    let bucket = Bucket::with_variables(location, Arc::new(|| true), server.variables(&[])).unwrap();
    let source = S3Source::streaming(bucket);
    assert!(matches!(source.list(), Err(SourceError::Remote(failure)) if failure.is_here));
}
