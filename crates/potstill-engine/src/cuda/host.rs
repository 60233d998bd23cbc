//! The kernels on the host: compiled by the C++ compiler from the sources that nvcc compiles, and run in the same grids.
//!
//! Every launch works on copies of its memory between guards of NaNs: what is read beyond the end shows in the results,
//! what is written there is found, and so is what was never written, for outputs are NaNs at first. Every launch runs
//! twice, with the threads of a block taking turns in one order and in the other, and must give the same bits.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::ffi::{CString, c_int, c_void};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;

use candle_core::{CpuStorage, DType};
use rayon::prelude::*;

use super::Arguments;
use super::gemm::{Call, Factor};
use crate::error::{EngineError, Result};

/// Bytes before and behind every piece of memory.
const GUARD: usize = 4096;
/// A byte that makes NaNs of every float type.
const NAN_BYTE: u8 = 0xff;
/// Rows that a thread multiplies with a column while it is in the cache.
const TOGETHER: usize = 16;
/// Sums that a processor takes at a time.
const LANES: usize = 8;
const KERNELS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/kernels");
/// What the sources include.
const HEADERS: [&str; 3] = ["device.cuh", "host.hpp", "attention.cuh"];
const FLAGS: [&str; 12] = [
    "-shared",
    "-std=c++17",
    "-O1",
    "-fPIC",
    "-ffp-contract=off",
    "-Wall",
    "-Wextra",
    "-Werror",
    "-Wno-unknown-pragmas",
    // The fortified longjmp refuses to jump from one stack to another.
    "-U_FORTIFY_SOURCE",
    "-x",
    "c++",
];

thread_local! {
    static ENABLED: Cell<bool> = const { Cell::new(false) };
}

/// Whether tensors on the CPU count as tensors on a card, on this thread.
pub(crate) fn enabled() -> bool {
    ENABLED.get()
}

/// Runs `f` with tensors on the CPU taken for tensors on a card, on this thread. Every launch runs twice and is checked, so
/// that this is some hundred times slower than the CPU's own kernels.
pub fn on_host<R>(f: impl FnOnce() -> R) -> R {
    struct Restore(bool);
    impl Drop for Restore {
        fn drop(&mut self) {
            ENABLED.set(self.0);
        }
    }
    let _restore = Restore(ENABLED.replace(true));
    f()
}

/// Memory for `len` values: NaNs, or zeros.
pub(crate) fn allocate(dtype: DType, len: usize, zeros: bool) -> CpuStorage {
    match dtype {
        DType::F32 => CpuStorage::F32(vec![if zeros { 0. } else { f32::NAN }; len]),
        DType::F64 => CpuStorage::F64(vec![if zeros { 0. } else { f64::NAN }; len]),
        DType::BF16 => CpuStorage::BF16(vec![if zeros { half::bf16::ZERO } else { half::bf16::NAN }; len]),
        dtype => panic!("no kernel computes in {dtype:?}"),
    }
}

/// Address of the first value.
pub(crate) fn address(storage: &CpuStorage) -> u64 {
    match storage {
        CpuStorage::F32(values) => values.as_ptr() as u64,
        CpuStorage::F64(values) => values.as_ptr() as u64,
        CpuStorage::BF16(values) => values.as_ptr() as u64,
        CpuStorage::U32(values) => values.as_ptr() as u64,
        _ => panic!("no kernel takes this dtype"),
    }
}

/// A compiled kernel: its arguments, their bytes, the grid, whether turns go backwards.
type Function = unsafe extern "C" fn(*const c_void, usize, *const u32, c_int) -> c_int;

/// Runs a kernel, both ways at once.
pub(crate) fn launch(file: &'static str, instance: &str, grid: [u32; 3], arguments: Arguments) -> Result<()> {
    let function = function(file, instance);
    let run = |reversed| run_on_copies(function, instance, grid, &arguments, reversed);
    let (first, second) = rayon::join(|| run(0), || run(1));
    assert!(first == second, "{instance} depends on the order of threads");
    for (span, copy) in arguments.spans.iter().zip(first) {
        if span.written {
            let to = arguments.words[span.argument] as *mut u8;
            // SAFETY: memory under construction or under update, which nobody else looks at.
            unsafe { std::ptr::copy_nonoverlapping(copy[GUARD..].as_ptr(), to, span.bytes) };
        }
    }
    Ok(())
}

