//! `ironloom:outputs`: derived readings, and set-points that an app asks for.

mod publish;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use hashbrown::HashMap;
use wasmtime::component::{HasData, Linker};

use crate::bindings::platform::ironloom::outputs::outputs::{self as wit, Batch, Error, Intent, Ticket};
use crate::budget::Quota;
use crate::env::{AppContext, OutputKind, OutputResolver};
use crate::host::Host;
use ironloom_types::ids::PointNumber;
use ironloom_types::limits::MAX_INTENTS;
use ironloom_types::readings::{Columns, NewPoint};

/// What the invocation has published.
pub struct Context {
    resolver: Arc<dyn OutputResolver>,
    derived: Columns,
    new_points: Vec<NewPoint>,
    /// The points among `new_points`, by output and entity.
    pending: HashMap<(usize, Box<str>), PointNumber>,
}

impl Context {
    /// Nothing published yet.
    pub fn new(resolver: Arc<dyn OutputResolver>) -> Self {
        Self { resolver, derived: Columns::default(), new_points: Vec::new(), pending: HashMap::new() }
    }

    /// The derived readings, and the points that they make.
    pub fn into_derived(self) -> (Columns, Vec<NewPoint>) {
        (self.derived, self.new_points)
    }
}

struct View<'a> {
    context: &'a mut Context,
    app: &'a AppContext,
    quota: &'a mut Quota,
}

impl HasData for View<'static> {
    type Data<'a> = View<'a>;
}

/// Offers the functions.
pub fn add_to_linker(linker: &mut Linker<Host>) -> wasmtime::Result<()> {
    wit::add_to_linker::<_, View<'static>>(linker, |host| {
        host.meter.host_call();
        View { context: &mut host.outputs, app: &host.app, quota: &mut host.quota }
    })
}

impl View<'_> {
    /// The index of a declared output of this kind.
    fn output(&self, name: &str, kind: OutputKind) -> Result<usize, Error> {
        let outputs = self.app.outputs.iter();
        let found =
            outputs.enumerate().find(|(_, output)| output.name.as_str() == name && output.kind == kind);
        found.map(|(index, _)| index).ok_or_else(|| Error::UnknownOutput(name.to_owned()))
    }

    fn request(&self, intents: &[Intent]) -> Result<Vec<Ticket>, Error> {
        if intents.len() > MAX_INTENTS {
            return Err(Error::TooMany);
        }
        // No admin can grant a set-point yet, so that none is bound to a machine.
        match intents.first() {
            None => Ok(Vec::new()),
            Some(intent) => {
                self.output(&intent.output, OutputKind::SetPoint)?;
                Err(Error::NotGranted(intent.output.clone()))
            }
        }
    }
}

impl wit::Host for View<'_> {
    fn publish(&mut self, batch: Batch) -> wasmtime::Result<Result<(), Error>> {
        self.quota.carry(publish::carried(&batch))?;
        Ok(self.publish(&batch))
    }

    fn request(&mut self, intents: Vec<Intent>) -> wasmtime::Result<Result<Vec<Ticket>, Error>> {
        let sizes =
            intents.iter().map(|intent| intent.output.len() + intent.entity.len() + size_of::<Intent>());
        self.quota.carry(sizes.sum())?;
        Ok(View::request(self, &intents))
    }
}
