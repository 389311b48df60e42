//! Chains against their description, and against those who alter them.

use proptest::prelude::*;

use super::*;
use crate::key::SecretKey;

const TENANT: Chain = Chain::Tenant(TenantId(1));

/// Entries with the hashes that are written beside them.
type Written = Vec<(Entry, Digest)>;

fn said(chain: Chain, who: &str, action: &str) -> Said {
    Said {
        chain,
        who: who.into(),
        role: "operator".into(),
        action: action.into(),
        resource: "installations/pigs".into(),
        outcome: Outcome::Done,
        problem: "".into(),
        detail: "installation pigs was paused".into(),
        digest: None,
    }
}

/// A chain of so many entries.
fn chain_of(count: u64) -> Written {
    let mut heads = Heads::default();
    let entries = (1..=count).map(|n| heads.append(said(TENANT, "anna", &format!("a{n}")), Timestamp(n)));
    entries.map(|entry| (entry.clone(), entry.hash())).collect()
}

fn checkpoint(entries: &[(Entry, Digest)], number: usize, key: &SecretKey) -> Checkpoint {
    let head = Head { number: number as u64, hash: entries[number - 1].1 };
    Checkpoint::read(&Checkpoint::sign(TENANT, head, Timestamp(99), key), Some(key.public())).unwrap()
}

fn verify(entries: &[(Entry, Digest)], checkpoints: &[Checkpoint]) -> Verified {
    let mut verifier = Verifier::new();
    checkpoints.iter().for_each(|checkpoint| verifier.checkpoint(checkpoint));
    entries.iter().for_each(|(entry, hash)| verifier.entry(entry, *hash));
    verifier.finish()
}

/// By a few lines of Python with `hashlib` and `struct`, from the description in the documentation.
#[test]
fn the_hash_of_an_entry_never_changes() {
    let first = Said {
        role: "".into(),
        resource: "tokens/admin".into(),
        detail: "the token admin was made".into(),
        ..said(Chain::Platform, "-host", "addToken")
    };
    let second = Said {
        role: "auditor".into(),
        outcome: Outcome::Refused,
        problem: "role".into(),
        detail: "may not".into(),
        digest: Some(Digest::of(b"{}")),
        ..said(Chain::Platform, "änna", "pause")
    };
    let mut heads = Heads::default();
    let first = heads.append(first, Timestamp(1_700_000_000_000_000_000));
    assert_eq!((first.number, first.previous), (1, Digest([0; 32])));
    assert_eq!(first.hash().hex(), "af95e98a656c587b5c938543167e4b86d47067ee4f2a46c05c107608af6ae4ab");
    let second = heads.append(second, Timestamp(1_700_000_000_000_000_007));
    assert_eq!((second.number, second.previous), (2, first.hash()));
    assert_eq!(second.hash().hex(), "8b0ddf17559ed9b8660efb1f21d25a2369635520749cc4e6d164fcf5f50b283f");
    assert_eq!(heads.of(Chain::Platform), Head { number: 2, hash: second.hash() });
    assert_eq!(heads.of(TENANT), Head::NONE);
}

#[test]
fn chains_have_one_name_and_one_number_each() {
    for (chain, name, number) in [
        (Chain::Platform, "platform", 0),
        (Chain::Tenant(TenantId(7)), "tenant-7", 0x1_0000_0007),
        (Chain::SetPoints(TenantId(u32::MAX)), "set-points-4294967295", 0x2_ffff_ffff),
    ] {
        assert_eq!(chain.to_string(), name);
        assert_eq!(name.parse(), Ok(chain));
        assert_eq!(chain.number(), number);
    }
    for name in ["", "tenant", "tenant-", "tenant-07", "tenant-+7", "tenant-4294967296", "Platform"] {
        assert!(name.parse::<Chain>().is_err(), "{name}");
    }
}

