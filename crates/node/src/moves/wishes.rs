//! Where users' wishes for slots wait for what a controller makes of them. The record of them is
//! `replication::slots::wishes`; here it is shared, and waited for.
//!
//! It decides nothing, and no user waits without end.

use std::time::Duration;

use ::replication::slots::Slots;
use ::replication::slots::wishes::{End, Job, Standing, Unkept, Wishes};
use api::moves::wish::{Part, PartId, Told, Wished};
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::clock;

/// How long a controller may take to take a wish into its queue.
const ANSWER: Duration = Duration::from_secs(2);
/// What a user is told then.
const SILENT: &str = "no word of the controller within 2 s, and it hears no more of this: if it was taken at the last moment, \
                      `holdfast ctl moves` shows it";
/// Nobody waits any more.
const LEFT: &str = "who asked for it has left before a controller said a word";

/// See the module.
#[derive(Debug, Default)]
pub struct Desk {
    record: Mutex<Wishes>,
    news: Notify,
    /// So much more time, in ms, has a controller that a test plays: it may be held up.
    #[cfg(test)]
    pub(super) more_ms: std::sync::atomic::AtomicU64,
}

impl Desk {
    /// What a controller is to hear of.
    pub fn open(&self) -> Vec<Wished> {
        self.record.lock().open()
    }

    /// All that was asked for here and is not long over, the oldest first.
    pub fn jobs(&self) -> Vec<Job> {
        self.record.lock().jobs().cloned().collect()
    }

    /// A controller has said what becomes of a wish.
    pub fn told(&self, told: &Told) {
        if self.record.lock().told(told, clock::unix_ms()) {
            self.news.notify_waiters();
        }
    }

    /// Slots are to go to nodes; each part comes with who gives its slots now. The name of the
    /// wish.
    ///
    /// # Errors
    /// When there are too many.
    pub fn wish(&self, parts: Vec<(Part, String)>, end: End) -> Result<PartId, Unkept> {
        let id = PartId::of_wish(rand::random());
        self.record.lock().wish(id, parts, end, clock::unix_ms())?;
        Ok(id)
    }

    /// These parts are to be given up, as far as they can be. The name of the wish.
    ///
    /// # Errors
    /// When there are too many.
    pub fn cancel(&self, parts: &[PartId]) -> Result<PartId, Unkept> {
        let id = PartId::of_wish(rand::random());
        self.record.lock().cancel(id, parts)?;
        Ok(id)
    }

    /// Waits until a controller has taken the wish, or it is over; given up with this.
    ///
    /// # Errors
    /// Why nothing is done, or nothing was.
    pub async fn answered(&self, wish: PartId) -> Result<(), String> {
        // A client that leaves wants it no more, unless it was taken: then it goes its way.
        let _waits = Waits { desk: self, wish };
        let until = Instant::now() + ANSWER;
        #[cfg(test)]
        let until =
            until + Duration::from_millis(self.more_ms.load(std::sync::atomic::Ordering::SeqCst));
        loop {
            let mut news = std::pin::pin!(self.news.notified());
            news.as_mut().enable();
            match self.take(wish)? {
                Standing::Waits => {}
                Standing::Taken | Standing::Done => return Ok(()),
                Standing::Failed(why) => return Err(why),
            }
            if tokio::time::timeout_at(until, news).await.is_err() {
                self.record.lock().withdraw(wish, SILENT, clock::unix_ms());
            }
        }
    }

    /// Waits until the wish is over.
    ///
    /// # Errors
    /// Why it was not done.
    pub async fn over(&self, wish: PartId) -> Result<(), String> {
        loop {
            let mut news = std::pin::pin!(self.news.notified());
            news.as_mut().enable();
            match self.take(wish)? {
                Standing::Waits | Standing::Taken => {}
                Standing::Done => return Ok(()),
                Standing::Failed(why) => return Err(why),
            }
            news.await;
        }
    }

    fn take(&self, wish: PartId) -> Result<Standing, String> {
        self.record.lock().take(wish).ok_or_else(|| "nothing is known of it any more".to_owned())
    }
}

/// A wish that somebody waits for.
struct Waits<'a> {
    desk: &'a Desk,
    wish: PartId,
}

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        let mut record = self.desk.record.lock();
        record.withdraw(self.wish, LEFT, clock::unix_ms());
        // One to cancel is forgotten with this.
        record.take(self.wish);
    }
}

/// The ranges as Valkey and Redis show them: both ends always, divided by blanks.
pub fn ranges(slots: &Slots) -> String {
    let range = |(first, last): &(u16, u16)| format!("{first}-{last}");
    slots.ranges().iter().map(range).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use api::moves::wish::{Fate, Stage, Wish};

    use super::*;

    fn part() -> (Part, String) {
        (Part { slots: "5".parse().unwrap(), to: "d".repeat(40) }, "s".repeat(40))
    }

    fn told(id: PartId, fate: Fate) -> Told {
        Told { id, fate }
    }

    #[tokio::test]
    async fn who_asks_waits_for_a_word_and_no_longer_than_it_may_take() {
        let desk = Desk::default();
        let wish = desk.wish(vec![part()], End::Giver).unwrap();
        assert!(
            matches!(&desk.open()[..], [Wished { id, wish: Wish::Move(_), .. }] if *id == wish)
        );
        let (answered, taken) = (desk.answered(wish), async {
            tokio::task::yield_now().await;
            desk.told(&told(wish, Fate::Taken(Stage::Queued)));
        });
        assert_eq!(tokio::join!(answered, taken).0, Ok(()));
        assert_eq!(desk.open().len(), 1, "its end is to be heard");
        let (over, ended) = (desk.over(wish), async {
            tokio::task::yield_now().await;
            desk.told(&told(wish, Fate::Taken(Stage::Copy)));
            desk.told(&told(wish, Fate::Failed("cancelled".into())));
        });
        assert_eq!(tokio::join!(over, ended).0, Err("cancelled".to_owned()));
        assert_eq!(desk.open(), []);
        // Nobody answers.
        let wish = desk.wish(vec![part()], End::Giver).unwrap();
        let begun = Instant::now();
        assert_eq!(desk.answered(wish).await, Err(SILENT.to_owned()));
        assert!(begun.elapsed() >= ANSWER);
        assert_eq!(desk.open(), [], "no controller is to take it then");
    }

    #[tokio::test]
    async fn a_wish_of_a_client_that_has_left_is_none_unless_it_was_taken() {
        let desk = Desk::default();
        let wish = desk.wish(vec![part()], End::Taker).unwrap();
        {
            let mut answered = std::pin::pin!(desk.answered(wish));
            assert!(is_pending(answered.as_mut()).await);
            assert_eq!(desk.open().len(), 1);
        }
        assert_eq!(desk.open(), []);
        let cancel = desk.cancel(&[wish]).unwrap();
        assert_eq!(desk.answered(cancel).await, Ok(()), "it is over");
    }

    async fn is_pending(mut future: std::pin::Pin<&mut impl Future>) -> bool {
        std::future::poll_fn(|cx| std::task::Poll::Ready(future.as_mut().poll(cx).is_pending()))
            .await
    }
}
