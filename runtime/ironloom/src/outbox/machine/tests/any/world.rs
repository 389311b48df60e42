//! All that the world knows, and the steps that it takes.

use super::granted::May;
use super::*;
use ironloom_types::ids::TenantId;

/// An end that was taken to be recorded, and what the wire knew of its point then.
type Taken = (Settlement, Option<(u8, Option<ToldOf>)>);

pub(super) struct World {
    pub machine: Machine,
    pub now: u64,
    pub ordinal: u64,
    /// The generation of each app that is installed.
    pub apps: BTreeMap<u64, u64>,
    /// The app that each generation is, or was, of.
    pub app_of: BTreeMap<u64, u64>,
    /// Of those that are installed.
    pub rights: BTreeMap<u64, May>,
    pub halted: Halted,
    pub routes: BTreeMap<u8, u8>,
    pub asked: BTreeMap<IntentPlace, Asked>,
    /// When each was committed.
    pub committed: BTreeMap<IntentPlace, u64>,
    /// The outcomes as this process has them.
    pub ended: BTreeMap<IntentPlace, Outcome>,
    /// Those that the log has.
    pub recorded: BTreeMap<IntentPlace, Outcome>,
    /// Intents that had ended in an earlier process, which was killed before the end was recorded.
    pub risen: BTreeSet<IntentPlace>,
    /// Points as the log has them.
    pub driven: BTreeMap<PointPath, Driven>,
    /// The value that was told when the log's last end of each point came to be.
    pub told_in_log: BTreeMap<u8, Option<ToldOf>>,
    /// The same for all ends that the machine still has.
    pub told_at_ends: VecDeque<Option<(u8, Option<ToldOf>)>>,
    /// Ends that the writer has taken.
    pub batch: Vec<Taken>,
    /// The number of ends that this process has had.
    pub ends: u64,
    /// A person's word, on its way through the log.
    pub confirming: Vec<Asked>,
    /// Intents that were sent, or may have been by an earlier process.
    pub sent: BTreeSet<IntentPlace>,
    /// Sent and not answered, over the connection that there is.
    pub under_way: Vec<(u8, Command)>,
    /// The command whose answer is waited for, and the connector that has it.
    pub flying: BTreeMap<u8, (What, u8)>,
    /// The last intent that went to each point, and when; a point that was forgotten has none.
    pub last_sent: BTreeMap<u8, (IntentPlace, u64)>,
    /// The same as a start must take it for: by what the log has, and at the latest.
    pub since_start: BTreeMap<u8, u64>,
    /// All commands that ever were.
    pub all: Vec<Command>,
    /// The last value that each machine may have.
    pub told: BTreeMap<u8, ToldOf>,
    /// The same, before what was sent last: where it is refused, this holds.
    pub told_before: BTreeMap<u8, Option<ToldOf>>,
    /// The last number of each point on the wire.
    pub numbers: BTreeMap<u8, u64>,
    /// The last end of each point that was a safe value's: whether it was accepted, and the value. A
    /// process that began since doesn't know whether the log has it.
    pub safe_ends: BTreeMap<u8, Option<(bool, f64)>>,
}

impl World {
    pub(super) fn new() -> Self {
        let mut world = Self {
            machine: Machine::default(),
            now: 1_000,
            ordinal: 0,
            apps: [(1, 1), (2, 2)].into(),
            app_of: [(1, 1), (2, 2)].into(),
            rights: [(1, May::ALL), (2, May::ALL)].into(),
            halted: Halted::default(),
            routes: (0..POINTS).map(|point| (point, point % 2)).collect(),
            asked: BTreeMap::new(),
            committed: BTreeMap::new(),
            ended: BTreeMap::new(),
            recorded: BTreeMap::new(),
            risen: BTreeSet::new(),
            driven: BTreeMap::new(),
            told_in_log: BTreeMap::new(),
            told_at_ends: VecDeque::new(),
            batch: Vec::new(),
            ends: 0,
            confirming: Vec::new(),
            sent: BTreeSet::new(),
            under_way: Vec::new(),
            flying: BTreeMap::new(),
            last_sent: BTreeMap::new(),
            since_start: BTreeMap::new(),
            all: Vec::new(),
            told: BTreeMap::new(),
            told_before: BTreeMap::new(),
            numbers: BTreeMap::new(),
            safe_ends: BTreeMap::new(),
        };
        world.apps.clone().values().for_each(|generation| world.set_rights(*generation));
        world.set_router();
        world
    }