#[test]
fn a_chain_as_it_was_written_is_complete_up_to_its_last_checkpoint() {
    let (entries, key) = (chain_of(5), SecretKey::generate().unwrap());
    let verified = verify(&entries, &[checkpoint(&entries, 1, &key), checkpoint(&entries, 3, &key)]);
    assert_eq!(verified.faults, []);
    let span = Span { chain: TENANT, first: 1, last: 5, signed: Some((3, Timestamp(99))), is_faulty: false };
    assert_eq!(
        span.to_string(),
        "tenant-1: entries 1 to 5, complete up to checkpoint 3 of 1970-01-01T00:00:00.000000099Z; 2 later ones have no checkpoint yet"
    );
    assert_eq!(verified.spans, [span]);
    // The beginning is past its retention, and a checkpoint right before what is left is still there.
    let verified = verify(&entries[2..], &[checkpoint(&entries, 2, &key), checkpoint(&entries, 5, &key)]);
    assert_eq!((verified.faults, verified.spans[0].first), (vec![], 3));
}

#[test]
fn a_chain_is_complete_up_to_the_last_checkpoint_before_its_first_fault() {
    let (entries, key) = (chain_of(6), SecretKey::generate().unwrap());
    let signed = [2, 6].map(|number| checkpoint(&entries, number, &key));
    let told = |missing: usize| {
        let mut entries = entries.clone();
        entries.remove(missing - 1);
        let verified = verify(&entries, &signed);
        (verified.spans[0].signed.map(|(number, _)| number), verified.spans[0].to_string())
    };
    let (complete_up_to, text) = told(4);
    assert_eq!(complete_up_to, Some(2));
    assert_eq!(
        text,
        "tenant-1: entries 1 to 6, complete up to checkpoint 2 of 1970-01-01T00:00:00.000000099Z; something is wrong behind that"
    );
    let (complete_up_to, text) = told(2);
    assert_eq!(complete_up_to, None);
    assert!(text.contains("complete up to no checkpoint"), "{text}");
}

