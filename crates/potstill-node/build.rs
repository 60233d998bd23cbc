//! Linker settings that Node addons need.

fn main() {
    napi_build::setup();
}
