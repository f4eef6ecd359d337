//! Threads for what may take long or waits for disks, and what a panic in one of ours means.
//!
//! A panic is a defect. Where it ends one connection the others live on ([`surviving`]). Where it
//! would end what others count on without looking, a worker or the link to the master, the process
//! ends with it ([`vital`]): what such a thread had in hand nobody knows but the disk, and each of
//! its steps can be taken up from there, as after kill -9. A process that went on would look well,
//! and answer nobody, or with data that never changes.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::task::Poll;

use crate::disk::exit_at_once;

/// The process ended because of a panic in a thread that it cannot do without: EX_SOFTWARE of
/// sysexits.h.
pub(crate) const EXIT_CODE: u8 = 70;

/// Runs `run` on a thread of that name. Where there is none to be had, that is logged.
pub(crate) fn spawn(name: &str, run: impl FnOnce() + Send + 'static) {
    if let Err(error) = std::thread::Builder::new().name(name.to_owned()).spawn(run) {
        tracing::error!(%error, name, "cannot start a thread");
    }
}

/// Runs a future on a runtime of the calling thread's own.
pub(crate) fn block_on(future: impl Future<Output = ()>) {
    match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime.block_on(future),
        Err(error) => tracing::error!(%error, "cannot start a runtime"),
    }
}

/// Runs what this process cannot do without: a panic in it ends the process at once.
pub(crate) fn vital<T>(name: &str, run: impl FnOnce() -> T) -> T {
    catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|cause| end(name, &text(&*cause)))
}

/// The same of a task.
pub(crate) async fn vital_task<T>(name: &str, task: impl Future<Output = T>) -> T {
    surviving(task).await.unwrap_or_else(|panic| end(name, &panic))
}

fn end(name: &str, panic: &str) -> ! {
    tracing::error!(
        thread = name,
        panic,
        exit_code = EXIT_CODE,
        "a thread panicked that this process cannot do without: it ends, and the next one goes by what is on the disk"
    );
    exit_at_once(EXIT_CODE)
}

/// Runs a future to its end; a panic in it becomes an error, with its text.
pub(crate) async fn surviving<T>(future: impl Future<Output = T>) -> Result<T, String> {
    let mut future = std::pin::pin!(future);
    std::future::poll_fn(|cx| match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(cx))) {
        Ok(polled) => polled.map(Ok),
        Err(cause) => Poll::Ready(Err(text(&*cause))),
    })
    .await
}

fn text(cause: &(dyn Any + Send)) -> String {
    let text = cause.downcast_ref::<String>().cloned();
    text.or_else(|| cause.downcast_ref::<&str>().map(ToString::to_string)).unwrap_or_default()
}

#[cfg(test)]
pub(crate) mod tests {
    use std::process::Command;

    use super::*;

    const CHILD: &str = "HOLDFAST_TEST_CHILD";

    /// Whether this is the process of a test that is to end it.
    pub(crate) fn is_child() -> bool {
        std::env::var_os(CHILD).is_some()
    }

    /// Runs that test of this program in a process of its own: how it ended, and what it said.
    pub(crate) fn end_of_child(test: &str) -> (Option<i32>, String) {
        let mut command = Command::new(std::env::current_exe().unwrap());
        // It removes nothing that it makes.
        let folder = tempfile::tempdir().unwrap();
        command.env("TMPDIR", folder.path());
        let output =
            command.args([test, "--exact", "--nocapture"]).env(CHILD, "1").output().unwrap();
        let said = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8_lossy(&said).into_owned())
    }

    #[test]
    fn child_with_a_task() {
        if is_child() {
            block_on(vital_task("task", async {
                tokio::task::yield_now().await;
                assert_eq!(std::hint::black_box(1), 2, "told");
            }));
        }
    }

    #[test]
    fn a_panic_in_what_is_vital_ends_the_process() {
        assert_eq!(vital("plain", || 7), 7);
        let (code, said) = end_of_child("threads::tests::child_with_a_task");
        assert_eq!(code, Some(i32::from(EXIT_CODE)), "{said}");
        assert!(said.contains("told"), "{said}");
    }
}
