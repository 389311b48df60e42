//! The kinds of data under keys, by their numbers.

macro_rules! kinds {
    ($($(#[$doc:meta])* $name:ident = $number:literal, $words:literal;)*) => {
        /// The kind of data under a key. The numbers are part of every key and never change.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        pub enum KeyKind { $($(#[$doc])* $name = $number,)* }

        impl KeyKind {
            /// All kinds.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            pub(super) fn from_number(number: u8) -> Option<Self> {
                match number { $($number => Some(Self::$name),)* _ => None }
            }

            /// In words, for errors.
            pub fn words(self) -> &'static str {
                match self { $(Self::$name => $words,)* }
            }
        }
    };
}

kinds! {
    /// The format number of the store; of the node.
    Format = 1, "format number";
    /// The fencing epoch; of the node.
    Epoch = 2, "epoch";
    /// The fold position with what belongs to it; of the node.
    Folded = 3, "fold position";
    /// The log that the store belongs to; of the node.
    Log = 4, "identity of the log";
    /// A page of points: their paths and units.
    PointPage = 16, "page of points";
    /// A page of latest values.
    LatestPage = 17, "page of latest values";
    /// An installation, by id.
    Installation = 18, "installation";
    /// A revision of an installation.
    Revision = 19, "revision";
    /// The receipt of a connector.
    Receipt = 20, "receipt of a connector";
    /// The answer to a request with an idempotency key.
    Idempotency = 21, "idempotency key";
    /// The header of a journal block, by its first sequence.
    Block = 22, "journal block";
    /// A package, by digest.
    Package = 23, "package";
    /// The progress of a stream of readings.
    Stream = 24, "stream of readings";
    /// That there is an episode of an alarm, of any generation, in the order of time.
    EpisodeTime = 25, "time of an episode of an alarm";
    /// A point that set-points go to.
    Driven = 26, "driven point";
    /// A change of an alarm of which connectors can tell, by its place in a ring.
    AlarmNews = 27, "change of an alarm";
    /// A connector that people added or stopped, by name.
    Connector = 28, "connector";
    /// Whose an app id is.
    AppOwner = 29, "owner of an app id";
    /// A catalog that people added, by name.
    Catalog = 30, "catalog";
    /// That a tenant has a package.
    Holding = 11, "package of a tenant";
    /// A tenant, by number.
    Tenant = 14, "tenant";
    /// A token of a person or a machine, by name.
    Token = 31, "token";
    /// An upgrade that waits for consent, by installation.
    Consent = 15, "upgrade that waits for consent";
    /// An entry of the audit log.
    AuditEntry = 12, "entry of the audit log";
    /// A signed checkpoint of the audit log.
    AuditCheckpoint = 13, "checkpoint of the audit log";
    /// Cursor, counters and more of a generation.
    Lane = 32, "lane of a generation";
    /// An app's state.
    State = 33, "state";
    /// A one-shot timer.
    Timer = 34, "one-shot timer";
    /// An alarm, by its current episode.
    Alarm = 35, "alarm";
    /// A dead letter.
    DeadLetter = 36, "dead letter";
    /// The summary of an invocation.
    Invocation = 37, "invocation";
    /// An episode of an alarm that is over.
    Episode = 38, "episode of an alarm";
    /// A revision of a generation under which nothing runs any more.
    PastRevision = 39, "past revision";
    /// A set-point that was asked for and has no outcome yet.
    Intent = 40, "intent";
}
