//! What the driver tells of itself and of its devices.

use std::ffi::{CStr, c_char, c_int, c_uint, c_void};

use crate::library::Library;

/// Names and numbers of CUDA's driver API, as `cuda.h` gives them; `_v2` are the versions since CUDA 4.
mod api {
    /// `CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR`
    pub(super) const MAJOR: super::c_int = 75;
    /// `CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR`
    pub(super) const MINOR: super::c_int = 76;
    /// Most bytes of a device's name, its end included.
    pub(super) const NAME: usize = 256;
}

/// Why nothing is known of a driver.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DriverError {
    /// Its library could not be opened.
    #[error("{0}")]
    Missing(String),
    /// What was opened has no such function.
    #[error("{library} has no {symbol}: it is no driver")]
    Foreign {
        /// What was opened.
        library: String,
        /// The function that was looked for.
        symbol: String,
    },
    /// A function of the driver failed.
    #[error("{call} failed: {name} ({code})")]
    Failed {
        /// The function.
        call: &'static str,
        /// CUDA's number of the error.
        code: i32,
        /// CUDA's name of the error.
        name: String,
    },
}

/// A driver.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Driver {
    /// The newest CUDA that it can run: major and minor version.
    pub cuda: (u32, u32),
    /// Its devices, in its order (`CUDA_VISIBLE_DEVICES` counts); or why it has none.
    pub devices: Result<Vec<CudaDevice>, DriverError>,
}

/// A device of the driver.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CudaDevice {
    /// As the vendor calls it.
    pub name: String,
    /// Compute capability: major and minor.
    pub capability: (u32, u32),
    /// Bytes of memory that it has.
    pub total_bytes: u64,
}

/// Opens a driver's library and asks it.
///
/// # Errors
/// When it cannot be opened or is no driver. A driver that cannot start is none: [`Driver::devices`] has the reason.
pub fn inspect_driver(library: &str) -> Result<Driver, DriverError> {
    let api = Api::open(library)?;
    let mut version = 0;
    type DriverGetVersion = unsafe extern "C" fn(*mut c_int) -> c_int;
    let get_version: DriverGetVersion = api.function(c"cuDriverGetVersion")?;
    // SAFETY: of this type in cuda.h.
    api.check("cuDriverGetVersion", unsafe { get_version(&mut version) })?;
    let version = u32::try_from(version).unwrap_or(0);
    // 13020 is 13.2.
    let cuda = (version / 1000, version % 1000 / 10);
    let devices = api.devices();
    // Initialised drivers have threads and handlers of their own: they are not to be unloaded.
    api.library.keep();
    Ok(Driver { cuda, devices })
}

/// Bytes of a device's memory that are free. This makes a context on it for a moment, which takes some tenths of a second.
///
/// # Errors
/// When the driver's library cannot be opened, or there is no such device.
pub fn free_memory(library: &str, device: u32) -> Result<u64, DriverError> {
    let api = Api::open(library)?;
    let free = api
        .start()
        .and_then(|()| api.handle(device as c_int))
        .and_then(|device| api.free_bytes(device));
    api.library.keep();
    free
}

struct Api {
    library: Library,
    name: String,
}

impl Api {
    fn open(library: &str) -> Result<Self, DriverError> {
        Ok(Self {
            library: Library::open(library).map_err(DriverError::Missing)?,
            name: library.to_owned(),
        })
    }

    /// A function; the caller's type must be that of `cuda.h`.
    fn function<F: Copy>(&self, symbol: &CStr) -> Result<F, DriverError> {
        const { assert!(size_of::<F>() == size_of::<*mut c_void>()) };
        let address = self.library.symbol(symbol).ok_or_else(|| DriverError::Foreign {
            library: self.name.clone(),
            symbol: symbol.to_string_lossy().into_owned(),
        })?;
        // SAFETY: a function pointer has the size of an address; its type is the caller's promise.
        Ok(unsafe { std::mem::transmute_copy::<*mut c_void, F>(&address) })
    }

    fn check(&self, call: &'static str, code: c_int) -> Result<(), DriverError> {
        if code == 0 {
            return Ok(());
        }
        type GetErrorName = unsafe extern "C" fn(c_int, *mut *const c_char) -> c_int;
        let name = self.function::<GetErrorName>(c"cuGetErrorName").ok().and_then(|get| {
            let mut text: *const c_char = std::ptr::null();
            // SAFETY: of this type in cuda.h; the text is the driver's and stays.
            let found = unsafe { get(code, &mut text) } == 0 && !text.is_null();
            // SAFETY: a C string, as the call succeeded.
            found.then(|| unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned())
        });
        Err(DriverError::Failed {
            call,
            code,
            name: name.unwrap_or_else(|| "an error without a name".to_owned()),
        })
    }

