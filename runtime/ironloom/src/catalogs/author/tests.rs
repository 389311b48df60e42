//! Catalogs as they are made and signed.

use super::*;
use ironloom_trust::envelope::Keys;

const DAY: u64 = 86_400_000_000_000;
const NOW: Timestamp = Timestamp(1_796_000_000_000_000_000);

struct World {
    folder: tempfile::TempDir,
    publisher: SecretKey,
    root: SecretKey,
    index: SecretKey,
}

impl World {
    fn new(more: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let key = || SecretKey::generate().unwrap();
        let world = Self { folder, publisher: key(), root: key(), index: key() };
        let publisher = world.publisher.public();
        let plan = format!(
            "name = \"plant\"\nvalid_for = \"10 d\"\n{more}\n[[publishers]]\nname = \"Example\"\nkeys = [\"{publisher}\"]\nprefixes = [\"com.example\"]\n"
        );
        std::fs::write(world.folder.path().join(PLAN), plan).unwrap();
        world
    }

    fn folder(&self) -> Folder {
        Folder(self.folder.path().to_owned())
    }

    /// Adds a package of these contents, signed by this key.
    fn add(
        &self,
        id: &str,
        version: &str,
        contents: &str,
        key: Option<&SecretKey>,
    ) -> Result<(), AuthorError> {
        let manifest = format!(
            "manifest = 1\nid = \"{id}\"\nname = \"A\"\nversion = \"{version}\"\n[inputs.weight]\ntype = \"real\"\nunit = \"kg\"\n[outputs.limit]\nkind = \"set-point\"\ntype = \"real\"\nunit = \"A\"\n"
        );
        let component = [b"\0asm\x0d\0\x01\0", contents.as_bytes()].concat();
        let (_, mut tar) = package::write(&manifest, &component, &[]).unwrap();
        if let Some(key) = key {
            tar = package::sign(&tar, key).unwrap();
        }
        let path = self.folder.path().join("new.app.tar");
        std::fs::write(&path, tar).unwrap();
        self.folder().add(&path)
    }

    fn write_root(&self, version: u64) {
        let keys = |key: &SecretKey| Keys { threshold: 1, keys: [key.public()].into() };
        let root = Root {
            catalog: "plant".parse().unwrap(),
            version: Integer::new(version).unwrap(),
            issued: NOW,
            expires: NOW.plus(700 * DAY),
            root: keys(&self.root),
            index: keys(&self.index),
            rotations: Vec::new(),
        };
        self.folder().write_root(&root).unwrap();
    }
}

#[test]
fn a_catalog_lists_what_its_publishers_have_signed() {
    let world = World::new("[apps.\"com.example.pigs\"]\ncategories = [\"farm\"]\nicon = \"pig.svg\"");
    std::fs::write(world.folder.path().join("pig.svg"), "<svg/>").unwrap();
    for version in ["0.10.0", "0.2.0", "0.9.0"] {
        world.add("com.example.pigs", version, version, Some(&world.publisher)).unwrap();
    }
    world.add("com.example.barn", "1.0.0", "", Some(&world.publisher)).unwrap();
    let built = world.folder().build(NOW).unwrap();
    assert_eq!((built.index.version.get(), built.index.expires), (1, NOW.plus(10 * DAY)));
    assert!(built.signers.is_empty(), "there is no root yet");
    let ids: Vec<_> = built.index.apps.iter().map(|app| app.id.as_str()).collect();
    assert_eq!(ids, ["com.example.barn", "com.example.pigs"]);
    let pigs = &built.index.apps[1];
    let versions: Vec<_> = pigs.versions.iter().map(|one| one.version.to_string()).collect();
    assert_eq!(versions, ["0.2.0", "0.9.0", "0.10.0"]);
    let asks = &pigs.versions[0].asks;
    assert_eq!((asks.inputs.0["weight"].as_str(), asks.set_points.0["limit"].as_str()), ("kg", "A"));
    let icon = pigs.icon.as_ref().unwrap();
    assert_eq!(std::fs::read(world.folder.path().join(icon_path(icon.digest))).unwrap(), b"<svg/>");
    for version in &pigs.versions {
        let file = std::fs::read(world.folder.path().join(package_path(version.file))).unwrap();
        assert_eq!((Digest::of(&file), file.len() as u64), (version.file, version.size.get()));
    }
    assert_eq!(world.folder().build(NOW.plus(DAY)).unwrap().index.version.get(), 2);
    // A package that somebody has put there under a name of its own is found like the others.
    let folder = world.folder.path().join(PACKAGES);
    let file = package_path(pigs.versions[0].file);
    std::fs::rename(world.folder.path().join(&file), folder.join("pigs.app.tar")).unwrap();
    for version in [3, 4] {
        let built = world.folder().build(NOW.plus(DAY)).unwrap().index;
        assert_eq!((built.version.get(), built.apps[1].versions.len()), (version, 3));
    }
    assert!(world.folder.path().join(file).exists() && !folder.join("pigs.app.tar").exists());
}