#[test]
fn what_was_done_to_a_chain_is_named() {
    let (entries, key) = (chain_of(6), SecretKey::generate().unwrap());
    let signed = [checkpoint(&entries, 6, &key)];
    let fault = |change: fn(&mut Vec<(Entry, Digest)>)| {
        let mut changed = entries.clone();
        change(&mut changed);
        let faults = verify(&changed, &signed).faults;
        faults.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    let changed = fault(|all| all[2].0.said.who = "ben".into());
    assert_eq!(changed, ["tenant-1: entry 3 was changed: its hash doesn't match its contents"]);
    let with_its_hash = fault(|all| {
        all[2].0.said.who = "ben".into();
        all[2].1 = all[2].0.hash();
    });
    assert_eq!(with_its_hash, ["tenant-1: entry 4 doesn't follow entry 3: one of the two was replaced"]);
    assert_eq!(fault(|all| drop(all.remove(3))), ["tenant-1: entry 4 is missing"]);
    assert_eq!(fault(|all| drop(all.drain(1..4))), ["tenant-1: entries 2 to 4 are missing"]);
    assert_eq!(
        fault(|all| all.swap(1, 2)),
        [
            "tenant-1: entry 2 is missing",
            "tenant-1: entry 2 stands behind entry 3: it was moved, or is there twice"
        ]
    );
    let cut = fault(|all| all.truncate(4));
    assert_eq!(
        cut,
        [
            "tenant-1: the end is cut off: entries 5 to 6 are missing, which the checkpoint of 1970-01-01T00:00:00.000000099Z has"
        ]
    );
    // By somebody who knows how hashes are made, from entry 3 on.
    let rewritten = fault(|all| {
        all.remove(2);
        for index in 2..all.len() {
            let previous = all[index - 1].1;
            let entry = &mut all[index].0;
            (entry.number, entry.previous) = (index as u64 + 1, previous);
            all[index].1 = all[index].0.hash();
        }
        let mut last = all[4].0.clone();
        (last.number, last.previous) = (6, all[4].1);
        all.push((last.clone(), last.hash()));
    });
    assert_eq!(
        rewritten,
        [
            "tenant-1: entry 6 isn't the one that the checkpoint of 1970-01-01T00:00:00.000000099Z is about: the entries up to it were written anew"
        ]
    );
    // Without a checkpoint nobody can tell.
    assert_eq!(verify(&entries[..4], &[]).faults, []);
}

#[test]
fn a_checkpoint_is_believed_by_its_key_alone() {
    let (key, other) = (SecretKey::generate().unwrap(), SecretKey::generate().unwrap());
    let head = Head { number: 7, hash: Digest::of(b"x") };
    let signed = Checkpoint::sign(Chain::Platform, head, Timestamp(5), &key);
    let read = Checkpoint::read(&signed, Some(key.public())).unwrap();
    assert_eq!(read, Checkpoint { chain: Chain::Platform, head, time: Timestamp(5), key: key.public() });
    assert_eq!(Checkpoint::read(&signed, None).unwrap().key, key.public());
    assert!(Checkpoint::read(&signed, Some(other.public())).is_err());
    let of_other = Checkpoint::sign(Chain::Platform, Head { number: 8, ..head }, Timestamp(5), &other);
    let both = [Checkpoint::read(&signed, None).unwrap(), Checkpoint::read(&of_other, None).unwrap()];
    assert_ne!(both[0].head, both[1].head);
    let altered = signed.replacen("payload\":\"ey", "payload\":\"fy", 1);
    assert_ne!(altered, signed);
    assert!(Checkpoint::read(&altered, None).is_err());
    // Two servers, or one that was set back to before: they can't both be right.
    let twin = Head { number: 7, hash: Digest::of(b"y") };
    let twin = Checkpoint::read(&Checkpoint::sign(Chain::Platform, twin, Timestamp(6), &key), None).unwrap();
    let faults = verify(&[], &[read, twin]).faults;
    assert_eq!(faults[0].to_string(), "platform: two checkpoints disagree about entry 7");
}

#[test]
fn long_texts_are_cut_where_a_letter_ends_and_have_room_in_a_record() {
    let long: Box<str> = "ä".repeat(3_000).into();
    let all = Said {
        who: long.clone(),
        role: long.clone(),
        action: long.clone(),
        resource: long.clone(),
        problem: long.clone(),
        detail: long,
        digest: Some(Digest([255; 32])),
        ..said(Chain::SetPoints(TenantId(u32::MAX)), "", "")
    };
    let entry = Entry {
        number: u64::MAX,
        time: Timestamp(u64::MAX),
        previous: Digest([255; 32]),
        said: all.bounded(),
    };
    assert!(entry.said.detail.len() <= MAX_DETAIL && entry.said.detail.ends_with("ä…"));
    assert!(entry.said.resource.len() <= MAX_RESOURCE);
    // As bytes of JSON, of which a record has fewer.
    let Said { who, role, action, resource, problem, detail, .. } = &entry.said;
    let texts =
        [who, role, action, resource, problem, detail].map(|text| text.len() + 5).iter().sum::<usize>();
    assert!(texts + 2 * 73 + 40 <= Entry::MAX_LEN, "{texts}");
}

proptest! {
    /// Any one change of a chain is found where a checkpoint vouches for the end.
    #[test]
    fn any_change_of_a_signed_chain_is_found(
        count in 2..20u64,
        place: prop::sample::Index,
        to: prop::sample::Index,
        kind in 0..5,
    ) {
        let key = SecretKey::of_seed(&[7; 32]);
        let entries = chain_of(count);
        let signed = [checkpoint(&entries, entries.len(), &key)];
        let mut changed = entries.clone();
        let (at, to) = (place.index(entries.len()), to.index(entries.len()));
        match kind {
            0 => drop(changed.remove(at)),
            1 => changed.swap(at, to),
            2 => changed.insert(to, entries[at].clone()),
            3 => changed.truncate(at),
            _ => changed[at].0.time = Timestamp(77),
        }
        let found = !verify(&changed, &signed).faults.is_empty();
        // What is left of the beginning is another matter: a beginning may be past its retention.
        let is_beginning_gone = kind == 0 && at == 0;
        prop_assert_eq!(found, changed != entries && !is_beginning_gone);
    }
}