/// What a kernel leaves in copies of its memory, between their guards.
fn run_on_copies(
    function: Function,
    instance: &str,
    grid: [u32; 3],
    arguments: &Arguments,
    reversed: c_int,
) -> Vec<Vec<u8>> {
    let mut words = arguments.words.clone();
    let mut memory: Vec<Vec<u8>> = Vec::new();
    for span in &arguments.spans {
        let mut copy = vec![NAN_BYTE; span.bytes + 2 * GUARD];
        // SAFETY: the span is that of a tensor or of memory under construction, which live until the launch is over.
        let bytes = unsafe { std::slice::from_raw_parts(words[span.argument] as *const u8, span.bytes) };
        copy[GUARD..GUARD + span.bytes].copy_from_slice(bytes);
        words[span.argument] = copy[GUARD..].as_mut_ptr() as u64;
        memory.push(copy);
    }
    // SAFETY: the kernel checks the size of its arguments and works on the copies.
    let outcome = unsafe { function(words.as_ptr().cast(), size_of_val(&words[..]), grid.as_ptr(), reversed) };
    let fault = match outcome {
        0 => None,
        1 => Some("takes other arguments"),
        2 => Some("has a barrier that some threads do not reach"),
        _ => Some("has a barrier and was declared without"),
    };
    assert!(fault.is_none(), "{instance} {}", fault.unwrap_or_default());
    for (span, copy) in arguments.spans.iter().zip(&memory) {
        let untouched = |bytes: &[u8]| bytes.iter().all(|&b| b == NAN_BYTE);
        let bounds = untouched(&copy[..GUARD]) && untouched(&copy[GUARD + span.bytes..]);
        assert!(bounds, "{instance} writes beyond argument {}", span.argument);
    }
    memory
}

/// What `cublasGemmEx` would do, in f64.
pub(crate) fn gemm(dtype: DType, call: &Call) -> Result<()> {
    for (x, rows, columns) in [(&call.a, call.m, call.k), (&call.b, call.k, call.n)] {
        let least = if x.transpose { columns } else { rows };
        if x.stride < least {
            return Err(EngineError::shape(
                "gemm",
                format!("a stride of {} for {least} values", x.stride),
            ));
        }
    }
    // The rows of a and the columns of b, each contiguous. Column-major; transposed, memory's columns are a factor's rows.
    let rows = lines(dtype, &call.a, call.m, call.k, |x, row, k| {
        if x.transpose {
            k + row * x.stride
        } else {
            row + k * x.stride
        }
    });
    let columns = lines(dtype, &call.b, call.n, call.k, |x, column, k| {
        if x.transpose {
            column + k * x.stride
        } else {
            k + column * x.stride
        }
    });
    (0..call.m.div_ceil(TOGETHER)).into_par_iter().for_each(|block| {
        for column in 0..call.n {
            for row in block * TOGETHER..((block + 1) * TOGETHER).min(call.m) {
                let sum = dot(&rows[row * call.k..][..call.k], &columns[column * call.k..][..call.k]);
                let place = row + column * call.c_stride;
                let before = if call.beta == 0. {
                    0.
                } else {
                    call.beta * value(call.c_dtype, call.c, place)
                };
                set(call.c_dtype, call.c, place, sum + before);
            }
        }
    });
    Ok(())
}

