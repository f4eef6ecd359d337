import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.TimeUnit;
import org.redisson.Redisson;
import org.redisson.api.RCountDownLatch;
import org.redisson.api.RFencedLock;
import org.redisson.api.RLock;
import org.redisson.api.RReadWriteLock;
import org.redisson.api.RSemaphore;
import org.redisson.api.RedissonClient;
import org.redisson.client.codec.StringCodec;
import org.redisson.config.Config;

/** Redisson's locks, which are scripts and channels, in cluster mode: Locks HOST PORT */
public final class Locks {
    private static final int THREADS = 4;
    private static final int TURNS = 25;
    private static final long PATIENCE_S = 60;
    /** A lock runs out when its holder has had no processor for so long. */
    private static final long WATCHDOG_MS = 6_000;

    private interface Work {
        void run(RedissonClient client) throws Exception;
    }

    public static void main(String[] args) throws Exception {
        Config config = new Config();
        config.setCodec(StringCodec.INSTANCE);
        config.setLockWatchdogTimeout(WATCHDOG_MS);
        config.useClusterServers()
                .addNodeAddress("redis://" + args[0] + ":" + args[1])
                .setMasterConnectionMinimumIdleSize(2)
                .setSlaveConnectionMinimumIdleSize(1);
        RedissonClient one = Redisson.create(config);
        RedissonClient other = Redisson.create(config);
        String run = Long.toString(System.nanoTime());
        try {
            exclusive(run, one, other);
            watched(run, one, other);
            runsOut(run, one, other);
            readersAndWriters(run, one, other);
            fenced(run, one);
            counts(run, one, other);
        } finally {
            one.shutdown();
            other.shutdown();
        }
        System.out.println("ok " + 2 * THREADS * TURNS);
    }

    private static void must(boolean is, String what) {
        if (!is) {
            throw new AssertionError(what);
        }
    }

    private static void together(RedissonClient[] clients, Work work) throws Exception {
        ExecutorService threads = Executors.newFixedThreadPool(clients.length * THREADS);
        List<Future<?>> all = new ArrayList<>();
        for (RedissonClient client : clients) {
            for (int thread = 0; thread < THREADS; thread++) {
                all.add(threads.submit(() -> {
                    work.run(client);
                    return null;
                }));
            }
        }
        for (Future<?> each : all) {
            each.get(PATIENCE_S, TimeUnit.SECONDS);
        }
        threads.shutdown();
    }

    /** A counter that is read and written in two steps loses nothing, because one at a time does so. */
    private static void exclusive(String run, RedissonClient one, RedissonClient other) throws Exception {
        one.getBucket("redisson:count:" + run).set("0");
        for (String kind : List.of("plain", "fair")) {
            together(new RedissonClient[] {one, other}, client -> {
                String name = "redisson:" + kind + ":" + run;
                RLock lock = kind.equals("fair") ? client.getFairLock(name) : client.getLock(name);
                // The counter is in another slot, and perhaps another shard, than the lock.
                for (int turn = 0; turn < (kind.equals("fair") ? TURNS / 5 : TURNS - TURNS / 5); turn++) {
                    lock.lock();
                    try {
                        long seen = Long.parseLong((String) client.getBucket("redisson:count:" + run).get());
                        client.getBucket("redisson:count:" + run).set(Long.toString(seen + 1));
                    } finally {
                        lock.unlock();
                    }
                }
            });
        }
        String count = (String) one.getBucket("redisson:count:" + run).get();
        must(count.equals(Integer.toString(2 * THREADS * TURNS)), "counted " + count + " under a lock");
    }

    /** A lock without a time is kept for as long as its holder lives, and may be taken again by it. */
    private static void watched(String run, RedissonClient one, RedissonClient other) throws Exception {
        RLock lock = one.getLock("redisson:watched:" + run);
        RLock theirs = other.getLock("redisson:watched:" + run);
        lock.lock();
        lock.lock();
        must(lock.getHoldCount() == 2, "held " + lock.getHoldCount() + " times, not twice");
        must(!theirs.tryLock(WATCHDOG_MS + 1_000, TimeUnit.MILLISECONDS), "a lock was given away under its holder");
        must(theirs.isLocked() && !theirs.isHeldByCurrentThread(), "the other client sees who holds it");
        lock.unlock();
        must(!theirs.tryLock(), "a lock that was taken twice was free after one unlock");
        try {
            theirs.unlock();
            throw new AssertionError("a stranger unlocked it");
        } catch (IllegalMonitorStateException expected) {
            lock.unlock();
        }
        must(theirs.tryLock(PATIENCE_S, TimeUnit.SECONDS), "it is not free");
        theirs.unlock();
    }

    private static void runsOut(String run, RedissonClient one, RedissonClient other) throws Exception {
        RLock lock = one.getLock("redisson:leased:" + run);
        long began = System.nanoTime();
        lock.lock(300, TimeUnit.MILLISECONDS);
        must(other.getLock("redisson:leased:" + run).tryLock(PATIENCE_S, TimeUnit.SECONDS), "it did not run out");
        long waited = TimeUnit.NANOSECONDS.toMillis(System.nanoTime() - began);
        must(waited >= 290, "a lock of 300 ms ran out after " + waited);
        other.getLock("redisson:leased:" + run).unlock();
    }

    private static void readersAndWriters(String run, RedissonClient one, RedissonClient other) throws Exception {
        RReadWriteLock mine = one.getReadWriteLock("redisson:rw:" + run);
        RReadWriteLock theirs = other.getReadWriteLock("redisson:rw:" + run);
        mine.readLock().lock();
        must(theirs.readLock().tryLock(), "two readers");
        must(!theirs.writeLock().tryLock(), "a writer beside readers");
        theirs.readLock().unlock();
        mine.readLock().unlock();
        must(theirs.writeLock().tryLock(PATIENCE_S, TimeUnit.SECONDS), "a writer alone");
        must(!mine.readLock().tryLock(), "a reader beside a writer");
        theirs.writeLock().unlock();
    }

    /** Who takes it later has the higher number. */
    private static void fenced(String run, RedissonClient one) {
        RFencedLock lock = one.getFencedLock("redisson:fenced:" + run);
        long before = 0;
        for (int turn = 0; turn < 5; turn++) {
            Long token = lock.lockAndGetToken();
            must(token > before, "token " + token + " after " + before);
            before = token;
            lock.unlock();
        }
    }

    private static void counts(String run, RedissonClient one, RedissonClient other) throws Exception {
        RSemaphore places = one.getSemaphore("redisson:places:" + run);
        places.trySetPermits(2);
        RSemaphore theirs = other.getSemaphore("redisson:places:" + run);
        must(theirs.tryAcquire(2), "two of two places");
        must(!places.tryAcquire(), "a third of two places");
        theirs.release();
        must(places.tryAcquire(1, PATIENCE_S, TimeUnit.SECONDS), "a place that was given back");
        RCountDownLatch latch = one.getCountDownLatch("redisson:latch:" + run);
        latch.trySetCount(3);
        together(new RedissonClient[] {other}, client -> {
            client.getCountDownLatch("redisson:latch:" + run).countDown();
        });
        must(latch.await(PATIENCE_S, TimeUnit.SECONDS), "a latch that was counted down");
    }
}
