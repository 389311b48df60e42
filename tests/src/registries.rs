//! What registries of packages answer.

/// Returns true where a registry was reached and doesn't have what was asked for: the pin is wrong, not the machine.
pub fn has_no_such_version(said: &str) -> bool {
    // pip names the versions that there are, and `none` where it reached nobody.
    let others = said.split("(from versions: ").skip(1).any(|versions| !versions.starts_with("none"));
    others || ["ETARGET", "E404", "EINTEGRITY", "EUSAGE"].iter().any(|code| said.contains(code))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_pin_is_told_from_a_registry_that_nobody_reaches() {
        // Texts of pip 23.2 and npm 11.
        let reached = "ERROR: Could not find a version that satisfies the requirement six==99 (from versions: 0.9.0, 1.17.0)";
        assert!(has_no_such_version(reached));
        let alone =
            "ERROR: Could not find a version that satisfies the requirement six==99 (from versions: none)";
        assert!(!has_no_such_version(alone));
        assert!(has_no_such_version("npm error code ETARGET"));
        assert!(!has_no_such_version("npm error code ENOTFOUND") && !has_no_such_version("`npm ci` failed"));
    }
}
