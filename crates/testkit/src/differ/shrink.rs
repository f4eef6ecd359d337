//! From a sequence that shows a difference to a short one that still does. Pure but for what is
//! asked.

use anyhow::Result;

use super::generate::Step;

/// Removes steps, first many at a time, then words, as long as `differs` says that the rest still
/// shows it.
pub fn shrink(
    mut steps: Vec<Step>,
    mut differs: impl FnMut(&[Step]) -> Result<bool>,
) -> Result<Vec<Step>> {
    let mut size = steps.len().div_ceil(2);
    while size > 0 {
        let before = steps.len();
        let mut at = 0;
        while at < steps.len() {
            let mut rest = steps.clone();
            rest.drain(at..(at + size).min(steps.len()));
            if differs(&rest)? {
                steps = rest;
            } else {
                at += size;
            }
        }
        // Single steps until no one can be spared.
        size = if size > 1 { size / 2 } else { usize::from(steps.len() < before) };
    }
    for step in 0..steps.len() {
        // An option goes with its value, or not at all.
        for size in [2, 1] {
            steps = without_words(steps, step, size, &mut differs)?;
        }
    }
    Ok(steps)
}

fn without_words(
    mut steps: Vec<Step>,
    step: usize,
    size: usize,
    differs: &mut impl FnMut(&[Step]) -> Result<bool>,
) -> Result<Vec<Step>> {
    let mut at = 1;
    loop {
        let mut rest = steps.clone();
        match rest.get_mut(step) {
            Some(Step::Ask(_, words)) if at + size <= words.len() => {
                drop(words.drain(at..at + size))
            }
            _ => return Ok(steps),
        }
        if differs(&rest)? {
            steps = rest;
        } else {
            at += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(text: &str) -> Step {
        Step::Ask('a', text.split(' ').map(|word| word.as_bytes().to_vec()).collect())
    }

    #[test]
    fn what_is_not_needed_goes() {
        let mut steps: Vec<Step> = (0..40).map(|number| ask(&format!("GET {number}"))).collect();
        steps.insert(3, ask("SET k v NX EX 10"));
        steps.insert(30, ask("APPEND k w"));
        let mut asked = 0;
        let needs = |steps: &[Step]| {
            asked += 1;
            let at = |name: &str, word: &[u8]| {
                steps.iter().position(|step| {
                    matches!(step, Step::Ask(_, words)
                        if words[0] == name.as_bytes() && words.iter().any(|each| each == word))
                })
            };
            Ok(at("SET", b"NX").is_some_and(|set| Some(set) < at("APPEND", b"k")))
        };
        assert_eq!(shrink(steps, needs).unwrap(), [ask("SET NX"), ask("APPEND k")]);
        assert!(asked < 80, "{asked} looks");
    }
}
