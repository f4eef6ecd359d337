//! Paths and edits against what jsoncons, the library of Kvrocks, was seen to do.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use json::edit::{self, Arithmetic};
use json::{DEPTH_MAX, Path, Result, Value, from_text, to_text};

fn read(text: &str) -> Value {
    from_text(text.as_bytes(), DEPTH_MAX).unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn text(value: &Value) -> String {
    to_text(value, DEPTH_MAX).unwrap()
}

/// What the path leads to.
fn found(document: &Value, path: &[u8]) -> Result<Vec<Value>> {
    let mut found = Vec::new();
    Path::parse(path)?.each(document, |value| {
        found.push(value.clone());
        Ok(())
    })?;
    Ok(found)
}

fn list<T: ToString>(outcomes: &[Option<T>]) -> String {
    let each = |outcome: &Option<T>| outcome.as_ref().map_or("nil".to_owned(), T::to_string) + ",";
    format!("[{}]", outcomes.iter().map(each).collect::<String>())
}

/// Does a recorded command; what it says, and the document afterwards if it edits.
fn outcome(command: &str, document: &str, path: &str, args: &[&str]) -> Result<String> {
    let (mut document, path) = (read(document), path.as_bytes());
    let number = |place: usize| args[place].parse::<i64>().unwrap();
    let said = match command {
        "get" => return Ok(text(&Value::Array(found(&document, path)?))),
        "arrindex" => {
            let (value, start, stop) = (read(args[0]), number(1), number(2));
            let found = found(&document, path)?;
            let places = found.iter().map(|array| edit::index_of(array, &value, start, stop));
            return Ok(list(&places.collect::<Vec<_>>()));
        }
        "set" => {
            edit::set(&mut document, path, &read(args[0]), 1)?;
            String::new()
        }
        "merge" => {
            edit::merge(&mut document, path, args[0].as_bytes(), DEPTH_MAX)?;
            "1 ".to_owned()
        }
        "del" => format!("{} ", edit::remove(&mut document, path)?),
        "strappend" => list(&edit::append_text(&mut document, path, "zz")?),
        "toggle" => {
            let values = edit::toggle(&mut document, path)?;
            list(&values.into_iter().map(|value| value.map(u8::from)).collect::<Vec<_>>())
        }
        "clear" => edit::clear(&mut document, path)?.to_string(),
        "arrappend" => list(&edit::append(&mut document, path, &[read(args[0])], 1)?),
        "arrinsert" => list(&edit::insert(&mut document, path, number(0), &[read(args[1])], 1)?),
        "arrtrim" => list(&edit::trim(&mut document, path, number(0), number(1))?),
        "arrpop" => {
            let popped = edit::pop(&mut document, path, number(0))?;
            let each = |value: &Option<Value>| value.as_ref().map_or("nil".to_owned(), text) + ";";
            popped.iter().map(each).collect()
        }
        "incr" | "mul" => {
            let Value::Number(by) = read(args[0]) else { panic!("{args:?}") };
            let how = if command == "incr" { Arithmetic::Add } else { Arithmetic::Multiply };
            let numbers = edit::compute(&mut document, path, how, &by)?;
            let numbers =
                numbers.into_iter().map(|number| number.map_or(Value::Null, Value::Number));
            text(&Value::Array(numbers.collect()))
        }
        other => panic!("{other}"),
    };
    Ok(said + &text(&document))
}

#[test]
fn recorded_paths_lead_where_they_led_and_edits_are_the_same() {
    let (mut shared, mut count) = ("", 0);
    for line in include_str!("../testdata/jsoncons.txt").lines().skip(1) {
        let words: Vec<&str> = line.split('\t').collect();
        if let ["@", document] = words.as_slice() {
            shared = document;
            continue;
        }
        let [command, document, path, args @ .., recorded] = words.as_slice() else {
            panic!("{line}");
        };
        let document = if *document == "@" { shared } else { document };
        let outcome = outcome(command, document, path, args);
        let outcome = outcome.unwrap_or_else(|error| format!("ERR {error}"));
        assert_eq!(outcome, *recorded, "{line}");
        count += 1;
    }
    assert!(count > 800, "{count}");
}
