//! The comparisons.

mod noise;
mod operations;
mod optimizer;
mod torch_noise;
mod torch_operations;
mod training;
mod unet;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

pub use operations::{Case, Input, check_case};
pub use torch_noise::check_torch_noise;

use crate::place::Place;
use crate::report::Check;
use crate::{Error, Result};

/// How much to compute.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Size {
    /// Shapes of a few hundred values: every path of every operation, in seconds; for tests and for memory checkers.
    Small,
    /// The shapes of SD1.5 and SDXL as well.
    Full,
}

/// What to check.
#[derive(Debug, Clone, Copy)]
pub struct Options<'a> {
    /// How much.
    pub size: Size,
    /// Noise that torch made on the device: what `bench/gpu/torch_noise.py` writes.
    pub torch_noise: Option<&'a Path>,
    /// Checks whose group and name contain this: `unet`, `operations conv2d`.
    pub only: Option<&'a str>,
}

/// The checks of a group.
type Group = fn(&Place, Options) -> Result<Vec<Check>>;

const GROUPS: [(&str, Group); 6] = [
    ("torch", |place, options| torch_operations::check(place, options.size)),
    ("optimizer", |place, options| optimizer::check(place, options.size)),
    ("unet", |place, options| unet::check(place, options.size)),
    ("training", |place, options| training::check(place, options.size)),
    ("noise", |place, options| noise::check(place, options.size)),
    ("torch-noise", |_, options| Ok(check_torch_noise(options.torch_noise))),
];
const OPERATIONS: &str = "operations";

/// Runs every check that is wanted; `each` sees every result as it comes.
pub fn run(place: &Place, options: Options, each: &mut dyn FnMut(&Check)) -> Vec<Check> {
    let mut checks = Vec::new();
    let wanted = |name: &str| options.only.is_none_or(|only| name.contains(only));
    let mut add = |found: Vec<Check>| {
        for check in found {
            if wanted(&format!("{} {}", check.group, check.name)) {
                each(&check);
                checks.push(check);
            }
        }
    };
    // A text that begins with a group is about no other.
    let first = options.only.and_then(|only| only.split(' ').next()).unwrap_or_default();
    let is_group = first == OPERATIONS || GROUPS.iter().any(|(group, _)| *group == first);
    let may_be_in = |group: &str| !is_group || group == first;
    for case in operations::cases(options.size) {
        if may_be_in(OPERATIONS) && wanted(&format!("{OPERATIONS} {}", case.name)) {
            add(check_case(place, &case));
        }
    }
    for (group, check) in GROUPS {
        if may_be_in(group) {
            let failed = |error| {
                vec![Check::of(
                    group,
                    options.only.unwrap_or("all").to_owned(),
                    "",
                    0.,
                    Err(error),
                )]
            };
            add(caught(|| check(place, options)).unwrap_or_else(failed));
        }
    }
    checks
}

/// A panic of what is checked is its failure, not the suite's.
pub(crate) fn caught<T>(run: impl FnOnce() -> Result<T>) -> Result<T> {
    catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|payload| {
        let text = payload.downcast_ref::<&str>().map(|text| (*text).to_owned());
        let text = text.or_else(|| payload.downcast_ref::<String>().cloned());
        Err(Error::Input(format!("panic: {}", text.unwrap_or_default())))
    })
}
