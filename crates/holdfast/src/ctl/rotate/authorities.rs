//! Which files are to be changed next where one CA takes the place of another. Pure: what processes
//! say of themselves goes in, steps come out.
//!
//! The order keeps one rule, as that of passwords: nobody shows a certificate of a CA that somebody
//! does not know, and nobody forgets a CA of which somebody still shows a certificate. So work may
//! end anywhere, and goes on with what is found.

use api::certificate::{Trust, is_one_authority};
use api::rest::CertificateHolder;
use web::trust::MORE;

/// What is done with a file, in the order in which it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum What {
    /// The new CA is added to it.
    Accept,
    /// Its certificate is replaced by one of the new CA.
    Replace,
    /// The old CA is removed from it.
    Forget,
}

impl What {
    /// For programs.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Accept => "accept",
            Self::Replace => "replace",
            Self::Forget => "forget",
        }
    }

    /// For people, before the name of the option.
    pub(super) fn about(self) -> &'static str {
        match self {
            Self::Accept => "add the new CA to the file of",
            Self::Replace => "put a certificate of the new CA into the file of",
            Self::Forget => "remove the old CA from the file of",
        }
    }
}

/// A file to be changed: `at` is an index into the processes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Task {
    pub(super) what: What,
    pub(super) at: usize,
    pub(super) option: String,
}

/// How far it is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Progress {
    /// What is to be done now, all of one kind; nothing where it waits for something.
    pub(super) tasks: Vec<Task>,
    /// Files that know the new CA, of those that are to.
    pub(super) accepting: (usize, usize),
    /// Certificates of the new CA, of all of both.
    pub(super) replaced: (usize, usize),
    /// Files that know the old CA still.
    pub(super) remembering: usize,
    /// Certificates of neither.
    pub(super) others: Vec<String>,
    /// Processes of which it is not known, and why. Until it is, nothing is to be done.
    pub(super) unknown: Vec<String>,
    /// What is wrong already.
    pub(super) warnings: Vec<String>,
}

impl Progress {
    /// Nothing knows the old CA any more.
    pub(super) fn is_done(&self) -> bool {
        let (accepting, all) = self.accepting;
        self.unknown.is_empty() && accepting == all && self.remembering == 0 && !self.is_nothing()
    }

    /// Neither CA is anywhere.
    pub(super) fn is_nothing(&self) -> bool {
        self.accepting.1 == 0 && self.replaced.1 == 0
    }
}

/// `node 10.0.0.1:6666`.
pub(super) fn name(holder: &CertificateHolder) -> String {
    format!("{} {}", holder.kind, holder.name)
}

/// The two CAs: each may be several certificates.
#[derive(Debug, Clone, Copy)]
pub(super) struct Both<'a> {
    pub(super) old: &'a [String],
    pub(super) new: &'a [String],
}

impl Both<'_> {
    /// Whether these are the old one, and the new one.
    fn of(&self, names: &[String]) -> (bool, bool) {
        let has = |all: &[String]| {
            names.iter().any(|name| all.iter().any(|one| is_one_authority(name, one)))
        };
        (has(self.old), has(self.new))
    }

    /// Why the two cannot be told apart.
    pub(super) fn trouble(&self) -> Option<&'static str> {
        let (is_old, _) = self.of(self.new);
        is_old.then_some(
            "both are one CA, or have one name and do not say the ids of their keys: nothing told of certificates parts them",
        )
    }
}

