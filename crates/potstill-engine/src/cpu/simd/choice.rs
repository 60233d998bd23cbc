//! Instruction sets side by side: tests choose one for threads of their own, and leave all other tests theirs.

use std::cell::Cell;

use super::{Class, bf16_kernel_class};

/// An instruction set, and whether to do without its extension for pairs of bf16.
#[derive(Clone, Copy)]
pub(crate) struct Choice {
    class: Class,
    emulate: bool,
}

thread_local! {
    static CHOSEN: Cell<Option<Choice>> = const { Cell::new(None) };
}

/// The class that was chosen for this thread.
pub(super) fn class() -> Option<Class> {
    CHOSEN.get().map(|choice| choice.class)
}

/// Whether this thread was to do without the extension.
pub(super) fn emulates() -> bool {
    CHOSEN.get().is_some_and(|choice| choice.emulate)
}

impl Choice {
    /// Every instruction set of this processor.
    pub(crate) fn all() -> Vec<Self> {
        let classes = Class::available().into_iter();
        classes.map(|class| Self { class, emulate: false }).collect()
    }

    /// Every instruction set, those with an extension for pairs also without it.
    pub(crate) fn all_for_pairs() -> Vec<Self> {
        let mut choices = Vec::new();
        for native in Self::all() {
            let emulated = Self {
                emulate: true,
                ..native
            };
            if emulated.pairs() != native.pairs() {
                choices.push(emulated);
            }
            choices.push(native);
        }
        choices
    }

    /// The name that products of bf16 have with it.
    pub(crate) fn pairs(self) -> &'static str {
        self.on(1, bf16_kernel_class)
    }

    pub(crate) fn name(self) -> &'static str {
        self.class.name()
    }

    /// Runs `f` with it, on as many threads of its own.
    pub(crate) fn on<R: Send>(self, threads: usize, f: impl FnOnce() -> R + Send) -> R {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .start_handler(move |_| CHOSEN.set(Some(self)))
            .build();
        pool.unwrap().install(f)
    }
}
