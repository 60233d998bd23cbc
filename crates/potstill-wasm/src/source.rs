//! A cache behind JavaScript callbacks.

use js_sys::{Array, Reflect, Uint8Array};
use potstill_cache::{Source, SourceError};
use wasm_bindgen::prelude::*;

#[wasm_bindgen(typescript_custom_section)]
const TYPES: &str = r#"
/** The files of a cache, read synchronously. Paths are relative to it, with `/` between the parts. */
export interface CacheSource {
  list(): string[];
  /** Length in bytes. */
  size(path: string): number;
  /** Fills `target`, which lies in the module's memory and is its own again afterwards, from `offset` on; gives the number of bytes. */
  read(path: string, offset: number, target: Uint8Array): number;
}

/** What the methods of a {@link CacheSource} throw; anything else counts as `failed`. */
export interface CacheSourceFailure {
  readonly kind: 'missing' | 'link' | 'too-short' | 'failed';
  readonly reason?: string;
  /** Of what could not be listed: the folder, relative to the cache. */
  readonly path?: string;
}
"#;

#[wasm_bindgen]
extern "C" {
    /// A `CacheSource`.
    #[wasm_bindgen(typescript_type = "CacheSource")]
    pub type JsSource;

    #[wasm_bindgen(method, structural, catch, js_name = list)]
    fn js_list(this: &JsSource) -> Result<Array, JsValue>;
    #[wasm_bindgen(method, structural, catch, js_name = size)]
    fn js_size(this: &JsSource, path: &str) -> Result<f64, JsValue>;
    #[wasm_bindgen(method, structural, catch, js_name = read)]
    fn js_read(this: &JsSource, path: &str, offset: f64, target: &Uint8Array) -> Result<f64, JsValue>;
}

/// Largest file length that a JavaScript number holds exactly.
const MAX_SAFE_INTEGER: f64 = 9_007_199_254_740_991.0;

fn failure(path: &str, end: u64, thrown: &JsValue) -> SourceError {
    let property = |name: &str| {
        Reflect::get(thrown, &JsValue::from_str(name))
            .ok()
            .and_then(|value| value.as_string())
    };
    let path = property("path").unwrap_or_else(|| path.to_owned());
    match property("kind").as_deref() {
        Some("missing") => SourceError::Missing { path },
        Some("link") => SourceError::Link { path },
        Some("too-short") => SourceError::TooShort { path, end },
        _ => {
            let reason = property("reason").or_else(|| property("message"));
            SourceError::Failed {
                path,
                reason: reason.unwrap_or_else(|| "the source failed".to_owned()),
            }
        }
    }
}

impl Source for JsSource {
    fn list(&self) -> Result<Vec<String>, SourceError> {
        let list = self.js_list().map_err(|thrown| failure(".", 0, &thrown))?;
        Ok(list.iter().filter_map(|path| path.as_string()).collect())
    }

    fn size(&self, path: &str) -> Result<u64, SourceError> {
        let size = self.js_size(path).map_err(|thrown| failure(path, 0, &thrown))?;
        if !(0.0..=MAX_SAFE_INTEGER).contains(&size) || size.fract() != 0.0 {
            return Err(SourceError::Failed {
                path: path.to_owned(),
                reason: format!("{size} is no length"),
            });
        }
        Ok(size as u64)
    }

    fn read(&self, path: &str, offset: u64, buffer: &mut [u8]) -> Result<(), SourceError> {
        let end = offset.saturating_add(buffer.len() as u64);
        let length = buffer.len();
        // SAFETY: the memory is the buffer's, nobody else looks at it meanwhile, and the view is gone before it is freed: what it is
        // given to runs to its end here and, by its contract, does not keep it.
        let target = unsafe { Uint8Array::view_mut_raw(buffer.as_mut_ptr(), length) };
        let count = self
            .js_read(path, offset as f64, &target)
            .map_err(|thrown| failure(path, end, &thrown))?;
        if count != length as f64 {
            return Err(SourceError::TooShort {
                path: path.to_owned(),
                end,
            });
        }
        Ok(())
    }
}
