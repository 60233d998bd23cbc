//! With feature `cuda`: compiles the kernels to PTX, which the driver compiles for its card.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    if std::env::var_os("CARGO_FEATURE_CUDA").is_some() {
        kernels::compile();
    }
}

mod kernels {
    use std::ffi::OsString;
    use std::path::{Path, PathBuf};
    use std::process::Command;

    /// The oldest cards that are supported; the driver compiles the code of these for all later ones.
    const ARCHITECTURE: &str = "compute_80";
    /// Files whose results are to the bit those of the CPU: nothing is contracted into a fused multiply-add.
    const EXACT: [&str; 1] = ["noise"];

    pub fn compile() {
        let out = PathBuf::from(std::env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
        println!("cargo:rerun-if-env-changed=NVCC");
        println!("cargo:rerun-if-env-changed=CUDA_HOME");
        println!("cargo:rerun-if-changed=kernels");
        let nvcc = nvcc();
        let mut files: Vec<PathBuf> = std::fs::read_dir("kernels")
            .expect("the folder of kernels")
            .map(|entry| entry.expect("a readable folder").path())
            .filter(|path| path.extension().is_some_and(|extension| extension == "cu"))
            .collect();
        files.sort();
        let compilations: Vec<_> = files.iter().map(|file| (file, start(&nvcc, file, &out))).collect();
        for (file, mut compilation) in compilations {
            let status = compilation.wait().expect("nvcc was started");
            assert!(status.success(), "nvcc could not compile {}", file.display());
        }
    }

    fn start(nvcc: &OsString, file: &Path, out: &Path) -> std::process::Child {
        let name = file
            .file_stem()
            .and_then(|stem| stem.to_str())
            .expect("a name in ASCII");
        let fused = !EXACT.contains(&name);
        let mut command = Command::new(nvcc);
        command
            .args(["-std=c++17", "-O3", "-ptx", "-arch", ARCHITECTURE])
            .arg(format!("-fmad={fused}"))
            .arg(file)
            .arg("-o")
            .arg(out.join(name).with_extension("ptx"));
        command.spawn().unwrap_or_else(|error| {
            panic!("{nvcc:?} cannot be run ({error}): `node scripts/cuda.mjs` brings it and builds with it")
        })
    }

    fn nvcc() -> OsString {
        if let Some(nvcc) = std::env::var_os("NVCC") {
            return nvcc;
        }
        match std::env::var_os("CUDA_HOME") {
            Some(home) => Path::new(&home).join("bin").join("nvcc").into(),
            None => "nvcc".into(),
        }
    }
}
