import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.Set;
import redis.clients.jedis.DefaultJedisClientConfig;
import redis.clients.jedis.HostAndPort;
import redis.clients.jedis.JedisClientConfig;
import redis.clients.jedis.JedisCluster;
import redis.clients.jedis.RedisProtocol;
import redis.clients.jedis.params.SortingParams;
import redis.clients.jedis.resps.Tuple;
import redis.clients.jedis.util.KeyValue;

/** The ordinary examples of the types. */
final class Types {
    static void run(HostAndPort start, String version) throws InterruptedException {
        RedisProtocol protocol = version.equals("3") ? RedisProtocol.RESP3 : RedisProtocol.RESP2;
        JedisClientConfig config = DefaultJedisClientConfig.builder().protocol(protocol).build();
        try (JedisCluster cluster = new JedisCluster(Set.of(start), config)) {
            for (int number = 0; number < 20; number++) {
                hash(cluster, fresh(cluster, "hash", number));
                list(cluster, fresh(cluster, "list", number));
                set(cluster, fresh(cluster, "set", number));
                zset(cluster, fresh(cluster, "zset", number));
                slot(cluster, "jedis:{" + number + "}:");
            }
        }
        System.out.println("ok types");
    }

    private static String fresh(JedisCluster cluster, String type, int number) {
        String key = "jedis:" + type + ":" + number;
        cluster.del(key);
        return key;
    }

    private static void same(Object wanted, Object got) {
        if (wanted == null ? got != null : !wanted.equals(got)) {
            throw new AssertionError(got + " is not " + wanted);
        }
    }

    private static void hash(JedisCluster cluster, String key) throws InterruptedException {
        same(3L, cluster.hset(key, Map.of("name", "Ann", "visits", "1", "gone", "soon")));
        same(5L, cluster.hincrBy(key, "visits", 4));
        same(Arrays.asList("Ann", "5", null), cluster.hmget(key, "name", "visits", "none"));
        same(1L, cluster.hdel(key, "gone"));
        same(Map.of("name", "Ann", "visits", "5"), cluster.hgetAll(key));
        same(List.of(1L, -2L), cluster.hexpire(key, 100, "name", "none"));
        same(List.of(1L), cluster.hpersist(key, "name"));
        same(List.of(-1L, -2L), cluster.httl(key, "name", "none"));
        same(List.of(1L), cluster.hpexpire(key, 1, "visits"));
        Thread.sleep(20);
        same(Map.of("name", "Ann"), cluster.hgetAll(key));
    }

    private static void list(JedisCluster cluster, String key) throws InterruptedException {
        same(3L, cluster.rpush(key, "a", "b", "c"));
        same(List.of("a", "b", "c"), cluster.lrange(key, 0, -1));
        same(KeyValue.of(key, "a"), cluster.blpop(1.0, key));
        same(List.of("b", "c"), cluster.lpop(key, 5));
        Thread push = new Thread(() -> {
            try {
                Thread.sleep(50);
            } catch (InterruptedException error) {
                throw new IllegalStateException(error);
            }
            cluster.rpush(key, "late");
        });
        push.start();
        same(KeyValue.of(key, "late"), cluster.brpop(10.0, key));
        push.join();
        same(null, cluster.blpop(0.01, key));
    }

    private static void set(JedisCluster cluster, String key) {
        same(3L, cluster.sadd(key, "1", "2", "3"));
        same(Set.of("1", "2", "3"), cluster.smembers(key));
        same(List.of(true, false), cluster.smismember(key, "2", "9"));
        same(List.of("3", "2", "1"), cluster.sort(key, new SortingParams().desc()));
        same(List.of("2"), cluster.sort(key, new SortingParams().limit(1, 1)));
        same(1L, cluster.srem(key, "1"));
        same(2L, cluster.scard(key));
    }

    private static void zset(JedisCluster cluster, String key) {
        same(3L, cluster.zadd(key, Map.of("one", 1.0, "two", 2.5, "three", 3.0)));
        same(2.0, cluster.zincrby(key, 1, "one"));
        same(2.5, cluster.zscore(key, "two"));
        List<Tuple> ranked = List.of(new Tuple("one", 2.0), new Tuple("two", 2.5), new Tuple("three", 3.0));
        same(ranked, cluster.zrangeWithScores(key, 0, -1));
        same(List.of("two", "three"), cluster.zrangeByScore(key, 2.1, Double.POSITIVE_INFINITY));
        same(2L, cluster.zrank(key, "three"));
        same(ranked.get(2), cluster.zpopmax(key));
        same(KeyValue.of(key, ranked.get(0)), cluster.bzpopmin(1.0, key));
    }

    private static void slot(JedisCluster cluster, String prefix) {
        String one = prefix + "one";
        String two = prefix + "two";
        String both = prefix + "both";
        cluster.del(one, two, both);
        cluster.sadd(one, "a", "b");
        cluster.sadd(two, "b", "c");
        same(Set.of("b"), cluster.sinter(one, two));
        same(3L, cluster.sunionstore(both, one, two));
    }

    private Types() {}
}
