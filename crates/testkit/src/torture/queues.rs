//! Where the elements of a queue went: an account that needs no order of the operations.
//!
//! Pure. `linear::queue` finds more; this says in words what is most to be feared, and does not
//! depend on a search. An operation without an answer is given the benefit of the doubt: a push may
//! have come to nothing, and a pop may have taken an element, whichever it likes.

use std::collections::BTreeMap;

use super::history::{Answer, Call, Record};

/// Elements that a text names.
const NAMED: usize = 10;

/// Something that no course of events explains.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wrong {
    /// As in findings.
    pub kind: &'static str,
    /// What.
    pub text: String,
    /// The operations that show it, as positions in the history.
    pub operations: Vec<usize>,
}

/// What is known of an element: operations, as positions in the history.
#[derive(Debug, Default)]
struct Course {
    /// Pushes that may have had an effect.
    pushed: Vec<usize>,
    is_acknowledged: bool,
    /// Answers that gave it to a consumer and kept nothing.
    popped: Vec<usize>,
    /// Answers that gave it to a consumer and put it aside.
    moved: Vec<usize>,
    /// It may have been removed from there, or was.
    may_be_done: bool,
    done: Vec<usize>,
    /// The last reads that show it, once for each time they do.
    left: Vec<usize>,
}

impl Course {
    /// Given to two consumers, or to one and still there.
    fn is_double(&self) -> bool {
        let is_gone = !self.popped.is_empty() || !self.done.is_empty();
        self.popped.len() + self.moved.len() > 1
            || self.done.len() > 1
            || self.left.len() + usize::from(is_gone) > 1
    }

    fn is_strange(&self) -> bool {
        let is_seen = !(self.popped.is_empty() && self.moved.is_empty() && self.left.is_empty());
        self.pushed.is_empty() && is_seen
    }

    fn is_missing(&self) -> bool {
        self.popped.is_empty() && self.left.is_empty() && !self.may_be_done
    }

    /// It was in the queue, and who took it was not told, if anybody did.
    fn is_missing_from_queue(&self) -> bool {
        self.is_acknowledged && self.moved.is_empty() && self.is_missing()
    }

    /// It was put aside, where nobody takes it without its name.
    fn is_missing_aside(&self) -> bool {
        !self.moved.is_empty() && self.is_missing()
    }

    fn all(&self) -> impl Iterator<Item = usize> {
        [&self.pushed, &self.popped, &self.moved, &self.done, &self.left]
            .into_iter()
            .flat_map(|list| list.iter().copied())
    }
}

/// Judges the operations of one queue; those from `last` on are the last reads.
pub fn account<'a>(
    operations: impl Iterator<Item = (usize, &'a Record)>,
    last: usize,
) -> Vec<Wrong> {
    let mut courses: BTreeMap<u64, Course> = BTreeMap::new();
    let mut unanswered_pops = 0;
    for (index, record) in operations.filter(|(_, record)| record.may_have_effect()) {
        match (record.call, record.answer()) {
            (Call::Push(_, element), answer) => {
                let course = of(&mut courses, element);
                course.pushed.push(index);
                course.is_acknowledged |= answer.is_some();
            }
            (Call::Pop(_), Some(Answer::Value(Some(element)))) => {
                of(&mut courses, *element).popped.push(index);
            }
            (Call::Pop(_), None) => unanswered_pops += 1,
            (Call::Move, Some(Answer::Value(Some(element)))) => {
                of(&mut courses, *element).moved.push(index);
            }
            (Call::Done(element), None) => of(&mut courses, element).may_be_done = true,
            (Call::Done(element), Some(Answer::Whether(true))) => {
                let course = of(&mut courses, element);
                course.may_be_done = true;
                course.done.push(index);
            }
            (_, Some(Answer::Content(content))) if index >= last => {
                for element in content {
                    of(&mut courses, *element).left.push(index);
                }
            }
            _ => {}
        }
    }
    judge(&courses, unanswered_pops)
}

fn of(courses: &mut BTreeMap<u64, Course>, element: u64) -> &mut Course {
    courses.entry(element).or_default()
}