/// What is to be done next, and nothing after `last`: what is not seen from here may not be ready
/// for that.
pub(super) fn progress(holders: &[CertificateHolder], both: Both<'_>, last: What) -> Progress {
    let mut progress = Progress::default();
    let (mut accept, mut replace, mut forget) = (Vec::new(), Vec::new(), Vec::new());
    let (mut early, mut hasty) = (Vec::new(), Vec::new());
    for (at, holder) in holders.iter().enumerate() {
        progress.unknown.extend(unknown(holder));
        for Trust { option, accepts, issued_by } in &holder.trust {
            let task = |what| Task { what, at, option: option.clone() };
            let place = || format!("{} ({option})", name(holder));
            if let Some(by) = issued_by {
                let by: Vec<String> = by.split('+').map(str::to_owned).collect();
                match both.of(&by) {
                    (false, false) => progress.others.push(place()),
                    (true, true) => progress.unknown.push(format!(
                        "{}: its certificate says neither whether it is of the old CA nor of the new one",
                        place()
                    )),
                    (is_old, _) => {
                        progress.replaced.1 += 1;
                        progress.replaced.0 += usize::from(!is_old);
                        if is_old { replace.push(task(What::Replace)) } else { early.push(place()) }
                    }
                }
                continue;
            }
            let (has_old, has_new) = both.of(accepts);
            if !(has_old && has_new) && accepts.iter().any(|name| name == MORE) {
                // Either may be among those that are left out.
                progress.unknown.push(format!("{}: it has more CAs than it tells of", place()));
                continue;
            }
            if !has_old && !has_new {
                continue;
            }
            progress.accepting.1 += 1;
            progress.accepting.0 += usize::from(has_new);
            progress.remembering += usize::from(has_old);
            match (has_old, has_new) {
                (_, false) => accept.push(task(What::Accept)),
                (false, true) => hasty.push(place()),
                (true, true) => {}
            }
            if has_old {
                forget.push(task(What::Forget));
            }
        }
    }
    progress.warnings = warnings(&accept, &replace, (&early, &hasty));
    progress.tasks = match (accept.is_empty(), replace.is_empty()) {
        _ if !progress.unknown.is_empty() => Vec::new(),
        (false, _) => accept,
        (true, false) if last >= What::Replace => replace,
        (true, true) if last >= What::Forget => forget,
        (true, _) => Vec::new(),
    };
    progress
}

/// Why it is not known what a process knows.
fn unknown(holder: &CertificateHolder) -> Option<String> {
    if !holder.told {
        return Some(format!("{} does not answer", name(holder)));
    }
    let is_mute = holder.trust.is_empty() && !holder.certificates.is_empty();
    is_mute.then(|| format!("{} does not say which CAs it knows: upgrade it first", name(holder)))
}

/// What is shown that others do not know.
fn warnings(
    accept: &[Task],
    replace: &[Task],
    (early, hasty): (&[String], &[String]),
) -> Vec<String> {
    let mut warnings = Vec::new();
    if let Some(first) = early.first().filter(|_| !accept.is_empty()) {
        warnings.push(format!(
            "{} show a certificate of the new CA already, the first is {first}, and {} files do not know that CA yet: these first",
            early.len(),
            accept.len()
        ));
    }
    if let Some(first) = hasty.first().filter(|_| !replace.is_empty()) {
        warnings.push(format!(
            "{} files do not know the old CA any more, the first is {first}, and {} certificates are of it: put it back there until they are replaced",
            hasty.len(),
            replace.len()
        ));
    }
    warnings
}

#[cfg(test)]
mod tests {
    use super::What::{Accept, Forget, Replace};
    use super::*;

    const OLD: &str = "ca.old";
    const NEW: &str = "ca.new";

    fn holder(name: &str, accepts: &[&str], issued_by: &str) -> CertificateHolder {
        let words = |all: &[&str]| all.iter().map(|one| (*one).to_owned()).collect();
        let trust = |option: &str, accepts: &[&str], by: Option<&str>| Trust {
            option: option.to_owned(),
            accepts: words(accepts),
            issued_by: by.map(str::to_owned),
        };
        CertificateHolder {
            kind: "node".to_owned(),
            name: name.to_owned(),
            told: true,
            certificates: Vec::new(),
            trust: vec![trust("ca", accepts, None), trust("cert", &[], Some(issued_by))],
        }
    }

    fn look_until(holders: &[CertificateHolder], last: What) -> Progress {
        let (old, new) = ([OLD.to_owned()], [NEW.to_owned()]);
        progress(holders, Both { old: &old, new: &new }, last)
    }

    fn look(holders: &[CertificateHolder], may_forget: bool) -> Progress {
        look_until(holders, if may_forget { Forget } else { Replace })
    }

    fn tasks(progress: &Progress) -> Vec<(What, usize, &str)> {
        progress.tasks.iter().map(|task| (task.what, task.at, task.option.as_str())).collect()
    }

    #[test]
    fn all_know_before_one_shows_and_all_show_before_one_forgets() {
        let mut all = [holder("a", &[OLD], OLD), holder("b", &[OLD, NEW, "other.x"], OLD)];
        let told = look(&all, true);
        assert_eq!(tasks(&told), [(Accept, 0, "ca")]);
        assert_eq!((told.accepting, told.replaced, told.remembering), ((1, 2), (0, 2), 2));
        all[0] = holder("a", &[OLD, NEW], OLD);
        assert_eq!(tasks(&look(&all, true)), [(Replace, 0, "cert"), (Replace, 1, "cert")]);
        let waits = look_until(&all, Accept);
        assert!(waits.tasks.is_empty() && waits.warnings.is_empty() && !waits.is_done());
        all = [holder("a", &[OLD, NEW], NEW), holder("b", &[OLD, NEW], NEW)];
        let waits = look(&all, false);
        assert!(waits.tasks.is_empty() && waits.warnings.is_empty() && !waits.is_done());
        assert_eq!(tasks(&look(&all, true)), [(Forget, 0, "ca"), (Forget, 1, "ca")]);
        all = [holder("a", &[NEW], NEW), holder("b", &[NEW], NEW)];
        assert!(look(&all, true).is_done() && look(&all, true).tasks.is_empty());
    }