#[test]
fn what_doesnt_belong_into_a_catalog_is_named() {
    let refused = |world: &World| world.folder().build(NOW).unwrap_err().to_string();
    let world = World::new("");
    for (id, key, said) in [
        ("com.example.pigs", None, "com.example.pigs 0.1.0 isn't signed by a key of Example"),
        ("com.example.pigs", Some(&world.root), "isn't signed by a key of Example"),
        (
            "org.other.pigs",
            Some(&world.publisher),
            "no publisher in catalog.toml may sign the id org.other.pigs",
        ),
    ] {
        let error = world.add(id, "0.1.0", "", key).unwrap_err().to_string();
        assert!(error.contains(said) && error.contains("new.app.tar"), "{error}");
    }
    assert!(!world.folder.path().join(PACKAGES).exists(), "nothing of it was copied");
    let world = World::new("");
    world.add("com.example.pigs", "0.1.0", "a", Some(&world.publisher)).unwrap();
    world.add("com.example.pigs", "0.1.0", "b", Some(&world.publisher)).unwrap();
    assert!(refused(&world).contains("another package has the version 0.1.0"));
    let world = World::new("[apps.\"com.example.gone\"]\ncategories = [\"farm\"]");
    world.add("com.example.pigs", "0.1.0", "", Some(&world.publisher)).unwrap();
    assert!(refused(&world).contains("no package in packages/ is of this app"));
    let world = World::new("");
    std::fs::write(world.folder.path().join("x.app.tar"), "no package").unwrap();
    assert!(world.folder().add(&world.folder.path().join("x.app.tar")).is_err());
}

#[test]
fn a_version_that_was_offered_never_gets_other_contents() {
    let world = World::new("");
    world.add("com.example.pigs", "0.1.0", "a", Some(&world.publisher)).unwrap();
    world.write_root(1);
    let built = world.folder().build(NOW).unwrap();
    world.folder().sign(&world.index).unwrap();
    world.folder().sign(&world.root).unwrap();
    let file = package_path(built.index.apps[0].versions[0].file);
    std::fs::remove_file(world.folder.path().join(file)).unwrap();
    world.add("com.example.pigs", "0.1.0", "b", Some(&world.publisher)).unwrap();
    let error = world.folder().build(NOW).unwrap_err().to_string();
    assert!(
        error.contains("version 0.1.0 of com.example.pigs was offered with other contents before"),
        "{error}"
    );
}

#[test]
fn each_key_signs_what_the_root_lets_it() {
    let world = World::new("");
    let folder = world.folder();
    world.add("com.example.pigs", "0.1.0", "", Some(&world.publisher)).unwrap();
    folder.build(NOW).unwrap();
    assert!(folder.sign(&world.index).unwrap_err().to_string().contains("has no root yet"));
    world.write_root(1);
    let one = |part: &str, published: bool| {
        let signatures = vec![Count { of_root: 1, has: 1, needed: 1 }];
        vec![Signed { part: part.to_owned(), signatures, published }]
    };
    // The index waits for the root, which says who signs it.
    let index = folder.sign(&world.index).unwrap();
    assert_eq!((index.len(), index[0].published), (1, false));
    assert!(!world.folder.path().join(INDEX).exists());
    assert_eq!(folder.sign(&world.root).unwrap(), one("root/1.json", true));
    assert_eq!(folder.sign(&world.index).unwrap(), one(INDEX, true), "once more says the same");
    let error = folder.sign(&world.publisher).unwrap_err().to_string();
    assert!(error.contains("signs nothing of this catalog"), "{error}");

    let mut floor = ironloom_trust::catalog::floor::Floor::first(
        &std::fs::read(world.folder.path().join(root_path(1))).unwrap(),
        &[world.root.public()],
    )
    .unwrap();
    let index = std::fs::read(world.folder.path().join(INDEX)).unwrap();
    assert_eq!(floor.take_index(&index).unwrap().apps.len(), 1);
    // Its next index is signed by nobody yet, and the one before stays in its place.
    folder.build(NOW.plus(DAY)).unwrap();
    assert!(floor.take_index(&std::fs::read(world.folder.path().join(NEXT_INDEX)).unwrap()).is_err());
    assert_eq!(std::fs::read(world.folder.path().join(INDEX)).unwrap(), index);
    folder.sign(&world.index).unwrap();
    assert_eq!(
        floor.take_index(&std::fs::read(world.folder.path().join(INDEX)).unwrap()).unwrap().version.get(),
        2
    );
}

#[test]
fn a_package_that_is_offered_gets_further_signatures() {
    let world = World::new("");
    world.add("com.example.pigs", "0.1.0", "", Some(&world.publisher)).unwrap();
    let first = world.folder().build(NOW).unwrap().index.apps[0].versions[0].clone();
    let path = world.folder.path().join("new.app.tar");
    let twice = package::sign(&Bytes::from(std::fs::read(&path).unwrap()), &world.root).unwrap();
    std::fs::write(&path, twice).unwrap();
    world.folder().add(&path).unwrap();
    let second = world.folder().build(NOW).unwrap().index.apps[0].versions[0].clone();
    assert_eq!(first.digest, second.digest);
    assert_ne!(first.file, second.file);
    assert!(!world.folder.path().join(package_path(first.file)).exists());
}

#[test]
fn every_problem_of_a_plan_is_told_with_its_place() {
    let world = World::new("");
    let path = world.folder.path().join(PLAN);
    std::fs::write(&path, "nam = \"x\"\n[[publishers]]\nname = \"a\"\nkeys = [\"b\"]\n[[blocked]]\nid = \"com.a\"\nversion = \"1\"\nreason = \"r\"\n").unwrap();
    let error = world.folder().plan().unwrap_err().to_string();
    for said in [
        "name: is missing",
        "nam: is not known",
        "publishers[1].keys: \"b\" is not a public key",
        "publishers[1].prefixes: is missing",
        "blocked[1].version",
    ] {
        assert!(error.contains(said), "{said} is not in {error}");
    }
}
