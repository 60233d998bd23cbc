//! Devices by name.

use potstill_engine::Device;
use potstill_engine::devices::{self, DeviceError, DeviceName};

use super::error::{OpError, Result};

/// Opens the device of a name: `cpu`, or `cuda:0` with the number that the driver gives it.
///
/// # Errors
/// Of this machine, when there is no such device, and when this addon is built without CUDA.
pub fn open_device(name: &str) -> Result<Device> {
    let device: DeviceName = name
        .parse()
        .map_err(|error: DeviceError| OpError::bug(error.to_string()))?;
    devices::open(device).map_err(|error| {
        OpError::machine("ERR_CUDA_DEVICE", format!("cannot open it: {error}"))
            .at(name)
            .remedy("See `potstill doctor` for the devices of this machine.")
    })
}

#[cfg(test)]
mod tests {
    use super::super::error::ErrorKind;
    use super::*;

    #[test]
    fn what_is_no_name_of_a_device_is_a_fault_of_the_caller() {
        assert!(open_device("cpu").unwrap().is_cpu());
        for name in ["", "gpu", "cuda:", "cuda:x", "cuda:-1"] {
            assert_eq!(open_device(name).unwrap_err().kind, ErrorKind::Bug, "{name:?}");
        }
    }

    #[cfg(not(feature = "cuda"))]
    #[test]
    fn an_addon_without_cuda_opens_nothing_in_its_place() {
        let error = open_device("cuda:0").unwrap_err();
        assert_eq!((error.kind, error.code), (ErrorKind::Machine, "ERR_CUDA_DEVICE"));
        assert_eq!(error.place.as_deref(), Some("cuda:0"));
    }
}