    /// Plays all tasks one by one, in whatever order of processes: nobody ever shows what somebody
    /// does not know.
    #[test]
    fn nobody_shows_what_somebody_does_not_know_wherever_work_ends() {
        for choice in 0..6 {
            let mut all: Vec<_> = ["a", "b", "c"].map(|name| holder(name, &[OLD], OLD)).into();
            let mut steps = 0;
            loop {
                let told = look(&all, true);
                assert!(told.warnings.is_empty(), "{told:?}");
                let known = |by: &str| {
                    all.iter().all(|one| one.trust[0].accepts.iter().any(|name| name == by))
                };
                for one in &all {
                    assert!(known(one.trust[1].issued_by.as_deref().expect("a CA")), "{all:?}");
                }
                let Some(task) = told.tasks.get(choice % told.tasks.len().max(1)) else { break };
                let trust = &mut all[task.at].trust;
                match task.what {
                    Accept => trust[0].accepts.push(NEW.to_owned()),
                    Replace => trust[1].issued_by = Some(NEW.to_owned()),
                    Forget => trust[0].accepts.retain(|name| name != OLD),
                }
                steps += 1;
            }
            assert_eq!(steps, 9);
            assert!(look(&all, true).is_done());
        }
    }

    #[test]
    fn what_is_done_in_another_order_is_told_and_what_does_not_tell_stops_all() {
        let early = [holder("a", &[OLD], NEW), holder("b", &[OLD, NEW], OLD)];
        let told = look(&early, true);
        assert_eq!(tasks(&told), [(Accept, 0, "ca")]);
        assert!(told.warnings[0].contains("the first is node a (cert)"), "{told:?}");
        let hasty = [holder("a", &[NEW], NEW), holder("b", &[OLD, NEW], OLD)];
        let told = look(&hasty, true);
        assert!(told.warnings[0].contains("do not know the old CA any more"), "{told:?}");

        let silent = CertificateHolder { told: false, ..holder("c", &[OLD], OLD) };
        let told = look(&[holder("a", &[OLD], OLD), silent], true);
        assert!(told.tasks.is_empty());
        assert_eq!(told.unknown, ["node c does not answer"]);
        let one = api::certificate::Certificate { option: "cert".to_owned(), ends_s: 1 };
        let mute = CertificateHolder {
            certificates: vec![one],
            trust: Vec::new(),
            ..holder("d", &[], "")
        };
        assert!(look(&[mute], true).unknown[0].contains("upgrade it first"));
        // Whatever is seen, what is not seen may be among those that are left out.
        for accepts in [["x.y", MORE], [NEW, MORE], [OLD, MORE]] {
            let told = look(&[holder("e", &accepts, NEW)], true);
            assert!(told.unknown[0].contains("more CAs") && !told.is_done(), "{told:?}");
        }
        assert!(look(&[holder("e", &[OLD, NEW, MORE], NEW)], true).unknown.is_empty());
        let other = look(&[holder("f", &["x.y"], "x.y")], true);
        assert!(other.is_nothing() && other.others == ["node f (cert)"], "{other:?}");
        // By a certificate beside it.
        let chain = look(&[holder("h", &[OLD, NEW], "x.y+ca.old")], true);
        assert_eq!(tasks(&chain), [(Replace, 0, "cert")]);
        // It does not say the id of its issuer's key, and both CAs have one name.
        assert!(look(&[holder("g", &[OLD, NEW], "ca.-")], true).unknown[0].contains("neither"));
    }

    #[test]
    fn two_cas_that_cannot_be_told_apart_are_refused() {
        let apart = |old: &str, new: &str| {
            let (old, new) = ([old.to_owned()], [new.to_owned()]);
            Both { old: &old, new: &new }.trouble().is_none()
        };
        assert!(apart(OLD, NEW));
        assert!(!apart(OLD, OLD) && !apart(OLD, "ca.-"));
    }
}
