//! Patterns of channels, as `PSUBSCRIBE` takes them; values only. Crates for globs are made for paths, and read `/`, `{` and
//! `**` otherwise.

/// Whether a channel is one of those that the pattern means: `*`, `?`, `[a-c]`, `[^a]`, and `\` before what stands for itself.
pub fn matches(pattern: &str, channel: &str) -> bool {
    let (pattern, text) = (pattern.as_bytes(), channel.as_bytes());
    let (mut p, mut t) = (0, 0);
    // After the last star: where it stands, and how far it reaches.
    let mut star: Option<(usize, usize)> = None;
    while t < text.len() {
        if pattern.get(p) == Some(&b'*') {
            star = Some((p, t));
            p += 1;
            continue;
        }
        if let Some(next) = one(pattern, p, text[t]) {
            (p, t) = (next, t + 1);
            continue;
        }
        let Some((at, reach)) = star else {
            return false;
        };
        star = Some((at, reach + 1));
        (p, t) = (at + 1, reach + 1);
    }
    pattern[p..].iter().all(|b| *b == b'*')
}

/// Where the pattern goes on after what stands for one byte at `p`, if it stands for this one.
fn one(pattern: &[u8], p: usize, byte: u8) -> Option<usize> {
    match *pattern.get(p)? {
        b'?' => Some(p + 1),
        b'\\' if p + 1 < pattern.len() => (pattern[p + 1] == byte).then_some(p + 2),
        b'[' => class(pattern, p + 1, byte),
        own => (own == byte).then_some(p + 1),
    }
}

/// The same of a class, which begins at `p`. One without an end goes to the end of the pattern.
fn class(pattern: &[u8], mut p: usize, byte: u8) -> Option<usize> {
    let not = pattern.get(p) == Some(&b'^');
    p += usize::from(not);
    let mut found = false;
    loop {
        match pattern.get(p..).unwrap_or_default() {
            [] => break,
            [b']', ..] => {
                p += 1;
                break;
            }
            [b'\\', own, ..] => {
                found |= *own == byte;
                p += 2;
            }
            [from, b'-', to, ..] => {
                let (from, to) = (from.min(to), from.max(to));
                found |= (from..=to).contains(&&byte);
                p += 3;
            }
            [own, ..] => {
                found |= *own == byte;
                p += 1;
            }
        }
    }
    (found != not).then_some(p)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn patterns_mean_what_they_mean_to_redis() {
        for (pattern, channel, is) in [
            ("*", "+switch-master", true),
            ("*", "", true),
            ("+s*", "+switch-master", true),
            ("+s*", "-sdown", false),
            ("?sdown", "+sdown", true),
            ("?sdown", "sdown", false),
            ("[-+]sdown", "-sdown", true),
            // To Redis too that is a range, which ends with the bracket.
            ("[+-]sdown", "-sdown", false),
            ("[^+]sdown", "+sdown", false),
            ("[a-f]x", "cx", true),
            ("[f-a]x", "cx", true),
            ("\\*", "*", true),
            ("\\*", "+slave", false),
            ("*s*r", "+switch-master", true),
            ("*s*n", "+switch-master", false),
            ("", "", true),
            ("", "a", false),
            ("[+", "+", true),
            ("a\\", "a\\", true),
        ] {
            assert_eq!(matches(pattern, channel), is, "{pattern} {channel}");
        }
    }

    proptest! {
        #[test]
        fn each_channel_is_meant_by_itself_and_by_its_beginning(channel in "[-+a-z:]{0,12}", cut in 0..12_usize) {
            prop_assert!(matches(&channel, &channel));
            let beginning = format!("{}*", &channel[..cut.min(channel.len())]);
            prop_assert!(matches(&beginning, &channel));
            let (longer, other) = (format!("{channel}?"), format!("{channel}!*"));
            prop_assert!(!matches(&longer, &channel) && !matches(&other, &channel));
        }

        #[test]
        fn no_pattern_makes_it_panic(pattern in "[-\\[\\]^*?a\\\\]{0,24}", channel in "[-a\\]]{0,24}") {
            let _ = matches(&pattern, &channel);
        }
    }
}
