//! Bindings: what is refused, and where derived readings go.

use proptest::prelude::*;

use super::*;
use crate::testing::PIGS;

fn bind(asked: &[(&str, &[&str])]) -> Result<Bindings, String> {
    let manifest = Manifest::parse(PIGS).unwrap();
    let asked = asked
        .iter()
        .map(|(name, patterns)| {
            let patterns = patterns.iter().map(|pattern| pattern.to_string()).collect();
            (SlotName::new(name).unwrap(), Patterns::Many(patterns))
        })
        .collect();
    let show =
        |problems: Vec<Problem>| problems.iter().map(Problem::to_string).collect::<Vec<_>>().join("\n");
    Bindings::new(&manifest, &InstallationId::new(TenantId::MAIN, "pigs").unwrap(), &asked).map_err(show)
}

fn resolve(bindings: &Bindings, output: u16, entity: &str) -> Result<String, String> {
    bindings.resolve(output, entity).map(|path| path.to_string()).map_err(|error| error.to_string())
}

#[test]
fn a_derived_output_without_a_binding_has_the_default_one() {
    let bindings = bind(&[("weight", &["farm/{barn}/pig/{tag}/weight"])]).unwrap();
    assert_eq!(resolve(&bindings, 0, "barn-2/0042").unwrap(), "apps/pigs/gain/barn-2/0042");
    assert_eq!(resolve(&bindings, 0, "").unwrap(), "apps/pigs/gain");
    assert!(matches!(bindings.resolve(1, "x"), Err(ResolveError::Unbound(_))));
    assert!(matches!(bindings.resolve(2, "x"), Err(ResolveError::UnknownOutput)));
    for bad in ["/", "a//b", "..", "a/", "a/#", &"x".repeat(300)] {
        assert!(matches!(bindings.resolve(0, bad), Err(ResolveError::UnknownEntity { .. })), "{bad}");
    }
}

#[test]
fn an_output_pattern_takes_the_segments_by_name() {
    let weight: (&str, &[&str]) = ("weight", &["farm/{barn}/pig/{tag}/weight"]);
    let bindings = bind(&[weight, ("gain", &["gains/{tag}/in/{barn}"])]).unwrap();
    assert_eq!(resolve(&bindings, 0, "barn-2/0042").unwrap(), "gains/0042/in/barn-2");
    assert!(resolve(&bindings, 0, "0042").unwrap_err().contains("needs 2"));
    // An output for whole barns has entities of one segment.
    let bindings = bind(&[weight, ("gain", &["gains/{barn}"])]).unwrap();
    assert_eq!(resolve(&bindings, 0, "barn-2").unwrap(), "gains/barn-2");
    assert!(resolve(&bindings, 0, "barn-2/0042").unwrap_err().contains("needs 1"));
    // A capture can't reach into what belongs to the runtime.
    let bindings = bind(&[weight, ("gain", &["{barn}/gain"])]).unwrap();
    assert!(resolve(&bindings, 0, "apps").unwrap_err().contains("belongs to the runtime"));
}

#[test]
fn an_output_writes_what_its_target_names() {
    let path = |text: &str| PointPath::new(TenantId::MAIN, text).unwrap();
    let own = Target::Default { prefix: PointPath::new(TenantId::MAIN, "apps/pigs/gain").unwrap() };
    for (text, expected) in [
        ("apps/pigs/gain", true),
        ("apps/pigs/gain/7", true),
        ("apps/pigs/gains/7", false),
        ("apps/pig/gain/7", false),
    ] {
        assert_eq!(own.writes(&path(text)), expected, "{text}");
    }
    let bound = Target::Pattern {
        pattern: Pattern::new(TenantId::MAIN, "farm/{n}/gain").unwrap(),
        order: Vec::new(),
    };
    assert!(bound.writes(&path("farm/7/gain")) && !bound.writes(&path("farm/7/8/gain")));
    assert!(!Target::Unbound.writes(&path("farm/7/gain")));
}

