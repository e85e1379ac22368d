//! The demo as a user runs it: on no cluster, again, and down.

use crate::bench::demo::demo;

use super::report::Counts;

/// It comes up, changes nothing when it runs again, and goes. Its cluster is named after `name`.
pub fn runs(name: &str) -> Counts {
    let name = format!("{name}-demo");
    let outcome = std::env::current_exe()
        .map_err(anyhow::Error::from)
        .and_then(|program| {
            let turn = |more: &[&str]| demo(&program, &name, more);
            let ran = turn(&[]).and_then(|first| Ok((first, turn(&[])?)));
            let down = turn(&["--down"]);
            let (first, again) = ran?;
            println!("   from no cluster {first:.1} s, again {again:.1} s");
            down
        });
    match outcome {
        Ok(_) => Counts::held(1),
        Err(error) => {
            eprintln!("{error:#}");
            Counts::failed(&format!("{error:#}"))
        }
    }
}