    pub(super) fn do_step(&mut self, step: &Step) {
        match step {
            Step::Ask { app, lists, life, age } => self.ask(*app, lists, *life, *age),
            Step::Take { connector, most } => self.take(*connector, *most),
            Step::Drain => self.drain(),
            Step::Answer { accepted } => self.answer(0, *accepted),
            Step::AnswerAny { which, accepted } => {
                self.answer(which % self.under_way.len().max(1), *accepted);
            }
            Step::Lost { connector } => self.lose(*connector),
            Step::Wait(time) => self.now += time,
            Step::Tick => self.machine.tick(at(self.now)),
            Step::Stop { app, stopped } => self.change(*app, |may| may.stopped = *stopped),
            Step::Mode { app, mode } => self.change(*app, |may| may.mode = *mode),
            Step::Grant { app, granted } => self.change(*app, |may| may.granted = *granted),
            Step::Uninstall { app } => self.uninstall(*app),
            Step::Install { app } => {
                if !self.apps.contains_key(app) {
                    let generation = self.app_of.len() as u64 + 1;
                    self.apps.insert(*app, generation);
                    self.app_of.insert(generation, *app);
                    self.rights.insert(generation, May::ALL);
                    self.set_rights(generation);
                }
            }
            Step::Confirm { which } => self.confirm(*which),
            Step::Confirmed => self.confirmed(),
            Step::Dismiss { which } => self.dismiss(*which),
            Step::Halt { site, apps } => {
                let installations = apps.iter().map(|app| installation(*app)).collect();
                self.halted = Halted { site: *site, installations };
                self.machine.set_halted(self.halted.clone(), at(self.now));
                self.cut_off();
            }
            Step::Route { point, connector } => {
                match connector {
                    Some(connector) => self.routes.insert(*point, *connector),
                    None => self.routes.remove(point),
                };
                self.set_router();
            }
            Step::TakeEnds(most) => self.take_ends(*most),
            Step::Write => self.write(),
            Step::Restart => self.restart(),
        }
        self.observe(None);
        self.check_always();
    }

    fn ask(&mut self, app: u64, lists: &[Vec<(u8, f64)>], life: u64, age: u64) {
        let Some(generation) = self.apps.get(&app).copied() else { return };
        self.ordinal += 1;
        let may = self.rights[&generation];
        let mut all = Vec::new();
        for (list, points) in (0..).zip(lists) {
            for (point, value) in points {
                let place = (self.ordinal, all.len() as u32, list);
                let mut asked = asked_of(generation, place, *point, *value, self.now - age);
                asked.installation = installation(app);
                asked.intent.time_to_live = life;
                asked.acts = may.mode == Mode::Act;
                asked.safe = may.granted.safe().flatten().map(Value::Real);
                self.asked.insert(asked.place, asked.clone());
                self.committed.insert(asked.place, self.now);
                all.push(asked);
            }
        }
        self.machine.commit(all, at(self.now));
    }

    fn change(&mut self, app: u64, change: impl FnOnce(&mut May)) {
        let Some(generation) = self.apps.get(&app).copied() else { return };
        change(self.rights.get_mut(&generation).unwrap());
        self.disown(generation);
        self.set_rights(generation);
    }

    pub(super) fn set_rights(&mut self, generation: u64) {
        let May { mode, stopped, granted } = self.rights[&generation];
        self.renew_safe(generation);
        self.machine.set_rights(Generation(generation), granted.rights(mode, stopped), at(self.now));
    }

    fn uninstall(&mut self, app: u64) {
        let Some(generation) = self.apps.remove(&app) else { return };
        self.rights.remove(&generation);
        self.disown(generation);
        self.machine.gone(Generation(generation), at(self.now));
    }

    /// The connectors as a start finds them, or as they are changed.
    pub(super) fn set_router(&mut self) {
        let routes: BTreeMap<PointPath, Arc<str>> =
            self.routes.iter().map(|(point, connector)| (path(*point), name(*connector))).collect();
        self.machine.set_router(Arc::new(move |path| routes.get(path).cloned()), at(self.now));
    }

    fn nth(&self, which: usize) -> Option<IntentPlace> {
        self.asked.keys().nth(which % self.asked.len().max(1)).copied()
    }

    /// A person looks at one, as the API does before a deed.
    fn unconfirmed(&mut self, which: usize) -> Option<Asked> {
        let place = self.nth(which)?;
        let found = self.machine.unconfirmed(place.generation, place.id());
        let asked = &self.asked[&place];
        let acts = self.rights.get(&place.generation.0).is_some_and(|may| may.mode == Mode::Act);
        let waits = !self.ended.contains_key(&place) && !(asked.confirmed || (asked.acts && acts));
        // One that was sent while its app acted waits for its answer only.
        let flies = self.flying.values().any(|(what, _)| *what == What::Intent(place));
        assert_eq!(found.is_some(), waits && !flies, "{place:?}");
        found.map(|asked| Asked::clone(&asked))
    }

    fn confirm(&mut self, which: usize) {
        let Some(asked) = self.unconfirmed(which) else { return };
        if self.machine.refusal(&asked, at(self.now)).is_none() {
            self.confirming.push(Asked { confirmed: true, ..asked });
        }
    }

    fn confirmed(&mut self) {
        for asked in std::mem::take(&mut self.confirming) {
            // One that has ended in the meantime stays ended.
            if self.recorded.contains_key(&asked.place) {
                continue;
            }
            self.asked.get_mut(&asked.place).unwrap().confirmed = true;
            self.machine.confirm(asked, at(self.now));
            self.observe(None);
        }
    }

    fn dismiss(&mut self, which: usize) {
        let Some(asked) = self.unconfirmed(which) else { return };
        self.machine.dismiss(asked.place, at(self.now));
        self.observe(Some((What::Intent(asked.place), Outcome::Revoked)));
        assert!(self.ended.contains_key(&asked.place), "it is dismissed at once");
    }
}

pub(super) fn installation(app: u64) -> InstallationId {
    InstallationId::new(TenantId::MAIN, &format!("app-{app}")).unwrap()
}

pub(super) fn name(connector: u8) -> Arc<str> {
    format!("connector-{connector}").into()
}
