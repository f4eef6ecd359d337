//! Which steps change a password of a running cluster, in which order. Pure: what nodes take goes
//! in, steps come out.
//!
//! The order keeps one rule: nobody says a password before everybody takes it, and nobody ceases to
//! take one before nobody says it any more. So a run may end between any two steps, and the next
//! one begins with what it finds.

/// Which of the two passwords a node takes from other nodes and from the controller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Takes {
    Old,
    Both,
    New,
}

/// What is done at one node, or by the controller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum What {
    /// The node takes the new one from its peers too.
    TakeNew,
    /// The node, which has the new one only, takes the old one too: others still say it.
    TakeOld,
    /// The controller says the new one.
    Controller,
    /// The node says the new one, and takes both.
    SayNew,
    /// The node takes the new one only.
    DropOld,
    /// Clients may use the new one.
    ClientsToo,
    /// Clients must use the new one.
    ClientsOnly,
}

impl What {
    /// For people, behind the name of the node.
    pub(super) fn about(self) -> &'static str {
        match self {
            Self::TakeNew => "takes the new password beside the old one",
            Self::TakeOld => "takes the old password beside the new one",
            Self::Controller => "says the new password",
            Self::SayNew => "says the new password, and takes both",
            Self::DropOld => "takes the old password no more",
            Self::ClientsToo => "lets clients use the new password, and the old one",
            Self::ClientsOnly => "lets clients use the new password only",
        }
    }

    /// What CONFIG SET is told, with these passwords; nothing at the controller.
    pub(super) fn options<'a>(self, old: &'a str, new: &'a str) -> Vec<&'a str> {
        match self {
            Self::TakeNew => vec!["peer-auth-also", new],
            Self::TakeOld => vec!["peer-auth-also", old],
            Self::Controller => Vec::new(),
            Self::SayNew => vec!["masterauth", new, "peer-auth", new, "peer-auth-also", old],
            Self::DropOld => vec!["peer-auth-also", ""],
            Self::ClientsToo => vec!["requirepass-also", new],
            Self::ClientsOnly => vec!["requirepass", new, "requirepass-also", ""],
        }
    }

    /// Which of old and new a node takes from its peers afterwards.
    pub(super) fn leads_to(self) -> Option<Takes> {
        match self {
            Self::TakeNew | Self::TakeOld | Self::SayNew => Some(Takes::Both),
            Self::DropOld => Some(Takes::New),
            Self::Controller | Self::ClientsToo | Self::ClientsOnly => None,
        }
    }
}

/// A thing to do. `node` is an index into the nodes; none: the controller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Step {
    pub(super) what: What,
    pub(super) node: Option<usize>,
}

/// The steps by which nodes and controllers change the password that they say to each other. No
/// steps: it is done.
pub(super) fn peers(nodes: &[Takes]) -> Vec<Step> {
    if nodes.iter().all(|takes| *takes == Takes::New) {
        return Vec::new();
    }
    let at = |takes: Takes, what: What| {
        let these = nodes.iter().enumerate().filter(move |(_, has)| **has == takes);
        these.map(move |(node, _)| Step { what, node: Some(node) })
    };
    let mut steps = Vec::new();
    let is_begun = !nodes.contains(&Takes::Old);
    if !is_begun {
        // A node that was given the new one in its file, and started: the others say the old one.
        steps.extend(at(Takes::New, What::TakeOld));
        steps.extend(at(Takes::Old, What::TakeNew));
    }
    steps.push(Step { what: What::Controller, node: None });
    // Where some take the new one only, the last step has begun, and these are past it.
    let is_left = |(_, takes): &(usize, &Takes)| !is_begun || **takes != Takes::New;
    let left: Vec<usize> = (nodes.iter().enumerate().filter(is_left)).map(|(at, _)| at).collect();
    for what in [What::SayNew, What::DropOld] {
        steps.extend(left.iter().map(|node| Step { what, node: Some(*node) }));
    }
    steps
}

/// The same step at each node.
pub(super) fn clients(what: What, nodes: usize) -> Vec<Step> {
    (0..nodes).map(|node| Step { what, node: Some(node) }).collect()
}