    fn start(&self) -> Result<(), DriverError> {
        type Init = unsafe extern "C" fn(c_uint) -> c_int;
        let init: Init = self.function(c"cuInit")?;
        // SAFETY: of this type in cuda.h.
        self.check("cuInit", unsafe { init(0) })
    }

    /// The driver's handle of a device by number.
    fn handle(&self, index: c_int) -> Result<c_int, DriverError> {
        type DeviceGet = unsafe extern "C" fn(*mut c_int, c_int) -> c_int;
        let get: DeviceGet = self.function(c"cuDeviceGet")?;
        let mut device = 0;
        // SAFETY: of this type in cuda.h.
        self.check("cuDeviceGet", unsafe { get(&mut device, index) })?;
        Ok(device)
    }

    fn devices(&self) -> Result<Vec<CudaDevice>, DriverError> {
        type DeviceGetCount = unsafe extern "C" fn(*mut c_int) -> c_int;
        self.start()?;
        let get_count: DeviceGetCount = self.function(c"cuDeviceGetCount")?;
        let mut count = 0;
        // SAFETY: of this type in cuda.h.
        self.check("cuDeviceGetCount", unsafe { get_count(&mut count) })?;
        (0..count).map(|index| self.device(self.handle(index)?)).collect()
    }

    fn device(&self, device: c_int) -> Result<CudaDevice, DriverError> {
        type DeviceGetName = unsafe extern "C" fn(*mut c_char, c_int, c_int) -> c_int;
        type DeviceTotalMem = unsafe extern "C" fn(*mut usize, c_int) -> c_int;
        type DeviceGetAttribute = unsafe extern "C" fn(*mut c_int, c_int, c_int) -> c_int;
        let get_name: DeviceGetName = self.function(c"cuDeviceGetName")?;
        let total_mem: DeviceTotalMem = self.function(c"cuDeviceTotalMem_v2")?;
        let get_attribute: DeviceGetAttribute = self.function(c"cuDeviceGetAttribute")?;
        let (mut total, mut major, mut minor) = (0, 0, 0);
        let mut name = [0 as c_char; api::NAME];
        // SAFETY: all of these types in cuda.h; the name's buffer is as long as said.
        unsafe {
            self.check(
                "cuDeviceGetName",
                get_name(name.as_mut_ptr(), api::NAME as c_int, device),
            )?;
            self.check("cuDeviceTotalMem", total_mem(&mut total, device))?;
            self.check("cuDeviceGetAttribute", get_attribute(&mut major, api::MAJOR, device))?;
            self.check("cuDeviceGetAttribute", get_attribute(&mut minor, api::MINOR, device))?;
        }
        let bytes: Vec<u8> = name.iter().map(|&c| c as u8).take_while(|&c| c != 0).collect();
        Ok(CudaDevice {
            name: String::from_utf8_lossy(&bytes).into_owned(),
            capability: (u32::try_from(major).unwrap_or(0), u32::try_from(minor).unwrap_or(0)),
            total_bytes: total as u64,
        })
    }

    /// Asked of the device's primary context, which every program shares that uses the runtime's API.
    fn free_bytes(&self, device: c_int) -> Result<u64, DriverError> {
        type Context = *mut c_void;
        type PrimaryRetain = unsafe extern "C" fn(*mut Context, c_int) -> c_int;
        type PrimaryRelease = unsafe extern "C" fn(c_int) -> c_int;
        type Push = unsafe extern "C" fn(Context) -> c_int;
        type Pop = unsafe extern "C" fn(*mut Context) -> c_int;
        type GetInfo = unsafe extern "C" fn(*mut usize, *mut usize) -> c_int;
        let retain: PrimaryRetain = self.function(c"cuDevicePrimaryCtxRetain")?;
        let release: PrimaryRelease = self.function(c"cuDevicePrimaryCtxRelease_v2")?;
        let push: Push = self.function(c"cuCtxPushCurrent_v2")?;
        let pop: Pop = self.function(c"cuCtxPopCurrent_v2")?;
        let get_info: GetInfo = self.function(c"cuMemGetInfo_v2")?;
        let mut context: Context = std::ptr::null_mut();
        let (mut free, mut total) = (0, 0);
        // SAFETY: all of these types in cuda.h; what is retained is released, what is pushed is popped.
        unsafe {
            self.check("cuDevicePrimaryCtxRetain", retain(&mut context, device))?;
            let asked = self.check("cuCtxPushCurrent", push(context)).and_then(|()| {
                let asked = self.check("cuMemGetInfo", get_info(&mut free, &mut total));
                asked.and(self.check("cuCtxPopCurrent", pop(&mut context)))
            });
            asked.and(self.check("cuDevicePrimaryCtxRelease", release(device)))?;
        }
        Ok(free as u64)
    }
}
