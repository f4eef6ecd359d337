use super::*;

/// What a pattern finds in a text, and after how many looks.
fn search(text: &[u8], pattern: &[u8], looks_max: u32) -> Found<Option<(usize, usize)>> {
    let mut looks = 0;
    let mut is_over = || {
        looks += 1;
        looks > looks_max
    };
    Matcher::new(text, pattern, Pace::new(&mut is_over)).search(0)
}

#[test]
fn what_nests_too_deeply_is_refused() {
    for item in ["a-", "a?", "a*"] {
        let pattern = item.repeat(1_000_000);
        let found = search(&[b'a'; 2_000], pattern.as_bytes(), 0);
        assert_eq!(found, Err(Fault::TooComplex), "{item}");
    }
    assert_eq!(search(b"", "a-".repeat(900).as_bytes(), 0), Ok(Some((0, 0))));
    assert_eq!(search(b"", "()a?".repeat(40).as_bytes(), 0), Err(Fault::TooManyCaptures));
}

#[test]
fn what_takes_long_is_stopped() {
    let backtracking = ["a?".repeat(40), "a".repeat(40)].concat();
    assert_eq!(search(&[b'a'; 39], backtracking.as_bytes(), 3), Err(Fault::Stop));
    let greedy = [".*".repeat(20), "x".into()].concat();
    assert_eq!(search(&[b'a'; 200], greedy.as_bytes(), 3), Err(Fault::Stop));
    // One class, as long as the text, for each byte of the text.
    let class = [b"[".to_vec(), vec![b'b'; 100_000], b"]*x".to_vec()].concat();
    assert_eq!(search(&[b'a'; 100_000], &class, 3), Err(Fault::Stop));
    let mut is_over = || true;
    let (text, wanted) = (vec![b'a'; 200_000], [vec![b'a'; 100_000], vec![b'b']].concat());
    let found = find_plain(&text, &wanted, &mut Pace::new(&mut is_over));
    assert_eq!(found, Err(Fault::Stop));
}

#[test]
fn a_plain_text_is_found_where_it_stands() {
    let mut random = 1_u64;
    let mut below = |bound: u64| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (random >> 33) % bound
    };
    for _ in 0..20_000 {
        let mut bytes = |most: u64| -> Vec<u8> {
            let length = below(most);
            (0..length).map(|_| b'a' + below(2) as u8).collect()
        };
        let (text, wanted) = (bytes(150), bytes(8));
        let expected = match wanted.len() {
            0 => Some(0),
            length => text.windows(length).position(|window| window == wanted),
        };
        let mut is_over = || true;
        let found = find_plain(&text, &wanted, &mut Pace::new(&mut is_over));
        assert_eq!(found, Ok(expected), "{} in {}", wanted.escape_ascii(), text.escape_ascii());
    }
}