fn judge(courses: &BTreeMap<u64, Course>, unanswered_pops: usize) -> Vec<Wrong> {
    let some = |is: fn(&Course) -> bool| -> Vec<u64> {
        courses.iter().filter(|(_, course)| is(course)).map(|(element, _)| *element).collect()
    };
    let wrong = |kind, elements: &[u64], text: String| Wrong {
        kind,
        text: format!("{text}: {:?}", elements.get(..NAMED).unwrap_or(elements)),
        operations: elements.iter().flat_map(|element| courses[element].all()).collect(),
    };
    let mut found = Vec::new();
    let (doubles, strange) = (some(Course::is_double), some(Course::is_strange));
    if !doubles.is_empty() {
        let text =
            format!("{} elements were given out twice, or once and are still there", doubles.len());
        found.push(wrong("taken twice", &doubles, text));
    }
    if !strange.is_empty() {
        let text = format!("{} elements were never pushed", strange.len());
        found.push(wrong("lost write", &strange, text));
    }
    let missing = some(Course::is_missing_from_queue);
    if missing.len() > unanswered_pops {
        let text = format!(
            "{} acknowledged elements are missing, and only {unanswered_pops} pops were not answered",
            missing.len()
        );
        found.push(wrong("lost write", &missing, text));
    }
    let missing = some(Course::is_missing_aside);
    if !missing.is_empty() {
        let text = format!("{} elements that were put aside are missing", missing.len());
        found.push(wrong("lost write", &missing, text));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::super::history::Outcome;
    use super::*;
    use crate::linear::queue::End;

    const POP: Call = Call::Pop(End::Right);

    /// Judges operations one after the other; the last two are the last reads.
    fn found(operations: &[(Call, Option<Answer>)]) -> Vec<&'static str> {
        let record = |(number, (call, answer)): (u64, &(Call, Option<Answer>))| Record {
            client: 0,
            key: 0,
            call: *call,
            invoked: number,
            ended: number,
            outcome: match answer {
                Some(answer) => Outcome::Answered(answer.clone()),
                None => Outcome::Unknown("cut".to_owned()),
            },
            by: None,
        };
        let records: Vec<Record> = (0..).zip(operations).map(record).collect();
        let found = account(records.iter().enumerate(), records.len() - 2);
        found.into_iter().map(|wrong| wrong.kind).collect()
    }

    fn push(element: u64) -> (Call, Option<Answer>) {
        (Call::Push(End::Left, element), Some(Answer::Number(1)))
    }

    fn given(call: Call, element: u64) -> (Call, Option<Answer>) {
        (call, Some(Answer::Value(Some(element))))
    }

    fn done(element: u64) -> (Call, Option<Answer>) {
        (Call::Done(element), Some(Answer::Whether(true)))
    }

    fn left(queue: &[u64], aside: &[u64]) -> [(Call, Option<Answer>); 2] {
        let content = |of: &[u64]| Some(Answer::Content(of.to_vec()));
        [(Call::Get, content(queue)), (Call::Aside, content(aside))]
    }

    #[test]
    fn what_was_pushed_was_given_out_once_or_is_there() {
        let all = [push(1), push(2), push(3), given(POP, 1), given(Call::Move, 2)];
        assert!(found(&[&all[..], &left(&[3], &[2])].concat()).is_empty());
        assert!(found(&[&all[..], &[done(2)], &left(&[3], &[])].concat()).is_empty());
        assert!(
            found(&[&all[..], &[(Call::Done(2), None)], &left(&[3], &[2])].concat()).is_empty()
        );
        assert!(found(&[&all[..], &[(Call::Done(2), None)], &left(&[3], &[])].concat()).is_empty());
    }

    #[test]
    fn an_acknowledged_element_is_missing_only_if_a_pop_was_not_answered() {
        let pushed = [push(1), push(2)];
        let [none, other] = left(&[], &[]);
        let unanswered = (POP, None);
        assert_eq!(found(&[&pushed[..], &left(&[2], &[])].concat()), ["lost write"]);
        assert!(
            found(&[&pushed[..], std::slice::from_ref(&unanswered), &left(&[2], &[])].concat())
                .is_empty()
        );
        let one_for_two = [&pushed[..], &[unanswered, none, other]].concat();
        assert_eq!(found(&one_for_two), ["lost write"]);
        // A move that was not answered leaves what it took where the last reads find it.
        let moved = [&pushed[..], &[(Call::Move, None)], &left(&[2], &[])].concat();
        assert_eq!(found(&moved), ["lost write"]);
        let never = [(Call::Push(End::Left, 1), None)];
        assert!(found(&[&never[..], &left(&[], &[])].concat()).is_empty());
        assert!(found(&[&never[..], &left(&[1], &[])].concat()).is_empty());
    }

    #[test]
    fn an_element_that_was_put_aside_goes_only_when_it_is_removed() {
        let moved = [push(1), given(Call::Move, 1), (POP, None)];
        assert_eq!(found(&[&moved[..], &left(&[], &[])].concat()), ["lost write"]);
        let not_there = (Call::Done(1), Some(Answer::Whether(false)));
        assert_eq!(found(&[&moved[..], &[not_there], &left(&[], &[])].concat()), ["lost write"]);
    }

    #[test]
    fn an_element_is_given_to_one_consumer() {
        for twice in [
            [given(POP, 1), given(POP, 1)],
            [given(POP, 1), given(Call::Move, 1)],
            [given(Call::Move, 1), given(Call::Move, 1)],
        ] {
            let all = [&[push(1)], &twice[..], &[(Call::Done(1), None)], &left(&[], &[])].concat();
            assert_eq!(found(&all), ["taken twice"], "{twice:?}");
        }
        let one = [push(1), given(POP, 1)];
        assert_eq!(found(&[&one[..], &left(&[1], &[])].concat()), ["taken twice"]);
        let one = [push(1), given(Call::Move, 1)];
        assert_eq!(found(&[&one[..], &left(&[1], &[1])].concat()), ["taken twice"]);
        assert_eq!(found(&[&one[..], &[done(1)], &left(&[], &[1])].concat()), ["taken twice"]);
        assert_eq!(found(&[&[given(POP, 1)], &left(&[], &[])[..]].concat()), ["lost write"]);
    }
}
