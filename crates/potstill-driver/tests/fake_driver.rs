//! Asks a driver made of C for these tests, in processes of their own: environment variables break it.
#![cfg(target_os = "linux")]

use std::path::Path;
use std::process::Command;

use potstill_driver::{DRIVER_LIBRARY, DriverError, free_memory, inspect_driver, preload};

/// Compiles the fake; linking this test took the same compiler.
fn fake(folder: &Path) -> String {
    let library = folder.join(DRIVER_LIBRARY);
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fake_driver.c");
    let status = Command::new("cc")
        .args(["-shared", "-fPIC", "-o"])
        .args([&library, &source])
        .status()
        .expect("a C compiler");
    assert!(status.success());
    library.to_str().unwrap().to_owned()
}

/// Runs one of the tests below again, in a process with a variable set.
fn again(test: &str, variable: &str, value: &str) {
    let status = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--ignored"])
        .env(variable, value)
        .status()
        .unwrap();
    assert!(status.success(), "{test} with {variable}={value}");
}

#[test]
fn devices_are_listed_with_what_they_have() {
    let folder = tempfile::tempdir().unwrap();
    let library = fake(folder.path());
    let driver = inspect_driver(&library).unwrap();
    assert_eq!(driver.cuda, (13, 2));
    let devices = driver.devices.unwrap();
    let facts: Vec<_> = devices
        .iter()
        .map(|d| (d.name.as_str(), d.capability, d.total_bytes >> 30))
        .collect();
    assert_eq!(facts, [("Fake One", (8, 6), 24), ("Fake Two", (9, 0), 141)]);
    let free = [0, 1].map(|device| free_memory(&library, device).unwrap() >> 30);
    assert_eq!(free, [20, 100]);
    assert!(
        free_memory(&library, 2)
            .unwrap_err()
            .to_string()
            .contains("cuDeviceGet failed")
    );
}

#[test]
fn a_driver_without_devices_still_tells_its_version() {
    again("no_devices", "FAKE_CUDA_INIT", "100");
    again("no_devices", "FAKE_CUDA_INIT", "7");
}

#[test]
#[ignore = "run by another test, with FAKE_CUDA_INIT"]
fn no_devices() {
    let folder = tempfile::tempdir().unwrap();
    let code: i32 = std::env::var("FAKE_CUDA_INIT").unwrap().parse().unwrap();
    let driver = inspect_driver(&fake(folder.path())).unwrap();
    assert_eq!(driver.cuda, (13, 2));
    let message = driver.devices.unwrap_err().to_string();
    let name = if code == 100 {
        "CUDA_ERROR_NO_DEVICE"
    } else {
        "an error without a name"
    };
    assert_eq!(message, format!("cuInit failed: {name} ({code})"));
}

#[test]
fn what_is_no_driver_is_told() {
    let missing = inspect_driver("libno-such-driver.so.1").unwrap_err();
    assert!(
        matches!(&missing, DriverError::Missing(reason) if reason.contains("libno-such-driver.so.1")),
        "{missing}"
    );
    let folder = tempfile::tempdir().unwrap();
    let (source, library) = (folder.path().join("empty.c"), folder.path().join("libempty.so"));
    std::fs::write(&source, "int nothing;\n").unwrap();
    let made = Command::new("cc")
        .args(["-shared", "-fPIC", "-o"])
        .args([&library, &source])
        .status();
    assert!(made.unwrap().success());
    let foreign = inspect_driver(library.to_str().unwrap()).unwrap_err();
    assert!(foreign.to_string().contains("cuDriverGetVersion"), "{foreign}");
}

#[test]
fn a_library_is_preloaded_for_those_that_need_it_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    std::fs::create_dir(folder.path().join("hidden")).unwrap();
    std::fs::write(at("need.c"), "int needed(void) { return 7; }\n").unwrap();
    std::fs::write(at("user.c"), "int needed(void); int use(void) { return needed(); }\n").unwrap();
    let compile = |words: &[&str]| assert!(Command::new("cc").args(words).status().unwrap().success());
    let need = at("hidden/libneed.so.3");
    compile(&[
        "-shared",
        "-fPIC",
        "-Wl,-soname,libneed.so.3",
        "-o",
        &need,
        &at("need.c"),
    ]);
    compile(&["-shared", "-fPIC", "-o", &at("libuser.so"), &at("user.c"), &need]);
    let reason = preload(&at("libuser.so")).unwrap_err();
    assert!(reason.contains("libneed.so.3"), "{reason}");
    preload(&need).unwrap();
    preload(&at("libuser.so")).unwrap();
}