#[test]
fn what_is_shown_binds_the_same_again() {
    let asked: &[(&str, &[&str])] =
        &[("weight", &["a/{x}/w", "b/{x}/w"]), ("gain", &["a/{x}/gain"]), ("gate", &["a/{x}/gate"])];
    let bindings = bind(asked).unwrap();
    let manifest = Manifest::parse(PIGS).unwrap();
    let again =
        Bindings::new(&manifest, &InstallationId::new(TenantId::MAIN, "pigs").unwrap(), &bindings.asked())
            .unwrap();
    assert_eq!(again, bindings);
    let stored = postcard::to_allocvec(&bindings).unwrap();
    assert_eq!(postcard::from_bytes::<Bindings>(&stored).unwrap(), bindings);
}

#[test]
fn all_that_is_wrong_is_reported() {
    let weight: (&str, &[&str]) = ("weight", &["farm/{barn}/pig/{tag}/weight"]);
    let refused = |asked: &[(&str, &[&str])], expected: &[&str]| {
        let error = bind(asked).unwrap_err();
        for part in expected {
            assert!(error.contains(part), "{part:?} is not in:\n{error}");
        }
        assert_eq!(error.lines().count(), expected.len(), "{error}");
    };
    refused(&[], &["weight must be bound"]);
    refused(
        &[weight, ("wieght", &["a"]), ("gain", &["a", "b"])],
        &["which has weight, feed, gain, gate", "one pattern"],
    );
    refused(&[("weight", &["a/{x}", "b/{y}"])], &["don't capture the same names"]);
    refused(&[("weight", &["a/{x}/{y}", "b/{y}/{x}"])], &["in the same order"]);
    refused(&[("weight", &["a//b"])], &["empty segment"]);
    refused(&[weight, ("gain", &["g/{pig}"])], &["uses {pig}, and the inputs capture {barn}, {tag}"]);
    refused(&[weight, ("gain", &["apps/pigs/{tag}"])], &["belongs to the runtime"]);
    refused(&[weight, ("gain", &["a/{tag}"]), ("gate", &["{tag}/b"])], &["can write the same points"]);
    refused(
        &[weight, ("feed", &["feed/{tag}/{barn}"]), ("gain", &["g/{tag}/{barn}"])],
        &["in different orders"],
    );
}

/// The literal and captured segments of an input, and the same captures in another order for an output.
fn patterns() -> impl Strategy<Value = (Vec<Option<String>>, Vec<usize>)> {
    let segment = prop_oneof!["[a-c]".prop_map(Some), Just(None)];
    prop::collection::vec(segment, 1..8).prop_flat_map(|input| {
        let captures: Vec<usize> = (0..input.len()).filter(|&at| input[at].is_none()).collect();
        (Just(input), Just(captures).prop_shuffle())
    })
}

proptest! {
    #[test]
    fn an_entity_finds_its_way_to_the_output_by_name(
        (input, order) in patterns(),
        values in prop::collection::vec("[a-z0-9 ü.-]{1,6}x", 8),
    ) {
        let show = |(at, segment): (usize, &Option<String>)| segment.clone().unwrap_or(format!("{{n{at}}}"));
        let pattern: Vec<String> = input.iter().enumerate().map(show).collect();
        let gain: Vec<String> = std::iter::once("out".to_owned()).chain(order.iter().map(|at| format!("{{n{at}}}"))).collect();
        let (pattern, gain) = (pattern.join("/"), gain.join("/"));
        let bindings = bind(&[("weight", &[pattern.as_str()]), ("gain", &[gain.as_str()])]).unwrap();

        let fill = |(at, segment): (usize, &Option<String>)| segment.clone().unwrap_or(values[at].clone());
        let path: Vec<String> = input.iter().enumerate().map(fill).collect();
        let entity = bindings.inputs[0].patterns[0].entity(&PointPath::new(TenantId::MAIN, &path.join("/")).unwrap()).unwrap();
        let expected: Vec<&str> = std::iter::once("out").chain(order.iter().map(|&at| values[at].as_str())).collect();
        prop_assert_eq!(resolve(&bindings, 0, &entity).unwrap(), expected.join("/"));
    }
}
