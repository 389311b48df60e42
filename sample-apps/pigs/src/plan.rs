//! The vaccination plan: which vaccine at which age.
//!
//! Written as `mycoplasma@21, erysipelas@84+14`: a name, the age in days from which it is due, and for how many
//! days it may be given before it counts as overdue (7 where nothing is said).

/// Days in which a vaccination may be given, where the plan doesn't say.
const WINDOW: u32 = 7;
/// After so many days overdue a vaccination is no longer asked for: the time for it has passed.
const GIVEN_UP: u32 = 28;
/// As many as an animal's ledger keeps notes for.
const MOST: usize = 32;
const LONGEST_NAME: usize = 40;
const OLDEST: u32 = 2_000;

/// One vaccination of the plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vaccination {
    /// As the plan calls it.
    pub name: String,
    /// Due from this age, in days.
    pub age: u32,
    /// Days from then until it is overdue.
    pub window: u32,
}

/// The plan, in the order of ages.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan(Vec<Vaccination>);

/// The reason why a plan can't be read.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum PlanError {
    /// A part isn't `name@age` or `name@age+window`.
    #[error(
        "vaccination `{0}` isn't `name@age` or `name@age+window`, with days as whole numbers, such as `erysipelas@84+14`"
    )]
    Malformed(String),
    /// An age or window that no pig reaches.
    #[error("vaccination `{0}`: the age and the window may be at most {OLDEST} days")]
    TooOld(String),
    /// The name is empty, too long or not of letters, digits, spaces, `-` and `.`.
    #[error(
        "vaccination `{0}`: its name must be 1 to {LONGEST_NAME} letters, digits, spaces, `-`, `_` or `.`"
    )]
    Name(String),
    /// A name occurs twice.
    #[error("vaccination `{0}` stands twice in the plan: give a second dose a name of its own")]
    Twice(String),
    /// More than a plan may hold.
    #[error("the plan has {0} vaccinations, and at most {MOST} are possible")]
    TooMany(usize),
}

/// The vaccinations that an animal needs by the plan at an age.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Needs<'a> {
    /// Within their window.
    pub due: Vec<&'a Vaccination>,
    pub overdue: Vec<&'a Vaccination>,
}

impl Plan {
    /// Reads a plan; an empty text is a plan without vaccinations.
    pub fn parse(text: &str) -> Result<Self, PlanError> {
        let mut plan: Vec<Vaccination> = Vec::new();
        for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            let malformed = || PlanError::Malformed(part.to_owned());
            let (name, when) = part.rsplit_once('@').ok_or_else(malformed)?;
            let (age, window) =
                when.split_once('+').map_or((when, None), |(age, window)| (age, Some(window)));
            let days = |text: &str| text.trim().parse::<u32>().map_err(|_| malformed());
            let age = days(age)?;
            let window = window.map_or(Ok(WINDOW), days)?;
            if age > OLDEST || window > OLDEST {
                return Err(PlanError::TooOld(part.to_owned()));
            }
            let name = name.trim();
            let allowed = |letter: char| letter.is_alphanumeric() || matches!(letter, ' ' | '-' | '_' | '.');
            if name.is_empty() || name.len() > LONGEST_NAME || !name.chars().all(allowed) {
                return Err(PlanError::Name(part.to_owned()));
            }
            if plan.iter().any(|other| other.name == name) {
                return Err(PlanError::Twice(name.to_owned()));
            }
            plan.push(Vaccination { name: name.to_owned(), age, window });
        }
        if plan.len() > MOST {
            return Err(PlanError::TooMany(plan.len()));
        }
        plan.sort_by_key(|vaccination| vaccination.age);
        Ok(Self(plan))
    }

    /// The vaccination of this name.
    pub fn find(&self, name: &str) -> Option<&Vaccination> {
        self.0.iter().find(|vaccination| vaccination.name == name)
    }

    /// The names, for a message.
    pub fn names(&self) -> String {
        self.0.iter().map(|vaccination| vaccination.name.as_str()).collect::<Vec<_>>().join(", ")
    }

    /// Returns the needs of an animal of `age` days that came to the farm at the age of `from` and was `given` these.
    ///
    /// Vaccinations that were due before it came were up to the farm that it came from.
    pub fn needs(&self, age: i64, from: i64, given: &[String]) -> Needs<'_> {
        let mut needs = Needs::default();
        for vaccination in &self.0 {
            let due = i64::from(vaccination.age);
            let overdue = due + i64::from(vaccination.window);
            let asked = age >= due && age < overdue + i64::from(GIVEN_UP) && from < overdue;
            if !asked || given.contains(&vaccination.name) {
                continue;
            }
            if age < overdue { needs.due.push(vaccination) } else { needs.overdue.push(vaccination) }
        }
        needs
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(list: &[&Vaccination]) -> Vec<String> {
        list.iter().map(|vaccination| vaccination.name.clone()).collect()
    }

    #[test]
    fn a_plan_is_read_in_the_order_of_ages() {
        let plan = Plan::parse(" erysipelas@84+14, mycoplasma@21 ,,PCV2 dose 1@21+0").unwrap();
        assert_eq!(plan.names(), "mycoplasma, PCV2 dose 1, erysipelas");
        assert_eq!(plan.find("erysipelas").map(|one| (one.age, one.window)), Some((84, 14)));
        assert_eq!(plan.find("mycoplasma").map(|one| one.window), Some(7));
        assert_eq!(Plan::parse("").unwrap(), Plan::default());
    }

    #[test]
    fn a_bad_plan_is_refused_with_the_part_at_fault() {
        for (text, part) in [
            ("mycoplasma", "mycoplasma"),
            ("ok@3, flu@soon", "flu@soon"),
            ("flu@10+", "flu@10+"),
            ("flu@-3", "flu@-3"),
            ("flu@9999", "flu@9999"),
            ("@20", "@20"),
            ("a/b@20", "a/b@20"),
            ("flu@20, flu@40", "flu"),
        ] {
            let error = Plan::parse(text).unwrap_err().to_string();
            assert!(error.contains(&format!("`{part}`")), "{text}: {error}");
        }
        let many = (0..33).map(|n| format!("v{n}@{n}")).collect::<Vec<_>>().join(",");
        assert_eq!(Plan::parse(&many), Err(PlanError::TooMany(33)));
    }

    #[test]
    fn due_then_overdue_then_given_up() {
        let plan = Plan::parse("flu@80+7").unwrap();
        let at = |age| {
            let needs = plan.needs(age, 70, &[]);
            (names(&needs.due), names(&needs.overdue))
        };
        let flu = vec!["flu".to_owned()];
        assert_eq!(at(79), (vec![], vec![]));
        assert_eq!(at(80), (flu.clone(), vec![]));
        assert_eq!(at(86), (flu.clone(), vec![]));
        assert_eq!(at(87), (vec![], flu.clone()));
        assert_eq!(at(114), (vec![], flu.clone()));
        assert_eq!(at(115), (vec![], vec![]));
        assert_eq!(plan.needs(81, 70, &flu), Needs::default());
    }

    #[test]
    fn what_was_for_the_farm_before_is_not_asked_for() {
        let plan = Plan::parse("mycoplasma@21").unwrap();
        assert_eq!(plan.needs(30, 28, &[]), Needs::default());
        assert_eq!(names(&plan.needs(30, 27, &[]).overdue), ["mycoplasma"]);
    }
}
