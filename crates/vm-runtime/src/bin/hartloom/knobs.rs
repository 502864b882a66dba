//! Knobs of the compiler, for people who narrow a fault of it down: variables
//! of the environment, since they are no promise to users. Nothing else here or
//! below reads the environment.

use std::ffi::{OsStr, OsString};

use anyhow::{Result, bail};
use async_executor::JitConfig;
use vm_runtime::{EngineKind, jit_config};

/// A variable, and what its number is for.
type Knob = (&'static str, fn(&mut JitConfig, u32));

const KNOBS: [Knob; 4] = [
    ("HARTLOOM_THRESHOLD", |config, n| config.threshold = n),
    ("HARTLOOM_REGION_LIMIT", |config, n| {
        config.region_insts_max = n as usize;
    }),
    ("HARTLOOM_INLINE_MAX", |config, n| {
        config.inline_insts_max = n as usize;
    }),
    ("HARTLOOM_INLINE_RECURSION", |config, n| {
        config.inline_recursion_max = n as usize;
    }),
];

/// How an engine compiles, with what the environment says.
pub(crate) fn config(kind: EngineKind) -> Result<JitConfig> {
    turned(jit_config(kind), |name| std::env::var_os(name))
}

fn turned(
    mut config: JitConfig,
    value_of: impl Fn(&OsStr) -> Option<OsString>,
) -> Result<JitConfig> {
    for (name, turn) in KNOBS {
        let Some(value) = value_of(OsStr::new(name)) else {
            continue;
        };
        let Some(number) = value.to_str().and_then(|text| text.parse().ok()) else {
            bail!(
                "the environment variable {name} is {value:?}; it can be a number from 0 to {}, \
                 or be unset",
                u32::MAX
            );
        };
        turn(&mut config, number);
    }
    Ok(config)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_knob_turns_something() {
        let before = jit_config(EngineKind::Jit);
        let mut seen = vec![before];
        for (name, _) in KNOBS {
            let turned = turned(before, |asked| (asked == name).then(|| "7".into())).unwrap();
            assert!(!seen.contains(&turned), "{name}");
            seen.push(turned);
        }
    }
}
