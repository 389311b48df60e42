//! `ironloom:invocation`: facts about the call that is under way.

use wasmtime::component::{HasData, Linker};

use crate::bindings::platform::ironloom::invocation::invocation as wit;
use crate::host::Host;
use ironloom_types::clock::Timestamp;
use ironloom_types::work::Gap;

pub(crate) struct Context {
    /// Names the invocation.
    pub id: String,
    /// Its time, which stands still.
    pub now: Timestamp,
    /// The readings that were lost before it.
    pub gaps: Vec<Gap>,
}

struct View<'a>(&'a Context);

impl HasData for View<'static> {
    type Data<'a> = View<'a>;
}

pub(crate) fn add_to_linker(linker: &mut Linker<Host>) -> wasmtime::Result<()> {
    wit::add_to_linker::<_, View<'static>>(linker, |host| {
        let host = host.called();
        View(&host.invocation)
    })
}

impl wit::Host for View<'_> {
    fn id(&mut self) -> wasmtime::Result<String> {
        Ok(self.0.id.clone())
    }

    fn now(&mut self) -> wasmtime::Result<u64> {
        Ok(self.0.now.0)
    }

    fn gaps(&mut self) -> wasmtime::Result<Vec<wit::Gap>> {
        let gaps = self.0.gaps.iter().map(|Gap { slot, first, last, count }| wit::Gap {
            slot: slot.to_string(),
            first: first.0,
            last: last.0,
            count: *count,
        });
        Ok(gaps.collect())
    }
}
