//! `ironloom:outputs`: derived readings, and set-points that an app asks for.

mod publish;
mod request;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use hashbrown::HashMap;
use wasmtime::component::{HasData, Linker};

use crate::bindings::platform::ironloom::outputs::outputs::{self as wit, Batch, Error, Intent, Ticket};
use crate::budget::{Meter, Overrun, Quota};
use crate::env::{AppContext, OutputKind, OutputResolver, PointRoom};
use crate::host::Host;
use ironloom_types::effects as types;
use ironloom_types::ids::PointNumber;
use ironloom_types::readings::{Columns, NewPoint};

/// The published readings of the invocation.
pub(crate) struct Context {
    resolver: Arc<dyn OutputResolver>,
    derived: Columns,
    new_points: Vec<NewPoint>,
    /// The points among `new_points`, by output and entity.
    pending: HashMap<(usize, Box<str>), PointNumber>,
    /// The number of points that the invocation may still create.
    room: PointRoom,
    /// The set-points that were asked for, and the number of calls that did so.
    intents: Vec<types::Intent>,
    lists: u32,
}

impl Context {
    /// Nothing published yet.
    pub(crate) fn new(resolver: Arc<dyn OutputResolver>) -> Self {
        let room = resolver.room();
        Self {
            resolver,
            derived: Columns::default(),
            new_points: Vec::new(),
            pending: HashMap::new(),
            room,
            intents: Vec::new(),
            lists: 0,
        }
    }

    /// The derived readings, the points that they make, and the set-points.
    pub(crate) fn into_parts(self) -> (Columns, Vec<NewPoint>, Vec<types::Intent>) {
        (self.derived, self.new_points, self.intents)
    }
}

struct View<'a> {
    context: &'a mut Context,
    app: &'a AppContext,
    quota: &'a mut Quota,
    meter: &'a Meter,
}

impl HasData for View<'static> {
    type Data<'a> = View<'a>;
}

pub(crate) fn add_to_linker(linker: &mut Linker<Host>) -> wasmtime::Result<()> {
    wit::add_to_linker::<_, View<'static>>(linker, |host| {
        let host = host.called();
        let (context, meter) = (&mut host.outputs, &*host.meter);
        View { context, app: &host.app, quota: &mut host.quota, meter }
    })
}

/// The reason why nothing was published.
#[derive(Debug)]
enum Failure {
    /// The app's mistake, which it may handle.
    App(Error),
    /// The end of the invocation.
    End(Overrun),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::App(error)
    }
}

impl From<Overrun> for Failure {
    fn from(overrun: Overrun) -> Self {
        Self::End(overrun)
    }
}

impl View<'_> {
    /// The index of a declared output of this kind.
    fn output(&self, name: &str, kind: OutputKind) -> Result<usize, Error> {
        let outputs = self.app.outputs.iter();
        let found =
            outputs.enumerate().find(|(_, output)| output.name.as_str() == name && output.kind == kind);
        found.map(|(index, _)| index).ok_or_else(|| Error::UnknownOutput(name.to_owned()))
    }
}

impl wit::Host for View<'_> {
    fn publish(&mut self, batch: Batch) -> wasmtime::Result<Result<(), Error>> {
        self.quota.carry(publish::carried(&batch))?;
        match self.publish(&batch) {
            Ok(()) => Ok(Ok(())),
            Err(Failure::App(error)) => Ok(Err(error)),
            Err(Failure::End(overrun)) => Err(overrun.into()),
        }
    }

    fn request(&mut self, intents: Vec<Intent>) -> wasmtime::Result<Result<Vec<Ticket>, Error>> {
        let sizes =
            intents.iter().map(|intent| intent.output.len() + intent.entity.len() + size_of::<Intent>());
        self.quota.carry(sizes.sum())?;
        match View::request(self, intents) {
            Ok(tickets) => Ok(Ok(tickets)),
            Err(Failure::App(error)) => Ok(Err(error)),
            Err(Failure::End(overrun)) => Err(overrun.into()),
        }
    }
}