/// Why this cannot be a password: configuration files, command lines and URLs part words at some
/// characters.
pub(super) fn bad(password: &str) -> Option<&'static str> {
    let is_plain = |c: char| c.is_ascii_graphic() && !"\"'\\#@:/".contains(c);
    match password {
        "" => Some("it is empty"),
        _ if !password.chars().all(is_plain) => {
            Some("letters, digits and signs other than \" ' \\ # @ : / expected, no blanks")
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::Takes::{Both, New, Old};
    use super::What::{Controller, DropOld, SayNew, TakeNew, TakeOld};
    use super::*;

    fn shown(nodes: &[Takes]) -> Vec<(What, Option<usize>)> {
        peers(nodes).into_iter().map(|step| (step.what, step.node)).collect()
    }

    /// What follows once two nodes take both.
    const TAIL: [(What, Option<usize>); 5] = [
        (Controller, None),
        (SayNew, Some(0)),
        (SayNew, Some(1)),
        (DropOld, Some(0)),
        (DropOld, Some(1)),
    ];

    #[test]
    fn all_take_before_one_says_and_all_say_before_one_drops() {
        let both = [(TakeNew, Some(0)), (TakeNew, Some(1))];
        let begun = [(TakeNew, Some(1))];
        // A node that has the new one already takes the old one while others say it.
        let early = [(TakeOld, Some(0)), (TakeNew, Some(1))];
        let heads = [([Old, Old], &both[..]), ([Both, Old], &begun[..]), ([New, Old], &early[..])];
        for (nodes, head) in heads {
            assert_eq!(shown(&nodes), [head, &TAIL].concat(), "{nodes:?}");
        }
    }

    #[test]
    fn what_was_interrupted_goes_on_with_what_it_finds() {
        // The last step has begun: a node that is past it takes the old one no more.
        assert_eq!(
            shown(&[New, Both]),
            [(Controller, None), (SayNew, Some(1)), (DropOld, Some(1))]
        );
        assert!(shown(&[New, New]).is_empty());
    }

    /// Plays every run that ends after any number of steps, and is made again: nobody ever says
    /// what somebody does not take.
    #[test]
    fn nobody_says_what_somebody_does_not_take_wherever_a_run_ends() {
        #[derive(Clone, Copy)]
        struct Node {
            takes: Takes,
            says_new: bool,
        }
        let is_taken = |takes: Takes, is_new: bool| {
            matches!((takes, is_new), (Both, _) | (Old, false) | (New, true))
        };
        for first in 0..=7 {
            for second in 0..=7 {
                let mut nodes = [Node { takes: Old, says_new: false }; 2];
                let mut controller = false;
                for steps in [first, second, usize::MAX] {
                    let takes = nodes.map(|node| node.takes);
                    for step in peers(&takes).into_iter().take(steps) {
                        match step.node {
                            None => controller = true,
                            Some(at) => {
                                nodes[at].takes = step.what.leads_to().expect("a node's step");
                                nodes[at].says_new |= step.what == SayNew;
                            }
                        }
                        for node in nodes {
                            assert!(is_taken(node.takes, controller), "{first} {second}");
                            assert!(nodes.iter().all(|by| is_taken(node.takes, by.says_new)));
                        }
                    }
                }
                assert!(controller && nodes.iter().all(|node| node.takes == New && node.says_new));
            }
        }
    }

    #[test]
    fn nodes_are_told_exactly_this() {
        assert_eq!(TakeNew.options("o", "n"), ["peer-auth-also", "n"]);
        let say = ["masterauth", "n", "peer-auth", "n", "peer-auth-also", "o"];
        assert_eq!(SayNew.options("o", "n"), say);
        assert_eq!(DropOld.options("o", "n"), ["peer-auth-also", ""]);
        let only = ["requirepass", "n", "requirepass-also", ""];
        assert_eq!(What::ClientsOnly.options("o", "n"), only);
        assert_eq!(clients(What::ClientsToo, 2).len(), 2);
    }

    #[test]
    fn a_password_is_one_word_everywhere() {
        assert_eq!(bad("a-B_9.x!"), None);
        for word in ["", "a b", "a\"b", "#a", "ä", "a\n"] {
            assert!(bad(word).is_some(), "{word:?}");
        }
    }
}