/// `count` lines of `len` values, one after the other.
fn lines(
    dtype: DType,
    x: &Factor,
    count: usize,
    len: usize,
    place: impl Fn(&Factor, usize, usize) -> usize,
) -> Vec<f64> {
    let places = (0..count).flat_map(|line| (0..len).map(move |k| (line, k)));
    places
        .map(|(line, k)| value(dtype, x.address, place(x, line, k)))
        .collect()
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    let (a, a_rest) = a.as_chunks::<LANES>();
    let (b, b_rest) = b.as_chunks::<LANES>();
    let mut sums = [0.; LANES];
    for (a, b) in a.iter().zip(b) {
        for lane in 0..LANES {
            sums[lane] += a[lane] * b[lane];
        }
    }
    let rest: f64 = a_rest.iter().zip(b_rest).map(|(a, b)| a * b).sum();
    sums.iter().sum::<f64>() + rest
}

fn value(dtype: DType, address: u64, place: usize) -> f64 {
    // SAFETY: within the matrices of the call, by their sizes and strides.
    unsafe {
        match dtype {
            DType::F32 => f64::from(*(address as *const f32).add(place)),
            DType::F64 => *(address as *const f64).add(place),
            DType::BF16 => (*(address as *const half::bf16).add(place)).to_f64(),
            dtype => panic!("no product of {dtype:?}"),
        }
    }
}

fn set(dtype: DType, address: u64, place: usize, value: f64) {
    // SAFETY: as above; c is memory under construction.
    unsafe {
        match dtype {
            DType::F32 => *(address as *mut f32).add(place) = value as f32,
            DType::F64 => *(address as *mut f64).add(place) = value,
            DType::BF16 => *(address as *mut half::bf16).add(place) = half::bf16::from_f32(value as f32),
            dtype => panic!("no product of {dtype:?}"),
        }
    }
}

fn function(file: &'static str, instance: &str) -> Function {
    static LIBRARIES: Mutex<BTreeMap<&'static str, usize>> = Mutex::new(BTreeMap::new());
    let mut libraries = LIBRARIES.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let library = *libraries.entry(file).or_insert_with(|| {
        let path = CString::new(compiled(file).to_str().expect("a path in Unicode")).expect("a path without NUL");
        // SAFETY: our own library, without initialisers.
        let library = unsafe { libc::dlopen(path.as_ptr(), libc::RTLD_NOW) };
        assert!(!library.is_null(), "the compiled kernels cannot be loaded");
        library as usize
    });
    let name = CString::new(instance).expect("a name without NUL");
    // SAFETY: a library that stays loaded.
    let symbol = unsafe { libc::dlsym(library as *mut c_void, name.as_ptr()) };
    assert!(!symbol.is_null(), "there is no kernel {instance} in {file}.cu");
    // SAFETY: all functions of that library are of this type.
    unsafe { std::mem::transmute::<*mut c_void, Function>(symbol) }
}

/// A file of kernels compiled for the host, beside the tests' binary; once for each state of its sources.
fn compiled(file: &str) -> PathBuf {
    let source = Path::new(KERNELS).join(format!("{file}.cu"));
    let mut hasher = DefaultHasher::new();
    for path in [&source]
        .into_iter()
        .chain(&HEADERS.map(|name| Path::new(KERNELS).join(name)))
    {
        let text = std::fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        text.hash(&mut hasher);
    }
    FLAGS.hash(&mut hasher);
    let tests = std::env::current_exe().expect("the tests' own path");
    let library = tests.with_file_name(format!("kernels-{file}-{:016x}.so", hasher.finish()));
    if !library.exists() {
        // Whole or not at all: another process may look for it too.
        let new = library.with_extension(format!("{}", std::process::id()));
        let compiler = std::env::var_os("CXX").unwrap_or_else(|| "c++".into());
        let compilation = Command::new(&compiler)
            .args(FLAGS)
            .arg(&source)
            .arg("-o")
            .arg(&new)
            .status();
        let status = compilation
            .unwrap_or_else(|e| panic!("{compiler:?} cannot be run ({e}); install a C++ compiler, or name it in CXX"));
        assert!(status.success(), "{file}.cu does not compile for the host");
        std::fs::rename(&new, &library).expect("a library beside the tests");
    }
    library
}
