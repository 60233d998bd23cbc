//! Models and images behind JavaScript callbacks.

use std::io::{Error, ErrorKind, Result};

use js_sys::{Reflect, Uint8Array};
use potstill_io::disk::HostFiles;
use wasm_bindgen::prelude::*;

#[wasm_bindgen(typescript_custom_section)]
const TYPES: &str = r#"
/** Files of models and images, read synchronously, by the paths that the caller gave and names below them. */
export interface HostFiles {
  /** Length in bytes; -1 when there is no such file. */
  size(path: string): number;
  /** Exactly `length` bytes from `offset` on. */
  read(path: string, offset: number, length: number): Uint8Array;
  isFolder(path: string): boolean;
}
"#;

#[wasm_bindgen]
extern "C" {
    /// A `HostFiles`.
    #[wasm_bindgen(typescript_type = "HostFiles")]
    pub type JsFiles;

    #[wasm_bindgen(method, structural, catch, js_name = size)]
    fn js_size(this: &JsFiles, path: &str) -> std::result::Result<f64, JsValue>;
    #[wasm_bindgen(method, structural, catch, js_name = read)]
    fn js_read(this: &JsFiles, path: &str, offset: f64, length: f64) -> std::result::Result<Uint8Array, JsValue>;
    #[wasm_bindgen(method, structural, catch, js_name = isFolder)]
    fn js_is_folder(this: &JsFiles, path: &str) -> std::result::Result<bool, JsValue>;
}

fn failed(thrown: &JsValue) -> Error {
    let message = Reflect::get(thrown, &JsValue::from_str("message")).ok();
    let message = message.and_then(|value| value.as_string());
    Error::other(message.unwrap_or_else(|| "the host failed".to_owned()))
}

impl HostFiles for JsFiles {
    fn length(&self, path: &str) -> Result<u64> {
        match self.js_size(path) {
            Ok(size) if size >= 0. => Ok(size as u64),
            Ok(_) => Err(Error::from(ErrorKind::NotFound)),
            Err(thrown) => Err(failed(&thrown)),
        }
    }

    fn read(&self, path: &str, offset: u64, buffer: &mut [u8]) -> Result<()> {
        let bytes = self
            .js_read(path, offset as f64, buffer.len() as f64)
            .map_err(|thrown| failed(&thrown))?;
        if bytes.length() as usize != buffer.len() {
            return Err(Error::from(ErrorKind::UnexpectedEof));
        }
        bytes.copy_to(buffer);
        Ok(())
    }

    fn is_folder(&self, path: &str) -> bool {
        self.js_is_folder(path).unwrap_or(false)
    }
}
