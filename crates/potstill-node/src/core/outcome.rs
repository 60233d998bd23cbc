//! Results as values: `{ value }` or `{ error }`, told apart in TypeScript.

use napi::bindgen_prelude::{Object, ToNapiValue};
use napi::{Env, JsDeferred, sys};
use napi_derive::napi;

use super::error::{OpError, Result};

/// An error as TypeScript sees it; it becomes a `PotstillError`.
#[napi(object)]
pub struct BoundaryError {
    /// Stable name, `ERR_…`.
    pub code: String,
    /// As in `ts/errors.ts`.
    #[napi(ts_type = "'check' | 'input' | 'machine' | 'interrupted' | 'bug'")]
    pub kind: String,
    /// What is wrong.
    pub what: String,
    /// File, tensor or operation.
    #[napi(js_name = "where")]
    pub place: Option<String>,
    /// What to do.
    pub remedy: Option<String>,
}

impl From<OpError> for BoundaryError {
    fn from(error: OpError) -> Self {
        Self {
            code: error.code.to_string(),
            kind: error.kind.name().to_string(),
            what: error.what,
            place: error.place,
            remedy: error.remedy,
        }
    }
}

/// `{ value: T }` or `{ error: BoundaryError }`.
pub struct Outcome<T>(pub Result<T>);

impl<T: ToNapiValue> ToNapiValue for Outcome<T> {
    unsafe fn to_napi_value(raw: sys::napi_env, outcome: Self) -> napi::Result<sys::napi_value> {
        let env = Env::from_raw(raw);
        let mut object = Object::new(&env)?;
        match outcome.0 {
            Ok(value) => object.set("value", value)?,
            Err(error) => object.set("error", BoundaryError::from(error))?,
        }
        // SAFETY: the caller's environment, which is the one the object was just made in.
        unsafe { Object::to_napi_value(raw, object) }
    }
}

/// Converts an outcome on JavaScript's thread.
type Resolver<T> = Box<dyn FnOnce(Env) -> napi::Result<Outcome<T>> + Send>;

/// A promise of an [`Outcome`], and the function that settles it from any thread.
pub fn promise<T: ToNapiValue + Send + 'static>(
    env: &Env,
) -> napi::Result<(Object<'_>, impl FnOnce(Result<T>) + Send + 'static)> {
    let (deferred, promise): (JsDeferred<Outcome<T>, Resolver<T>>, _) = env.create_deferred()?;
    let settle = move |result: Result<T>| deferred.resolve(Box::new(move |_| Ok(Outcome(result))));
    Ok((promise, settle))
}
